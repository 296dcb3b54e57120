//! Random changes: each endpoint is chosen as often as if all were looked at for the choice (spec/dataplane.md §10.4).

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::decode::TYPE_WORKLOAD;
use crate::service::{LoadBalancer, LoadBalancerScope};
use crate::snapshot::MeshSnapshot;

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
    let place = (0..2_u8, 0..2_u8, 0..2_u8, 0..3_u8);
    (0..40_u8, 0..4_u32, any::<bool>(), services, reached, place).prop_map(
        |(n, capacity, healthy, (port, second), reached, place)| {
            let mut services = serde_json::Map::new();
            if let Some(port) = port {
                let ports = port.map_or_else(|| json!({}), |port| json!({"80": port}));
                services.insert("ns/s.ns".into(), ports);
            }
            if second {
                services.insert("ns/t.ns".into(), json!({"81": 81}));
            }
            let mut pod = pod(&format!("w{n}"), &["10.0.0.1"], reached);
            let (region, zone, network, node) = place;
            pod["locality"] =
                json!({"region": region.to_string(), "zone": zone.to_string(), "subzone": ""});
            pod["node"] = node.to_string().into();
            if network == 1 {
                pod["network"] = "far".into();
            }
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
    let modes = select(vec!["Standard", "Failover", "Strict", "Passthrough"]);
    let scopes = vec!["Network", "Region", "Zone", "Subzone", "Node", "Cluster"];
    let scopes = prop::sample::subsequence(scopes, 0..5).prop_shuffle();
    (ports, named, any::<bool>(), modes, scopes).prop_map(|(ports, named, all, mode, scopes)| {
        let policy = if all { "AllowAll" } else { "OnlyHealthy" };
        let named = named.into_iter().map(|n| {
            let uid = format!("w{n}");
            let endpoint = json!({"workloadUid": uid, "port": {"80": 7070}});
            (uid, endpoint)
        });
        let more = json!({"ports": ports, "endpoints": named.collect::<serde_json::Map<_, _>>(),
            "loadBalancer": {"routingPreferences": scopes, "mode": mode, "healthPolicy": policy}});
        service("s", &[], more)
    })
}

/// What an endpoint scores, word for word as spec/dataplane.md §10.4 has it, and how many preferences it matches.
fn score(balancer: &LoadBalancer, source: &Workload, workload: &Workload) -> (usize, usize) {
    let scopes = &balancer.routing_preferences;
    let network_first = scopes.first() == Some(&LoadBalancerScope::Network);
    let (mut score, mut matched) = (0, 0);
    for scope in scopes {
        let value = |w: &Workload| match scope {
            LoadBalancerScope::Cluster => w.cluster.to_string(),
            LoadBalancerScope::Network => w.network.to_string(),
            LoadBalancerScope::Node => w.site.node.to_string(),
            LoadBalancerScope::Region => w.site.locality.region.to_string(),
            LoadBalancerScope::Subzone => w.site.locality.subzone.to_string(),
            LoadBalancerScope::Zone => w.site.locality.zone.to_string(),
        };
        let special = network_first && *scope == LoadBalancerScope::Network;
        if value(source) == value(workload) {
            score += 1 + if special { scopes.len() - 1 } else { 0 };
            matched += 1;
        } else if !special {
            break;
        }
    }
    (score, matched)
}

/// Every endpoint looked at for the choice: (weight, uid and port) in the order of the uids, and who is left out.
fn naive(
    mesh: &MeshSnapshot,
    service: &Service,
    source: &Workload,
) -> (BTreeMap<String, u64>, Vec<String>) {
    let target = service.ports[&80];
    let balancer = service.load_balancer.as_ref().unwrap();
    let ranked = balancer.mode != LoadBalancerMode::Standard;
    let (mut candidates, mut reasons) = (BTreeMap::new(), BTreeMap::new());
    for endpoint in mesh.endpoints(service) {
        let uid = Arc::clone(&endpoint.workload_uid);
        let reason = match mesh.workload_by_uid(&uid) {
            None => "no such workload is known",
            _ if !service.takes(endpoint.status) => "it is unhealthy",
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
            Some(w) => {
                let (score, matched) = score(balancer, source, w);
                let full = matched == balancer.routing_preferences.len();
                if balancer.mode == LoadBalancerMode::Strict && !full {
                    "it does not match every preference, and the service is strict"
                } else {
                    let score = if ranked { score } else { 0 };
                    candidates.insert(uid, (score, Arc::clone(w), endpoint.port));
                    continue;
                }
            }
        };
        reasons.insert(uid, reason);
    }
    let best = candidates.values().map(|(score, ..)| *score).max();
    let mut weights = BTreeMap::new();
    for (uid, (score, workload, own)) in candidates {
        if Some(score) != best {
            reasons.insert(uid, "another locality ranks better");
        } else if workload.capacity == 0 {
            reasons.insert(uid, "its capacity is 0");
        } else {
            let port = endpoint_port(&workload, &own, 80, Some(target));
            let port = port.map_or_else(|| "none".into(), |port| port.to_string());
            weights.insert(format!("{uid}:{port}"), u64::from(workload.capacity));
        }
    }
    let line = |(uid, reason)| format!("endpoint {uid} is left out: {reason}");
    (weights, reasons.into_iter().map(line).collect())
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
            pod("near", &["10.9.9.9"], json!({"node": "0", "locality": {"region": "0", "zone": "1", "subzone": ""}})),
            pod("far", &["10.9.9.9"], json!({"network": "far"}))]});
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
