//! Routes that lack an address until a name is resolved (spec/dataplane.md §10.7, §10.8).

use std::net::IpAddr;

use serde_json::{Value, json};

use super::{
    Arc, MeshSnapshot, NoRoute, Route, RouteFacts, Unresolved, endpoint_of, in_words, local,
    read_target, route,
};
use crate::testing::{mesh, pod, service};

fn world() -> Arc<MeshSnapshot> {
    let named = |more: Value| {
        let mut object = json!({"hostname": "h.example"});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    let port = json!({"ports": {"15008": 15008}});
    let behind = |to: &str| json!({"waypoint": {"destination": to, "hboneMtlsPort": 15008}});
    let gateway = json!({"network": "far", "networkGateway": {"destination": "ns/gw.ns", "hboneMtlsPort": 15008}});
    mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("tcp", &[], named(endpoint_of("tcp", json!({"protocol": "TCP"})))),
            pod("hbone", &[], named(endpoint_of("hbone", json!({})))),
            pod("four", &["10.0.0.4"], named(endpoint_of("six", json!({"protocol": "TCP"})))),
            pod("wp", &[], named(endpoint_of("wp", json!({})))),
            pod("gw", &[], named(endpoint_of("gw", json!({})))),
            pod("far", &[], endpoint_of("far", gateway)),
            pod("pod", &["10.0.0.5"], behind("ns/wp.ns")),
            pod("far-named", &[], named(endpoint_of("far-named", json!({"network": "far"})))),
        ],
        "services": [
            service("tcp", &["/10.1.0.1", "/ff07::1"], json!({})),
            service("hbone", &["/10.1.0.2"], json!({})),
            service("six", &["/10.1.0.3"], json!({"ipFamilies": "IPv6"})),
            service("wp", &[], port.clone()),
            service("gw", &[], port),
            service("web", &["/10.1.0.4"], behind("ns/wp.ns")),
            service("far", &["/10.1.0.5"], json!({"subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/far"]})),
            service("far-named", &["/10.1.0.6"], json!({})),
        ],
    }))
}

fn decided(client: &str, target: &str) -> Result<Route, NoRoute> {
    let mesh = world();
    let source = local(&mesh, "client");
    let target = read_target(target);
    let facts = RouteFacts {
        source: &source,
        client: client.parse().unwrap(),
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    route(&mesh, &facts, &mut |_| 0)
}

fn unresolved(client: &str, target: &str) -> Unresolved {
    match decided(client, target) {
        Ok(Route::Resolve(unresolved)) => *unresolved,
        other => panic!("a name to resolve: {other:?}"),
    }
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn every_kind_of_hop_may_have_only_a_name() {
    for (what, target, workload, expected) in [
        (
            "plain TCP",
            "10.1.0.1:80",
            "tcp",
            "tcp 10.7.0.1:8080 tcp ns/tcp.ns",
        ),
        (
            "a tunnel",
            "10.1.0.2:80",
            "hbone",
            "hbone 10.7.0.1:15008 10.7.0.1:8080 hbone ns/hbone.ns <- ns/ns/sa/hbone",
        ),
        (
            "a service's waypoint",
            "10.1.0.4:80",
            "wp",
            "hbone 10.7.0.1:15008 10.1.0.4:80 wp ns/web.ns <- ns/ns/sa/wp",
        ),
        (
            "a workload's waypoint",
            "10.0.0.5:80",
            "wp",
            "hbone 10.7.0.1:15008 10.0.0.5:80 wp <- ns/ns/sa/wp",
        ),
        (
            "a gateway",
            "10.1.0.5:80",
            "gw",
            "double 10.7.0.1:15008 far.ns:80 gw ns/far.ns <- ns/ns/sa/gw << ns/ns/sa/far",
        ),
    ] {
        let unresolved = unresolved("10.0.0.1", target);
        assert_eq!(unresolved.hostname(), "h.example", "{what}");
        assert_eq!(&*unresolved.workload().uid, workload, "{what}");
        let route = unresolved.answered(&ips(&["10.7.0.1"]), &mut |_| 0);
        assert_eq!(in_words(&route.unwrap()), expected, "{what}");
    }
    // The name of who is in another network means nothing here.
    assert_eq!(
        decided("10.0.0.1", "10.1.0.6:80").unwrap_err().to_string(),
        "no valid routing destination for workload: far-named"
    );
}

#[test]
fn one_of_the_family_that_was_asked_for_is_drawn_else_one_of_the_other() {
    let both = ["10.7.0.1", "ff0a::1", "10.7.0.2", "ff0a::2"];
    for (what, client, target, addresses, drawn, expected) in [
        (
            "IPv4",
            "10.0.0.1",
            "10.1.0.1:80",
            &both[..],
            0,
            "10.7.0.1:8080",
        ),
        (
            "another of IPv4",
            "10.0.0.1",
            "10.1.0.1:80",
            &both,
            1,
            "10.7.0.2:8080",
        ),
        (
            "more than there are",
            "10.0.0.1",
            "10.1.0.1:80",
            &both,
            99,
            "10.7.0.2:8080",
        ),
        ("IPv6", "::1", "[ff07::1]:80", &both, 1, "[ff0a::2]:8080"),
        (
            "by name, from IPv6",
            "ff06::1",
            "tcp.ns:80",
            &both,
            0,
            "[ff0a::1]:8080",
        ),
        (
            "only the other",
            "10.0.0.1",
            "10.1.0.1:80",
            &["ff0a::1", "ff0a::2"],
            1,
            "[ff0a::2]:8080",
        ),
        (
            "mapped",
            "10.0.0.1",
            "10.1.0.1:80",
            &["::ffff:10.7.0.3", "ff0a::1"],
            0,
            "10.7.0.3:8080",
        ),
        (
            "as far as the service allows",
            "10.0.0.1",
            "10.1.0.3:80",
            &both,
            1,
            "[ff0a::2]:8080",
        ),
    ] {
        let unresolved = unresolved(client, target);
        match unresolved.answered(&ips(addresses), &mut |_| drawn) {
            Ok(Route::Passthrough { destination, .. }) => {
                assert_eq!(destination.to_string(), expected, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn nothing_resolved_and_nothing_in_the_answer_are_told_apart() {
    let failed = unresolved("10.0.0.1", "10.1.0.1:80").failed();
    assert_eq!(
        failed.to_string(),
        "no ip addresses were resolved for workload: tcp"
    );
    for (target, addresses, workload) in [
        ("10.1.0.1:80", &[][..], "tcp"),
        ("10.1.0.3:80", &["10.7.0.1"], "four"),
    ] {
        let empty = unresolved("10.0.0.1", target).answered(&ips(addresses), &mut |_| 0);
        assert_eq!(
            empty.unwrap_err().to_string(),
            format!(
                "ip addresses were resolved for workload {workload}, but valid dns response had no A/AAAA records"
            )
        );
    }
}
