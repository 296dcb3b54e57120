use std::cell::RefCell;
use std::future::poll_fn;
use std::time::Duration;

use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;

const SOON: Duration = Duration::from_secs(30);

/// Runs on a worker's kind of runtime, with a deadline.
fn worker<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let work = async { timeout(SOON, work).await.expect("it ends in time") };
    LocalSet::new().block_on(&runtime, work)
}

#[test]
fn everybody_gets_a_turn_in_the_order_of_asking() {
    worker(async {
        let turns = Turns::new(3);
        let order = Rc::new(RefCell::new(Vec::new()));
        let tasks: Vec<_> = (0..100)
            .map(|number| {
                let (turns, order) = (turns.clone(), order.clone());
                spawn_local(async move {
                    turns.take().await;
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(*order.borrow(), (0..100).collect::<Vec<_>>());
    });
}

#[test]
fn a_turn_is_so_many_and_then_the_others() {
    worker(async {
        let turns = Turns::new(2);
        let began = Rc::new(Cell::new(0));
        for _ in 0..10 {
            let (turns, began) = (turns.clone(), began.clone());
            spawn_local(async move {
                turns.take().await;
                began.set(began.get() + 1);
            });
        }
        let mut last = 0;
        while began.get() < 10 {
            yield_now().await;
            assert!(began.get() - last <= 2, "{last} -> {}", began.get());
            last = began.get();
        }
    });
}

#[test]
fn who_gives_up_waiting_costs_nobody_a_turn() {
    worker(async {
        let turns = Turns::new(1);
        turns.take().await;
        for _ in 0..5 {
            let asked = turns.clone();
            let waiting = spawn_local(async move { asked.take().await });
            waiting.abort();
        }
        turns.take().await;
        turns.take().await;
    });
}

/// Pieces of work done between two answers to somebody who only waits for the worker's sockets, at most.
fn most_between_answers(each_turn: usize) -> usize {
    const STORM: usize = 300;
    worker(async move {
        let turns = Turns::new(each_turn);
        let done = Rc::new(Cell::new(0));
        for _ in 0..STORM {
            let (turns, done) = (turns.clone(), done.clone());
            spawn_local(async move {
                turns.take().await;
                done.set(done.get() + 1);
            });
        }
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let (mut before, mut most) = (0, 0);
        while before < STORM {
            near.writable().await.unwrap();
            near.try_write(b"?").unwrap();
            far.readable().await.unwrap();
            // Until nothing is there, so that the next byte takes another look.
            while far.try_read(&mut [0; 8]).is_ok() {}
            most = most.max(done.get() - before);
            before = done.get();
        }
        most
    })
}

#[test]
fn sockets_are_looked_at_between_turns_of_a_storm() {
    assert!(most_between_answers(1) <= 4);
    // Else the above would say nothing.
    assert!(most_between_answers(1000) > 4);
}

#[test]
fn who_polls_gets_turns_too_and_one_for_each_piece() {
    worker(async {
        let turns = Turns::new(1);
        let mut turn = Turn::of(&turns);
        for _ in 0..3 {
            poll_fn(|context| turn.poll(context)).await;
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        assert!(turn.poll(&mut context).is_pending());
    });
}
