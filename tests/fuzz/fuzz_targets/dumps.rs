//! A mesh's dump, and the objects of the local file that make the same mesh again.

use std::collections::BTreeMap;

use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::snapshot::MeshSnapshot;
use mesh::store::{Applied, MeshStore};
use serde_json::{Map, Value, json};

/// A resource that owns what it is made of.
#[derive(Debug)]
pub struct Object {
    pub type_url: &'static str,
    pub name: String,
    pub value: Vec<u8>,
}

pub fn apply(store: &mut MeshStore, batch: &[Object]) -> Applied {
    let resources: Vec<Resource<'_>> = batch
        .iter()
        .map(
            |Object {
                 type_url,
                 name,
                 value,
             }| Resource {
                type_url,
                name,
                value,
            },
        )
        .collect();
    store.apply(&resources, &[])
}

/// The sections by name.
pub type Dump = BTreeMap<&'static str, Value>;

const SECTIONS: [(&str, &str); 3] = [
    ("policies", TYPE_AUTHORIZATION),
    ("services", TYPE_SERVICE),
    ("workloads", TYPE_WORKLOAD),
];

pub fn dump(snapshot: &MeshSnapshot) -> Dump {
    let section = |name| {
        let bytes = snapshot.dump(name).expect("the section exists");
        (
            name,
            serde_json::from_slice(&bytes).expect("a dump is JSON"),
        )
    };
    ["policies", "services", "stagedServices", "workloads"]
        .into_iter()
        .map(section)
        .collect()
}

/// Without the policies that the local file could not have said: those of which a part could not be read, which are
/// enforced closed and say so in the dump only, and those that call themselves as an earlier one does.
pub fn sayable(mut dump: Dump) -> Dump {
    if let Some(Value::Array(policies)) = dump.get_mut("policies") {
        policies.retain(|policy| policy["unreadable"].is_null());
        policies.dedup_by_key(|policy| name(TYPE_AUTHORIZATION, policy));
    }
    dump
}

/// The dump's objects in the spelling of the local file, which says at the workload what the dump says at the
/// service: the ports of an endpoint.
pub fn objects(dump: &Dump) -> Vec<Object> {
    let mut objects = Vec::new();
    for (section, type_url) in SECTIONS {
        for object in dump[section].as_array().expect("a section is a list") {
            let mut object = object.clone();
            if section == "workloads" {
                object["services"] = ports(dump, &object);
            }
            let name = name(type_url, &object);
            let value = serde_json::to_vec(&object).expect("it was JSON");
            objects.push(Object {
                type_url,
                name,
                value,
            });
        }
    }
    objects
}

/// The ports of the workload at each of its services; of an endpoint that may not be chosen the dump says none.
fn ports(dump: &Dump, workload: &Value) -> Value {
    let uid = workload["uid"].as_str().expect("a workload has a uid");
    let mut ports = Map::new();
    for service in workload["services"].as_array().into_iter().flatten() {
        let service = service.as_str().expect("a service is named");
        let known = dump["services"].as_array().into_iter().flatten();
        let mut known = known.filter(|known| name(TYPE_SERVICE, known) == service);
        let endpoints = match known.next() {
            Some(known) => &known["endpoints"],
            None => &dump["stagedServices"][service],
        };
        let port = endpoints[uid]
            .get("port")
            .cloned()
            .unwrap_or_else(|| json!({}));
        ports.insert(service.to_owned(), port);
    }
    Value::Object(ports)
}

/// What an object of the local file calls itself, so far as it can be read.
pub fn name(type_url: &str, json: &Value) -> String {
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    match type_url {
        TYPE_AUTHORIZATION => format!("{}/{}", text("namespace"), text("name")),
        TYPE_SERVICE => format!("{}/{}", text("namespace"), text("hostname")),
        _ => text("uid").to_owned(),
    }
}

/// A mesh that is told a dump has the same dump.
pub fn learn_again(dump_of: &Dump) {
    let mut copy = MeshStore::new();
    let applied = apply(&mut copy, &objects(dump_of));
    assert_eq!(applied.rejections, [], "a dump has a mistake");
    assert_eq!(dump(&copy.snapshot()), *dump_of, "a dump lost something");
}

pub fn assert_empty(store: &MeshStore) {
    let empty = store.snapshot();
    assert_eq!(
        (
            empty.workload_count(),
            empty.service_count(),
            empty.policy_count()
        ),
        (0, 0, 0)
    );
}
