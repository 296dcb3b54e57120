//! Meshes of a given size, as the local door takes them.

use mesh::decode::{Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};

use mesh::store::MeshStore;
use serde_json::{Value, json};

/// A resource that owns its parts.
#[derive(Clone, Debug)]
pub struct Owned {
    /// What it is.
    pub type_url: &'static str,
    /// What it is called.
    pub name: String,
    /// As JSON.
    pub value: Vec<u8>,
}

impl Owned {
    fn new(type_url: &'static str, name: String, value: &Value) -> Self {
        let value = value.to_string().into_bytes();
        Self {
            type_url,
            name,
            value,
        }
    }

    /// As the store takes it.
    pub fn borrow(&self) -> Resource<'_> {
        Resource {
            type_url: self.type_url,
            name: &self.name,
            value: &self.value,
        }
    }
}

/// The virtual address of service 0.
pub const VIP: &str = "10.255.0.0:80";

/// Workload `n`, an endpoint of service `service`. `version` makes two of them differ in what a service is told.
pub fn endpoint(n: u32, service: u32, version: u16) -> Owned {
    let uid = uid(n);
    let [_, a, b, c] = n.to_be_bytes();
    let ports = json!({"80": 8000 + version});
    let value = json!({
        "uid": uid, "name": format!("pod-{n}"), "namespace": "default", "serviceAccount": "app",
        "trustDomain": "cluster.local", "workloadIps": [format!("10.{a}.{b}.{c}")], "protocol": "HBONE",
        "node": format!("node-{}", n % 100), "clusterId": "Kubernetes", "canonicalName": "app",
        "canonicalRevision": "v1", "workloadName": "app", "workloadType": "deployment",
        "services": {format!("default/{}", hostname(service)): ports},
    });
    Owned::new(TYPE_WORKLOAD, uid, &value)
}

/// What workload `n` is called.
pub fn uid(n: u32) -> String {
    format!("Kubernetes//Pod/default/pod-{n:06}")
}

/// Service `n` with port 80.
pub fn service(n: u32) -> Owned {
    let hostname = hostname(n);
    let [_, _, a, b] = n.to_be_bytes();
    let value = json!({
        "name": format!("service-{n}"), "namespace": "default", "hostname": hostname,
        "vips": [format!("/10.255.{a}.{b}")], "ports": {"80": 8080},
    });
    Owned::new(TYPE_SERVICE, format!("default/{hostname}"), &value)
}

/// Service `n` of a block of addresses.
pub fn service_of_block(n: u32) -> Owned {
    let hostname = hostname(n);
    let (address, prefix) = (address_in_block(n), 16 + n % 9);
    let value = json!({
        "name": format!("service-{n}"), "namespace": "default", "hostname": hostname, "vips": [],
        "cidrVips": [{"network": "", "cidr": format!("{address}/{prefix}")}], "ports": {"80": 8080},
    });
    Owned::new(TYPE_SERVICE, format!("default/{hostname}"), &value)
}

/// An address in the block of service `n`.
pub fn address_in_block(n: u32) -> std::net::IpAddr {
    // Blocks of 16 bits, so that no two are one.
    let [_, _, a, b] = n.to_be_bytes();
    [20 + a, b, 7, 7].into()
}

fn hostname(service: u32) -> String {
    format!("service-{service}.default.svc.cluster.local")
}

/// One service with `endpoints` of them among `all` workloads; the others belong to a service each hundred.
pub fn one_large_service(endpoints: u32, all: u32) -> MeshStore {
    let others = all.saturating_sub(endpoints).div_ceil(100);
    let mut resources: Vec<Owned> = (0..=others).map(service).collect();
    resources.extend((0..endpoints).map(|n| endpoint(n, 0, 0)));
    resources.extend((endpoints..all).map(|n| endpoint(n, 1 + (n - endpoints) / 100, 0)));
    load(&resources)
}

/// `count` DENY policies of ten rules each for the namespace of workload 0, none of which a connection from
/// [`CALLER`] meets: the case in which all have to be asked.
pub fn policies(count: u32) -> Vec<Owned> {
    let rule = |policy: u32, rule: u32| {
        json!([[{
            "namespaces": [{"Exact": format!("namespace-{policy}-{rule}")}],
            "principals": [{"Exact": format!("cluster.local/ns/namespace-{policy}-{rule}/sa/app")}],
            "destinationPorts": [8080],
        }]])
    };
    let policy = |n: u32| {
        let name = format!("policy-{n}");
        let rules: Vec<Value> = (0..10).map(|r| rule(n, r)).collect();
        let value = json!({
            "name": name, "namespace": "default", "scope": "Namespace", "action": "Deny",
            "rules": rules, "dryRun": false,
        });
        Owned::new(TYPE_AUTHORIZATION, format!("default/{name}"), &value)
    };
    (0..count).map(policy).collect()
}

/// Who connects where policies are asked.
pub const CALLER: &str = "spiffe://cluster.local/ns/default/sa/client";

/// A store that has taken all of these.
pub fn load(resources: &[Owned]) -> MeshStore {
    let mut store = MeshStore::new();
    apply_all(&mut store, resources);
    store
}

/// Gives a store all of these in one batch; there is nothing wrong with any.
pub fn apply_all(store: &mut MeshStore, resources: &[Owned]) {
    let borrowed: Vec<_> = resources.iter().map(Owned::borrow).collect();
    let applied = store.apply(&borrowed, &[]);
    assert!(applied.rejections.is_empty(), "{:?}", applied.rejections);
}

/// Numbers without a pattern, the same in every run.
pub fn chance(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    }
}
