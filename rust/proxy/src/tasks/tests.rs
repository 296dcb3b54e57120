use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::{LocalSet, yield_now};

use super::*;

fn on_a_worker<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test)
}

fn count() -> usize {
    alive().load(Relaxed)
}

#[test]
fn a_task_counts_from_its_spawn_to_its_end() {
    on_a_worker(async {
        let (end, told) = oneshot::channel::<()>();
        let task = spawn_local(told);
        let aborted = spawn_local(pending::<()>());
        assert_eq!(count(), 2, "before either was polled");
        end.send(()).unwrap();
        task.await.unwrap().unwrap();
        assert_eq!(count(), 1);
        aborted.abort();
        assert!(aborted.await.unwrap_err().is_cancelled());
        assert_eq!(count(), 0);
    });
}

#[test]
fn a_task_that_panics_is_gone_and_counted_and_others_go_on() {
    let panics = Panics::default();
    count_panics(panics.clone());
    on_a_worker(async {
        let (end, told) = oneshot::channel::<()>();
        let other = spawn_local(told);
        let task = spawn_local(async { panic!("as a task may") });
        assert!(task.await.unwrap_err().is_panic());
        assert_eq!((count(), panics.load(Relaxed)), (1, 1));
        end.send(()).unwrap();
        other.await.unwrap().unwrap();
    });
    assert_eq!((count(), panics.load(Relaxed)), (0, 1));
}

#[test]
fn a_service_that_panics_begins_again_until_it_ends() {
    let panics = Panics::default();
    count_panics(panics.clone());
    let (begun, failures) = (Cell::new(0), Cell::new(0));
    let service = || async {
        begun.set(begun.get() + 1);
        yield_now().await;
        assert!(begun.get() > 3, "not yet");
    };
    let failed = || failures.set(failures.get() + 1);
    on_a_worker(persist(service, failed));
    let counted = panics.load(Relaxed);
    assert_eq!((begun.get(), failures.get(), counted), (4, 3, 3));
}

/// A task that is aborted between two attempts must not begin a third.
#[test]
fn a_service_ends_with_its_task() {
    on_a_worker(async {
        let begun = Rc::new(Cell::new(0));
        let counted = begun.clone();
        let task = spawn_local(persist(
            move || {
                counted.set(counted.get() + 1);
                async { panic!("always") }
            },
            || {},
        ));
        yield_now().await;
        assert_eq!(begun.get(), 1);
        task.abort();
        assert!(task.await.unwrap_err().is_cancelled());
        assert_eq!((begun.get(), count()), (1, 0));
    });
}

#[test]
fn what_is_left_goes_with_its_set() {
    let set = LocalSet::new();
    let entered = set.enter();
    drop(spawn_local(pending::<()>()));
    assert_eq!(count(), 1, "never polled, and still there");
    drop(entered);
    drop(set);
    assert_eq!(count(), 0);
}

#[test]
fn threads_count_for_themselves_and_are_read_by_others() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        on_a_worker(async {
            let task = spawn_local(ended);
            tell.send(alive()).unwrap();
            task.await.unwrap().unwrap();
        });
    });
    let theirs = told.recv().unwrap();
    assert_eq!((theirs.load(Relaxed), count()), (1, 0));
    end.send(()).unwrap();
    thread.join().unwrap();
    assert_eq!(theirs.load(Relaxed), 0);
}

#[test]
fn a_counted_task_is_no_larger() {
    let future = pending::<[u64; 8]>();
    let plain = size_of_val(&future);
    let counted = Task {
        future,
        _alive: Counted::begin(),
        _held: (),
    };
    assert_eq!(size_of_val(&counted), plain);
}
