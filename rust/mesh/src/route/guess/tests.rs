use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decode::{TYPE_SERVICE, TYPE_WORKLOAD};
use crate::store::MeshStore;
use crate::testing::{Owned, local, mesh, pod, resources, service};

fn world() -> Arc<MeshSnapshot> {
    let services = json!({
        "ns/own.ns": {"80": 9090}, "ns/plain.ns": {}, "ns/unknown.ns": {}, "aa/twin": {}, "zz/twin": {},
    });
    let twin = |namespace: &str| {
        service(
            "twin",
            &[],
            json!({"namespace": namespace, "hostname": "twin", "ports": {"1": 2}}),
        )
    };
    mesh(&json!({
        "workloads": [pod("server", &["10.0.0.2"], json!({"services": services})), pod("other", &[], json!({}))],
        "services": [
            service("own", &[], json!({})), service("plain", &[], json!({})),
            service("named", &[], json!({"endpoints": {"server": {"workloadUid": "server", "port": {"80": 7070}, "status": "Healthy"}}})),
            service("foreign", &[], json!({"ports": {"80": 9090}})),
            twin("zz"), twin("aa"), twin("a0"),
        ],
    }))
}

#[test]
fn the_service_is_guessed_from_the_clients_word_then_from_the_port() {
    let mesh = world();
    for (what, host, port, uid, expected) in [
        (
            "by name, whatever the port",
            Some("plain.ns"),
            1,
            "server",
            Some("ns/plain.ns"),
        ),
        (
            "by port if the name is not ours",
            Some("foreign.ns"),
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "by port if the name is unknown",
            Some("unknown.ns"),
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "the first that leads there",
            None,
            8080,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "by our own word for a port",
            None,
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "the first of the name that is ours",
            Some("twin"),
            1,
            "server",
            Some("aa/twin"),
        ),
        ("the first of the port", None, 2, "server", Some("aa/twin")),
        ("not by the service's own port", None, 80, "server", None),
        ("nothing of who is in none", None, 8080, "other", None),
    ] {
        let candidates = Candidates::all(&mesh, &local(&mesh, uid));
        let guess = guess_service(&candidates, host, port).map(|s| s.key().to_string());
        assert_eq!(guess.as_deref(), expected, "{what}");
    }
}

#[test]
fn of_a_service_that_was_asked_for_only_that_one_is_guessed() {
    let mesh = world();
    let server = local(&mesh, "server");
    for (what, name, host, port, expected) in [
        ("by port", "ns/plain.ns", None, 8080, true),
        ("by the endpoint's port", "ns/named.ns", None, 7070, true),
        ("by name", "ns/plain.ns", Some("plain.ns"), 1, true),
        (
            "not another's name",
            "ns/plain.ns",
            Some("own.ns"),
            1,
            false,
        ),
        ("not another's port", "ns/plain.ns", None, 9090, false),
    ] {
        let service = mesh.service(&name.parse().unwrap()).unwrap();
        let candidates = Candidates::one(&mesh, &server, service);
        let guess = guess_service(&candidates, host, port);
        assert_eq!(guess.is_some(), expected, "{what}");
    }
}

/// One change of a mesh with one workload that may be in many services.
#[derive(Clone, Debug)]
enum Change {
    /// The workload is in the first so many services, with these ports of its own, in turn.
    Workload(usize, Vec<Option<u16>>),
    NoWorkload,
    Service(usize, u16, u16),
    NoService(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let port = || prop::sample::select(vec![0_u16, 1, 2, 3]);
    prop_oneof![
        3 => (prop::sample::select(vec![0, 5, 33, 40]), prop::collection::vec(prop::option::of(port()), 1..4))
            .prop_map(|(count, ports)| Change::Workload(count, ports)),
        1 => Just(Change::NoWorkload),
        6 => (0..40_usize, port(), port()).prop_map(|(n, one, two)| Change::Service(n, one, two)),
        3 => (0..40_usize).prop_map(Change::NoService),
    ]
}

/// One batch: what goes first, then what comes, as the store has it.
fn apply_changes(store: &mut MeshStore, changes: &[Change]) {
    let name = |n: usize| format!("ns/s{n:02}.ns");
    let (mut upserts, mut removed) = (Vec::new(), Vec::new());
    for change in changes {
        match change {
            Change::Workload(count, ports) => {
                let entry = |n: usize| {
                    let own = ports[n % ports.len()];
                    (
                        name(n),
                        own.map_or_else(|| json!({}), |port| json!({"80": port})),
                    )
                };
                let services: serde_json::Map<_, _> = (0..*count).map(entry).collect();
                let server = pod("server", &["10.0.0.2"], json!({"services": services}));
                upserts.extend(resources(&json!({"workloads": [server]})));
            }
            Change::Service(n, one, two) => {
                let ports = json!({"ports": {"80": one, "81": two}});
                let service = service(&format!("s{n:02}"), &[], ports);
                upserts.extend(resources(&json!({"services": [service]})));
            }
            Change::NoWorkload => removed.push((TYPE_WORKLOAD, "server".to_owned())),
            Change::NoService(n) => removed.push((TYPE_SERVICE, name(*n))),
        }
    }
    let upserts: Vec<_> = upserts.iter().map(Owned::borrow).collect();
    let removed: Vec<_> = removed
        .iter()
        .map(|(kind, name)| (*kind, &**name))
        .collect();
    store.apply(&upserts, &removed);
}

proptest! {
    /// However many services there are, the guess is what looking at each would find; a view keeps its own.
    #[test]
    fn the_guess_by_port_is_the_first_service_that_leads_there(
        batches in prop::collection::vec(prop::collection::vec(change(), 1..5), 1..30),
    ) {
        let mut store = MeshStore::new();
        let mut views = Vec::new();
        apply_changes(&mut store, &[Change::Workload(40, vec![None, Some(2)])]);
        for changes in &batches {
            apply_changes(&mut store, changes);
            views.push(store.snapshot());
        }
        for mesh in views {
            let Some(server) = mesh.workload_by_uid("server") else {
                continue;
            };
            let candidates = Candidates::all(&mesh, server);
            for port in 0..5 {
                let mut all = server.services.iter();
                let first = all.find_map(|(name, own)| {
                    let service = mesh.service(name)?;
                    leads_to(service, Some(own), port).then_some(service)
                });
                prop_assert_eq!(guess_service(&candidates, None, port), first);
            }
        }
    }
}
