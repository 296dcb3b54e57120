//! Waypoints and gateways beyond upstream's rows: who is meant, who is drawn, who is let past, and what is said when
//! nobody is found.

use serde_json::{Value, json};

use super::{
    Arc, MeshSnapshot, RouteFacts, answer, answer_to, endpoint_of, read_target, route,
    route_noting, route_or_miss,
};
use crate::testing::{local, mesh, pod, service};

fn at(destination: &str) -> Value {
    json!({"destination": destination, "hboneMtlsPort": 15008})
}

fn behind(destination: &str) -> Value {
    json!({"waypoint": at(destination)})
}

fn weighted(weights: &[(&str, u32)]) -> Value {
    let each = weights
        .iter()
        .map(|(to, weight)| json!({"destination": at(to), "weight": weight}));
    json!({"weightedWaypoints": each.collect::<Vec<_>>()})
}

fn world() -> Arc<MeshSnapshot> {
    let port = json!({"15008": 15008});
    let sans =
        json!({"ports": port, "subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/of-service"]});
    let remote = |more: Value| {
        let mut object = json!({"network": "far"});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    let mode = json!({"ports": port, "loadBalancer": {"routingPreferences": [], "mode": "Passthrough", "healthPolicy": "OnlyHealthy"}});
    mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1", "ff06::1"], json!({})),
            pod("wp-1", &["10.0.8.1", "ff06::8:1"], endpoint_of("wp", json!({}))),
            pod("wp-2", &["10.0.8.2"], json!({"hostname": "wp2.example"})),
            pod("plain-wp", &["10.0.8.3"], json!({"protocol": "TCP"})),
            pod("mapped", &["10.0.8.4"], json!({"services": {"ns/mapped.ns": {"15008": 15010}}})),
            pod("sick", &["10.0.8.5"], endpoint_of("sick", json!({"status": "Unhealthy", "serviceAccount": "sick"}))),
            pod("twin", &["10.0.8.6"], json!({"serviceAccount": "wp-1"})),
            pod("pod", &["10.0.0.2"], behind("ns/wp.ns")),
            pod("pod-2", &["10.0.0.3"], behind("ns/wp2.example")),
            pod("pod-3", &["10.0.0.4"], behind("/10.0.8.1")),
            pod("pod-4", &["10.0.0.5"], behind("ns/gone.ns")),
            pod("pod-5", &["10.0.0.6"], behind("/10.1.0.9")),
            pod("pod-6", &["10.0.0.7"], behind("far/10.0.8.7")),
            pod("pod-7", &["10.0.0.8"], behind("ns/sick.ns")),
            pod("far-wp", &["10.0.8.7"], remote(json!({}))),
            pod("far-wp-3", &["10.0.8.8"], remote(json!({"networkGateway": {"destination": "ns/no-gateway.ns", "hboneMtlsPort": 15009}}))),
            pod("far-wp-4", &[], remote(json!({"hostname": "far.example", "networkGateway": {"destination": "far/10.9.0.1", "hboneMtlsPort": 15009}}))),
            pod("far-gw", &["10.9.0.1"], remote(json!({}))),
            pod("lone", &["10.0.8.9"], remote(endpoint_of("lone", json!({})))),
            pod("backend", &["10.0.0.10"], endpoint_of("web", json!({}))),
        ],
        "services": [
            service("wp", &["/10.1.0.8", "/ff07::8"], sans.clone()),
            service("mapped", &["/10.1.0.7"], json!({"ports": port})),
            service("sick", &[], sans),
            service("pass", &["/10.1.0.9"], mode),
            service("lone", &["/10.1.9.1"], json!({})),
            service("web", &["/10.1.1.1", "/ff07::1"], behind("ns/wp.ns")),
            service("by-vip", &["/10.1.1.2"], behind("/10.1.0.8")),
            service("by-pod", &["/10.1.1.3", "/ff07::3"], behind("/10.0.8.1")),
            service("by-name", &["/10.1.1.4"], behind("ns/wp2.example")),
            service("plain", &["/10.1.1.5"], behind("/10.0.8.3")),
            service("mapping", &["/10.1.1.6"], behind("ns/mapped.ns")),
            service("nobody", &["/10.1.1.7"], behind("ns/gone.ns")),
            service("sickly", &["/10.1.1.8"], behind("ns/sick.ns")),
            service("nowhere", &["/10.1.1.9"], behind("far/10.0.8.7")),
            service("lost", &["/10.1.1.10"], behind("far/10.0.8.8")),
            service("beyond", &["/10.1.1.15"], behind("ns/far.example")),
            service("wrong-port", &["/10.1.1.11"], json!({"waypoint": {"destination": "ns/wp.ns", "hboneMtlsPort": 15009}})),
            service("wrong-six", &["/10.1.1.12"], behind("/ff06::99")),
            service("kept", &["/10.1.1.13"], behind("/10.1.0.9")),
            service("no-vip", &[], behind("ns/wp.ns")),
            service("other-net", &["far/10.1.1.14"], behind("ns/wp.ns")),
        ],
    }))
}

#[test]
fn who_takes_the_tunnel() {
    let mesh = world();
    let wp = "<- ns/ns/sa/of-service ns/ns/sa/wp-1";
    for (what, target, expected) in [
        (
            "a service's, by service name",
            "10.1.1.1:80",
            format!("hbone 10.0.8.1:15008 10.1.1.1:80 wp-1 ns/web.ns {wp}"),
        ),
        (
            "any port of the service",
            "10.1.1.1:81",
            format!("hbone 10.0.8.1:15008 10.1.1.1:81 wp-1 ns/web.ns {wp}"),
        ),
        (
            "in the caller's family",
            "[ff07::1]:80",
            format!("hbone [ff06::8:1]:15008 [ff07::1]:80 wp-1 ns/web.ns {wp}"),
        ),
        (
            "by a service's address",
            "10.1.1.2:80",
            format!("hbone 10.0.8.1:15008 10.1.1.2:80 wp-1 ns/by-vip.ns {wp}"),
        ),
        (
            "by a pod's address",
            "10.1.1.3:80",
            "hbone 10.0.8.1:15008 10.1.1.3:80 wp-1 ns/by-pod.ns <- ns/ns/sa/wp-1".into(),
        ),
        (
            "at that address for any caller",
            "[ff07::3]:80",
            "hbone 10.0.8.1:15008 [ff07::3]:80 wp-1 ns/by-pod.ns <- ns/ns/sa/wp-1".into(),
        ),
        (
            "by a workload's hostname",
            "10.1.1.4:80",
            "hbone 10.0.8.2:15008 10.1.1.4:80 wp-2 ns/by-name.ns <- ns/ns/sa/wp-2".into(),
        ),
        (
            "a tunnel for who is reached by plain TCP",
            "10.1.1.5:80",
            "hbone 10.0.8.3:15008 10.1.1.5:80 plain-wp ns/plain.ns <- ns/ns/sa/plain-wp".into(),
        ),
        (
            "on the endpoint's own port",
            "10.1.1.6:80",
            "hbone 10.0.8.4:15010 10.1.1.6:80 mapped ns/mapping.ns <- ns/ns/sa/mapped".into(),
        ),
        (
            "a workload's, by service name",
            "10.0.0.2:80",
            format!("hbone 10.0.8.1:15008 10.0.0.2:80 wp-1 {wp}"),
        ),
        (
            "a workload's, by workload name",
            "10.0.0.3:80",
            "hbone 10.0.8.2:15008 10.0.0.3:80 wp-2 <- ns/ns/sa/wp-2".into(),
        ),
        (
            "a workload's, by address",
            "10.0.0.4:80",
            "hbone 10.0.8.1:15008 10.0.0.4:80 wp-1 <- ns/ns/sa/wp-1".into(),
        ),
        (
            "a workload's in another network, dialled all the same",
            "10.0.0.7:80",
            "hbone 10.0.8.7:15008 10.0.0.7:80 far-wp <- ns/ns/sa/far-wp".into(),
        ),
        (
            "a service's in another network, whose name means nothing here",
            "10.1.1.15:80",
            "double 10.9.0.1:15009 beyond.ns:80 far-gw ns/beyond.ns <- ns/ns/sa/far-gw <<".into(),
        ),
        (
            "a name is asked for by its address",
            "web.ns:80",
            format!("hbone 10.0.8.1:15008 10.1.1.1:80 wp-1 ns/web.ns {wp}"),
        ),
        (
            "a name without address by itself",
            "no-vip.ns:80",
            format!("hbone 10.0.8.1:15008 no-vip.ns:80 wp-1 ns/no-vip.ns {wp}"),
        ),
        (
            "a name without address in our network too",
            "other-net.ns:80",
            format!("hbone 10.0.8.1:15008 other-net.ns:80 wp-1 ns/other-net.ns {wp}"),
        ),
    ] {
        assert_eq!(answer(&mesh, "10.0.0.1", target), expected, "{what}");
    }
    let by_six = answer(&mesh, "ff06::1", "web.ns:80");
    assert_eq!(
        by_six,
        format!("hbone [ff06::8:1]:15008 [ff07::1]:80 wp-1 ns/web.ns {wp}")
    );
}

#[test]
fn what_is_said_when_nobody_is_found() {
    let mesh = world();
    for (what, target, expected) in [
        (
            "nobody of that name",
            "10.1.1.7:80",
            "unknown waypoint: waypoint gone.ns not found",
        ),
        (
            "nobody healthy",
            "10.1.1.8:80",
            "unknown waypoint: waypoint ns/sick.ns:15008 not found",
        ),
        (
            "not on that port",
            "10.1.1.11:80",
            "unknown waypoint: waypoint ns/wp.ns:15009 not found",
        ),
        (
            "nobody at that address",
            "10.1.1.12:80",
            "unknown waypoint: waypoint /[ff06::99]:15008 not found",
        ),
        (
            "a service that chooses nobody",
            "10.1.1.13:80",
            "unknown waypoint: waypoint /10.1.0.9:15008 not found",
        ),
        (
            "a workload's, likewise",
            "10.0.0.5:80",
            "unknown waypoint: waypoint gone.ns not found",
        ),
        (
            "a workload's service that chooses nobody",
            "10.0.0.6:80",
            "unknown waypoint: waypoint /10.1.0.9:15008 not found",
        ),
        (
            "its gateway is not there",
            "10.1.1.10:80",
            "unknown network gateway: network gateway no-gateway.ns not found",
        ),
        (
            "in another network without a gateway",
            "10.1.1.9:80",
            "no valid routing destination for workload: far-wp",
        ),
        (
            "an endpoint in another network without one",
            "10.1.9.1:80",
            "no valid routing destination for workload: lone",
        ),
    ] {
        assert_eq!(answer(&mesh, "10.0.0.1", target), expected, "{what}");
    }
}

/// By address in our own network, so that only the workload's word says that it is elsewhere.
#[test]
fn a_workload_in_another_network_is_not_reached_by_itself() {
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("far", &["10.0.0.2"], json!({"network": "far", "services": {"ns/web.ns": {}}})),
            pod("shadow", &["10.1.0.1"], json!({})),
        ],
        // The pod `shadow` hides the service, so that no service counts as addressed.
        "services": [service("web", &["/10.1.0.1"], json!({}))],
    }));
    assert_eq!(
        answer(&mesh, "10.0.0.1", "10.1.0.1:80"),
        "no service for target address: 10.1.0.1:80"
    );
}

#[test]
fn each_gateway_that_is_not_found_is_named() {
    let remote = |destination: &str| {
        json!({"network": "far", "services": {"ns/web.ns": {}},
               "networkGateway": {"destination": destination, "hboneMtlsPort": 15009}})
    };
    for (destination, expected) in [
        ("ns/lost.ns", "lost.ns"),
        ("far/10.9.0.1", "far/10.9.0.1:15009"),
        ("ns/gw.ns", "ns/gw.ns:15009"),
    ] {
        let mesh = mesh(&json!({
            "workloads": [pod("client", &["10.0.0.1"], json!({})), pod("far", &[], remote(destination))],
            "services": [service("web", &["/10.1.0.1"], json!({})), service("gw", &[], json!({}))],
        }));
        assert_eq!(
            answer(&mesh, "10.0.0.1", "10.1.0.1:80"),
            format!("unknown network gateway: network gateway {expected} not found")
        );
    }
}

#[test]
fn a_gateway_that_only_a_gateway_leads_to_is_nowhere() {
    let remote = |more: Value| {
        let mut object = json!({"network": "far", "networkGateway": {"destination": "ns/gw.ns", "hboneMtlsPort": 80}});
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        object
    };
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("far", &[], remote(json!({"services": {"ns/web.ns": {}}}))),
            pod("gateway", &[], remote(json!({"services": {"ns/gw.ns": {}}}))),
        ],
        "services": [service("web", &["/10.1.0.1"], json!({})), service("gw", &[], json!({}))],
    }));
    assert_eq!(
        answer(&mesh, "10.0.0.1", "10.1.0.1:80"),
        "no valid routing destination for workload: gateway"
    );
}

#[test]
fn a_waypoint_is_not_sent_back_to_itself() {
    let mesh = world();
    let straight =
        |at: &str, uid: &str| format!("hbone {at}:15008 {at}:80 {uid} <- ns/ns/sa/{uid}");
    let through = "hbone 10.0.8.1:15008 10.0.0.2:80 wp-1 <- ns/ns/sa/of-service ns/ns/sa/wp-1";
    for (what, source, client, target, expected) in [
        (
            "an endpoint of the waypoint's service",
            "wp-1",
            "10.0.8.1",
            "10.0.0.2:80",
            straight("10.0.0.2", "pod"),
        ),
        (
            "mapped",
            "wp-1",
            "::ffff:10.0.8.1",
            "10.0.0.2:80",
            straight("10.0.0.2", "pod"),
        ),
        (
            "by its own hostname",
            "wp-2",
            "10.0.8.2",
            "10.0.0.3:80",
            straight("10.0.0.3", "pod-2"),
        ),
        (
            "by its address",
            "wp-1",
            "10.0.8.1",
            "10.0.0.4:80",
            straight("10.0.0.4", "pod-3"),
        ),
        (
            "though it is unhealthy",
            "sick",
            "10.0.8.5",
            "10.0.0.8:80",
            straight("10.0.0.8", "pod-7"),
        ),
        (
            "from another address it is not",
            "wp-1",
            "10.0.8.9",
            "10.0.0.2:80",
            through.into(),
        ),
        (
            "the same identity is not enough",
            "twin",
            "10.0.8.6",
            "10.0.0.2:80",
            through.into(),
        ),
        (
            "nor is its address without its identity",
            "client",
            "10.0.8.1",
            "10.0.0.2:80",
            through.into(),
        ),
    ] {
        let found = answer_to(&mesh, source, client, target, &mut |_| 0);
        assert_eq!(found, expected, "{what}");
    }
    // A service's waypoint is passed even by itself, as upstream has it.
    assert!(
        answer_to(&mesh, "wp-1", "10.0.8.1", "10.1.1.1:80", &mut |_| 0)
            .starts_with("hbone 10.0.8.1:15008 10.1.1.1:80")
    );
}

/// §19 "weighted waypoint".
#[test]
fn one_of_several_waypoints_is_drawn_by_its_weight() {
    let several = |weights: &[(&str, u32)], single: bool| {
        let mut more = weighted(weights);
        if single {
            more["waypoint"] = at("/10.0.8.9");
        }
        let pods = (1..=9).map(|n| pod(&format!("w{n}"), &[&format!("10.0.8.{n}")], json!({})));
        let mut all = vec![pod("client", &["10.0.0.1"], json!({}))];
        all.extend(pods);
        mesh(&json!({"workloads": all, "services": [service("web", &["/10.1.0.1"], more)]}))
    };
    let (one, two, three) = ("/10.0.8.1", "/10.0.8.2", "/10.0.8.3");
    for (what, weights, single, draws) in [
        (
            "as the weights say",
            &[(one, 1), (two, 2)][..],
            true,
            &[(0, "w1"), (1, "w2"), (2, "w2")][..],
        ),
        (
            "never one without",
            &[(one, 0), (two, 1), (three, 0)],
            true,
            &[(0, "w2"), (1, "w2"), (u64::MAX, "w2")],
        ),
        (
            "beyond 32 bits",
            &[(one, u32::MAX), (two, u32::MAX)],
            true,
            &[(0, "w1"), (u64::from(u32::MAX), "w2"), (u64::MAX, "w2")],
        ),
        (
            "the only one if none has any",
            &[(one, 0), (two, 0)],
            true,
            &[(0, "w9")],
        ),
    ] {
        let mesh = several(weights, single);
        for (drawn, expected) in draws {
            let found = answer_to(&mesh, "client", "10.0.0.1", "10.1.0.1:80", &mut |_| *drawn);
            assert!(
                found.ends_with(&format!("<- ns/ns/sa/{expected}")),
                "{what}: {found}"
            );
        }
    }
    // Without any waypoint left, there is none to pass; and a service without endpoints stays one.
    assert_eq!(
        answer(&several(&[(one, 0)], false), "10.0.0.1", "10.1.0.1:80"),
        "no healthy upstream: 10.1.0.1:80"
    );
    // A draw that hits one who is not there is an error, not another draw: shares would shift without a word.
    assert_eq!(
        answer(
            &several(&[("ns/gone.ns", 1), (two, 1)], true),
            "10.0.0.1",
            "10.1.0.1:80"
        ),
        "unknown waypoint: waypoint gone.ns not found"
    );
}

#[test]
fn a_connection_draws_its_waypoint_once() {
    let mesh = mesh(&json!({
        "workloads": [pod("client", &["10.0.0.1"], json!({})), pod("w", &["10.0.8.1"], json!({}))],
        "services": [service("web", &["/10.1.0.1"], weighted(&[("/10.0.8.1", 3), ("/10.0.8.2", 4)]))],
    }));
    let mut totals = Vec::new();
    answer_to(&mesh, "client", "10.0.0.1", "10.1.0.1:80", &mut |total| {
        totals.push(total);
        0
    });
    assert_eq!(totals, [7]);
}

#[test]
fn a_hidden_services_waypoint_is_not_asked_as_upstream_has_it() {
    let mesh = mesh(&json!({
        "workloads": [
            pod("client", &["10.0.0.1"], json!({})),
            pod("shadow", &["10.1.0.1"], json!({})),
            pod("backend", &["10.0.0.2"], endpoint_of("web", json!({}))),
            pod("wp", &["10.0.8.1"], json!({})),
        ],
        "services": [service("web", &["/10.1.0.1"], behind("/10.0.8.1"))],
    }));
    assert_eq!(
        answer(&mesh, "10.0.0.1", "10.1.0.1:80"),
        "hbone 10.0.0.2:15008 10.0.0.2:8080 backend ns/web.ns <- ns/ns/sa/backend"
    );
    assert_eq!(
        oddities(&mesh, "10.1.0.1:80"),
        [
            "workload shadow has the address of service ns/web.ns: that service's waypoint is not asked"
        ]
    );
    assert!(oddities(&mesh, "10.0.0.2:80").is_empty());
}

/// What operators are told of while a connection is led somewhere, whether the mesh is on demand or not.
fn oddities(mesh: &MeshSnapshot, target: &str) -> Vec<String> {
    let (source, target) = (local(mesh, "client"), read_target(target));
    let facts = RouteFacts {
        source: &source,
        client: source.addresses[0],
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let (mut told, mut on_demand) = (Vec::new(), Vec::new());
    let decided = route_noting(mesh, &facts, &mut |_| 0, &mut |odd| {
        told.push(odd.to_string());
    });
    let (again, _) = route_or_miss(mesh, &facts, &mut |_| 0, &mut |odd| {
        on_demand.push(odd.to_string());
    });
    assert_eq!((&again, &on_demand), (&decided, &told));
    assert_eq!(route(mesh, &facts, &mut |_| 0), decided);
    told
}

/// `sandwich_waypoint_proxy_protocol` of upstream's namespace tests: the waypoint's service has no ports at all.
#[test]
fn an_application_tunnel_makes_up_for_a_port_that_the_waypoints_service_lacks() {
    let answer_with = |tunnel: Value| {
        let mut waypoint = pod("wp", &["10.0.8.1"], endpoint_of("wp", json!({})));
        waypoint["applicationTunnel"] = tunnel;
        let mesh = mesh(&json!({
            "workloads": [pod("client", &["10.0.0.1"], json!({})), waypoint],
            "services": [
                service("wp", &["/10.1.0.8"], json!({"ports": {}})),
                service("web", &["/10.1.0.1"], behind("/10.1.0.8")),
            ],
        }));
        answer(&mesh, "10.0.0.1", "10.1.0.1:80")
    };
    assert_eq!(
        answer_with(json!({"protocol": "PROXY", "port": 15088})),
        "hbone 10.0.8.1:15008 10.1.0.1:80 wp ns/web.ns <- ns/ns/sa/wp"
    );
    assert_eq!(
        answer_with(Value::Null),
        "unknown waypoint: waypoint /10.1.0.8:15008 not found"
    );
}
