use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::store::MeshStore;
use crate::testing::{apply, local, mesh, pod, service};

mod pools;

/// How often each endpoint is chosen when chance goes through all it can give, and the skipped ones with their reason.
fn chosen(workloads: &[Value], service: &Value) -> (BTreeMap<String, u64>, Vec<String>) {
    chosen_for(Purpose::Traffic, &json!({}), workloads, service)
}

fn chosen_for(
    purpose: Purpose,
    client: &Value,
    workloads: &[Value],
    service: &Value,
) -> (BTreeMap<String, u64>, Vec<String>) {
    let client = pod("client", &["10.9.9.9"], client.clone());
    let workloads = [workloads, &[client]].concat();
    let mesh = mesh(&json!({"workloads": workloads, "services": [service]}));
    let (client, service) = (
        local(&mesh, "client"),
        mesh.service_by_hostname("s.ns", None).unwrap(),
    );
    let (mut count, mut skipped, mut draw, mut total) = (BTreeMap::new(), Vec::new(), 0, 1);
    while draw < total {
        skipped.clear();
        let mut chance = |sum| {
            total = sum;
            draw
        };
        let mut listener = |step: &Step<'_>| {
            if let Step::LeftOut(left_out) = step {
                skipped.extend(left_out.lines());
            }
        };
        let found = choose_endpoint(
            &mesh,
            service,
            &client,
            80,
            purpose,
            &mut chance,
            &mut listener,
        );
        if let Some((workload, port)) = found {
            *count.entry(format!("{}:{port}", workload.uid)).or_default() += 1;
        }
        draw += 1;
    }
    (count, skipped)
}

fn endpoint(name: &str, more: Value) -> Value {
    let mut object = pod(name, &["10.0.0.1"], json!({"services": {"ns/s.ns": {}}}));
    object
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    object
}

#[test]
fn each_endpoint_is_chosen_as_often_as_its_capacity_says() {
    let workloads =
        [("a", 1), ("b", 0), ("c", 3), ("d", 2)].map(|(n, c)| endpoint(n, json!({"capacity": c})));
    let (count, skipped) = chosen(&workloads, &service("s", &[], json!({})));
    assert_eq!(
        count,
        BTreeMap::from([
            ("a:8080".into(), 1),
            ("c:8080".into(), 3),
            ("d:8080".into(), 2)
        ])
    );
    assert_eq!(skipped, ["endpoint b is left out: its capacity is 0"]);
}

#[test]
fn the_largest_capacities_do_not_overflow() {
    let workloads = ["a", "b", "c"].map(|n| endpoint(n, json!({"capacity": u32::MAX})));
    let objects = json!({"workloads": workloads, "services": [service("s", &[], json!({}))]});
    let mesh = mesh(&objects);
    let (client, service) = (
        local(&mesh, "a"),
        mesh.service_by_hostname("s.ns", None).unwrap(),
    );
    let mut careless = |_| u64::MAX;
    let found = choose_endpoint(
        &mesh,
        service,
        &client,
        80,
        Purpose::Traffic,
        &mut careless,
        &mut |_| {},
    );
    assert_eq!(found.map(|(w, _)| &*w.uid), Some("c"));
}

#[test]
fn who_may_be_chosen() {
    let all = json!({"loadBalancer": {"routingPreferences": [], "mode": "Standard", "healthPolicy": "AllowAll"}});
    let (own, named) = (
        json!({"services": {"ns/s.ns": {"80": 9090}}}),
        json!({"ports": {"80": 0}}),
    );
    let nowhere = json!({"workloadIps": []});
    let remote = json!({"workloadIps": [], "network": "far",
        "networkGateway": {"destination": "/1.1.1.1", "hboneMtlsPort": 15009}});
    let tunnel = json!({"applicationTunnel": {"protocol": "NONE", "port": 1}, "services": {"ns/s.ns": {"80": 0}}});
    let plain = json!({});
    for (what, workload, service_more, expected) in [
        ("the service's port", &plain, &plain, Some("a:8080")),
        (
            "the endpoint's port goes before the service's",
            &own,
            &plain,
            Some("a:9090"),
        ),
        (
            "a named port needs the endpoint's",
            &own,
            &named,
            Some("a:9090"),
        ),
        ("a named port without the endpoint's", &plain, &named, None),
        (
            "no target port but a tunnel port",
            &tunnel,
            &named,
            Some("a:80"),
        ),
        (
            "an unhealthy one",
            &json!({"status": "Unhealthy"}),
            &plain,
            None,
        ),
        (
            "an unhealthy one where all are taken",
            &json!({"status": "Unhealthy"}),
            &all,
            Some("a:8080"),
        ),
        (
            "a service without the port",
            &plain,
            &json!({"ports": {"81": 81}}),
            None,
        ),
        ("no address", &nowhere, &plain, None),
        (
            "no address but a name",
            &json!({"workloadIps": [], "hostname": "h"}),
            &plain,
            Some("a:8080"),
        ),
        (
            "no address but a gateway to its network",
            &remote,
            &plain,
            Some("a:8080"),
        ),
    ] {
        let (count, _) = chosen(
            &[endpoint("a", workload.clone())],
            &service("s", &[], service_more.clone()),
        );
        assert_eq!(count.keys().map(String::as_str).next(), expected, "{what}");
    }
}

#[test]
fn health_is_looked_at_when_an_endpoint_is_chosen() {
    let unknown = json!({"endpoints": {"ghost": {"workloadUid": "ghost", "port": {}}}});
    let (count, skipped) = chosen(
        &[endpoint("a", json!({"status": "Unhealthy"}))],
        &service("s", &[], unknown),
    );
    assert!(count.is_empty());
    assert_eq!(
        skipped,
        [
            "endpoint a is left out: it is unhealthy",
            "endpoint ghost is left out: no such workload is known"
        ]
    );
}

#[test]
fn a_waypoint_needs_the_services_port_or_an_application_tunnel() {
    let without = json!({"ports": {"81": 81}});
    let named = json!({"ports": {"80": 0}});
    let tunnel = json!({"applicationTunnel": {"protocol": "NONE", "port": 1}});
    let portless = json!({"applicationTunnel": {"protocol": "PROXY", "port": null}});
    let own = json!({"applicationTunnel": {"protocol": "PROXY", "port": null}, "services": {"ns/s.ns": {"80": 9090}}});
    let plain = json!({});
    for (what, workload, service_more, waypoint, traffic) in [
        (
            "the service's port",
            &plain,
            &plain,
            Some("a:8080"),
            Some("a:8080"),
        ),
        ("no port and no tunnel", &plain, &without, None, None),
        (
            "no port, but a tunnel with one",
            &tunnel,
            &without,
            Some("a:80"),
            None,
        ),
        (
            "no port, and a tunnel without one",
            &portless,
            &without,
            None,
            None,
        ),
        (
            "the endpoint's own port",
            &own,
            &without,
            Some("a:9090"),
            None,
        ),
        ("a named port that nobody has", &plain, &named, None, None),
        (
            "a named port, and a tunnel",
            &tunnel,
            &named,
            Some("a:80"),
            None,
        ),
    ] {
        for (purpose, expected) in [(Purpose::Waypoint, waypoint), (Purpose::Traffic, traffic)] {
            let endpoints = [endpoint("a", workload.clone())];
            let service = service("s", &[], service_more.clone());
            let (count, _) = chosen_for(purpose, &json!({}), &endpoints, &service);
            let found = count.keys().map(String::as_str).next();
            assert_eq!(found, expected, "{what}, {purpose:?}");
        }
    }
}

#[test]
fn the_best_locality_takes_all_and_a_strict_service_only_a_full_match() {
    let at = |zone: &str| json!({"region": "r", "zone": zone, "subzone": ""});
    let client = json!({"locality": at("z1")});
    let here = |name, more: Value| {
        let mut endpoint = endpoint(name, json!({"locality": at("z1")}));
        endpoint
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        endpoint
    };
    let there = |name| endpoint(name, json!({"locality": at("z2")}));
    let service = |mode: &str| {
        let balancer = json!({"routingPreferences": ["Region", "Zone"], "mode": mode, "healthPolicy": "OnlyHealthy"});
        service("s", &[], json!({"loadBalancer": balancer}))
    };
    let (sick, idle) = (json!({"status": "Unhealthy"}), json!({"capacity": 0}));
    let all = [
        here("a", json!({})),
        there("b"),
        here("c", json!({"capacity": 2})),
    ];
    let only_sick = [here("a", sick), there("b")];
    // As upstream: who ranks best and is never drawn still keeps the others from being drawn.
    let only_idle = [here("a", idle), there("b")];
    let nobody = [there("a"), there("b")];
    for (what, endpoints, mode, expected) in [
        ("all are equal", &all[..], "Standard", "a1 b1 c2"),
        ("the zone takes all", &all, "Failover", "a1 c2"),
        ("and when it must", &all, "Strict", "a1 c2"),
        (
            "a name leads to an endpoint all the same",
            &all,
            "Passthrough",
            "a1 c2",
        ),
        ("the zone has failed", &only_sick, "Failover", "b1"),
        (
            "the zone has failed, and nobody else may",
            &only_sick,
            "Strict",
            "",
        ),
        ("the zone has no capacity", &only_idle, "Failover", ""),
        ("nobody is in the zone", &nobody, "Failover", "a1 b1"),
        ("nobody is in the zone, and must be", &nobody, "Strict", ""),
    ] {
        let (count, _) = chosen_for(Purpose::Traffic, &client, endpoints, &service(mode));
        let count: Vec<_> = count
            .iter()
            .map(|(uid, n)| format!("{}{n}", &uid[..1]))
            .collect();
        assert_eq!(count.join(" "), expected, "{what}");
    }
    let (_, left_out) = chosen_for(Purpose::Traffic, &client, &all, &service("Failover"));
    assert_eq!(
        left_out,
        ["endpoint b is left out: another locality ranks better"]
    );
    let (_, left_out) = chosen_for(Purpose::Traffic, &client, &nobody, &service("Strict"));
    let strict = "it does not match every preference, and the service is strict";
    assert_eq!(
        left_out,
        ["a", "b"].map(|uid| format!("endpoint {uid} is left out: {strict}"))
    );
}

#[test]
fn a_change_of_the_services_policy_counts_for_the_endpoints_it_has() {
    // spec/dataplane.md §20.2 item 11, and the same for what the endpoints are sorted by.
    let zones = |zone: &str| json!({"region": "r", "zone": zone, "subzone": ""});
    let mut store = MeshStore::new();
    let pods = [
        pod("client", &["10.9.9.9"], json!({"locality": zones("z1")})),
        endpoint(
            "near",
            json!({"locality": zones("z1"), "status": "Unhealthy"}),
        ),
        endpoint(
            "far",
            json!({"locality": zones("z2"), "services": {"ns/s.ns": {"80": 9090}}}),
        ),
    ];
    apply(&mut store, &json!({"workloads": pods}));
    for (mode, policy, target, expected) in [
        ("Standard", "OnlyHealthy", 8080, "far"),
        ("Failover", "AllowAll", 8080, "near"),
        ("Failover", "OnlyHealthy", 8080, "far"),
        ("Strict", "AllowAll", 8080, "near"),
        ("Failover", "AllowAll", 0, "far"),
        ("Failover", "AllowAll", 8080, "near"),
    ] {
        let balancer =
            json!({"routingPreferences": ["Zone"], "mode": mode, "healthPolicy": policy});
        let more = json!({"loadBalancer": balancer, "ports": {"80": target}});
        apply(&mut store, &json!({"services": [service("s", &[], more)]}));
        let mesh = store.snapshot();
        let (client, service) = (
            local(&mesh, "client"),
            mesh.service_by_hostname("s.ns", None),
        );
        let (chance, listener) = (&mut |_| 0, &mut |_: &Step<'_>| {});
        let purpose = Purpose::Traffic;
        let found = choose_endpoint(
            &mesh,
            service.unwrap(),
            &client,
            80,
            purpose,
            chance,
            listener,
        );
        assert_eq!(
            found.map(|(w, _)| &*w.uid),
            Some(expected),
            "{mode} {policy} {target}"
        );
    }
}
