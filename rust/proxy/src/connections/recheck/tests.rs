use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mesh::decode::{TYPE_AUTHORIZATION, TYPE_WORKLOAD};
use mesh::store::MeshStore;

use super::super::Registration;
use super::super::testing::{guarded, put_denial, put_web};
use super::*;
use crate::error::Error;

/// Asks about all of them; gives whom it ended.
fn rechecked(table: &ConnectionTable, store: &MeshStore) -> Vec<Guarded> {
    let (mut all, mut next) = (Vec::new(), Some(0));
    while let Some(start) = next {
        let (ended, behind) = table.recheck(&store.snapshot(), start);
        all.extend(ended);
        next = behind;
    }
    all
}

fn entered(table: &Rc<ConnectionTable>, source: &str) -> Registration {
    let registration = table.register();
    registration.guard(guarded(source, None, None));
    registration
}

fn end(registration: &Registration) -> Option<Error> {
    match pin!(registration.cut()).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => Some(error),
        Poll::Pending => None,
    }
}

#[test]
fn those_that_policy_denies_now_are_ended_and_no_others() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    let bad = entered(&table, "10.1.0.1:1000");
    let good = entered(&table, "10.2.0.1:1000");
    let undecided = table.register();
    assert!(rechecked(&table, &store).is_empty());
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let ended = rechecked(&table, &store);
    let said: Vec<_> = ended.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["10.1.0.1:1000->10.0.0.1:8080"]);
    assert_eq!(end(&bad), Some(Error::policy_changed()));
    assert_eq!(end(&good), None);
    assert_eq!(end(&undecided), None);
    // Ended once, however often policy changes before it is gone.
    assert!(rechecked(&table, &store).is_empty());
}

#[test]
fn a_policy_that_is_attached_to_the_workload_later_counts() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    put_denial(&mut store, "strangers", "WorkloadSelector", "10.1.0.0/16");
    let connection = entered(&table, "10.1.0.1:1000");
    assert!(rechecked(&table, &store).is_empty());
    put_web(&mut store, &["ns/strangers"]);
    assert_eq!(rechecked(&table, &store).len(), 1);
    assert_eq!(end(&connection), Some(Error::policy_changed()));
}

#[test]
fn a_workload_that_leaves_the_mesh_ends_nothing() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let connection = entered(&table, "10.1.0.1:1000");
    store.apply(&[], &[(TYPE_WORKLOAD, "web")]);
    assert!(rechecked(&table, &store).is_empty());
    assert_eq!(end(&connection), None);
}

/// How many were ended and asked about in each turn.
fn turns(table: &ConnectionTable, mesh: &MeshSnapshot) -> Vec<(usize, usize)> {
    let (mut turns, mut next) = (Vec::new(), Some(0));
    while let Some(start) = next {
        let (ended, behind) = table.recheck(mesh, start);
        turns.push((ended.len(), behind.unwrap_or(table.len()) - start));
        next = behind;
    }
    turns
}

/// Every `nth` of them is forbidden soon.
fn crowd(table: &Rc<ConnectionTable>, count: usize, nth: usize) -> Vec<Registration> {
    let network = |n: usize| if n.is_multiple_of(nth) { 1 } else { 2 };
    let source = |n: usize| format!("10.{}.0.1:{}", network(n), 1000 + n);
    (0..count).map(|n| entered(table, &source(n))).collect()
}

#[test]
fn a_turn_asks_about_few_ends_fewer_and_all_turns_together_meet_everybody() {
    for (nth, expected) in [
        // All are forbidden: what is ended is the bound.
        (1, vec![(ENDED, ENDED); 40]),
        // One in eight: what is asked about is the bound.
        (8, vec![(ASKED / 8, ASKED); 40 * ENDED / ASKED]),
        // None but the first.
        (40 * ENDED, [vec![(1, ASKED)], vec![(0, ASKED); 9]].concat()),
    ] {
        let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
        put_web(&mut store, &[]);
        let held = crowd(&table, 40 * ENDED, nth);
        put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
        assert_eq!(turns(&table, &store.snapshot()), expected, "every {nth}th");
        for (n, registration) in held.iter().enumerate() {
            assert_eq!(end(registration).is_some(), n.is_multiple_of(nth), "{n}");
        }
    }
}

#[test]
fn a_change_back_between_two_turns_spares_the_second() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    let held = crowd(&table, 2 * ENDED, 1);
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let (ended, next) = table.recheck(&store.snapshot(), 0);
    assert_eq!(ended.len(), ENDED);
    store.apply(&[], &[(TYPE_AUTHORIZATION, "ns/strangers")]);
    let (ended, next) = table.recheck(&store.snapshot(), next.unwrap());
    assert!(ended.is_empty());
    assert_eq!(next, None);
    drop(held);
}
