//! `tokio_*`: what the workers' runtimes count of themselves, read at each scrape, under upstream's names.
//!
//! Upstream has one runtime of many threads, we have one of one thread for each worker; `worker` numbers ours.
//! Ours are tasks of a `LocalSet`, which a runtime does not count: `tasks.rs` does.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::runtime::RuntimeMetrics;

use super::exposition::{Exposition, Kind};
use crate::tasks::Alive;

/// Those that run.
#[derive(Debug, Default)]
pub(super) struct Runtimes(Mutex<Vec<(usize, Worker)>>);

/// What one worker counts.
#[derive(Debug)]
struct Worker {
    runtime: RuntimeMetrics,
    tasks: Alive,
}

/// Shows a worker's runtime while it lives. The runtime's descriptors stay open as long, so drop it with the worker.
#[derive(Debug)]
pub struct Shown {
    worker: usize,
    all: Arc<Runtimes>,
}

impl Runtimes {
    pub(super) fn show_worker(
        self: &Arc<Self>,
        worker: usize,
        runtime: RuntimeMetrics,
        tasks: Alive,
    ) -> Shown {
        let mut all = self.lock();
        let place = all.partition_point(|(number, _)| *number <= worker);
        all.insert(place, (worker, Worker { runtime, tasks }));
        Shown {
            worker,
            all: Arc::clone(self),
        }
    }

    /// Nothing if nothing runs.
    pub(super) fn show(&self, text: &mut Exposition) {
        let all = self.lock();
        if all.is_empty() {
            return;
        }
        let sum =
            |read: fn(&Worker) -> usize| -> usize { all.iter().map(|(_, each)| read(each)).sum() };
        let workers = sum(|each| each.runtime.num_workers());
        let depth = sum(|each| each.runtime.global_queue_depth());
        let tasks = sum(|each| each.runtime.num_alive_tasks() + each.tasks.load(Relaxed));
        for (name, help, value) in [
            (
                "tokio_num_workers",
                "the number of worker threads used by the runtime",
                workers,
            ),
            (
                "tokio_global_queue_depth",
                "the number of tasks currently scheduled in the runtime's global queue",
                depth,
            ),
            (
                "tokio_num_alive_tasks",
                "the number of alive tasks in the runtime",
                tasks,
            ),
        ] {
            text.family(name, help, Kind::Gauge);
            text.sample(name, &[], i64::try_from(value).unwrap_or(i64::MAX));
        }
        family(
            text,
            &all,
            "tokio_worker_total_busy_duration_seconds",
            "the amount of time worker threads have been busy",
            |each, value| {
                let seconds = each.worker_total_busy_duration(0).as_secs_f64();
                write!(value, "{seconds:?}") // with a point, as floats are written
            },
        );
        family(
            text,
            &all,
            "tokio_worker_park_count",
            "the total number of times the given worker thread has parked",
            |each, value| write!(value, "{}", each.worker_park_count(0)),
        );
        family(
            text,
            &all,
            "tokio_worker_park_unpark_count",
            "the total number of times the given worker thread has parked and unparked",
            |each, value| write!(value, "{}", each.worker_park_unpark_count(0)),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Worker)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(place) = all.iter().position(|(worker, _)| *worker == self.worker) {
            all.remove(place);
        }
    }
}

/// A counter with one sample for each worker.
fn family(
    text: &mut Exposition,
    all: &[(usize, Worker)],
    name: &str,
    help: &str,
    read: impl Fn(&RuntimeMetrics, &mut String) -> std::fmt::Result,
) {
    text.family(name, help, Kind::Counter);
    let name = format!("{name}_total");
    for (number, worker) in all {
        let mut value = String::new();
        let result = read(&worker.runtime, &mut value);
        debug_assert!(result.is_ok(), "a string takes everything");
        text.written(&name, &[("worker", &number.to_string())], &value);
    }
}

#[cfg(test)]
mod tests;
