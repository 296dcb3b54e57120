use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::testing::{local, mesh, pod, service};

/// How often each endpoint is chosen when chance goes through all it can give, and the skipped ones with their reason.
fn chosen(workloads: &[Value], service: &Value) -> (BTreeMap<String, u64>, Vec<String>) {
    let client = pod("client", &["10.9.9.9"], json!({}));
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
            if let Step::Skipped(..) = step {
                skipped.push(step.to_string());
            }
        };
        let found = choose_endpoint(&mesh, service, &client, 80, &mut chance, &mut listener);
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
    let found = choose_endpoint(&mesh, service, &client, 80, &mut careless, &mut |_| {});
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
