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
            if let Step::LeftOut(left_out) = step {
                skipped.extend(left_out.lines());
            }
        };
        let found = choose_endpoint(
            &mesh,
            service,
            &client,
            80,
            Purpose::Traffic,
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

mod pools {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::decode::TYPE_WORKLOAD;
    use crate::snapshot::MeshSnapshot;
    use crate::store::MeshStore;
    use crate::testing::apply;

    /// What a pod may be: any health, weight and way to be reached.
    fn member() -> impl Strategy<Value = Value> {
        let port = prop::option::of(select(vec![0, 9090]));
        let services = (prop::option::weighted(0.8, port), any::<bool>());
        let reached = select(vec![
            json!({}),
            json!({"workloadIps": []}),
            json!({"workloadIps": [], "hostname": "h"}),
            json!({"workloadIps": [], "network": "far",
                "networkGateway": {"destination": "/1.1.1.1", "hboneMtlsPort": 15009}}),
            json!({"applicationTunnel": {"protocol": "NONE", "port": 1}}),
        ]);
        (0..40_u8, 0..4_u32, any::<bool>(), services, reached).prop_map(
            |(n, capacity, healthy, (port, second), reached)| {
                let mut services = serde_json::Map::new();
                if let Some(port) = port {
                    let ports = port.map_or_else(|| json!({}), |port| json!({"80": port}));
                    services.insert("ns/s.ns".into(), ports);
                }
                if second {
                    services.insert("ns/t.ns".into(), json!({"81": 81}));
                }
                let mut pod = pod(&format!("w{n}"), &["10.0.0.1"], reached);
                pod["capacity"] = capacity.into();
                pod["services"] = services.into();
                pod["status"] = if healthy { "Healthy" } else { "Unhealthy" }.into();
                pod
            },
        )
    }

    fn services() -> impl Strategy<Value = Value> {
        let ports = select(vec![json!({"80": 8080}), json!({"80": 0})]);
        let named = prop::collection::btree_set(0..40_u8, 0..5);
        (ports, named, any::<bool>()).prop_map(|(ports, named, all)| {
            let policy = if all { "AllowAll" } else { "OnlyHealthy" };
            let named = named.into_iter().map(|n| {
                let uid = format!("w{n}");
                let endpoint = json!({"workloadUid": uid, "port": {"80": 7070}});
                (uid, endpoint)
            });
            let more = json!({"ports": ports, "endpoints": named.collect::<serde_json::Map<_, _>>(),
                "loadBalancer": {"routingPreferences": [], "mode": "Standard", "healthPolicy": policy}});
            service("s", &[], more)
        })
    }

    /// Every endpoint looked at for the choice: (weight, uid and port) in the order of the uids, and who is left out.
    fn naive(
        mesh: &MeshSnapshot,
        service: &Service,
        source: &Workload,
    ) -> (BTreeMap<String, u64>, Vec<String>) {
        let target = service.ports[&80];
        let (mut weights, mut left_out) = (BTreeMap::new(), Vec::new());
        for endpoint in mesh.endpoints(service) {
            let uid = &endpoint.workload_uid;
            let workload = mesh.workload_by_uid(uid);
            let reason = match workload {
                _ if !service.takes(endpoint.status) => "it is unhealthy",
                None => "no such workload is known",
                Some(w)
                    if w.addresses.is_empty()
                        && w.hostname.is_empty()
                        && (w.network == source.network || w.network_gateway.is_none()) =>
                {
                    "it has no address"
                }
                Some(_) if target == 0 && !endpoint.port.contains_key(&80) => {
                    "it does not have the named port"
                }
                Some(w) if w.capacity == 0 => "its capacity is 0",
                Some(w) => {
                    let port = endpoint_port(w, endpoint, 80, target);
                    let port = port.map_or_else(|| "none".into(), |port| port.to_string());
                    weights.insert(format!("{uid}:{port}"), u64::from(w.capacity));
                    continue;
                }
            };
            left_out.push(format!("endpoint {uid} is left out: {reason}"));
        }
        (weights, left_out)
    }

    fn drawn(
        mesh: &MeshSnapshot,
        service: &Service,
        source: &Workload,
    ) -> (BTreeMap<String, u64>, Vec<String>) {
        let (mut weights, mut left_out) = (BTreeMap::<String, u64>::new(), Vec::new());
        let (mut draw, mut total) = (0, 1);
        while draw < total {
            total = 0;
            left_out.clear();
            let mut chance = |sum| {
                total = sum;
                draw
            };
            let mut chosen = None;
            let mut listener = |step: &Step<'_>| match step {
                Step::LeftOut(list) => left_out.extend(list.lines()),
                Step::Chosen(workload, _) => chosen = Some(workload.uid.to_string()),
                _ => {}
            };
            let found = choose_endpoint(
                mesh,
                service,
                source,
                80,
                Purpose::Traffic,
                &mut chance,
                &mut listener,
            );
            if let Some(uid) = chosen {
                let port = found.map_or_else(|| "none".into(), |(_, port)| port.to_string());
                *weights.entry(format!("{uid}:{port}")).or_default() += 1;
            }
            draw += 1;
        }
        (weights, left_out)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn after_any_changes_each_endpoint_is_chosen_as_often_as_if_all_were_looked_at(
            changes in prop::collection::vec(prop_oneof![
                8 => member().prop_map(Ok),
                2 => services().prop_map(Err),
            ], 1..60),
            removed in prop::collection::vec((0..60_usize, 0..40_u8), 0..10),
        ) {
            let clients = json!({"workloads": [
                pod("near", &["10.9.9.9"], json!({})), pod("far", &["10.9.9.9"], json!({"network": "far"}))]});
            let mut store = MeshStore::new();
            apply(&mut store, &clients);
            let (mut pods, mut last) = (BTreeMap::new(), None);
            for (index, change) in changes.into_iter().enumerate() {
                match change {
                    Ok(pod) => {
                        apply(&mut store, &json!({"workloads": [pod]}));
                        pods.insert(pod["uid"].to_string(), pod);
                    }
                    Err(service) => {
                        apply(&mut store, &json!({"services": [service]}));
                        last = Some(service);
                    }
                }
                for (_, n) in removed.iter().filter(|(when, _)| *when == index) {
                    let uid = format!("w{n}");
                    store.apply(&[], &[(TYPE_WORKLOAD, &uid)]);
                    pods.remove(&json!(uid).to_string());
                }
            }
            let mut at_once = MeshStore::new();
            apply(&mut at_once, &clients);
            apply(&mut at_once, &json!({"workloads": pods.values().collect::<Vec<_>>(),
                "services": last.iter().collect::<Vec<_>>()}));
            let (mesh, fresh) = (store.snapshot(), at_once.snapshot());
            prop_assert_eq!(mesh.dump("services"), fresh.dump("services"));
            prop_assert_eq!(mesh.dump("stagedServices"), fresh.dump("stagedServices"));
            let Some(service) = mesh.service_by_hostname("s.ns", None) else {
                return Ok(());
            };
            for source in ["near", "far"] {
                let source = local(&mesh, source);
                let expected = naive(&mesh, service, &source);
                prop_assert_eq!(drawn(&mesh, service, &source), expected);
            }
        }
    }
}
