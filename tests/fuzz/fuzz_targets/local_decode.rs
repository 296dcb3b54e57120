//! A mesh that was learned, dumped and learned again from its dump is the same mesh; what is wrong is rejected and changes nothing.
//!
//! The input is a batch, one object per line: `W`, `S` or `P` for its type, then its JSON in the local file's
//! spelling (spec/control.md §3). The resource's name is what the object calls itself, so far as it can be read.

#![no_main]

mod dumps;

use dumps::{Object, apply, assert_empty, dump, learn_again, name, objects, sayable};
use libfuzzer_sys::fuzz_target;
use mesh::decode::{TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::store::MeshStore;
use serde_json::Value;

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

    learn_again(&sayable(learned.clone()));

    let all = objects(&learned);
    let removed = all
        .iter()
        .map(|object| (object.type_url, &*object.name))
        .collect::<Vec<_>>();
    let _ = store.apply(&[], &removed);
    assert_empty(&store);
});

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
