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

fn steps(mesh: &MeshSnapshot, target: &str, draw: u64) -> (Result<String, String>, Vec<String>) {
    let source = local(mesh, "client");
    let target = Target::parse(target).unwrap();
    let facts = RouteFacts {
        source: &source,
        client: "10.0.0.1".parse().unwrap(),
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let told = explain_route(mesh, &facts, &mut |_| draw);
    let answer = told
        .route
        .map(|route| format!("{} {}", route.kind, route.peer));
    (answer.ok_or_else(|| told.error.unwrap()), told.steps)
}

#[test]
fn every_step_of_a_route_is_said_in_a_sentence() {
    let at = |to: &str| json!({"destination": to, "hboneMtlsPort": 15008});
    let several = json!([{"destination": at("/10.0.8.9"), "weight": 1}, {"destination": at("ns/wp.ns"), "weight": 2}]);
    let mode =
        json!({"routingPreferences": [], "mode": "Passthrough", "healthPolicy": "OnlyHealthy"});
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({"services": {"ns/of-client.ns": {}}})),
            pod("wp", &["10.0.8.1"], json!({"services": {"ns/wp.ns": {}}})),
            pod("gw", &[], json!({"hostname": "gw.example", "services": {"ns/gw.ns": {}}})),
            pod("far", &[], json!({"network": "far", "networkGateway": at("ns/gw.ns"), "services": {"ns/far.ns": {}}})),
            pod("pod", &["10.0.0.2"], json!({"waypoint": at("ns/wp.ns")})),
            pod("ours", &["10.0.0.3"], json!({"waypoint": at("ns/of-client.ns"), "protocol": "TCP"})),
            pod("shadow", &["10.1.0.6"], json!({})),
        ],
        "services": [
            service("of-client", &[], json!({})),
            service("wp", &[], json!({"ports": {"15008": 15008}})),
            service("gw", &[], json!({"ports": {"15008": 15008}})),
            service("web", &["/10.1.0.1"], json!({"weightedWaypoints": several})),
            service("far", &["/10.1.0.2"], json!({})),
            service("kept", &["/10.1.0.3"], json!({"loadBalancer": mode})),
            service("hidden", &["/10.1.0.6"], json!({"waypoint": at("ns/wp.ns")})),
        ],
    }));
    type Row = (
        &'static str,
        u64,
        Result<&'static str, &'static str>,
        &'static [&'static str],
    );
    let rows: [Row; 8] = [
        (
            "10.1.0.1:80",
            2,
            Ok("hbone 10.0.8.1:15008"),
            &[
                "the target is service ns/web.ns",
                "waypoint ns/wp.ns was drawn by its weight, 2 of 3",
                "service ns/web.ns has a waypoint: ns/wp.ns:15008",
                "endpoint wp is the only one",
                "waypoint wp takes the tunnel on port 15008",
            ],
        ),
        (
            "10.1.0.1:80",
            0,
            Err("unknown waypoint: waypoint /10.0.8.9:15008 not found"),
            &[
                "the target is service ns/web.ns",
                "waypoint /10.0.8.9 was drawn by its weight, 1 of 3",
                "service ns/web.ns has a waypoint: /10.0.8.9:15008",
                "nobody is known as /10.0.8.9",
            ],
        ),
        (
            "10.1.0.2:80",
            0,
            Ok("resolve gw.example"),
            &[
                "the target is service ns/far.ns",
                "endpoint far is the only one",
                "workload far is in another network: far; the gateway to it is ns/gw.ns:15008",
                "endpoint gw is the only one",
                "network gateway gw takes the tunnel on port 15008",
                "workload gw has no address, but a name to resolve: gw.example",
            ],
        ),
        (
            "10.0.0.2:80",
            0,
            Ok("hbone 10.0.8.1:15008"),
            &[
                "workload pod has a waypoint: ns/wp.ns:15008",
                "endpoint wp is the only one",
                "waypoint wp takes the tunnel on port 15008",
            ],
        ),
        (
            "10.0.0.3:80",
            0,
            Ok("passthrough 10.0.0.3:80"),
            &[
                "workload ours has a waypoint, and the source is that waypoint",
                "workload ours is reached by plain TCP on port 80",
            ],
        ),
        (
            "10.1.0.3:80",
            0,
            Ok("passthrough 10.1.0.3:80"),
            &[
                "the target is service ns/kept.ns",
                "service ns/kept.ns keeps the original destination",
                "10.1.0.3:80 is dialled as plain TCP",
            ],
        ),
        (
            "10.1.0.6:80",
            0,
            Ok("passthrough 10.1.0.6:80"),
            &[
                "workload shadow has the address of service ns/hidden.ns: that service's waypoint is not asked",
                "10.1.0.6:80 is dialled as plain TCP",
            ],
        ),
        (
            "1.2.3.4:80",
            0,
            Ok("passthrough 1.2.3.4:80"),
            &["1.2.3.4:80 is no workload and no service of the mesh"],
        ),
    ];
    for (target, draw, answer, expected) in rows {
        let (found, told) = steps(&mesh, target, draw);
        assert_eq!(found.as_deref().map_err(String::as_str), answer, "{target}");
        assert_eq!(told, expected, "{target}");
    }
}

#[test]
fn a_route_through_two_tunnels_tells_whom_each_end_must_be() {
    let gateway = json!({"destination": "far/10.9.0.1", "hboneMtlsPort": 15009});
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("gw", &["10.9.0.1"], json!({"network": "far"})),
            pod("far", &[], json!({"network": "far", "networkGateway": gateway, "services": {"ns/far.ns": {}}})),
        ],
        "services": [service("far", &["/10.1.0.2"], json!({"subjectAltNames": ["spiffe://td/ns/ns/sa/far"]}))],
    }));
    let source = local(&mesh, "client");
    let target = Target::parse("10.1.0.2:80").unwrap();
    let facts = RouteFacts {
        source: &source,
        client: "10.0.0.1".parse().unwrap(),
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let told = explain_route(&mesh, &facts, &mut |_| 0);
    assert_eq!(
        serde_json::to_value(told).unwrap()["route"],
        json!({
            "kind": "double-hbone", "peer": "10.9.0.1:15009", "authority": "far.ns:80",
            "expected": ["spiffe://cluster.local/ns/ns/sa/gw"], "innerExpected": ["spiffe://td/ns/ns/sa/far"],
            "workload": "gw", "service": "ns/far.ns",
        })
    );
}

#[test]
fn a_request_is_told_with_its_steps_at_the_other_end_too() {
    let tunnel = json!({"applicationTunnel": {"protocol": "PROXY", "port": 15088}});
    let waypoint = json!({"waypoint": {"destination": "/10.0.0.3", "hboneMtlsPort": 15008}});
    let mesh = mesh(&json!({
        "workloads": [
            pod("server", &["10.0.0.2"], json!({"services": {"ns/web.ns": {}}, "waypoint": waypoint["waypoint"]})),
            pod("waypoint", &["10.0.0.3"], json!({})),
            pod("sandwich", &["10.0.0.4"], tunnel),
        ],
        "services": [service("web", &["/10.1.0.1"], json!({})), service("front", &["/10.1.0.2"], waypoint)],
    }));
    let inbound = |uid: &str, target: &str| {
        let local = local(&mesh, uid);
        let target = Target::parse(target).unwrap();
        let facts = InboundFacts {
            local: &local,
            local_address: local.addresses[0],
            target: &target,
            network: "",
            reserved_ports: &[15008],
        };
        serde_json::to_value(explain_inbound(&mesh, &facts, None)).unwrap()
    };
    let route = |destination: &str, header: Option<&str>, service: Option<&str>| json!({"destination": destination, "header": header, "service": service});
    let own = ["10.0.0.2:8080 is on the local workload's address"];
    let any = "behind an application tunnel the application decides what it takes";
    let port = "the application tunnel has a port of its own: 15088";
    for (what, told, route, error, status, steps) in [
        (
            "its own address",
            inbound("server", "10.0.0.2:8080"),
            route("10.0.0.2:8080", None, Some("ns/web.ns")),
            None,
            None,
            json!(own),
        ),
        (
            "a service's name",
            inbound("server", "web.ns:80"),
            route("10.0.0.2:8080", None, Some("ns/web.ns")),
            None,
            None,
            json!(["port 80 of service ns/web.ns leads to port 8080"]),
        ),
        (
            "as a service's waypoint",
            inbound("waypoint", "10.1.0.2:80"),
            route("10.0.0.3:80", None, None),
            None,
            None,
            json!(["the local workload is the waypoint of service ns/front.ns"]),
        ),
        (
            "as a workload's waypoint",
            inbound("waypoint", "10.0.0.2:80"),
            route("10.0.0.3:80", None, None),
            None,
            None,
            json!(["the local workload is the waypoint of workload server"]),
        ),
        (
            "with a header",
            inbound("sandwich", "10.1.0.1:80"),
            route("10.0.0.4:15088", Some("10.1.0.1:80"), None),
            None,
            None,
            json!([
                any,
                port,
                "a PROXY header names the destination: 10.1.0.1:80"
            ]),
        ),
        (
            "nobody's address",
            inbound("server", "1.2.3.4:80"),
            serde_json::Value::Null,
            Some("ip mismatch: 10.0.0.2 != 1.2.3.4"),
            Some(400),
            json!([]),
        ),
        (
            "a loop",
            inbound("server", "10.0.0.2:15008"),
            serde_json::Value::Null,
            Some("attempted recursive call to ourselves"),
            Some(503),
            json!(["10.0.0.2:15008 is on the local workload's address"]),
        ),
    ] {
        let expected = json!({"route": route, "error": error, "status": status, "steps": steps});
        assert_eq!(told, expected, "{what}");
    }
    let plain = |uid: &str, destination: &str| {
        let told = explain_plaintext(&mesh, &local(&mesh, uid), destination.parse().unwrap());
        (
            told.route.map(|route| route.destination.to_string()),
            told.error,
            told.steps,
        )
    };
    assert_eq!(
        plain("server", "10.0.0.2:8080"),
        (
            Some("10.0.0.2:8080".into()),
            None,
            vec!["10.0.0.2:8080 is where the plain connection was going".into()]
        )
    );
    let forged =
        "port 15088 takes PROXY headers, which only the mesh may write (workload sandwich)";
    assert_eq!(
        plain("sandwich", "10.0.0.4:15088"),
        (None, Some(forged.into()), vec![])
    );
}
