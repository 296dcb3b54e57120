//! A mesh in a few lines, for the tests of this crate.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::decode::{Rejection, Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use crate::snapshot::MeshSnapshot;
use crate::store::{Applied, MeshStore};
use crate::workload::Workload;

/// A resource that owns its parts.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) type_url: &'static str,
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

impl Owned {
    pub(crate) fn borrow(&self) -> Resource<'_> {
        Resource {
            type_url: self.type_url,
            name: &self.name,
            value: &self.value,
        }
    }
}

/// The resources of a local file: `{"workloads": […], "services": […], "policies": […]}`.
pub(crate) fn resources(file: &Value) -> Vec<Owned> {
    let part = |object: &Value, key: &str| object[key].as_str().unwrap_or_default().to_owned();
    let section = |section: &str, type_url, name: &dyn Fn(&Value) -> String| {
        let objects = file[section].as_array().cloned().unwrap_or_default();
        let own = |object: &Value| Owned {
            type_url,
            name: name(object),
            value: object.to_string().into_bytes(),
        };
        objects.iter().map(own).collect::<Vec<_>>()
    };
    let pair = |object: &Value, key| format!("{}/{}", part(object, "namespace"), part(object, key));
    [
        section("workloads", TYPE_WORKLOAD, &|w| part(w, "uid")),
        section("services", TYPE_SERVICE, &|s| pair(s, "hostname")),
        section("policies", TYPE_AUTHORIZATION, &|p| pair(p, "name")),
    ]
    .concat()
}

/// Applies a local file in one batch.
pub(crate) fn apply(store: &mut MeshStore, file: &Value) -> Applied {
    let owned = resources(file);
    let borrowed: Vec<_> = owned.iter().map(Owned::borrow).collect();
    store.apply(&borrowed, &[])
}

/// The mesh of a local file without mistakes.
pub(crate) fn mesh(file: &Value) -> Arc<MeshSnapshot> {
    let mut store = MeshStore::new();
    let applied = apply(&mut store, file);
    assert_eq!(applied.rejections, []);
    store.snapshot()
}

/// What is wrong with a local file, as an operator reads it.
pub(crate) fn mistakes(file: &Value) -> Vec<String> {
    let applied = apply(&mut MeshStore::new(), file);
    applied
        .rejections
        .iter()
        .map(Rejection::to_string)
        .collect()
}

/// A pod of namespace `ns` that takes tunnels; `more` adds fields or replaces them.
pub(crate) fn pod(name: &str, addresses: &[&str], more: Value) -> Value {
    let plain = json!({
        "uid": name, "name": name, "namespace": "ns", "serviceAccount": name.rsplit('/').next(),
        "workloadIps": addresses, "protocol": "HBONE",
    });
    merge(plain, more)
}

/// The service `<name>.ns` with port 80 → 8080; `more` adds fields or replaces them.
pub(crate) fn service(name: &str, vips: &[&str], more: Value) -> Value {
    let plain = json!({
        "name": name, "namespace": "ns", "hostname": format!("{name}.ns"),
        "vips": vips, "ports": {"80": 8080},
    });
    merge(plain, more)
}

/// An enforced policy `ns/<name>` for its namespace; `more` adds fields or replaces them.
pub(crate) fn policy(name: &str, action: &str, rules: Value, more: Value) -> Value {
    let plain = json!({
        "name": name, "namespace": "ns", "scope": "Namespace", "action": action,
        "rules": rules, "dryRun": false,
    });
    merge(plain, more)
}

pub(crate) fn local(mesh: &MeshSnapshot, uid: &str) -> Arc<Workload> {
    Arc::clone(
        mesh.workload_by_uid(uid)
            .expect("the test knows its workloads"),
    )
}

/// One section of the dump.
pub(crate) fn dump(mesh: &MeshSnapshot, section: &str) -> Value {
    let bytes = mesh.dump(section).expect("the test knows the sections");
    serde_json::from_slice(&bytes).expect("a dump is JSON")
}

fn merge(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}
