use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use mesh::decode::{TYPE_AUTHORIZATION, TYPE_WORKLOAD};
use mesh::store::MeshStore;

use super::super::Registration;
use super::super::testing::{guarded, put_denial, put_web};
use super::*;
use crate::error::Error;

/// Asks about all of them; gives how many slices it took and whom it ended.
fn rechecked(table: &ConnectionTable, store: &MeshStore) -> (usize, Vec<Guarded>) {
    let (mut slices, mut all, mut next) = (0, Vec::new(), Some(0));
    while let Some(start) = next {
        let (ended, behind) = table.recheck(&store.snapshot(), start);
        all.extend(ended);
        slices += 1;
        next = behind;
    }
    (slices, all)
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
    assert!(rechecked(&table, &store).1.is_empty());
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let ended = rechecked(&table, &store).1;
    let said: Vec<_> = ended.iter().map(ToString::to_string).collect();
    assert_eq!(said, ["10.1.0.1:1000->10.0.0.1:8080"]);
    assert_eq!(end(&bad), Some(Error::policy_changed()));
    assert_eq!(end(&good), None);
    assert_eq!(end(&undecided), None);
    // Ended once, however often policy changes before it is gone.
    assert!(rechecked(&table, &store).1.is_empty());
}

#[test]
fn a_policy_that_is_attached_to_the_workload_later_counts() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    put_denial(&mut store, "strangers", "WorkloadSelector", "10.1.0.0/16");
    let connection = entered(&table, "10.1.0.1:1000");
    assert!(rechecked(&table, &store).1.is_empty());
    put_web(&mut store, &["ns/strangers"]);
    assert_eq!(rechecked(&table, &store).1.len(), 1);
    assert_eq!(end(&connection), Some(Error::policy_changed()));
}

#[test]
fn a_workload_that_leaves_the_mesh_ends_nothing() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let connection = entered(&table, "10.1.0.1:1000");
    store.apply(&[], &[(TYPE_WORKLOAD, "web")]);
    assert!(rechecked(&table, &store).1.is_empty());
    assert_eq!(end(&connection), None);
}

#[test]
fn many_connections_are_asked_about_in_slices_and_all_of_them() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    let held: Vec<_> = (0..10 * SLICE + 1)
        .map(|n| entered(&table, &format!("10.1.0.1:{}", 1000 + n)))
        .collect();
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let (slices, ended) = rechecked(&table, &store);
    assert_eq!(slices, 11);
    assert_eq!(ended.len(), held.len());
}

#[test]
fn a_change_back_between_two_slices_spares_the_second() {
    let (table, mut store) = (Rc::<ConnectionTable>::default(), MeshStore::new());
    put_web(&mut store, &[]);
    let held: Vec<_> = (0..2 * SLICE)
        .map(|n| entered(&table, &format!("10.1.0.1:{}", 1000 + n)))
        .collect();
    put_denial(&mut store, "strangers", "Namespace", "10.1.0.0/16");
    let (ended, next) = table.recheck(&store.snapshot(), 0);
    assert_eq!(ended.len(), SLICE);
    store.apply(&[], &[(TYPE_AUTHORIZATION, "ns/strangers")]);
    let (ended, next) = table.recheck(&store.snapshot(), next.unwrap());
    assert!(ended.is_empty());
    assert_eq!(next, None);
    drop(held);
}
