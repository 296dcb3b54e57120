use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::decode::{TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};

/// The messages as prost reads and writes them, with fields that we do not know.
#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(string, tag = "1")]
    system_version: String,
    #[prost(message, repeated, tag = "2")]
    resources: Vec<Named>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
    #[prost(string, repeated, tag = "6")]
    removed: Vec<String>,
    #[prost(fixed64, tag = "900")]
    unknown: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    version: String,
    #[prost(message, optional, tag = "2")]
    resource: Option<Any>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, repeated, tag = "4")]
    aliases: Vec<String>,
    #[prost(fixed32, tag = "70")]
    unknown: u32,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// Few names, so that they meet.
fn name() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]", "ns/[a-c]", "ü?", Just("x".repeat(200))]
}

fn version() -> impl Strategy<Value = String> {
    prop_oneof![
        "",
        "v[0-9]",
        "[0-9a-f]{16}",
        "[0-9A-F]{16}",
        "[+][0-9a-f]{15}"
    ]
}

fn named() -> impl Strategy<Value = Named> {
    let value = option::of(vec(any::<u8>(), 0..20));
    let parts = (
        version(),
        value,
        name(),
        vec(name(), 0..3),
        proptest::num::u32::ANY,
    );
    parts.prop_map(|(version, value, name, aliases, unknown)| Named {
        version,
        resource: value.map(|value| Any {
            type_url: "t".into(),
            value,
        }),
        name,
        aliases,
        unknown,
    })
}

prop_compose! {
    fn answer()(
        resources in vec(named(), 0..8), nonce in "[a-f0-9]{0,4}", removed in vec(name(), 0..4), unknown in any::<u64>(),
    ) -> Answer {
        let type_url = TYPE_ISTIO_ADDRESS.to_owned();
        Answer { system_version: "s".into(), resources, type_url, nonce, removed, unknown }
    }
}

fn read(answer: &Answer) -> Response<Vec<u8>> {
    Response::read(answer.encode_to_vec()).unwrap()
}

fn refused(bytes: &[u8]) -> String {
    Response::read(bytes).unwrap_err().to_string()
}

proptest! {
    #[test]
    fn an_answer_is_read_as_it_was_written(answer in answer()) {
        let response = read(&answer);
        prop_assert_eq!(response.type_url(), &answer.type_url);
        prop_assert_eq!(response.nonce(), &answer.nonce);
        prop_assert_eq!(response.count(), answer.resources.len());
        prop_assert_eq!(response.removed_count(), answer.removed.len());
        prop_assert!(response.removed().eq(&answer.removed));
        let values = answer.resources.iter().filter_map(|named| named.resource.as_ref());
        prop_assert_eq!(response.payload(), values.map(|any| any.value.len()).sum::<usize>());
        prop_assert_eq!(response.resources().count(), answer.resources.len());
        for (ours, theirs) in response.resources().zip(&answer.resources) {
            prop_assert_eq!(ours.name, &theirs.name);
            prop_assert_eq!(ours.version, &theirs.version);
            prop_assert_eq!(ours.value, theirs.resource.as_ref().map(|any| &*any.value));
            prop_assert!(ours.aliases().eq(&theirs.aliases));
        }
    }

    #[test]
    fn an_answer_names_whom_it_answers(answer in answer(), wanted in vec(name(), 0..6)) {
        let mut known: Vec<&str> = answer.removed.iter().map(String::as_str).collect();
        for named in &answer.resources {
            known.push(&named.name);
            known.extend(named.aliases.iter().map(String::as_str));
        }
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
        let expected: Vec<&str> = wanted.iter().copied().filter(|name| known.contains(name)).collect();
        prop_assert_eq!(read(&answer).answers(&wanted), expected);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(response) = Response::read(&*bytes) {
            prop_assert_eq!(response.resources().count(), response.count());
        }
    }

    #[test]
    fn a_message_that_was_cut_is_no_more_than_its_beginning(answer in answer(), cut in any::<prop::sample::Index>()) {
        let bytes = answer.encode_to_vec();
        let begin = &bytes[..cut.index(bytes.len() + 1)];
        prop_assert_eq!(Response::read(begin).is_ok(), Answer::decode(begin).is_ok());
    }

    #[test]
    fn a_ledger_holds_what_a_map_would(steps in vec((answer(), vec(name(), 0..2), vec(name(), 0..2)), 0..12)) {
        let (mut ledger, mut model) = (Ledger::new(), BTreeMap::new());
        for (answer, rejected, forgotten) in &steps {
            let response = read(answer);
            let rejected: Vec<&str> = rejected.iter().map(String::as_str).collect();
            let missing: Vec<&str> = model.keys().copied()
                .filter(|name| answer.resources.iter().all(|named| named.name != *name)).collect();
            prop_assert_eq!(ledger.missing(&response), missing);
            ledger.record(&response, &rejected);
            for named in &answer.resources {
                if !rejected.contains(&&*named.name) {
                    model.insert(&*named.name, &*named.version);
                }
            }
            for name in answer.removed.iter().chain(forgotten) {
                model.remove(&**name);
            }
            for name in forgotten {
                ledger.forget(name);
            }
            same(&ledger, &model)?;
        }
    }
}

/// `initial_resource_versions`, to know what it takes.
#[derive(Clone, PartialEq, Message)]
struct Request {
    #[prost(message, repeated, tag = "5")]
    versions: Vec<Pair>,
}

#[derive(Clone, PartialEq, Message)]
struct Pair {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(string, optional, tag = "2")]
    version: Option<String>,
}

fn same(ledger: &Ledger, model: &BTreeMap<&str, &str>) -> Result<(), TestCaseError> {
    let versions = model.iter().map(|(name, version)| Pair {
        name: Some((*name).to_owned()),
        version: Some((*version).to_owned()),
    });
    let versions = versions.collect();
    let size = Request { versions }.encoded_len();
    prop_assert_eq!(ledger.len(), model.len());
    if size > 0 {
        prop_assert_eq!(ledger.versions(size - 1), None);
    }
    let held = ledger.versions(size).unwrap();
    let held = held.iter().map(|held| (held.name, &*held.version));
    prop_assert!(held.eq(model.iter().map(|(name, version)| (*name, *version))));
    Ok(())
}

#[test]
fn of_two_the_last_counts_and_payloads_are_put_together() {
    let any = |value: &[u8]| Any {
        type_url: String::new(),
        value: value.to_vec(),
    };
    let of = |name: &str, resource| Named {
        name: name.into(),
        resource,
        ..Named::default()
    };
    // One message behind the other is the two of them put together (protobuf.dev, "Last One Wins").
    let mut body = of("first", Some(any(b"one"))).encode_to_vec();
    body.extend(of("last", Some(any(b""))).encode_to_vec());
    let twice = Named::decode(&*body).unwrap();
    let mut bytes = Answer {
        nonce: "a".into(),
        resources: vec![twice],
        ..Answer::default()
    }
    .encode_to_vec();
    bytes.extend(
        Answer {
            nonce: "b".into(),
            ..Answer::default()
        }
        .encode_to_vec(),
    );
    let response = Response::read(bytes).unwrap();
    assert_eq!(response.nonce(), "b");
    let found: Vec<_> = response.resources().map(|r| (r.name, r.value)).collect();
    assert_eq!(found, [("last", Some(&b"one"[..]))]);
}

#[test]
fn a_known_number_of_another_type_is_passed_over() {
    // Field 2 as a number, field 4 as eight bytes, field 5 as four.
    let bytes = b"\x10\x07\x21........\x2d....\x32\x01x";
    let response = Response::read(bytes).unwrap();
    assert_eq!(
        (response.count(), response.type_url(), response.nonce()),
        (0, "", "")
    );
    assert!(response.removed().eq(["x"]));
}

#[test]
fn what_is_no_answer_is_refused_with_its_place() {
    let cases: [(&[u8], &str); 11] = [
        (b"\x0a", "ends within a number"),
        (b"\x0a\x05abc", "field 1 ends after its message"),
        (b"\x09abc", "field 1 ends after its message"),
        (b"\x0d", "field 1 ends after its message"),
        (b"\x00\x01", "a field of number 0"),
        (b"\x13\x14", "a field of wire type 3"),
        (b"\x0f", "a field of wire type 7"),
        (
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
            "a number of more than 64 bits",
        ),
        (b"\x32\x02a\xff", "field 6 is not UTF-8 from byte 1"),
        (
            b"\x12\x00\x12\x03\x1a\x01\xff",
            "resources[1]: field 3 is not UTF-8 from byte 0",
        ),
        (
            b"\x12\x04\x12\x02\x12\x09",
            "resources[0]: field 2 ends after its message",
        ),
    ];
    for (bytes, reason) in cases {
        assert_eq!(
            refused(bytes),
            format!("not a DeltaDiscoveryResponse: {reason}")
        );
    }
    // A length that would wrap around is only a long one.
    let longest = b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
    assert!(refused(longest).ends_with("field 1 ends after its message"));
}

#[test]
fn more_names_than_any_mesh_has_are_refused() {
    let within = b"\x32\x00".repeat(MAX_ENTRIES);
    assert_eq!(
        Response::read(&*within).unwrap().removed_count(),
        MAX_ENTRIES
    );
    let reason = format!("not a DeltaDiscoveryResponse: more than {MAX_ENTRIES} names");
    assert_eq!(refused(&b"\x12\x00".repeat(MAX_ENTRIES + 1)), reason);
    let aliases = b"\x22\x00".repeat(MAX_ENTRIES + 1);
    let mut body = vec![0x12, 0x82, 0x80, 0x80, 0x04];
    assert_eq!(aliases.len(), 0x80_0002);
    body.extend(aliases);
    assert_eq!(refused(&body), reason);
}

#[test]
fn a_name_without_a_thing_is_rejected_and_the_others_are_tried() {
    let answer = Answer {
        type_url: TYPE_ISTIO_AUTHORIZATION.into(),
        resources: vec![
            Named {
                name: "ns/empty".into(),
                ..Named::default()
            },
            Named {
                name: "ns/p".into(),
                resource: Some(Any {
                    // Not what the answer is of, which decides.
                    type_url: TYPE_ISTIO_ADDRESS.into(),
                    value: b"v".to_vec(),
                }),
                ..Named::default()
            },
        ],
        ..Answer::default()
    };
    let response = read(&answer);
    let (batch, rejections) = response.batch();
    assert_eq!(
        batch,
        [decode::Resource {
            type_url: TYPE_ISTIO_AUTHORIZATION,
            name: "ns/p",
            value: b"v"
        }]
    );
    assert_eq!(
        rejections[0].to_string(),
        r#"policies "ns/empty": XDS payload without resource"#
    );
}

#[test]
fn a_hundred_thousand_names_take_what_they_are_and_thirty_bytes_each() {
    let mut ledger = Ledger::new();
    let name = |i: usize| {
        format!(
            "Kubernetes//Pod/namespace-{:04}/deployment-{i:06}-7c9f6b5d4f-{i:08}-padding-xxx",
            i % 1000
        )
    };
    let length = name(0).len();
    assert_eq!(length, 80);
    let count = 100_000;
    for i in 0..count {
        ledger.hold(&name(i), &format!("{:016x}", i * 7919));
    }
    let each = ledger.footprint() / count;
    assert!(each <= length + 30, "{each}");
    // What goes gives its room back, and versions that change take none.
    for i in 0..count {
        ledger.hold(&name(i), &format!("{:016x}", i * 31));
    }
    assert!(ledger.footprint() / count <= length + 30);
    for i in 10..count {
        ledger.forget(&name(i));
    }
    assert_eq!(ledger.len(), 10);
    assert!(ledger.footprint() < 32 * 1024, "{}", ledger.footprint());
}
