//! A mesh that was learned, dumped and learned again from its dump is the same mesh; what is wrong is rejected and changes nothing.
//!
//! The input is a batch, one object per line: `W`, `S` or `P` for its type, then its JSON in the local file's
//! spelling (spec/control.md §3). The resource's name is what the object calls itself, so far as it can be read.

#![no_main]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::snapshot::MeshSnapshot;
use mesh::store::{Applied, MeshStore};
use serde_json::{Map, Value, json};

fuzz_target!(|input: &[u8]| {
    let batch = input
        .split(|&byte| byte == b'\n')
        .filter_map(object)
        .collect::<Vec<_>>();
    let mut store = MeshStore::new();
    let first = apply(&mut store, &batch);
    let learned = dump(&store.snapshot());

    let again = apply(&mut store, &batch);
    assert_eq!(again.rejections, first.rejections, "the same mistakes");
    assert_eq!(
        dump(&store.snapshot()),
        learned,
        "the same batch changed the mesh"
    );

    let readable = without_unreadable(learned.clone());
    let mut copy = MeshStore::new();
    let applied = apply(&mut copy, &objects(&readable));
    assert_eq!(applied.rejections, [], "a dump has a mistake");
    assert_eq!(dump(&copy.snapshot()), readable, "a dump lost something");

    remove_all(&mut store, &learned);
    let empty = store.snapshot();
    assert_eq!(
        (
            empty.workload_count(),
            empty.service_count(),
            empty.policy_count()
        ),
        (0, 0, 0)
    );
});

/// A resource that owns what it is made of.
struct Object {
    type_url: &'static str,
    name: String,
    value: Vec<u8>,
}

fn object(line: &[u8]) -> Option<Object> {
    let (kind, value) = line.split_first()?;
    let type_url = match kind {
        b'P' => TYPE_AUTHORIZATION,
        b'S' => TYPE_SERVICE,
        b'W' => TYPE_WORKLOAD,
        _ => return None,
    };
    let json = serde_json::from_slice(value).unwrap_or(Value::Null);
    Some(Object {
        type_url,
        name: name(type_url, &json),
        value: value.to_vec(),
    })
}

fn name(type_url: &str, json: &Value) -> String {
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    match type_url {
        TYPE_AUTHORIZATION => format!("{}/{}", text("namespace"), text("name")),
        TYPE_SERVICE => format!("{}/{}", text("namespace"), text("hostname")),
        _ => text("uid").to_owned(),
    }
}

fn apply(store: &mut MeshStore, batch: &[Object]) -> Applied {
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

type Dump = BTreeMap<&'static str, Value>;

const SECTIONS: [(&str, &str); 3] = [
    ("policies", TYPE_AUTHORIZATION),
    ("services", TYPE_SERVICE),
    ("workloads", TYPE_WORKLOAD),
];

fn dump(snapshot: &MeshSnapshot) -> Dump {
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

/// Without the policies of which a part could not be read: they are enforced closed, and say so in the dump only.
fn without_unreadable(mut dump: Dump) -> Dump {
    if let Some(Value::Array(policies)) = dump.get_mut("policies") {
        policies.retain(|policy| policy["unreadable"].is_null());
    }
    dump
}

/// The dump's objects in the spelling of the local file, which says at the workload what the dump says at the
/// service: the ports of an endpoint.
fn objects(dump: &Dump) -> Vec<Object> {
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

fn remove_all(store: &mut MeshStore, dump: &Dump) {
    let objects = objects(dump);
    let removed = objects
        .iter()
        .map(|object| (object.type_url, &*object.name))
        .collect::<Vec<_>>();
    let _ = store.apply(&[], &removed);
}
