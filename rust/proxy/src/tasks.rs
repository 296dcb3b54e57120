//! The one way to begin a task on a worker, so that the worker knows how many it has.
//!
//! Our tasks belong to a `LocalSet`, and a runtime's own count (`tokio_num_alive_tasks`) leaves those out. Counterpart:
//! `telemetry/runtimes.rs`, which shows the count. Nothing here is on the way of a byte: a connection is a task or two.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::task::JoinHandle;

/// How many tasks of one thread have begun and not ended; read by others at a scrape.
pub(crate) type Alive = Arc<AtomicUsize>;

thread_local! {
    static ALIVE: Alive = Alive::default();
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
    // Counted from here and not from the first poll: a task that waits for its first turn is alive too.
    tokio::task::spawn_local(Task {
        future,
        _alive: Counted::begin(),
    })
}

pin_project_lite::pin_project! {
    // Not an `async` block around the future: that would keep room for it twice.
    struct Task<F> {
        #[pin]
        future: F,
        _alive: Counted,
    }
}

impl<F: Future> Future for Task<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(context)
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
