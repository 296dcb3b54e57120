//! The whole contract between the data plane and whoever steers it: what it can be told, what it reports.
//!
//! Plain data on purpose, so that the same words can one day cross a socket to another process.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mesh::identity::Identity;

use crate::sys::EventFd;

/// How far the end of the data plane has come. Workers watch it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Bound, but not serving: the first configuration has not come.
    #[default]
    Waiting,
    /// Serving.
    Running,
    /// No new connections; running ones may finish.
    Draining,
    /// The deadline is over: running ones are cut.
    Forced,
}

/// Something that the other side should know or do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The last workload with this identity is gone: its certificate is no longer needed.
    CredentialIdle(Identity),
    /// A certificate for this identity will be needed, or (`now`) a connection waits for it.
    CredentialWanted {
        /// Whose.
        identity: Identity,
        /// A connection waits.
        now: bool,
    },
    /// Events were lost because nobody took them.
    Overflow {
        /// How many.
        lost: u64,
    },
    /// Somebody needs a resource that is not known: its key (spec/control.md §4.8). Reported again for the same one only after
    /// an answer, or after a while.
    ResourceWanted(String),
    /// A worker thread ended although nobody asked it to.
    WorkerFailed {
        /// Its number.
        worker: usize,
    },
}

/// Wishes and reports on their way up.
///
/// Bounded: a slow control side may miss wishes, it must never hold memory. A wish that was missed is made again by
/// the next connection that needs it. A worker fails once, and there are few of them: that is never missed.
pub(crate) struct Events {
    queue: Mutex<VecDeque<Event>>,
    lost: AtomicU64,
    signal: EventFd,
}

const CAPACITY: usize = 1024;

impl Events {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            lost: AtomicU64::new(0),
            signal: EventFd::new()?,
        })
    }

    /// Reports an event; one that already waits is not repeated.
    pub(crate) fn report(&self, event: Event) {
        let mut queue = self.lock();
        if queue.contains(&event) {
            return;
        }
        let repeats = !matches!(event, Event::WorkerFailed { .. });
        if repeats && queue.len() >= CAPACITY {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            queue.push_back(event);
        }
        drop(queue);
        self.signal.raise();
    }

    /// Takes what waits.
    pub(crate) fn take(&self) -> Vec<Event> {
        self.signal.clear();
        let mut taken: Vec<_> = self.lock().drain(..).collect();
        match self.lost.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => taken.push(Event::Overflow { lost }),
        }
        taken
    }

    pub(crate) fn descriptor(&self) -> i32 {
        self.signal.descriptor()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Event>> {
        // A panic while the queue is held leaves a queue of whole events behind.
        self.queue
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
