use serde_json::json;

use super::*;
use crate::route::Target;
use crate::testing::{local, mesh, pod, policy, service};

#[test]
fn a_verdict_is_told_with_every_policy_that_was_asked() {
    let rules = json!([[[{"namespaces": [{"Exact": "front"}]}, {}], []], [[{"notDestinationPorts": [80]}]]]);
    let mesh = mesh(&json!({
        "workloads": [pod("server", &["10.0.0.2"], json!({"authorizationPolicies": ["ns/gone"]}))],
        "policies": [
            policy("allow", "Allow", rules, json!({})),
            policy("dry", "Deny", json!([[]]), json!({"dryRun": true})),
        ],
    }));
    let facts = ConnectionFacts {
        source: "10.0.0.1:4000".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
        identity: None,
    };
    let told = explain_authorize(&mesh, &local(&mesh, "server"), &facts);
    assert_eq!(
        serde_json::to_value(told).unwrap(),
        json!({
            "allowed": false,
            "reason": "allow policies exist, but none allowed",
            "notes": ["skipping unknown policy ns/gone", "dry-run: deny policy match: ns/dry"],
            "policies": [
                {"policy": "ns/dry", "action": "Deny", "dryRun": true, "matched": true, "obstacles": []},
                {"policy": "ns/allow", "action": "Allow", "dryRun": false, "matched": false, "obstacles": [
                    "rules[0][0][0]: no entry of namespaces hits",
                    "rules[0][0][1]: has no conditions, so it never matches",
                    "rules[1][0][0]: an entry of notDestinationPorts hits",
                ]},
            ],
        })
    );
}

#[test]
fn a_route_is_told_with_its_steps() {
    let endpoint = |more| {
        let mut object: serde_json::Value = json!({"services": {"ns/web.ns": {}}});
        object
            .as_object_mut()
            .unwrap()
            .extend(serde_json::Map::clone(more));
        object
    };
    let (well, sick) = (json!({}), json!({"status": "Unhealthy"}));
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("a", &["10.0.0.2"], endpoint(well.as_object().unwrap())),
            pod("b", &["10.0.0.3"], endpoint(sick.as_object().unwrap())),
        ],
        "services": [service("web", &["/10.1.0.1"], json!({}))],
    }));
    let source = local(&mesh, "client");
    let target = Target::Address("10.1.0.1:80".parse().unwrap());
    let facts = RouteFacts {
        source: &source,
        client: "10.0.0.1".parse().unwrap(),
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let told = explain_route(&mesh, &facts, &mut |_| 0);
    assert_eq!(
        serde_json::to_value(told).unwrap(),
        json!({
            "route": {
                "kind": "hbone", "peer": "10.0.0.2:15008", "authority": "10.0.0.2:8080",
                "expected": ["spiffe://cluster.local/ns/ns/sa/a"], "workload": "a", "service": "ns/web.ns",
            },
            "error": null,
            "steps": [
                "the target is service ns/web.ns",
                "endpoint b is left out: it is unhealthy",
                "endpoint a is the only one",
                "workload a is reached through a tunnel on port 8080",
            ],
        })
    );
}
