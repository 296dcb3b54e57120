use mesh::decode::{Resource, TYPE_WORKLOAD};
use mesh::store::MeshStore;
use serde_json::json;

use super::*;

const PATIENCE: Duration = Duration::from_secs(5);

fn key(text: &str) -> GatewayDestination {
    let address = text.parse().map(GatewayDestination::Address);
    let key = address.or_else(|_| text.parse().map(GatewayDestination::Hostname));
    key.unwrap()
}

fn nobody() -> std::sync::Arc<MeshSnapshot> {
    MeshStore::new().snapshot()
}

/// A mesh with one pod at this address.
fn somebody(address: &str) -> std::sync::Arc<MeshSnapshot> {
    let pod = json!({
        "uid": "a", "name": "a", "namespace": "ns", "workloadIps": [address], "services": {},
    });
    let value = pod.to_string().into_bytes();
    let mut store = MeshStore::new();
    let resource = Resource {
        type_url: TYPE_WORKLOAD,
        name: "a",
        value: &value,
    };
    assert_eq!(store.apply(&[resource], &[]).rejections, []);
    store.snapshot()
}

fn now(table: &mut Table, key: &GatewayDestination, now: Instant) -> watch::Receiver<()> {
    match table.ask(key, Asker::Application, PATIENCE, now) {
        Asked::Now(answer) => answer,
        Asked::Before(_) => panic!("was asked before"),
        Asked::GoOn => panic!("is not asked"),
    }
}

fn before(table: &mut Table, key: &GatewayDestination, now: Instant) -> watch::Receiver<()> {
    match table.ask(key, Asker::Application, PATIENCE, now) {
        Asked::Before(answer) => answer,
        Asked::Now(_) => panic!("was not asked before"),
        Asked::GoOn => panic!("is not asked"),
    }
}

fn goes_on(table: &mut Table, key: &GatewayDestination, now: Instant) -> bool {
    matches!(
        table.ask(key, Asker::Application, PATIENCE, now),
        Asked::GoOn
    )
}

fn is_answered(answer: &watch::Receiver<()>) -> bool {
    answer.has_changed().is_err()
}

#[test]
fn one_wish_is_made_for_all_who_miss_the_same() {
    let (mut table, start) = (Table::default(), Instant::now());
    let first = now(&mut table, &key("/10.0.0.1"), start);
    let second = before(&mut table, &key("/10.0.0.1"), start);
    let other = now(&mut table, &key("ns/host"), start);
    table.answer(&key("/10.0.0.1"), None, start);
    assert!(is_answered(&first) && is_answered(&second) && !is_answered(&other));
    // What came may go: then it is asked for again.
    now(&mut table, &key("/10.0.0.1"), start);
}

#[test]
fn who_is_not_there_is_not_asked_for_for_a_while() {
    let (mut table, start) = (Table::default(), Instant::now());
    let missed = key("/10.0.0.1");
    let answer = now(&mut table, &missed, start);
    table.answer(&missed, Some(ABSENT), start);
    assert!(is_answered(&answer));
    assert!(goes_on(&mut table, &missed, start + ABSENT / 2));
    now(&mut table, &missed, start + ABSENT);
}

#[test]
fn what_got_no_answer_is_given_up_by_those_who_come_later() {
    let (mut table, start) = (Table::default(), Instant::now());
    let missed = key("/10.0.0.1");
    let answer = now(&mut table, &missed, start);
    let late = start + PATIENCE + GRACE + Duration::from_millis(1);
    assert!(goes_on(&mut table, &missed, late));
    assert!(is_answered(&answer));
    assert!(goes_on(&mut table, &missed, late + UNANSWERED / 2));
    now(&mut table, &missed, late + UNANSWERED);
}

#[test]
fn who_has_no_time_left_ends_nobody_elses_waiting() {
    let (mut table, start) = (Table::default(), Instant::now());
    let missed = key("/10.0.0.1");
    let other = now(&mut table, &missed, start);
    table.give_up(&missed, PATIENCE, start + Duration::from_millis(100));
    assert!(!is_answered(&other));
    before(&mut table, &missed, start + Duration::from_millis(100));
    // Timers are a little early or late.
    let over = start + PATIENCE - Duration::from_millis(1);
    table.give_up(&missed, PATIENCE, over);
    assert!(is_answered(&other) && goes_on(&mut table, &missed, over));
}

#[test]
fn a_late_answer_is_no_new_absence() {
    let (mut table, start) = (Table::default(), Instant::now());
    let missed = key("/10.0.0.1");
    now(&mut table, &missed, start);
    table.answer(&missed, None, start);
    // Somebody's patience ended in the same moment.
    table.answer(&missed, Some(UNANSWERED), start);
    now(&mut table, &missed, start);
}

#[test]
fn peers_cannot_use_up_what_applications_need() {
    let (mut table, start) = (Table::default(), Instant::now());
    let number = |n: usize| key(&format!("n{n}/10.0.0.1"));
    for n in 0..Asker::Peer.most() {
        let asked = table.ask(&number(n), Asker::Peer, PATIENCE, start);
        assert!(matches!(asked, Asked::Now(_)));
    }
    let one_more = table.ask(&number(1000), Asker::Peer, PATIENCE, start);
    assert!(matches!(one_more, Asked::GoOn));
    now(&mut table, &number(1000), start);
    // Those that nobody answers make room.
    let late = start + PATIENCE + GRACE * 2;
    let asked = table.ask(&number(1001), Asker::Peer, PATIENCE, late);
    assert!(matches!(asked, Asked::Now(_)));
    assert_eq!(table.asked[Asker::Peer as usize], 1);
}

#[test]
fn a_scan_of_addresses_takes_bounded_room() {
    let (mut table, start) = (Table::default(), Instant::now());
    let held = now(&mut table, &key("ns/waited.for"), start);
    for n in 0..3 * MAX_ENTRIES {
        let missed = key(&format!("n{n}/10.0.0.1"));
        now(&mut table, &missed, start);
        table.answer(&missed, Some(ABSENT), start);
        assert!(table.entries.len() <= MAX_ENTRIES);
    }
    assert!(!is_answered(&held));
    before(&mut table, &key("ns/waited.for"), start);
}

#[test]
fn an_answer_releases_what_it_brought_and_what_it_only_named() {
    let demand = Demand::new(PATIENCE);
    let start = Instant::now();
    let [came, named, open] = ["/10.0.0.1", "ns/gone", "/10.0.0.3"].map(key);
    let receivers = [&came, &named, &open].map(|key| now(&mut demand.table(), key, start));
    let mut told = Vec::new();
    demand.settle(&somebody("10.0.0.1"), |asked| {
        told = asked.iter().map(ToString::to_string).collect();
        vec!["ns/gone"]
    });
    told.sort();
    assert_eq!(told, ["/10.0.0.3", "ns/gone"]);
    assert_eq!(receivers.each_ref().map(is_answered), [true, true, false]);
    assert!(goes_on(&mut demand.table(), &named, start));
    before(&mut demand.table(), &open, start);
    // A batch without answers, a mesh without it: nothing changes. Nobody waits: nothing is asked.
    demand.settle(&nobody(), |_| Vec::new());
    assert!(!is_answered(&receivers[2]));
    demand.settle(&somebody("10.0.0.3"), |_| Vec::new());
    assert!(is_answered(&receivers[2]));
    demand.settle(&nobody(), |_| panic!("nobody waits"));
}

#[test]
fn so_many_wait_and_no_more_and_peers_in_nobodys_place() {
    let demand = Demand::new(PATIENCE);
    let fill = |asker: Asker| {
        let waiting: Vec<_> = (0..asker.most_waiting())
            .map(|_| demand.wait(asker).unwrap())
            .collect();
        assert!(demand.wait(asker).is_none());
        waiting
    };
    let peers = fill(Asker::Peer);
    let applications = fill(Asker::Application);
    drop((peers, applications));
    for asker in [Asker::Application, Asker::Peer] {
        assert!(demand.wait(asker).is_some());
    }
    assert_eq!(demand.table().waiting, [0, 0]);
}
