use super::*;

fn wish(number: usize) -> Event {
    Event::ResourceWanted(format!("/10.0.0.{number}"))
}

#[test]
fn wishes_past_the_bound_are_lost_and_counted() {
    let events = Events::new().unwrap();
    for number in 0..CAPACITY + 3 {
        events.report(wish(number));
        events.report(wish(number.min(CAPACITY - 1)));
    }
    let taken = events.take();
    assert_eq!(taken.len(), CAPACITY + 1);
    assert_eq!(taken.last(), Some(&Event::Overflow { lost: 3 }));
    assert_eq!(events.take(), []);
}

/// A wish is made again by the next connection; a worker fails once.
#[test]
fn a_worker_that_failed_is_told_of_however_many_wishes_wait() {
    let events = Events::new().unwrap();
    (0..CAPACITY).for_each(|number| events.report(wish(number)));
    let failed = Event::WorkerFailed { worker: 1 };
    events.report(failed.clone());
    let taken = events.take();
    assert_eq!(taken.len(), CAPACITY + 1);
    assert_eq!(taken.last(), Some(&failed));
}
