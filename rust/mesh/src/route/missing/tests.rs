use serde_json::json;

use super::super::tests::read_target;
use super::*;
use crate::testing::{local, mesh, pod, service};

/// Waypoints and gateways that are and that are not.
fn world() -> Arc<MeshSnapshot> {
    let at = |destination: &str| json!({"destination": destination, "hboneMtlsPort": 15008});
    let through = |destination: &str| json!({"waypoint": at(destination)});
    let remote = json!({"network": "other", "networkGateway": at("ns/gateway.ns"), "services": {"ns/remote.ns": {}}});
    mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("known", &["10.0.0.2"], json!({})),
            pod("behind", &["10.0.0.3"], through("/10.0.0.9")),
            pod("waypoint", &["10.0.0.4"], json!({})),
            pod("remote", &["10.0.0.5"], remote),
        ],
        "services": [
            service("named", &["/10.1.0.1"], through("ns/waypoint.ns")),
            service("placed", &["/10.1.0.2"], through("/10.0.0.4")),
            service("empty", &["/10.1.0.3"], json!({})),
            service("remote", &["/10.1.0.4"], json!({})),
        ],
    }))
}

fn miss(mesh: &MeshSnapshot, target: &str) -> String {
    let (source, target) = (local(mesh, "client"), read_target(target));
    let facts = RouteFacts {
        source: &source,
        client: "10.0.0.1".parse().unwrap(),
        target: &target,
        network: &source.network,
        hbone_port: 15008,
    };
    let (decided, missed) = route_or_miss(mesh, &facts, &mut |_| 0, &mut |_| {});
    assert_eq!(decided, super::super::route(mesh, &facts, &mut |_| 0));
    missed.map_or_else(|| "nothing".into(), |missed| missed.to_string())
}

#[test]
fn a_connection_misses_what_could_have_led_it_elsewhere() {
    let mesh = world();
    for (target, expected) in [
        ("10.9.9.9:80", "/10.9.9.9"),
        ("[::ffff:10.9.9.9]:80", "/10.9.9.9"),
        ("10.0.0.2:80", "nothing"),
        ("10.0.0.3:80", "/10.0.0.9"),
        ("10.1.0.1:80", "ns/waypoint.ns"),
        ("10.1.0.2:80", "nothing"),
        // Known, and it has no endpoint: what istiod knows of a service, it has sent.
        ("10.1.0.3:80", "nothing"),
        ("10.1.0.4:80", "ns/gateway.ns"),
        ("named.ns:80", "ns/waypoint.ns"),
        (
            "web.shop.svc.cluster.local:80",
            "shop/web.shop.svc.cluster.local",
        ),
        ("example.com:80", "ns/example.com"),
        ("224.0.0.1:80", "nothing"),
        ("[::]:80", "nothing"),
    ] {
        assert_eq!(miss(&mesh, target), expected, "{target}");
    }
}

#[test]
fn a_request_misses_what_could_have_made_us_its_waypoint() {
    let mesh = world();
    let waypoint = local(&mesh, "waypoint");
    for (target, expected) in [
        ("10.9.9.9:80", "/10.9.9.9"),
        ("10.0.0.2:80", "nothing"),
        ("10.0.0.3:80", "/10.0.0.9"),
        ("10.1.0.1:80", "ns/waypoint.ns"),
        ("web.shop.svc:80", "shop/web.shop.svc"),
        // Refused for a port that it has not, whoever is known.
        ("empty.ns:99", "nothing"),
    ] {
        let target = read_target(target);
        let facts = InboundFacts {
            local: &waypoint,
            local_address: "10.0.0.4".parse().unwrap(),
            target: &target,
            network: "",
            reserved_ports: &[],
        };
        let refusal = super::super::inbound(&mesh, &facts).unwrap_err();
        let missed = inbound_miss(&mesh, &facts, &refusal);
        let missed = missed.map_or_else(|| "nothing".into(), |missed| missed.to_string());
        assert_eq!(missed, expected, "{target}");
    }
}

#[test]
fn a_key_is_known_by_address_and_by_name() {
    let mesh = world();
    let known = |key: &str| {
        let address = key.parse().map(GatewayDestination::Address);
        let key = address.or_else(|_| key.parse().map(GatewayDestination::Hostname));
        mesh.knows(&key.unwrap())
    };
    for key in ["/10.0.0.2", "/10.1.0.3", "ns/empty.ns", "other/10.0.0.5"] {
        assert!(known(key), "{key}");
    }
    for key in ["other/10.0.0.2", "/10.1.0.9", "other/empty.ns"] {
        assert!(!known(key), "{key}");
    }
    let address = "10.0.0.2".parse().unwrap();
    assert_eq!(&*workload_or_miss(&mesh, "", address).unwrap().uid, "known");
    let missed = workload_or_miss(&mesh, "other", address).unwrap_err();
    assert_eq!(missed.unwrap().to_string(), "other/10.0.0.2");
}
