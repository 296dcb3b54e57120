use serde_json::json;

use super::*;
use crate::testing::{Owned, apply, dump, pod, policy, resources, service};

mod any_order;

fn uids(mesh: &MeshSnapshot, hostname: &str) -> Vec<String> {
    let service = mesh.service_by_hostname(hostname, None).unwrap();
    let endpoints = mesh.endpoints(service);
    endpoints.map(|e| e.workload_uid.to_string()).collect()
}

#[test]
fn a_view_stays_as_it_was() {
    let mut store = MeshStore::new();
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.1"], json!({"services": {"ns/s.ns": {}}}))],
        "services": [service("s", &["/10.1.0.1"], json!({}))],
        "policies": [policy("p", "Deny", json!([[]]), json!({}))]}),
    );
    let before = store.snapshot();
    let dumps = |mesh: &MeshSnapshot| ["workloads", "services", "policies"].map(|s| dump(mesh, s));
    let held = dumps(&before);
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.2"], json!({}))]}),
    );
    store.apply(
        &[],
        &[
            (TYPE_SERVICE, "ns/s.ns"),
            (TYPE_AUTHORIZATION, "ns/p"),
            (TYPE_WORKLOAD, "a"),
        ],
    );
    assert_eq!(dumps(&before), held);
    assert!(
        before
            .workload_by_address("", "10.0.0.1".parse().unwrap())
            .is_some()
    );
    let after = store.snapshot();
    assert_eq!(dumps(&after), [json!([]), json!([]), json!([])]);
    assert!(
        after
            .workload_by_address("", "10.0.0.1".parse().unwrap())
            .is_none()
    );
    assert!(
        after
            .service_by_vip("", "10.1.0.1".parse().unwrap(), None)
            .is_none()
    );
    assert_eq!(
        (
            after.workload_count(),
            after.service_count(),
            after.policy_count()
        ),
        (0, 0, 0)
    );
}

#[test]
fn removals_come_after_upserts() {
    let mut store = MeshStore::new();
    let first = json!({"workloads": [pod("a", &["10.0.0.1"], json!({"services": {"ns/s.ns": {}}}))],
        "services": [service("s", &["/10.1.0.1"], json!({}))], "policies": [policy("p", "Deny", json!([]), json!({}))]});
    let all = [
        (TYPE_WORKLOAD, "a"),
        (TYPE_SERVICE, "ns/s.ns"),
        (TYPE_AUTHORIZATION, "ns/p"),
    ];
    for known in [false, true] {
        if known {
            apply(&mut store, &first);
        }
        let mut second = first.clone();
        second["services"][0]["ports"] = json!({"81": 81});
        second["workloads"][0]["workloadIps"] = json!(["10.0.0.9"]);
        let owned = resources(&second);
        let borrowed: Vec<_> = owned.iter().map(Owned::borrow).collect();
        let applied = store.apply(&borrowed, &all);
        assert_eq!(applied.rejections, []);
        let mesh = store.snapshot();
        let counts = (
            mesh.workload_count(),
            mesh.service_count(),
            mesh.policy_count(),
        );
        assert_eq!(counts, (0, 0, 0));
        for address in ["10.0.0.1", "10.0.0.9"] {
            let address = address.parse().unwrap();
            assert!(mesh.workload_by_address("", address).is_none());
        }
        let vip = "10.1.0.1".parse().unwrap();
        assert!(mesh.service_by_vip("", vip, None).is_none());
        assert_eq!(dump(&mesh, "stagedServices"), json!({}));
        let told = &applied.changes;
        assert_eq!(told.policies.len(), 1);
        assert!(told.workloads.contains("a"));
    }
}

#[test]
fn one_type_of_istios_removes_workloads_and_services_by_their_names() {
    let mut store = MeshStore::new();
    // A workload whose uid could be a service's name goes first.
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.1"], json!({})), pod("ns/s.ns", &["10.0.0.2"], json!({}))],
        "services": [service("s", &["/10.1.0.1"], json!({}))], "policies": [policy("p", "Deny", json!([]), json!({}))]}),
    );
    let mut counts = Vec::new();
    for (type_url, name) in [
        (TYPE_ISTIO_ADDRESS, "ns/unknown"),
        (TYPE_ISTIO_ADDRESS, "no-slash"),
        (TYPE_ISTIO_ADDRESS, "ns/s.ns/more"),
        (TYPE_ISTIO_ADDRESS, "a"),
        (TYPE_ISTIO_ADDRESS, "ns/s.ns"),
        (TYPE_ISTIO_ADDRESS, "ns/s.ns"),
        (TYPE_ISTIO_AUTHORIZATION, "ns/p"),
    ] {
        assert_eq!(store.apply(&[], &[(type_url, name)]).rejections, []);
        let mesh = store.snapshot();
        counts.push([
            mesh.workload_count(),
            mesh.service_count(),
            mesh.policy_count(),
        ]);
    }
    let (all, none) = ([2, 1, 1], [0, 0, 0]);
    assert_eq!(
        counts,
        [all, all, all, [1, 1, 1], [0, 1, 1], [0, 0, 1], none]
    );
}

#[test]
fn removing_what_is_not_there_changes_nothing() {
    let mut store = MeshStore::new();
    let removed = [
        (TYPE_WORKLOAD, "a"),
        (TYPE_SERVICE, "a"),
        (TYPE_SERVICE, "a/b"),
        (TYPE_AUTHORIZATION, "a/b"),
        (TYPE_ISTIO_ADDRESS, "a"),
        (TYPE_ISTIO_AUTHORIZATION, "a/b"),
        ("x", "y"),
    ];
    assert_eq!(store.apply(&[], &removed), Applied::default());
}

#[test]
fn the_second_of_a_name_in_one_batch_is_rejected() {
    let mut store = MeshStore::new();
    let twins = json!({"workloads": [pod("a", &["10.0.0.1"], json!({})), pod("a", &["10.0.0.2"], json!({}))]});
    let applied = apply(&mut store, &twins);
    assert_eq!(applied.rejections.len(), 1);
    assert_eq!(
        applied.rejections[0].to_string(),
        r#"workloads "a": is given twice in one batch"#
    );
    assert_eq!(
        dump(&store.snapshot(), "workloads")[0]["workloadIps"],
        json!(["10.0.0.1"])
    );
}

#[test]
fn one_bad_resource_does_not_stop_the_others_and_the_old_one_stays() {
    let mut store = MeshStore::new();
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.1"], json!({}))]}),
    );
    let applied = apply(
        &mut store,
        &json!({"workloads": [pod("a", &["bad"], json!({})), pod("b", &["10.0.0.2"], json!({}))]}),
    );
    assert_eq!(applied.rejections.len(), 1);
    assert_eq!(applied.changes.workloads, BTreeSet::from(["b".into()]));
    let mesh = store.snapshot();
    assert!(
        mesh.workload_by_address("", "10.0.0.1".parse().unwrap())
            .is_some()
    );
    assert!(mesh.workload_by_uid("b").is_some());
}

#[test]
fn endpoints_wait_for_their_service() {
    let mut store = MeshStore::new();
    let of = |service: &str| json!({"services": {service: {"80": 81}}});
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.1"], of("ns/s.ns"))]}),
    );
    assert!(store.snapshot().service_by_hostname("s.ns", None).is_none());
    assert_eq!(store.snapshot().service_count(), 0);
    apply(
        &mut store,
        &json!({"services": [service("s", &[], json!({}))]}),
    );
    assert_eq!(uids(&store.snapshot(), "s.ns"), ["a"]);
    assert_eq!(dump(&store.snapshot(), "stagedServices"), json!({}));
}

#[test]
fn endpoints_outlive_their_service_and_leave_with_their_workload() {
    let mut store = MeshStore::new();
    let of = |services: serde_json::Value| pod("a", &["10.0.0.1"], json!({"services": services}));
    let file = json!({"workloads": [of(json!({"ns/s.ns": {}}))], "services": [service("s", &[], json!({}))]});
    apply(&mut store, &file);
    store.apply(&[], &[(TYPE_SERVICE, "ns/s.ns")]);
    assert!(store.snapshot().service_by_hostname("s.ns", None).is_none());
    apply(&mut store, &json!({"services": file["services"]}));
    assert_eq!(uids(&store.snapshot(), "s.ns"), ["a"]);
    apply(
        &mut store,
        &json!({"workloads": [of(json!({"ns/other.ns": {}}))]}),
    );
    assert_eq!(uids(&store.snapshot(), "s.ns"), [""; 0]);
    apply(&mut store, &file);
    store.apply(&[], &[(TYPE_WORKLOAD, "a")]);
    assert_eq!(uids(&store.snapshot(), "s.ns"), [""; 0]);
    assert_eq!(dump(&store.snapshot(), "stagedServices"), json!({}));
}

#[test]
fn endpoints_named_by_the_service_and_by_workloads_stand_side_by_side() {
    let mut store = MeshStore::new();
    let named = json!({"endpoints": {"b": {"workloadUid": "b", "port": {}}}});
    apply(
        &mut store,
        &json!({
            "workloads": [pod("a", &["10.0.0.1"], json!({"services": {"ns/s.ns": {}}}))],
            "services": [service("s", &[], named)],
        }),
    );
    assert_eq!(uids(&store.snapshot(), "s.ns"), ["a", "b"]);
    apply(
        &mut store,
        &json!({"services": [service("s", &[], json!({}))]}),
    );
    assert_eq!(uids(&store.snapshot(), "s.ns"), ["a"]);
}

#[test]
fn what_is_sent_again_unchanged_is_no_change() {
    let mut store = MeshStore::new();
    let file = json!({"workloads": [pod("a", &["10.0.0.1"], json!({"services": {"ns/s.ns": {}}}))],
        "services": [service("s", &[], json!({}))], "policies": [policy("p", "Allow", json!([]), json!({}))]});
    let first = apply(&mut store, &file);
    assert_eq!(
        first.changes.workloads.len() + first.changes.services.len() + first.changes.policies.len(),
        3
    );
    let held = store.snapshot();
    assert_eq!(apply(&mut store, &file), Applied::default());
    assert!(Arc::ptr_eq(&held, &store.snapshot()));
}

#[test]
fn a_change_that_does_not_concern_endpoints_leaves_the_service_alone() {
    let mut store = MeshStore::new();
    let of = |more: &str| {
        let more = json!({"services": {"ns/s.ns": {"80": 81}}, "canonicalName": more});
        json!({"workloads": [pod("a", &["10.0.0.1"], more)], "services": [service("s", &[], json!({}))]})
    };
    apply(&mut store, &of("x"));
    let held = store.snapshot().service_by_hostname("s.ns", None).cloned();
    let changes = apply(&mut store, &of("y")).changes;
    assert_eq!((changes.workloads.len(), changes.services.len()), (1, 0));
    assert_eq!(uids(&store.snapshot(), "s.ns"), ["a"]);
    let mesh = store.snapshot();
    assert!(Arc::ptr_eq(
        &held.unwrap(),
        mesh.service_by_hostname("s.ns", None).unwrap()
    ));
}

/// Whether a batch has connections to the workloads `a` and `b` asked about again.
fn concern(store: &mut MeshStore, file: &serde_json::Value, gone: &[(&str, &str)]) -> [bool; 2] {
    let owned = resources(file);
    let borrowed: Vec<_> = owned.iter().map(Owned::borrow).collect();
    let applied = store.apply(&borrowed, gone);
    ["a", "b"].map(|uid| {
        let uids = BTreeSet::from([uid.into()]);
        applied.changes.concern_policy_of(&store.snapshot(), &uids)
    })
}

#[test]
fn a_change_of_a_workload_concerns_its_own_connections() {
    let mut store = MeshStore::new();
    let a = |more| json!({"workloads": [pod("a", &["10.0.0.1"], more)]});
    let mut told = |file: &serde_json::Value| concern(&mut store, file, &[]);
    assert_eq!(told(&a(json!({}))), [true, false]);
    assert_eq!(told(&a(json!({"canonicalName": "x"}))), [false, false]);
    let b = json!({"workloads": [pod("b", &["10.0.0.2"], json!({}))]});
    assert_eq!(told(&b), [false, true]);
    for more in [
        json!({"authorizationPolicies": ["ns/p"]}),
        json!({"authorizationPolicies": ["ns/p"], "namespace": "other"}),
        json!({"authorizationPolicies": ["ns/p"], "namespace": "other", "serviceAccount": "x"}),
        json!({"authorizationPolicies": ["ns/p"], "namespace": "other", "serviceAccount": "x", "trustDomain": "t"}),
    ] {
        assert_eq!(told(&a(more)), [true, false]);
    }
    // Whoever left has nothing to be asked about; its connections end with it.
    let none = json!({});
    assert_eq!(
        concern(&mut store, &none, &[(TYPE_WORKLOAD, "a")]),
        [true, false]
    );
}

#[test]
fn a_change_of_a_policy_concerns_those_to_whom_it_applies_or_applied() {
    let mut store = MeshStore::new();
    let attached = json!({"authorizationPolicies": ["ns/p", "ns/unknown"], "namespace": "other"});
    apply(
        &mut store,
        &json!({"workloads": [pod("a", &["10.0.0.1"], json!({})), pod("b", &["10.0.0.2"], attached)]}),
    );
    let p = |more| json!({"policies": [policy("p", "Deny", json!([]), more)]});
    let none = json!({});
    for (step, expected) in [
        // Of namespace ns, and named by b.
        (p(json!({})), [true, true]),
        (p(json!({})), [false, false]),
        (p(json!({"dryRun": true})), [true, true]),
        // It was everybody's in ns a moment ago.
        (p(json!({"scope": "WorkloadSelector"})), [true, true]),
        (
            p(json!({"scope": "WorkloadSelector", "action": "Allow"})),
            [false, true],
        ),
        (p(json!({"scope": "Global"})), [true, true]),
    ] {
        assert_eq!(concern(&mut store, &step, &[]), expected, "{step}");
    }
    assert_eq!(
        concern(&mut store, &none, &[(TYPE_AUTHORIZATION, "ns/p")]),
        [true, true]
    );
    let q = |more| json!({"policies": [policy("q", "Deny", json!([]), more)]});
    for (step, expected) in [
        (q(json!({})), [true, false]),
        (q(json!({"dryRun": true})), [true, false]),
        (q(json!({"scope": "WorkloadSelector"})), [true, false]),
        (
            q(json!({"scope": "WorkloadSelector", "dryRun": true})),
            [false, false],
        ),
    ] {
        assert_eq!(concern(&mut store, &step, &[]), expected, "{step}");
    }
    let third =
        json!({"policies": [policy("r", "Deny", json!([]), json!({"namespace": "third"}))]});
    assert_eq!(concern(&mut store, &third, &[]), [false, false]);
    // One that cannot be read, and is unknown, is enforced closed where it says that it applies.
    let rules = json!([[[{"sourceIps": ["10.0.0.0/33"]}]]]);
    let bad = json!({"policies": [policy("bad", "Deny", rules, json!({}))]});
    assert_eq!(concern(&mut store, &bad, &[]), [true, false]);
}

#[test]
fn a_bad_policy_leaves_the_last_good_one_in_force() {
    let mut store = MeshStore::new();
    let good = json!({"policies": [policy("p", "Deny", json!([[[{"sourceIps": ["10.0.0.0/8"]}]]]), json!({}))]});
    let bad = json!({"policies": [policy("p", "Deny", json!([[[{"sourceIps": ["10.0.0.0/33"]}]]]), json!({}))]});
    apply(&mut store, &good);
    let applied = apply(&mut store, &bad);
    assert_eq!(
        (applied.rejections.len(), applied.changes.is_empty()),
        (1, true)
    );
    assert_eq!(dump(&store.snapshot(), "policies"), good["policies"]);
}

#[test]
fn a_bad_policy_that_replaces_nothing_is_rejected_and_fails_closed() {
    let mut store = MeshStore::new();
    let bad = json!({"policies": [policy("p", "Deny", json!([[[{"sourceIps": ["10.0.0.0/33"]}]]]), json!({}))]});
    let applied = apply(&mut store, &bad);
    assert_eq!(applied.rejections.len(), 1);
    assert!(applied.changes.policies.contains("ns/p"));
    assert!(applied.changes.reach.namespaces.contains("ns"));
    assert!(store.snapshot().policy("ns/p").unwrap().unreadable);
    let good = json!({"policies": [policy("p", "Deny", json!([]), json!({}))]});
    apply(&mut store, &good);
    assert!(!store.snapshot().policy("ns/p").unwrap().unreadable);
    assert_eq!(dump(&store.snapshot(), "policies"), good["policies"]);
}

/// spec/control.md §17.3, row 8.
#[test]
fn a_service_in_the_middle_of_its_workloads_has_them_all_and_a_bad_one_is_alone() {
    let mut store = MeshStore::new();
    let member = |n: u8, more: serde_json::Value| {
        let mut fields = json!({"services": {"ns/s.ns": {"80": 81}}});
        fields
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        pod(&format!("w{n:02}"), &[&format!("10.0.0.{n}")], fields)
    };
    let members: Vec<_> = (0..50).map(|n| member(n, json!({}))).collect();
    let sick = member(60, json!({"status": "Unhealthy"}));
    let bad = member(61, json!({"workloadIps": ["10.0.0"]}));
    let first = resources(&json!({"workloads": members[..25]}));
    let middle = resources(&json!({"services": [service("s", &[], json!({}))]}));
    let others = [&members[25..], &[sick, bad]].concat();
    let rest = resources(&json!({"workloads": others}));
    let all = [first, middle, rest].concat();
    let applied = store.apply(&all.iter().map(Owned::borrow).collect::<Vec<_>>(), &[]);
    let rejected: Vec<_> = applied.rejections.iter().map(|r| &*r.name).collect();
    assert_eq!(rejected, ["w61"]);
    let chosen = |store: &MeshStore| {
        let mesh = store.snapshot();
        let service = mesh.service_by_hostname("s.ns", None).unwrap();
        let healthy = mesh
            .endpoints(service)
            .filter(|e| e.status == HealthStatus::Healthy);
        healthy.count()
    };
    assert_eq!(chosen(&store), 50);
    store.apply(&[], &[(TYPE_WORKLOAD, "w00")]);
    assert_eq!(chosen(&store), 49);
}

/// spec/control.md §17.3, row 9.
#[test]
fn a_workload_moves_between_services_in_one_step_and_never_leaves_the_one_that_it_keeps() {
    let mut store = MeshStore::new();
    let of = |services: [&str; 2]| {
        let ports: serde_json::Map<_, _> = services
            .map(|name| (name.to_owned(), json!({"80": 81})))
            .into_iter()
            .collect();
        pod("a", &["10.0.0.1"], json!({"services": ports}))
    };
    let named = |name| service(name, &[], json!({}));
    apply(
        &mut store,
        &json!({"workloads": [of(["ns/old.ns", "ns/kept.ns"])],
            "services": [named("old"), named("kept"), named("new")]}),
    );
    let before = store.snapshot();
    apply(
        &mut store,
        &json!({"workloads": [of(["ns/kept.ns", "ns/new.ns"])]}),
    );
    let after = store.snapshot();
    // There is no third view: readers have the one or the other.
    for (mesh, old, new) in [(&before, 1, 0), (&after, 0, 1)] {
        let count = |host| uids(mesh, host).len();
        assert_eq!(
            [count("old.ns"), count("kept.ns"), count("new.ns")],
            [old, 1, new]
        );
    }
}
