//! What a real istiod said, taken step by step, and the mesh after each beside what upstream made of it.
//!
//! `tests/vectors/istiod/README.md` says where the recordings come from.
#![expect(
    clippy::unwrap_used,
    reason = "a recording is what it is; helpers of a test are not tests to clippy"
)]

use std::collections::BTreeMap;

use mesh::decode::{TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::delta;
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
