//! Random batches: in any order or one by one, they leave the same mesh.

use proptest::prelude::*;

use super::*;

/// What can be seen from outside.
fn seen(mesh: &MeshSnapshot) -> Vec<String> {
    let sections = ["workloads", "services", "policies", "stagedServices"];
    let mut seen: Vec<String> = sections.iter().map(|s| dump(mesh, s).to_string()).collect();
    for n in 0..6 {
        let address = |net: u8| std::net::IpAddr::from([10, net, 0, n]);
        let workload = mesh
            .workload_by_address("", address(0))
            .map(|w| w.uid.to_string());
        let service = mesh
            .service_by_vip("", address(1), Some("ns"))
            .map(|s| s.key().to_string());
        let block = mesh
            .service_by_vip("", address(2), None)
            .map(|s| s.key().to_string());
        let host = mesh
            .service_by_hostname(&format!("s{n}.ns"), None)
            .map(|s| s.key().to_string());
        let named = mesh
            .local_workload(&format!("w{n}"), "ns", &format!("w{n}"))
            .map(|w| w.uid.to_string());
        seen.push(format!(
            "{workload:?} {service:?} {block:?} {host:?} {named:?}"
        ));
    }
    seen
}

/// Workload, service and policy number `n` in one of a few versions. Names and addresses do not collide: where they
/// do, the order counts by design (spec/dataplane.md §10).
fn thing() -> impl Strategy<Value = Owned> {
    let services = prop::collection::btree_set(0..6_u8, 0..4);
    (0..3_u8, 0..6_u8, 0..3_u8, services).prop_map(|(kind, n, version, services)| {
        let services: serde_json::Map<_, _> = services
            .into_iter()
            .map(|s| (format!("ns/s{s}.ns"), json!({"80": 8000 + u16::from(version)})))
            .collect();
        let file = match kind {
            0 => json!({"workloads": [pod(&format!("w{n}"), &[&format!("10.0.0.{n}")],
                json!({"services": services, "capacity": version}))]}),
            1 => json!({"services": [service(&format!("s{n}"), &[&format!("/10.1.0.{n}")],
                json!({"canonical": version == 1, "cidrVips": [{"network": "", "cidr": format!("10.2.0.{n}/32")}]}))]}),
            _ => json!({"policies": [policy(&format!("p{n}"), "Deny", json!([]),
                json!({"scope": (["Global", "Namespace", "WorkloadSelector"][usize::from(version)])}))]}),
        };
        resources(&file).remove(0)
    })
}

fn unique(things: Vec<Owned>) -> Vec<Owned> {
    let mut names = HashSet::new();
    things
        .into_iter()
        .filter(|t| names.insert((t.type_url, t.name.clone())))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn one_batch_in_any_order_or_one_by_one_leaves_the_same_mesh(
        first in prop::collection::vec(thing(), 0..12),
        things in prop::collection::vec(thing(), 0..24).prop_map(unique)
            .prop_flat_map(|things| (Just(things.clone()), Just(things).prop_shuffle())),
        removed in prop::collection::vec(thing(), 0..6),
    ) {
        let (things, shuffled) = things;
        let removed: Vec<_> = removed.iter().map(|t| (t.type_url, t.name.as_str())).collect();
        let mut stores = [MeshStore::new(), MeshStore::new(), MeshStore::new()];
        for store in &mut stores {
            for one in &first {
                store.apply(&[one.borrow()], &[]);
            }
        }
        let borrowed: Vec<_> = things.iter().map(Owned::borrow).collect();
        stores[0].apply(&borrowed, &removed);
        let borrowed_shuffled: Vec<_> = shuffled.iter().map(Owned::borrow).collect();
        stores[1].apply(&borrowed_shuffled, &removed);
        for one in &things {
            stores[2].apply(&[one.borrow()], &[]);
        }
        for name in &removed {
            stores[2].apply(&[], &[*name]);
        }
        let views = stores.each_ref().map(|store| seen(&store.snapshot()));
        prop_assert_eq!(&views[0], &views[1]);
        prop_assert_eq!(&views[0], &views[2]);
        // Once more changes nothing.
        let kept = |one: &&Resource<'_>| !removed.contains(&(one.type_url, one.name));
        let kept: Vec<_> = borrowed.iter().filter(kept).copied().collect();
        prop_assert!(stores[0].apply(&kept, &removed).changes.is_empty());
        // What was removed one by one to the end leaves nothing behind.
        let all: Vec<_> = first.iter().chain(&things).map(|t| (t.type_url, t.name.as_str())).collect();
        stores[0].apply(&[], &all);
        prop_assert_eq!(seen(&stores[0].snapshot()), seen(&MeshStore::new().snapshot()));
    }
}
