//! Live connections are asked about again only after changes that can touch them: that narrowing against none at all.
//!
//! Random meshes change at random, one batch after the other, and after each batch every connection that was allowed is
//! decided again. Whoever is denied then must have been asked about again, by what the batch says of itself
//! ([`Changes::concern_policy_of`]). `RECHECK_ORACLE_CASES` sets how many histories are drawn.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh::authorize::{ConnectionFacts, Verdict, authorize};
use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::identity::Identity;
use mesh::snapshot::MeshSnapshot;
use mesh::store::{Changes, MeshStore};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const NAMESPACES: [&str; 2] = ["a", "b"];
const WORKLOADS: [&str; 3] = ["w0", "w1", "w2"];
const KEYS: [&str; 5] = ["a/p", "a/q", "b/p", "b/q", "elsewhere/p"];

/// One resource of a batch: what it is, its name, and its text; none to remove it.
#[derive(Clone, Debug)]
struct Change {
    type_url: &'static str,
    name: String,
    value: Option<String>,
}

fn policy() -> impl Strategy<Value = Change> {
    let scope = select(vec!["Global", "Namespace", "WorkloadSelector"]);
    // A namespace of its own, as the key is only the resource's name (spec/control.md §5.4); one mistake, which is enforced
    // closed where it is new.
    let rules = select(vec![
        json!([]),
        json!([[]]),
        json!([[[{"principals": [{"Exact": "td/ns/a/sa/x"}]}]]]),
        json!([[[{"notNamespaces": [{"Exact": "a"}]}]]]),
        json!([[[{"destinationPorts": [80]}]]]),
        json!([[[{"sourceIps": ["10.0.0.0/33"]}]]]),
    ]);
    let parts = (
        select(KEYS.to_vec()),
        select(NAMESPACES.to_vec()),
        scope,
        rules,
        any::<bool>(),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    );
    parts.prop_map(
        |(key, namespace, scope, rules, allow, dry_run, gone)| Change {
            type_url: TYPE_AUTHORIZATION,
            name: key.to_owned(),
            value: (!gone).then(|| {
                let action = if allow { "Allow" } else { "Deny" };
                json!({"name": "p", "namespace": namespace, "scope": scope, "action": action, "dryRun": dry_run,
                    "rules": rules})
                .to_string()
            }),
        },
    )
}

fn workload() -> impl Strategy<Value = Change> {
    let parts = (
        select(WORKLOADS.to_vec()),
        select(NAMESPACES.to_vec()),
        select(vec!["x", "y"]),
        select(vec!["td", "cluster.local"]),
        subsequence(KEYS.to_vec(), 0..=2).prop_shuffle(),
        prop::option::of(select(vec!["/10.0.0.9", "/10.0.0.8"])),
        prop::bool::weighted(0.2),
    );
    parts.prop_map(
        |(uid, namespace, account, domain, policies, waypoint, gone)| Change {
            type_url: TYPE_WORKLOAD,
            name: uid.to_owned(),
            value: (!gone).then(|| {
                let waypoint = waypoint.map_or(
                    Value::Null,
                    |at| json!({"destination": at, "hboneMtlsPort": 15008}),
                );
                json!({"uid": uid, "name": uid, "namespace": namespace, "serviceAccount": account,
                    "trustDomain": domain, "workloadIps": [], "services": {}, "waypoint": waypoint,
                    "authorizationPolicies": policies})
                .to_string()
            }),
        },
    )
}

fn service() -> impl Strategy<Value = Change> {
    (select(NAMESPACES.to_vec()), prop::bool::weighted(0.3)).prop_map(|(namespace, gone)| Change {
        type_url: TYPE_SERVICE,
        name: format!("{namespace}/s"),
        value: (!gone).then(|| {
            json!({"name": "s", "namespace": namespace, "hostname": "s", "vips": [], "ports": {}})
                .to_string()
        }),
    })
}

fn batches() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = prop_oneof![4 => policy(), 3 => workload(), 1 => service()];
    prop::collection::vec(prop::collection::vec(change, 1..4), 1..24)
}

fn apply(store: &mut MeshStore, batch: &[Change]) -> Changes {
    let upserts: Vec<_> = batch
        .iter()
        .filter_map(|change| {
            Some(Resource {
                type_url: change.type_url,
                name: &change.name,
                value: change.value.as_ref()?.as_bytes(),
            })
        })
        .collect();
    let removed = batch.iter().filter(|change| change.value.is_none());
    let removed: Vec<_> = removed.map(|c| (c.type_url, c.name.as_str())).collect();
    store.apply(&upserts, &removed).changes
}

/// Who may connect to a workload, of a few who differ in everything that policies look at.
fn allowed(mesh: &MeshSnapshot, uid: &str) -> Vec<bool> {
    let identities = [
        Some("spiffe://td/ns/a/sa/x"),
        Some("spiffe://td/ns/b/sa/y"),
        None,
    ];
    let decide = |(identity, port): (Option<&str>, u16)| {
        let facts = ConnectionFacts {
            source: SocketAddr::from(([10, 0, 0, 1], 4000)),
            destination: SocketAddr::from(([10, 0, 0, 2], port)),
            identity: identity.map(|text| Identity::parse(text).expect("is one")),
        };
        // Whoever left the mesh is no matter of policy's.
        mesh.workload_by_uid(uid)
            .is_none_or(|workload| authorize(mesh, workload, &facts).verdict == Verdict::Allow)
    };
    let ports = [80, 81];
    let all = identities.into_iter().flat_map(|i| ports.map(|p| (i, p)));
    all.map(decide).collect()
}

#[expect(
    clippy::disallowed_methods,
    reason = "the crate reads no environment; whoever runs this test may ask for more cases"
)]
fn cases() -> u32 {
    let set = std::env::var("RECHECK_ORACLE_CASES").ok();
    set.map_or(1000, |text| text.parse().expect("a number"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whoever_a_change_forbids_is_asked_about_again(history in batches()) {
        let mut store = MeshStore::new();
        for batch in &history {
            let before = store.snapshot();
            let changes = apply(&mut store, batch);
            let after = store.snapshot();
            for uid in WORKLOADS {
                let ours = BTreeSet::from([Arc::from(uid)]);
                let was = allowed(&before, uid);
                let now = allowed(&after, uid);
                let forbidden = was.iter().zip(&now).any(|(was, now)| *was && !now);
                let asked = changes.concern_policy_of(&after, &ours);
                prop_assert!(asked || !forbidden, "{uid}: {was:?} {now:?} after {batch:?}");
                // Nor is everybody asked after everything.
                let kinds = batch.iter().map(|change| change.type_url);
                let services_only = kinds.into_iter().all(|kind| kind == TYPE_SERVICE);
                prop_assert!(!(asked && services_only), "{batch:?}");
            }
        }
    }
}
