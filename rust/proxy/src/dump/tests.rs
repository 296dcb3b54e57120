//! A dump is one pretty JSON text, whatever the pieces; and who stops reading stops it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mesh::decode::Resource;
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;
use serde_json::Value;

use super::{Dump, DumpError, PIECE};
use crate::connections::Census;

const SOON: Duration = Duration::from_secs(30);

fn mesh(workloads: usize) -> Arc<MeshSnapshot> {
    let mut store = MeshStore::new();
    let values: Vec<String> = (0..workloads)
        .map(|i| {
            format!(
                r#"{{"uid":"u{i:06}","name":"w{i}","namespace":"n","workloadIps":["10.{}.{}.{}"]}}"#,
                i >> 16,
                i >> 8 & 255,
                i & 255
            )
        })
        .collect();
    let names: Vec<String> = (0..workloads).map(|i| format!("u{i:06}")).collect();
    let resources: Vec<_> = values
        .iter()
        .zip(&names)
        .map(|(value, name)| Resource {
            type_url: "ztunnel.local/Workload",
            name,
            value: value.as_bytes(),
        })
        .collect();
    assert!(store.apply(&resources, &[]).rejections.is_empty());
    store.snapshot()
}

fn given(sections: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
    sections
        .iter()
        .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
        .collect()
}

fn read(dump: &Dump) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    while let Some(piece) = dump.next_piece(SOON).expect("the dump goes on") {
        pieces.push(piece);
    }
    pieces
}

#[test]
fn a_dump_is_what_the_json_library_makes_of_the_same_value() {
    let sections = [
        ("version", r#"{"b":1.50,"a":"é\n\"","nothing":null}"#),
        (
            "config",
            r#" {"z":[],"a":{},"list":[1,[2,{"y":1,"x":2}]]} "#,
        ),
    ];
    let mesh = mesh(3);
    let text =
        read(&Dump::start(mesh.clone(), Census::default(), given(&sections)).unwrap()).concat();
    let mut expected: BTreeMap<String, Value> = sections
        .iter()
        .map(|(name, text)| ((*name).to_owned(), serde_json::from_str(text).unwrap()))
        .collect();
    for section in ["policies", "services", "stagedServices", "workloads"] {
        let json = mesh.dump(section).unwrap();
        expected.insert(section.into(), serde_json::from_slice(&json).unwrap());
    }
    expected.insert("workloadState".into(), serde_json::json!({}));
    // The library's own map sorts its keys and its printer indents by two: what upstream uses.
    let pretty = serde_json::to_string_pretty(&serde_json::to_value(expected).unwrap()).unwrap();
    // Only numbers differ: the library normalises them, a dump leaves them as they were given.
    assert_eq!(
        String::from_utf8(text).unwrap().replace("1.50", "1.5"),
        pretty
    );
}

#[test]
fn an_empty_mesh_has_empty_lists() {
    let text = read(&Dump::start(mesh(0), Census::default(), BTreeMap::new()).unwrap()).concat();
    assert_eq!(
        String::from_utf8(text).unwrap(),
        "{\n  \"policies\": [],\n  \"services\": [],\n  \"stagedServices\": {},\n  \"workloadState\": {},\n  \"workloads\": []\n}"
    );
}

#[test]
fn a_given_section_takes_the_place_of_the_meshs() {
    let dump = Dump::start(mesh(3), Census::default(), given(&[("workloads", "{}")])).unwrap();
    let text = read(&dump).concat();
    assert!(
        String::from_utf8(text)
            .unwrap()
            .ends_with("\"workloads\": {}\n}")
    );
}

#[test]
fn a_large_mesh_comes_in_pieces_of_bounded_size() {
    let pieces = read(&Dump::start(mesh(3000), Census::default(), BTreeMap::new()).unwrap());
    assert!(pieces.len() > 3, "{}", pieces.len());
    assert!(pieces.iter().all(|piece| piece.len() < PIECE + PIECE / 8));
    let whole: Value = serde_json::from_slice(&pieces.concat()).unwrap();
    assert_eq!(whole["workloads"].as_array().unwrap().len(), 3000);
}

#[test]
fn a_mesh_that_changes_meanwhile_is_dumped_as_it_was() {
    let snapshot = mesh(3000);
    let dump = Dump::start(snapshot.clone(), Census::default(), BTreeMap::new()).unwrap();
    let first = dump.next_piece(SOON).unwrap().unwrap();
    drop(snapshot);
    let rest = read(&dump).concat();
    let whole: Value = serde_json::from_slice(&[first, rest].concat()).unwrap();
    assert_eq!(whole["workloads"].as_array().unwrap().len(), 3000);
}

#[test]
fn who_drops_a_dump_ends_its_writer() {
    let snapshot = mesh(3000);
    let dump = Dump::start(snapshot.clone(), Census::default(), BTreeMap::new()).unwrap();
    dump.next_piece(SOON).unwrap();
    drop(dump);
    let deadline = std::time::Instant::now() + SOON;
    // The writer holds the snapshot as long as it lives.
    while Arc::strong_count(&snapshot) > 1 {
        assert!(std::time::Instant::now() < deadline, "the writer lives on");
        std::thread::yield_now();
    }
}

#[test]
fn a_section_that_is_not_json_is_refused_by_name() {
    for bad in ["", "{", "{} {}", "\u{1}"] {
        let error = Dump::start(mesh(0), Census::default(), given(&[("config", bad)])).unwrap_err();
        assert!(matches!(error, DumpError::NotJson(..)), "{bad:?}");
        assert!(
            error
                .to_string()
                .starts_with("section config is not JSON: ")
        );
    }
}

#[test]
fn nesting_beyond_any_sense_is_passed_on_as_it_is() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let text = read(&Dump::start(mesh(0), Census::default(), given(&[("config", &deep)])).unwrap())
        .concat();
    let whole: Value = serde_json::from_slice(&text).unwrap();
    assert!(whole["config"].is_array());
}
