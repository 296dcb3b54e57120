use mesh::route::Target;
use serde_json::{Value, json};

use super::super::Dialled;
use super::super::story::Protocol;
use super::super::testing::guarded;
use super::*;

const WHO: &str = "spiffe://cluster.local/ns/ns/sa/client";

async fn census(table: &Rc<ConnectionTable>, most: usize) -> Value {
    serde_json::to_value(table.census(most).await).unwrap()
}

fn dialled(source: &str, original: &str, actual: &str, protocol: Protocol) -> Dialled {
    Dialled {
        workload: "web".into(),
        source: source.parse().unwrap(),
        original: Target::parse(original).unwrap(),
        actual: actual.parse().unwrap(),
        protocol,
    }
}

#[tokio::test]
async fn connections_are_shown_as_upstream_shows_them() {
    let table = Rc::<ConnectionTable>::default();
    let held: Vec<_> = (0..7).map(|_| table.register()).collect();
    held[0].guard(guarded("10.1.0.1:1000", Some(WHO), Some("web.ns")));
    // Another stream of the same tunnel to the same place.
    held[1].guard(guarded("10.1.0.1:1000", Some(WHO), Some("web.ns")));
    held[2].guard(guarded("10.1.0.2:1000", None, None));
    held[3].describe(dialled(
        "10.0.0.1:1",
        "10.9.0.1:80",
        "10.2.0.1:15008",
        Protocol::Hbone,
    ));
    held[4].describe(dialled(
        "[fd00::1]:2",
        "other.ns:80",
        "[fd00::2]:80",
        Protocol::Tcp,
    ));
    held[5].describe(dialled(
        "10.0.0.1:3",
        "10.9.0.1:80",
        "10.3.0.1:15008",
        Protocol::DoubleHbone,
    ));
    // held[6] is accepted, and nobody knows yet where it goes.
    let expected = json!({
        "workloads": {"web": {
            "inbound": [
                {"src": "10.1.0.1:1000", "originalDst": "web.ns", "actualDst": "10.0.0.1:8080", "protocol": "HBONE"},
                {"src": "10.1.0.2:1000", "originalDst": null, "actualDst": "10.0.0.1:8080", "protocol": "TCP"},
            ],
            "outbound": [
                {"src": "10.0.0.1:1", "originalDst": "10.9.0.1:80", "actualDst": "10.2.0.1:15008", "protocol": "HBONE"},
                {"src": "10.0.0.1:3", "originalDst": "10.9.0.1:80", "actualDst": "10.3.0.1:15008", "protocol": "DOUBLEHBONE"},
                {"src": "[fd00::1]:2", "originalDst": "other.ns:80", "actualDst": "[fd00::2]:80", "protocol": "TCP"},
            ],
        }},
        "leftOff": 0,
    });
    assert_eq!(census(&table, 100).await, expected);
    drop(held);
    let nobody = json!({"workloads": {}, "leftOff": 0});
    assert_eq!(census(&table, 100).await, nobody);
}

#[tokio::test]
async fn what_is_too_much_is_left_off_and_counted() {
    let table = Rc::<ConnectionTable>::default();
    let held: Vec<_> = (0..3 * SLICE)
        .map(|n| {
            let registration = table.register();
            registration.guard(guarded(&format!("10.1.0.1:{}", 1000 + n), None, None));
            registration
        })
        .collect();
    let first = table.census(SLICE + 1).await;
    assert_eq!((first.shown, first.left_off), (SLICE + 1, 2 * SLICE - 1));
    let mut both = table.census(10).await;
    both.merge(first, 100);
    assert_eq!(both.shown, 100);
    // Those that both have shown are the same ones here: nothing is counted twice.
    let shown = serde_json::to_value(&both).unwrap();
    let inbound = shown["workloads"]["web"]["inbound"].as_array().unwrap();
    assert_eq!(inbound.len(), 100);
    drop(held);
}
