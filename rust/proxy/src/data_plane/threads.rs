//! The threads of a data plane: its workers, and the one that answers scrapes and probes.
//!
//! Starts them and waits for their end; when that is, is the data plane's. Counterpart: `opened.rs`, what they listen on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::TARGET;
use super::component::Component;
use super::opened::Opened;
use crate::connections::{Inquiries, Inquiry};
use crate::control::Event;
use crate::shared::Shared;
use crate::telemetry::stats;
use crate::worker::{self, Listening};

/// Everything that runs, and how it says that it ended.
#[derive(Default)]
pub(super) struct Threads {
    pub(super) bound: BTreeMap<String, SocketAddr>,
    pub(super) workers: Vec<JoinHandle<()>>,
    pub(super) running: usize,
    pub(super) ended: Option<mpsc::Receiver<usize>>,
    pub(super) stats: Option<Stats>,
    pub(super) components: Vec<Weak<Component>>,
}

impl Threads {
    pub(super) fn start(
        &mut self,
        shared: &Arc<Shared>,
        opened: Opened,
        inquiries: &Inquiries,
    ) -> std::io::Result<()> {
        let (sender, ended) = mpsc::channel();
        self.components = opened.components;
        for (id, listeners) in opened.listeners.into_iter().enumerate() {
            let (shared, sender) = (shared.clone(), sender.clone());
            let inquiries = inquiries.of_worker();
            let thread = std::thread::Builder::new()
                .name(format!("worker-{id}"))
                .spawn(move || {
                    run_worker(id, &shared, listeners, inquiries);
                    // Failing means that the data plane was dropped meanwhile.
                    let _ = sender.send(id);
                })?;
            self.workers.push(thread);
            self.running += 1;
        }
        self.stats = Some(Stats::start(shared, opened.stats)?);
        // Only now: a start that failed half way is not a start.
        self.ended = Some(ended);
        Ok(())
    }

    /// Says of what a deadline has found something left.
    pub(super) fn tell_overdue(&self) {
        for component in self.components.iter().filter_map(Weak::upgrade) {
            component.tell_overdue();
        }
    }

    /// Waits for every worker to end; says whether all did.
    pub(super) fn await_workers(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.running > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.ended.as_ref().map(|ended| ended.recv_timeout(left)) {
                Some(Ok(_)) => self.running -= 1,
                Some(Err(_)) | None => return false,
            }
        }
        true
    }
}

/// The thread that answers scrapes and probes. Ends when dropped.
pub(super) struct Stats {
    pub(super) stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Stats {
    fn start(shared: &Arc<Shared>, listeners: stats::Listeners) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let state = stats::State {
            metrics: shared.metrics.clone(),
            readiness: shared.readiness.clone(),
            logger: shared.log.clone(),
        };
        let log = shared.log.clone();
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("stats".into())
            .spawn(move || {
                if let Err(error) = runtime.block_on(stats::serve(listeners, state, stopped)) {
                    log.error(
                        TARGET,
                        &format!("metrics and readiness failed: {error}"),
                        &[],
                    );
                }
            })?;
        let thread = Some(thread);
        Ok(Self { stop, thread })
    }
}

impl Drop for Stats {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to add.
            let _ = thread.join();
        }
    }
}

fn run_worker(
    id: usize,
    shared: &Arc<Shared>,
    listeners: Vec<Listening>,
    inquiries: tokio::sync::mpsc::Receiver<Inquiry>,
) {
    outlive(id, shared, || {
        worker::run(id, shared.clone(), listeners, inquiries)
    });
}

/// A worker that ends unasked costs its connections, not at once the others': readiness tells that it is missing, and the
/// owner ends the node well, for no other can have its listeners' queues. Panics of tasks do not come here (`tasks.rs`).
fn outlive(id: usize, shared: &Shared, run: impl FnOnce() -> std::io::Result<()>) {
    let failed = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => format!("worker {id} failed: {error}"),
        Err(_) => {
            shared.metrics.panics().fetch_add(1, Relaxed);
            format!("worker {id} panicked, a mistake of ours; please report it")
        }
    };
    shared.log.error(TARGET, &failed, &[]);
    // Now, not when its heartbeat is missed.
    shared.readiness.require(&format!("worker {id}"));
    shared.events.report(Event::WorkerFailed { worker: id });
}

#[cfg(test)]
mod tests;
