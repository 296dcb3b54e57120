use super::*;
use crate::decode::{Resource, TYPE_WORKLOAD};

#[test]
fn a_workload_is_found_once_it_is_applied() {
    let mut store = MeshStore::new();
    let value = br#"{"uid":"u","name":"web","namespace":"default","workloadIps":["10.0.0.1"],"services":{"default/web":{"80":8080}}}"#;
    let applied = store.apply(&[Resource { type_url: TYPE_WORKLOAD, name: "u", value }], &[]);
    assert_eq!(applied.rejections, []);
    assert!(store.snapshot().workload_by_uid("u").is_some());
}
