//! A mesh with one local workload `web`, and connections to it, for the tests of this folder.

use std::sync::Arc;

use mesh::authorize::ConnectionFacts;
use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_WORKLOAD};
use mesh::identity::Identity;
use mesh::store::MeshStore;
use serde_json::{Value, json};

use super::Guarded;

pub(super) fn put(store: &mut MeshStore, type_url: &str, name: &str, value: &Value) {
    let value = value.to_string().into_bytes();
    let resource = Resource {
        type_url,
        name,
        value: &value,
    };
    let applied = store.apply(&[resource], &[]);
    assert_eq!(applied.rejections, []);
}

/// The workload `web`, to which these policies are attached.
pub(super) fn put_web(store: &mut MeshStore, policies: &[&str]) {
    let web = json!({
        "uid": "web", "name": "web", "namespace": "ns", "serviceAccount": "web",
        "workloadIps": ["10.0.0.1"], "protocol": "HBONE", "authorizationPolicies": policies,
    });
    put(store, TYPE_WORKLOAD, "web", &web);
}

/// Denies who comes from these addresses.
pub(super) fn put_denial(store: &mut MeshStore, name: &str, scope: &str, source: &str) {
    let policy = json!({
        "name": name, "namespace": "ns", "scope": scope, "action": "Deny", "dryRun": false,
        "rules": [[[{"sourceIps": [source]}]]],
    });
    put(store, TYPE_AUTHORIZATION, &format!("ns/{name}"), &policy);
}

pub(super) fn guarded(source: &str, identity: Option<&str>, host: Option<&str>) -> Guarded {
    Guarded {
        workload: Arc::from("web"),
        facts: ConnectionFacts {
            source: source.parse().unwrap(),
            destination: "10.0.0.1:8080".parse().unwrap(),
            identity: identity.map(|identity| Identity::parse(identity).unwrap()),
        },
        host: host.map(Into::into),
    }
}
