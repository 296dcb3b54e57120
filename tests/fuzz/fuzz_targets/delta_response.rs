//! An answer of delta ADS is read as a naive reader reads it, or refused where that one refuses it; a ledger and the mesh take of it what is right, and what they refuse they name.
//!
//! The input is a stream: each message behind its length in two bytes.

#![no_main]

use std::collections::{BTreeMap, HashSet};

use libfuzzer_sys::fuzz_target;
use mesh::delta::{Ledger, Response};
use mesh::store::MeshStore;

fuzz_target!(|input: &[u8]| {
    let mut ledger = Ledger::new();
    let mut model = BTreeMap::new();
    let mut store = MeshStore::new();
    for message in messages(input) {
        let (ours, naive) = (Response::read(message), Answer::read(message));
        let (Ok(ours), Some(naive)) = (&ours, &naive) else {
            // A reason is for a person: it is there, and does not grow with its cause.
            let reason = ours
                .as_ref()
                .map_or_else(ToString::to_string, |_| "none".into());
            assert!(naive.is_none() && ours.is_err(), "{reason}: {naive:?}");
            assert!(!reason.is_empty() && reason.len() < 200, "{reason}");
            continue;
        };
        same(ours, naive);
        let rejected = apply(&mut store, ours);
        let rejected: Vec<&str> = rejected.iter().map(String::as_str).collect();
        missing(&ledger, ours, &model);
        ledger.record(ours, &rejected);
        for named in &naive.resources {
            if !rejected.contains(&&*named.name) {
                model.insert(named.name.clone(), named.version.clone());
            }
        }
        for name in &naive.removed {
            model.remove(name);
        }
        held(&ledger, &model);
    }
    let names: Vec<String> = model.keys().cloned().collect();
    for name in &names {
        ledger.forget(name);
        model.remove(name);
        assert_eq!(ledger.len(), model.len());
    }
    assert_eq!(ledger.versions(0), Some(Vec::new()));
});

fn messages(mut input: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let [high, low, rest @ ..] = input {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (message, rest) = rest.split_at(length);
        messages.push(message);
        input = rest;
    }
    messages
}

fn same(ours: &Response<&[u8]>, naive: &Answer) {
    assert_eq!(ours.type_url(), naive.type_url);
    assert_eq!(ours.nonce(), naive.nonce);
    assert_eq!(ours.count(), naive.resources.len());
    assert_eq!(ours.removed_count(), naive.removed.len());
    assert!(ours.removed().eq(naive.removed.iter().map(String::as_str)));
    let values = naive
        .resources
        .iter()
        .filter_map(|named| named.value.as_ref());
    assert_eq!(ours.payload(), values.map(Vec::len).sum::<usize>());
    assert_eq!(ours.resources().count(), naive.resources.len());
    let mut known: HashSet<&str> = naive.removed.iter().map(String::as_str).collect();
    for (our, their) in ours.resources().zip(&naive.resources) {
        assert_eq!((our.name, our.version), (&*their.name, &*their.version));
        assert_eq!(our.value, their.value.as_deref());
        assert!(our.aliases().eq(their.aliases.iter().map(String::as_str)));
        known.insert(&their.name);
        known.extend(their.aliases.iter().map(String::as_str));
    }
    let mut wanted: Vec<&str> = known.iter().copied().collect();
    wanted.push("nobody");
    let answered: HashSet<&str> = ours.answers(&wanted).into_iter().collect();
    assert_eq!(answered, known);
}

/// The names of those that were not taken; a type that we do not ask for is not tried.
fn apply(store: &mut MeshStore, response: &Response<&[u8]>) -> Vec<String> {
    let (resources, empty) = response.batch();
    assert_eq!(resources.len() + empty.len(), response.count());
    let gone = response.removed().map(|name| (response.type_url(), name));
    let applied = store.apply(&resources, &gone.collect::<Vec<_>>());
    let rejections = empty.into_iter().chain(applied.rejections);
    let rejected: Vec<String> = rejections
        .inspect(|rejection| assert!(!rejection.reason.is_empty()))
        .map(|rejection| rejection.name)
        .collect();
    let names: HashSet<&str> = response.resources().map(|resource| resource.name).collect();
    assert!(rejected.iter().all(|name| names.contains(&**name)));
    rejected
}

fn missing(ledger: &Ledger, response: &Response<&[u8]>, model: &BTreeMap<String, String>) {
    let brought: HashSet<&str> = response.resources().map(|resource| resource.name).collect();
    let expected = model.keys().map(String::as_str);
    let expected: Vec<&str> = expected.filter(|name| !brought.contains(name)).collect();
    assert_eq!(ledger.missing(response), expected);
}

fn held(ledger: &Ledger, model: &BTreeMap<String, String>) {
    let part = |text: &str| 1 + varint_size(text.len()) + text.len();
    let entry = |(name, version): (&String, &String)| {
        let body = part(name) + part(version);
        1 + varint_size(body) + body
    };
    let size: usize = model.iter().map(entry).sum();
    if size > 0 {
        assert_eq!(ledger.versions(size - 1), None);
    }
    let held = ledger.versions(size).expect("fits exactly");
    let held = held.iter().map(|held| (held.name, &*held.version));
    assert!(held.eq(model.iter().map(|(name, version)| (&**name, &**version))));
}

fn varint_size(number: usize) -> usize {
    (1..)
        .find(|bytes| number < 1 << (7 * bytes))
        .expect("small")
}

/// The same, owned and read all at once.
#[derive(Debug, Default)]
struct Answer {
    type_url: String,
    nonce: String,
    resources: Vec<Named>,
    removed: Vec<String>,
}

#[derive(Debug, Default)]
struct Named {
    name: String,
    version: String,
    aliases: Vec<String>,
    value: Option<Vec<u8>>,
}

impl Answer {
    fn read(message: &[u8]) -> Option<Self> {
        let mut answer = Self::default();
        for (number, bytes) in fields(message)? {
            match number {
                2 => answer.resources.push(Named::read(&bytes)?),
                4 => answer.type_url = String::from_utf8(bytes).ok()?,
                5 => answer.nonce = String::from_utf8(bytes).ok()?,
                6 => answer.removed.push(String::from_utf8(bytes).ok()?),
                _ => {}
            }
        }
        Some(answer)
    }
}

impl Named {
    fn read(message: &[u8]) -> Option<Self> {
        let mut named = Self::default();
        for (number, bytes) in fields(message)? {
            match number {
                1 => named.version = String::from_utf8(bytes).ok()?,
                2 => {
                    let mut value = named.value.take().unwrap_or_default();
                    for (number, bytes) in fields(&bytes)? {
                        match number {
                            1 => drop(String::from_utf8(bytes).ok()?),
                            2 => value = bytes,
                            _ => {}
                        }
                    }
                    named.value = Some(value);
                }
                3 => named.name = String::from_utf8(bytes).ok()?,
                4 => named.aliases.push(String::from_utf8(bytes).ok()?),
                _ => {}
            }
        }
        Some(named)
    }
}

/// The fields with a length, if the message is whole.
fn fields(message: &[u8]) -> Option<Vec<(u128, Vec<u8>)>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < message.len() {
        let key = number(message, &mut at)?;
        let length = match key % 8 {
            0 => {
                number(message, &mut at)?;
                0
            }
            1 => 8,
            2 => number(message, &mut at)?,
            5 => 4,
            _ => return None,
        };
        let end = (at as u128 + length).try_into().ok()?;
        let bytes = message.get(at..end)?;
        at = end;
        match key / 8 {
            0 => return None,
            number if key % 8 == 2 => found.push((number, bytes.to_vec())),
            _ => {}
        }
    }
    Some(found)
}

/// Of at most ten bytes; what is above 64 bits does not count.
fn number(message: &[u8], at: &mut usize) -> Option<u128> {
    let rest = &message[*at..];
    let length = 1 + rest.iter().take(10).position(|byte| *byte < 0x80)?;
    *at += length;
    let digits = rest[..length].iter().rev();
    let value = digits.fold(0_u128, |value, byte| value * 128 + u128::from(byte % 128));
    Some(value % (1 << 64))
}
