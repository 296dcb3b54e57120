use std::mem::size_of_val;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use super::*;
use crate::sys::counting::allocated;

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn table() -> Rc<ConnectionTable> {
    Rc::default()
}

#[test]
fn a_cut_wakes_who_waits_and_tells_the_first_reason() {
    let table = table();
    let (cut, other) = (table.register(), table.register());
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(cut.cut());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    table.with(cut.place, |entry| entry.cut(Cut::PolicyChanged));
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    table.cut_all(Cut::Drained);
    assert_eq!(
        waiting.poll(&mut context),
        Poll::Ready(Error::policy_changed())
    );
    assert_eq!(
        pin!(other.cut()).poll(&mut context),
        Poll::Ready(Error::drained())
    );
}

#[test]
fn a_request_in_a_tunnel_is_told_of_the_drain_in_other_words_and_of_policy_in_the_same() {
    let table = table();
    let (drained, denied) = (table.register(), table.register());
    let mut context = Context::from_waker(Waker::noop());
    denied
        .table
        .with(denied.place, |entry| entry.cut(Cut::PolicyChanged));
    table.cut_all(Cut::Drained);
    let told = |registration: &Registration, context: &mut Context<'_>| match pin!(
        registration.cut_in_tunnel()
    )
    .poll(context)
    {
        Poll::Ready(error) => error.text().to_owned(),
        Poll::Pending => panic!("was cut"),
    };
    let drain = "connection failed to drain within the timeout";
    assert_eq!(told(&drained, &mut context), drain);
    let policy = "connection closed due to policy change";
    assert_eq!(told(&denied, &mut context), policy);
}

#[test]
fn a_walk_in_slices_meets_every_connection_once() {
    let table = table();
    let mut held: Vec<_> = (0..100).map(|_| table.register()).collect();
    for gap in [99, 50, 31, 30, 0] {
        held.swap_remove(gap);
    }
    for count in [1, 7, 32, 95, 100, 1000] {
        let (mut met, mut slices, mut next) = (0, 0, Some(0));
        while let Some(start) = next {
            let before = met;
            next = table.some(start, count, |_| {
                met += 1;
                ControlFlow::Continue(())
            });
            slices += 1;
            assert!(met - before <= count);
        }
        assert_eq!(met, held.len());
        assert_eq!(slices, 100_usize.div_ceil(count).max(1));
    }
}

#[test]
fn a_slice_ends_behind_the_connection_with_which_there_is_enough() {
    let table = table();
    let held: Vec<_> = (0..100).map(|_| table.register()).collect();
    let mut met = 0;
    let enough = |_: &mut Entry| {
        met += 1;
        if met < 7 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    assert_eq!(table.some(30, 50, enough), Some(37));
    assert_eq!(table.some(90, 50, |_| ControlFlow::Continue(())), None);
    let last = |_: &mut Entry| ControlFlow::Break(());
    assert_eq!(table.some(held.len() - 1, 50, last), None);
}

#[test]
fn waiting_again_with_the_same_task_keeps_the_waker() {
    let table = table();
    let registration = table.register();
    let waker = Waker::from(Arc::<Woken>::default());
    let mut context = Context::from_waker(&waker);
    let mut waiting = pin!(registration.cut());
    assert!(waiting.as_mut().poll(&mut context).is_pending());
    let other = Waker::from(Arc::<Woken>::default());
    assert!(
        waiting
            .as_mut()
            .poll(&mut Context::from_waker(&other))
            .is_pending()
    );
    table.with(registration.place, |entry| {
        assert!(entry.waiting.as_ref().unwrap().will_wake(&other));
    });
}

#[test]
fn places_are_used_again_and_never_by_two() {
    let table = table();
    let mut held = Vec::new();
    for round in 0..50 {
        held.extend((0..7).map(|_| table.register()));
        // Leave in an order that is neither that of coming nor its reverse.
        for step in 0..5 {
            held.swap_remove((round * 3 + step) % held.len());
        }
        let mut places: Vec<_> = held.iter().map(|registration| registration.place).collect();
        places.sort_unstable();
        places.dedup();
        assert_eq!(places.len(), held.len());
        assert_eq!(table.len(), held.len());
    }
    assert!(table.places.borrow().len() <= held.len() + 7);
}

#[test]
fn a_place_that_is_used_again_remembers_nothing() {
    let table = table();
    let first = table.register();
    table.cut_all(Cut::Drained);
    drop(first);
    let second = table.register();
    let mut context = Context::from_waker(Waker::noop());
    assert!(pin!(second.cut()).poll(&mut context).is_pending());
}

#[test]
fn a_burst_gives_its_room_back() {
    let table = table();
    let many: Vec<_> = (0..10 * KEPT).map(|_| table.register()).collect();
    drop(many);
    assert_eq!(table.places.borrow().capacity(), 0);
    drop(table.register());
    assert_eq!(table.len(), 0);
}

#[test]
fn who_waits_for_all_to_leave_is_woken_by_the_last() {
    let table = table();
    let (first, last) = (table.register(), table.register());
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    let mut emptied = pin!(table.emptied());
    assert!(emptied.as_mut().poll(&mut context).is_pending());
    drop(first);
    assert_eq!(woken.0.load(Ordering::Relaxed), 0);
    drop(last);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert!(emptied.poll(&mut context).is_ready());
}

#[test]
fn a_connection_is_registered_without_an_allocation_and_in_few_bytes() {
    let table = table();
    drop(table.register());
    let (registration, cost) = allocated(|| table.register());
    assert_eq!(cost.calls, 0);
    assert_eq!(size_of_val(&registration), 16);
    assert_eq!(size_of::<Place>(), 32);
    assert_eq!(size_of_val(&registration.cut()), 8);
    assert_eq!(size_of_val(&registration.cut_in_tunnel()), 8);
}
