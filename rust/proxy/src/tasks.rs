//! The one way to begin a task on a worker, so that it knows how many it has, and what becomes of those that panic.
//!
//! Our tasks belong to a `LocalSet`, and a runtime's own count (`tokio_num_alive_tasks`) leaves those out. A panic ends its
//! task and nothing else (spec/reliability.md T40, F48): a connection's with the connection, and a service of the worker,
//! such as a listener, begins again. Counterpart: `telemetry/runtimes.rs`, which shows the count. Nothing here is on the
//! way of a byte: a connection is a task or two.

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How many tasks of one thread have begun and not ended; read by others at a scrape.
pub(crate) type Alive = Arc<AtomicUsize>;

thread_local! {
    static ALIVE: Alive = Alive::default();
    static PANICS: RefCell<Panics> = RefCell::default();
}

/// Where panics are counted; all threads of a data plane in one.
pub(crate) type Panics = Arc<AtomicU64>;

/// Before a service that panicked begins again. Long enough that one which always does costs nothing, short enough
/// for the connections that wait in a listener's queue.
const BREATH: Duration = Duration::from_millis(100);

/// This thread's tasks count their panics there from now on.
pub(crate) fn count_panics(panics: Panics) {
    PANICS.replace(panics);
}

/// Runs what a worker always needs, again if it panics, until it ends. `failed` is told each time.
pub(crate) async fn persist<F: Future<Output = ()>>(
    mut service: impl FnMut() -> F,
    failed: impl Fn(),
) {
    loop {
        let mut running = pin!(service());
        // What it shares with other tasks it shares with those of one thread, in cells whose guards the unwinding drops.
        let attempt = poll_fn(|context| {
            let poll = AssertUnwindSafe(|| running.as_mut().poll(context));
            match catch_unwind(poll) {
                Ok(poll) => poll.map(Ok),
                Err(_) => Poll::Ready(Err(())),
            }
        });
        if attempt.await.is_ok() {
            return;
        }
        PANICS.with_borrow(|panics| panics.fetch_add(1, Relaxed));
        failed();
        sleep(BREATH).await;
    }
}

/// This thread's count.
pub(crate) fn alive() -> Alive {
    ALIVE.with(Arc::clone)
}

/// `tokio::task::spawn_local`, counted until the task is gone: ended, aborted, or dropped with its set.
pub(crate) fn spawn_local<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    spawn_holding((), future)
}

/// The same with something that is let go when the task is gone.
pub(crate) fn spawn_holding<H, F>(held: H, future: F) -> JoinHandle<F::Output>
where
    H: 'static,
    F: Future + 'static,
    F::Output: 'static,
{
    // Counted from here and not from the first poll: a task that waits for its first turn is alive too.
    tokio::task::spawn_local(Task {
        future,
        _alive: Counted::begin(),
        _held: held,
    })
}

pin_project_lite::pin_project! {
    // Not an `async` block around the future: that would keep room for it twice.
    struct Task<F, H> {
        #[pin]
        future: F,
        _alive: Counted,
        // Behind the future, which goes first.
        _held: H,
    }
}

impl<F: Future, H> Future for Task<F, H> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        // Costs nothing but where it is needed: only unwinding drops it.
        let panicking = Panicking;
        let poll = self.project().future.poll(context);
        std::mem::forget(panicking);
        poll
    }
}

struct Panicking;

impl Drop for Panicking {
    fn drop(&mut self) {
        let _ = PANICS.try_with(|panics| panics.borrow().fetch_add(1, Relaxed));
    }
}

/// One that lives. Holds nothing, so that tasks do not grow by it: the count is its thread's, which no task ever leaves.
struct Counted;

impl Counted {
    fn begin() -> Self {
        add(1);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        add(-1);
    }
}

/// A load and a store, for only this thread writes.
fn add(more: isize) {
    // Failing: the thread ends, and its count with it.
    let _ = ALIVE.try_with(|alive| {
        alive.store(alive.load(Relaxed).saturating_add_signed(more), Relaxed);
    });
}

#[cfg(test)]
mod tests;
