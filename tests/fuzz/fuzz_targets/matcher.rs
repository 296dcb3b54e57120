//! What many policies say together is what each says alone, put together by the rules of spec/dataplane.md §8.3; `explain` says the same as `authorize`.
//!
//! The input is four bytes that choose a connection, then policies as in the target `decode`: `P`, two bytes of length,
//! the message. The policies found by index in the one store are asked one by one in stores of their own.

#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use mesh::authorization::Action;
use mesh::authorize::{ConnectionFacts, Verdict, authorize};
use mesh::decode::{Resource, TYPE_ISTIO_AUTHORIZATION, TYPE_WORKLOAD};
use mesh::explain::{PolicyExplanation, explain_authorize};
use mesh::store::MeshStore;

/// More would make an input slow, not the rules richer.
const POLICIES: usize = 12;

const ADDRESSES: [&str; 6] = [
    "10.0.0.1",
    "10.0.0.2",
    "10.1.0.1",
    "192.168.0.1",
    "ff06::1",
    "::ffff:10.0.0.1",
];
const PORTS: [u16; 4] = [80, 443, 8080, 0xbb03];
const IDENTITIES: [&str; 4] = [
    "spiffe://cluster.local/ns/a/sa/b",
    "spiffe://cluster.local/ns/ns/sa/p",
    "spiffe://td/ns/a/sa/ab",
    "",
];
const NAMESPACES: [&str; 3] = ["ns", "default", "a"];

fuzz_target!(|input: &[u8]| {
    let [source, destination, who, place, rest @ ..] = input else {
        return;
    };
    let address = |byte: u8, port: u16| -> SocketAddr {
        let ip = ADDRESSES[usize::from(byte) % ADDRESSES.len()];
        (ip.parse::<std::net::IpAddr>().unwrap(), port).into()
    };
    let port = PORTS[usize::from(destination / 8) % PORTS.len()];
    let facts = ConnectionFacts {
        source: address(*source, 4000),
        destination: address(*destination, port),
        identity: IDENTITIES[usize::from(*who) % IDENTITIES.len()]
            .parse()
            .ok(),
    };
    let namespace = NAMESPACES[usize::from(*place) % NAMESPACES.len()];
    let policies = policies(rest);

    let (together, _) = ask(&policies, 0..policies.len(), namespace, &facts);
    let alone: Vec<PolicyExplanation> = (0..policies.len())
        .flat_map(|at| ask(&policies, at..at + 1, namespace, &facts).1)
        .collect();
    let enforced = |action: Action| {
        let of = move |policy: &&PolicyExplanation| policy.action == action && !policy.dry_run;
        alone.iter().filter(of)
    };
    let denied = enforced(Action::Deny).any(|policy| policy.matched);
    let open = enforced(Action::Allow).next().is_none();
    let allowed = enforced(Action::Allow).any(|policy| policy.matched);
    assert_eq!(together, !denied && (open || allowed), "{alone:?}");
});

fn policies(mut input: &[u8]) -> Vec<&[u8]> {
    let mut policies = Vec::new();
    while let [kind, high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (value, rest) = rest.split_at(length);
        input = rest;
        if *kind == b'P' && policies.len() < POLICIES {
            policies.push(value);
        }
    }
    policies
}

/// Whether the connection may pass with these of the policies, and which of them were asked.
fn ask(
    policies: &[&[u8]],
    these: std::ops::Range<usize>,
    namespace: &str,
    facts: &ConnectionFacts,
) -> (bool, Vec<PolicyExplanation>) {
    let keys: Vec<String> = (0..policies.len()).map(|at| at.to_string()).collect();
    let server = serde_json::json!({
        "uid": "server", "name": "server", "namespace": namespace, "workloadIps": [],
        "serviceAccount": "s", "services": {}, "authorizationPolicies": &keys[these.clone()],
    });
    let server = server.to_string();
    let policy = |at: usize| Resource {
        type_url: TYPE_ISTIO_AUTHORIZATION,
        name: &keys[at],
        value: policies[at],
    };
    let workload = Resource {
        type_url: TYPE_WORKLOAD,
        name: "server",
        value: server.as_bytes(),
    };
    let batch: Vec<_> = these.map(policy).chain([workload]).collect();
    let mut store = MeshStore::new();
    let _ = store.apply(&batch, &[]);
    let mesh = store.snapshot();
    let server = mesh
        .workload_by_uid("server")
        .expect("nothing is wrong with it");
    let decision = authorize(&mesh, server, facts);
    let allowed = decision.verdict == Verdict::Allow;
    let told = explain_authorize(&mesh, server, facts);
    assert_eq!(told.allowed, allowed);
    assert_eq!(told.notes.len(), decision.notes.len());
    if let Verdict::Deny(reason) = &decision.verdict {
        assert_eq!(told.reason, reason.to_string());
    }
    (allowed, told.policies)
}
