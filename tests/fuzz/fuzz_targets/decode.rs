//! A resource in Istio's protobuf ends in the mesh or in a rejection with a reason, every time the same; a mesh so learned is the one that the local file makes from its dump.
//!
//! The input is a batch: for each resource `A` (`istio.workload.Address`) or `P` (`istio.security.Authorization`), its
//! length in two bytes, the message. They are named by their numbers, which only policies are known by.

#![no_main]

mod dumps;

use dumps::{Object, apply, assert_empty, dump, learn_again, objects, sayable};
use libfuzzer_sys::fuzz_target;
use mesh::decode::{TYPE_AUTHORIZATION, TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::store::MeshStore;

fuzz_target!(|input: &[u8]| {
    let batch = batch(input);
    let mut store = MeshStore::new();
    let first = apply(&mut store, &batch);
    for rejection in &first.rejections {
        // A reason is for a person: it is there, and does not grow with its cause.
        assert!(!rejection.reason.is_empty());
        assert!(rejection.reason.len() < 4096, "{}", rejection.reason);
    }
    let learned = dump(&store.snapshot());

    let again = apply(&mut store, &batch);
    assert_eq!(again.rejections, first.rejections, "the same mistakes");
    assert_eq!(
        dump(&store.snapshot()),
        learned,
        "the same batch changed the mesh"
    );

    learn_again(&sayable(learned.clone()));

    // Both kinds of address go by one name space.
    let all = objects(&learned);
    let addresses = all
        .iter()
        .filter(|object| object.type_url != TYPE_AUTHORIZATION)
        .map(|object| (TYPE_ISTIO_ADDRESS, &*object.name));
    let policies = batch
        .iter()
        .map(|object| (TYPE_ISTIO_AUTHORIZATION, &*object.name));
    let _ = store.apply(&[], &addresses.chain(policies).collect::<Vec<_>>());
    assert_empty(&store);
});

fn batch(mut input: &[u8]) -> Vec<Object> {
    let mut batch = Vec::new();
    while let [kind, high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (value, rest) = rest.split_at(length);
        input = rest;
        let type_url = match kind {
            b'A' => TYPE_ISTIO_ADDRESS,
            b'P' => TYPE_ISTIO_AUTHORIZATION,
            _ => continue,
        };
        batch.push(Object {
            type_url,
            name: batch.len().to_string(),
            value: value.to_vec(),
        });
    }
    batch
}
