//! What a real istiod said, taken step by step, and the mesh after each beside what upstream made of it.
//!
//! `tests/vectors/istiod/README.md` says where the recordings come from.
#![expect(
    clippy::unwrap_used,
    reason = "a recording is what it is; helpers of a test are not tests to clippy"
)]

use std::collections::{BTreeMap, BTreeSet};

use mesh::authorize::{ConnectionFacts, Decision, Note, Verdict, authorize};
use mesh::decode::{Resource, TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::delta;
use mesh::identity::Identity;
use mesh::snapshot::MeshSnapshot;
use mesh::store::{Applied, MeshStore};
use serde_json::{Value, json};

type Response = delta::Response<Vec<u8>>;

/// A step of a recording: what was done to the cluster, or what istiod said.
enum Step {
    Event(String),
    Response(Response),
}

fn recording(text: &str) -> Vec<Step> {
    let step = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        match line["event"].as_str() {
            Some(event) => Step::Event(event.to_owned()),
            None => {
                let raw = from_base64(line["response"].as_str().unwrap());
                Step::Response(Response::read(raw).unwrap())
            }
        }
    };
    text.lines().map(step).collect()
}

fn from_base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("not base64: {other}"),
    };
    let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(digit).collect();
    let triple = |four: &[u8]| {
        let bits = four
            .iter()
            .fold(0_u32, |bits, digit| bits << 6 | u32::from(*digit));
        let bits = bits << (6 * (4 - four.len()));
        bits.to_be_bytes()[1..four.len()].to_vec()
    };
    digits.chunks(4).flat_map(triple).collect()
}

fn take(store: &mut MeshStore, response: &Response) -> Applied {
    take_some(store, response, |_| true)
}

/// Only the resources whose names are `wanted`.
fn take_some(store: &mut MeshStore, response: &Response, wanted: impl Fn(&str) -> bool) -> Applied {
    let (mut resources, rejections) = response.batch();
    assert_eq!(rejections, [], "istiod sends no empty resources");
    resources.retain(|resource| wanted(resource.name));
    let gone = response.removed().map(|name| (response.type_url(), name));
    store.apply(&resources, &gone.collect::<Vec<_>>())
}

const SESSION: &str = include_str!("../../../tests/vectors/istiod/delta-session.jsonl");
const UPSTREAM: &str = include_str!("../../../tests/vectors/istiod/config_dump.json");

/// The sections of the dump, by name and then by the key of each object.
type Dump = BTreeMap<&'static str, BTreeMap<String, Value>>;

fn key(object: &Value) -> String {
    let part = |name: &str| object[name].as_str().unwrap_or_default();
    match object["uid"].as_str() {
        Some(uid) => uid.to_owned(),
        None if object["hostname"].is_null() => format!("{}/{}", part("namespace"), part("name")),
        None => format!("{}/{}", part("namespace"), part("hostname")),
    }
}

fn by_key(section: &Value) -> BTreeMap<String, Value> {
    let objects = section.as_array().unwrap();
    objects
        .iter()
        .map(|object| (key(object), object.clone()))
        .collect()
}

fn section(mesh: &MeshSnapshot, name: &str) -> Value {
    serde_json::from_slice(&mesh.dump(name).unwrap()).unwrap()
}

fn dump(mesh: &MeshSnapshot) -> Dump {
    assert_eq!(section(mesh, "stagedServices"), json!({}));
    ["policies", "services", "workloads"]
        .map(|name| (name, by_key(&section(mesh, name))))
        .into()
}

/// The mesh after the first sync: the first response of each type.
fn first_sync() -> MeshStore {
    let mut store = MeshStore::new();
    for step in recording(SESSION).iter().take(2) {
        let Step::Response(response) = step else {
            panic!("the sync comes first");
        };
        assert_eq!(take(&mut store, response).rejections, []);
    }
    store
}

#[test]
fn the_first_sync_is_dumped_as_upstream_dumps_it() {
    let store = first_sync();
    let mesh = store.snapshot();
    let upstream: Value = serde_json::from_str(UPSTREAM).unwrap();
    for name in ["workloads", "services", "stagedServices"] {
        let ours = String::from_utf8(mesh.dump(name).unwrap()).unwrap();
        // Byte for byte but for white space: the same objects, in the same order, with the same keys in the same order.
        assert_eq!(ours, upstream[name].to_string(), "{name}");
    }
    // One policy was added to the cluster between the two recordings.
    let mut policies = upstream["policies"].as_array().unwrap().clone();
    policies.retain(|policy| policy["name"] != "deny-7301");
    assert_eq!(
        policies.len(),
        upstream["policies"].as_array().unwrap().len() - 1
    );
    let ours = String::from_utf8(mesh.dump("policies").unwrap()).unwrap();
    assert_eq!(ours, Value::Array(policies).to_string());
}

#[test]
fn the_mesh_follows_the_session() {
    let mut store = first_sync();
    let mut expected = dump(&store.snapshot());
    let echo = "default/echo.default.svc.cluster.local";
    let web = "shop/web.shop.svc.cluster.local";
    let joined = "Kubernetes//Pod/shop/web-3";
    let mut told = Vec::new();
    for step in recording(SESSION).into_iter().skip(2) {
        let response = match step {
            Step::Event(event) => {
                told.push(event);
                continue;
            }
            Step::Response(response) => response,
        };
        let applied = take(&mut store, &response);
        assert_eq!(applied.rejections, []);
        let mesh = store.snapshot();
        let event = told.last().unwrap();
        match &**event {
            "a pod joins service web" => {
                let mut pod = expected["workloads"]["Kubernetes//Pod/shop/web-1"].clone();
                pod["uid"] = json!(joined);
                pod["name"] = json!("web-3");
                pod["workloadName"] = json!("web-3");
                pod["workloadIps"] = json!(["10.77.1.30"]);
                pod["canonicalRevision"] = json!("v3");
                expected
                    .get_mut("workloads")
                    .unwrap()
                    .insert(joined.into(), pod);
                let endpoint =
                    json!({"workloadUid": joined, "port": {"9000": 9001}, "status": "Healthy"});
                expected.get_mut("services").unwrap().get_mut(web).unwrap()["endpoints"][joined] =
                    endpoint;
            }
            "it becomes unready" => {
                let pod = expected
                    .get_mut("workloads")
                    .unwrap()
                    .get_mut(joined)
                    .unwrap();
                pod["status"] = json!("Unhealthy");
                // It is an endpoint still, which a change of the health policy would find; the dump shows none.
                let service = mesh.service(&web.parse().unwrap()).unwrap();
                assert!(mesh.endpoint(service, joined).is_some());
                let service = expected.get_mut("services").unwrap().get_mut(web).unwrap();
                service["endpoints"].as_object_mut().unwrap().remove(joined);
            }
            "it is deleted" => {
                expected.get_mut("workloads").unwrap().remove(joined);
                let service = mesh.service(&web.parse().unwrap()).unwrap();
                assert!(mesh.endpoint(service, joined).is_none());
            }
            "a policy is added to namespace default" => {
                let policy = json!({
                    "name": "late", "namespace": "default", "scope": "Namespace", "action": "Allow", "dryRun": false,
                    "rules": [[[{"principals": [{"Exact": "cluster.local/ns/default/sa/sa-a"}]}]]],
                });
                expected
                    .get_mut("policies")
                    .unwrap()
                    .insert("default/late".into(), policy);
            }
            "the policy is removed" => {
                expected.get_mut("policies").unwrap().remove("default/late");
            }
            "service echo asks for a waypoint" => {
                let service = expected.get_mut("services").unwrap().get_mut(echo).unwrap();
                service["waypoint"] = json!({"destination": "l7/waypoint.l7.svc.cluster.local", "hboneMtlsPort": 15008});
                // Sent along, unchanged.
                assert_eq!(response.count(), 2);
                assert!(applied.changes.workloads.is_empty());
            }
            other => panic!("unknown event: {other}"),
        }
        assert_eq!(dump(&mesh), expected, "{event}");
    }
    assert_eq!(told.len(), 6);
}

#[test]
fn everything_that_was_recorded_is_taken() {
    for text in [
        SESSION,
        include_str!("../../../tests/vectors/istiod/delta-resume.jsonl"),
        include_str!("../../../tests/vectors/istiod/delta-on-demand.jsonl"),
        include_str!("../../../tests/vectors/istiod/delta-nack.jsonl"),
    ] {
        let (mut store, mut kinds) = (MeshStore::new(), BTreeMap::new());
        for step in recording(text) {
            if let Step::Response(response) = step {
                assert_eq!(take(&mut store, &response).rejections, []);
                *kinds.entry(response.type_url().to_owned()).or_insert(0) += 1;
            }
        }
        assert!(kinds[TYPE_ISTIO_ADDRESS] > 0);
        assert!(kinds[TYPE_ISTIO_AUTHORIZATION] > 0);
    }
}

#[test]
fn endpoints_that_came_before_their_service_are_staged() {
    let mut store = MeshStore::new();
    let steps = recording(SESSION);
    let Some(Step::Response(first)) = steps.first() else {
        panic!("the sync comes first");
    };
    let is_workload = |name: &str| name.starts_with("Kubernetes/");
    take_some(&mut store, first, is_workload);
    let staged = section(&store.snapshot(), "stagedServices");
    assert_eq!(
        staged["shop/db.shop.svc.cluster.local"]["Kubernetes//Pod/shop/db-0"],
        json!({"workloadUid": "Kubernetes//Pod/shop/db-0", "port": {"5432": 5432}, "status": "Healthy"})
    );
    assert_eq!(staged.as_object().unwrap().len(), 8);
    take_some(&mut store, first, |name| !is_workload(name));
    assert_eq!(
        dump(&store.snapshot())["services"],
        dump(&first_sync().snapshot())["services"]
    );
}

/// What policies say to a connection from `source` to a port of a workload of shop.
fn asked(
    mesh: &MeshSnapshot,
    pod: &str,
    source: &str,
    account: Option<&str>,
    port: u16,
) -> Decision {
    let uid = format!("Kubernetes//Pod/shop/{pod}");
    let workload = mesh.workload_by_uid(&uid).unwrap();
    let identity = |account: &str| {
        let (namespace, name) = account.split_once('/').unwrap();
        Identity::new("cluster.local", namespace, name).unwrap()
    };
    let facts = ConnectionFacts {
        source: format!("{source}:40000").parse().unwrap(),
        destination: (workload.addresses[0], port).into(),
        identity: account.map(identity),
    };
    authorize(mesh, workload, &facts)
}

fn in_words(decision: &Decision) -> String {
    match &decision.verdict {
        Verdict::Allow => "allowed".into(),
        Verdict::Deny(reason) => reason.to_string(),
    }
}

#[test]
fn strict_peers_and_their_exceptions_are_as_istiod_converts_them() {
    let store = first_sync();
    let mesh = store.snapshot();
    let strict = "explicitly denied by: istio-system/istio_converted_static_strict";
    let by_port = "explicitly denied by: shop/converted_peer_authentication_web-ports";
    let ports = "explicitly denied by: shop/deny-ports";
    let none = "allow policies exist, but none allowed";
    for (pod, source, account, port, expected) in [
        // STRICT for the namespace: whoever shows no certificate is denied, whatever the port.
        ("sick-1", "192.0.2.1", None, 80, strict),
        ("sick-1", "192.0.2.1", Some("shop/web"), 80, "allowed"),
        ("sick-1", "192.0.2.1", Some("default/sa-a"), 80, "allowed"),
        // PERMISSIVE on one port of these pods: it is as istiod wrote it, other policies go on.
        ("web-1", "192.0.2.1", None, 80, by_port),
        ("web-1", "192.0.2.1", None, 443, by_port),
        ("web-1", "192.0.2.1", None, 9001, ports),
        ("web-1", "192.0.2.1", Some("default/sa-a"), 9001, "allowed"),
        ("web-1", "192.0.2.1", Some("default/sa-b"), 9001, none),
        ("web-1", "192.0.2.1", Some("default/sa-a"), 80, none),
        ("web-1", "10.1.2.3", Some("default/sa-a"), 9001, ports),
        ("web-1", "10.1.2.3", Some("shop/vm"), 9001, "allowed"),
        ("web-1", "10.66.0.99", Some("shop/vm"), 9001, none),
        // An ALLOW of HTTP paths has lost its rules and allows nobody; a DENY has lost its paths and denies more.
        ("db-0", "192.0.2.1", Some("shop/web"), 80, none),
        (
            "db-0",
            "192.0.2.1",
            Some("shop/web"),
            5432,
            "explicitly denied by: shop/l7-deny",
        ),
    ] {
        let decision = asked(&mesh, pod, source, account, port);
        assert_eq!(
            in_words(&decision),
            expected,
            "{pod}:{port} {source} {account:?}"
        );
        assert_eq!(decision.notes, [], "{pod}");
    }
}

/// The value of a policy as istiod sent it.
fn policy(key: &str) -> Vec<u8> {
    for step in recording(SESSION) {
        if let Step::Response(response) = step
            && response.type_url() == TYPE_ISTIO_AUTHORIZATION
            && let Some(found) = response.resources().find(|resource| resource.name == key)
        {
            return found.value.unwrap().to_vec();
        }
    }
    panic!("no such policy: {key}")
}

fn replace(store: &mut MeshStore, key: &str, value: &[u8]) -> Applied {
    let resource = Resource {
        type_url: TYPE_ISTIO_AUTHORIZATION,
        name: key,
        value,
    };
    store.apply(&[resource], &[])
}

#[test]
fn an_entry_that_cannot_be_read_is_named_and_widens_nothing() {
    // 10.66.0.99/32, who is kept out, gets a length that no address has; then an address of three bytes.
    let good = policy("shop/allow-web");
    let block = b"\x0a\x04\x0a\x42\x00\x63\x10\x20";
    let at = good
        .windows(block.len())
        .position(|window| window == block)
        .unwrap();
    let (mut long, mut short) = (good.clone(), good);
    long[at + 7] = 33;
    short[at + 1] = 3;
    for bad in [long, short] {
        let mut store = first_sync();
        let verdicts = |store: &MeshStore| {
            [("shop/vm", "10.66.0.99"), ("shop/vm", "192.0.2.1")].map(|(account, source)| {
                in_words(&asked(
                    &store.snapshot(),
                    "web-1",
                    source,
                    Some(account),
                    9001,
                ))
            })
        };
        let before = verdicts(&store);
        let applied = replace(&mut store, "shop/allow-web", &bad);
        assert!(!applied.rejections.is_empty());
        assert!(
            applied
                .rejections
                .iter()
                .all(|r| r.name == "shop/allow-web")
        );
        // The last good one goes on.
        assert!(applied.changes.is_empty());
        assert_eq!(verdicts(&store), before);
        // Without one, nobody is let through by what cannot be read.
        let gone = [(TYPE_ISTIO_AUTHORIZATION, "shop/allow-web")];
        store.apply(&[], &gone);
        replace(&mut store, "shop/allow-web", &bad);
        for verdict in verdicts(&store) {
            assert_eq!(verdict, "allow policies exist, but none allowed");
        }
    }
}

#[test]
fn a_dry_run_is_noted_and_decides_nothing() {
    let mut store = first_sync();
    // A field behind the others counts: dry_run.
    let dry = [&policy("shop/deny-ports")[..], b"\x30\x01"].concat();
    assert_eq!(replace(&mut store, "shop/deny-ports", &dry).rejections, []);
    let decision = asked(
        &store.snapshot(),
        "sick-1",
        "10.1.2.3",
        Some("default/sa-a"),
        80,
    );
    assert_eq!(in_words(&decision), "allowed");
    assert_eq!(decision.notes, [Note::DryRunDeny("shop/deny-ports".into())]);
}

#[test]
fn a_change_concerns_those_whom_the_recorded_policies_reach() {
    let mut store = first_sync();
    let ours = [
        "Kubernetes//Pod/default/podb",
        "Kubernetes//Pod/shop/web-1",
        "Kubernetes//Pod/shop/sick-1",
    ];
    let mut told = Vec::new();
    let mut concern = |store: &MeshStore, applied: &Applied| {
        let mesh = store.snapshot();
        told.push(ours.map(|uid| {
            assert!(mesh.workload_by_uid(uid).is_some(), "{uid}");
            let uids = BTreeSet::from([uid.into()]);
            applied.changes.concern_policy_of(&mesh, &uids)
        }));
    };
    for step in recording(SESSION).into_iter().skip(2) {
        if let Step::Response(response) = step {
            let applied = take(&mut store, &response);
            concern(&store, &applied);
        }
    }
    // A pod joins, becomes unready, goes; a policy of default comes and goes; a waypoint.
    let none = [false; 3];
    let default = [true, false, false];
    assert_eq!(told, [none, none, none, default, default, none]);
    // What PeerAuthentication became is in istio-system and reaches those that name it.
    let gone = [(
        TYPE_ISTIO_AUTHORIZATION,
        "istio-system/istio_converted_static_strict",
    )];
    let applied = store.apply(&[], &gone);
    let mesh = store.snapshot();
    let reached = ours.map(|uid| {
        let uids = BTreeSet::from([uid.into()]);
        applied.changes.concern_policy_of(&mesh, &uids)
    });
    assert_eq!(reached, [false, false, true]);
}
