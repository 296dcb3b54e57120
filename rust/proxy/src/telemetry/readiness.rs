//! Whether this node is ready, and if not, what is missing.
//!
//! Tasks are ticked off as they complete; workers show by a heartbeat that the data path still moves. The
//! answer is computed when asked, by `stats.rs` or the control side.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::log::Logger;

/// Shared by whoever completes tasks and whoever asks.
#[derive(Debug)]
pub struct Readiness {
    began: Instant,
    pending: Mutex<BTreeSet<String>>,
    heartbeats: Heartbeats,
}

/// When each worker was last seen alive. Clones share the beats.
#[derive(Clone, Debug)]
pub struct Heartbeats {
    began: Instant,
    /// Milliseconds since `began`, one per worker.
    beats: Arc<[AtomicU64]>,
}

impl Readiness {
    /// Ready once all `tasks` are complete (spec/control.md §10.2), as long as all workers beat.
    pub fn new<'a>(tasks: impl IntoIterator<Item = &'a str>, heartbeats: Heartbeats) -> Self {
        let pending = tasks.into_iter().map(ToOwned::to_owned).collect();
        Self {
            began: Instant::now(),
            pending: Mutex::new(pending),
            heartbeats,
        }
    }

    /// Ticks a task off. How many are left then; `None` if it was not pending.
    pub fn complete(&self, task: &str) -> Option<usize> {
        let mut pending = self.pending();
        pending.remove(task).then(|| pending.len())
    }

    /// The same, told to operators in upstream's words (spec/control.md §10.2).
    pub fn complete_and_tell(&self, task: &str, log: &Logger) {
        let Some(left) = self.complete(task) else {
            return;
        };
        let took = self.began.elapsed();
        let then = match left {
            0 => "marking server ready".to_owned(),
            left => format!("still awaiting {left} tasks"),
        };
        let text = format!("Task '{task}' complete ({took:?}), {then}");
        log.info("readiness", &text, &[]);
    }

    /// Makes readiness wait for a task, again perhaps.
    pub fn require(&self, task: &str) {
        self.pending().insert(task.to_owned());
    }

    /// What stands in the way, sorted; empty means ready.
    #[must_use]
    pub fn missing(&self) -> BTreeSet<String> {
        let mut missing = self.pending().clone();
        for (worker, age) in self.heartbeats.ages().into_iter().enumerate() {
            if age > STALE {
                missing.insert(format!("worker {worker}"));
            }
        }
        missing
    }

    fn pending(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heartbeats {
    /// Workers count as alive when this is made: a slow start is a pending task, not a dead worker.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            began: Instant::now(),
            beats: (0..workers).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The worker is alive. One store; a worker that does not exist is ignored.
    pub fn beat(&self, worker: usize) {
        if let Some(beat) = self.beats.get(worker) {
            beat.store(self.now(), Relaxed);
        }
    }

    /// Time since each worker's last beat.
    #[must_use]
    pub fn ages(&self) -> Vec<Duration> {
        let now = self.now();
        self.beats
            .iter()
            .map(|beat| Duration::from_millis(now.saturating_sub(beat.load(Relaxed))))
            .collect()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A set whose workers were last seen that long ago.
    #[cfg(test)]
    pub(super) fn aged(workers: usize, age: Duration) -> Self {
        let began = Instant::now()
            .checked_sub(age)
            .expect("the machine is up longer");
        Self {
            began,
            ..Self::new(workers)
        }
    }
}

/// A worker beats every second or so; five without one and its connections are stuck.
const STALE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
