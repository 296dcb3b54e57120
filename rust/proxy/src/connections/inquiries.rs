//! Asking every worker for its live connections, from whatever thread.
//!
//! Whoever asks waits for the answers, with a deadline: what a worker does not say in time is missing, and the answer
//! says so.

use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::mpsc;

use super::census::Census;

/// The question to one worker.
pub(crate) struct Inquiry {
    /// Where the answer goes; it has room for one of each worker.
    pub(crate) answer: SyncSender<(usize, Census)>,
    /// Connections to be shown, at most.
    pub(crate) most: usize,
}

/// The way to every worker.
#[derive(Default)]
pub(crate) struct Inquiries {
    /// Locked while somebody asks: a second one waits for its turn instead of doubling the work.
    workers: Mutex<Vec<mpsc::Sender<Inquiry>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(flatten)]
    census: Census,
    /// Workers that have not answered, by number.
    silent_workers: Vec<usize>,
}

impl Inquiries {
    /// The ear of the next worker.
    pub(crate) fn of_worker(&self) -> mpsc::Receiver<Inquiry> {
        let (sender, receiver) = mpsc::channel(UNANSWERED);
        self.lock().push(sender);
        receiver
    }

    /// The answer as JSON.
    pub(crate) fn connections(&self) -> Vec<u8> {
        let answer = self.ask(MOST, PATIENCE);
        // Strings as keys and no floats: nothing that JSON could not say.
        serde_json::to_vec(&answer).unwrap_or_default()
    }

    /// The answer as it is, and how many workers were silent.
    pub(crate) fn census(&self) -> (Census, usize) {
        let answer = self.ask(MOST, PATIENCE);
        (answer.census, answer.silent_workers.len())
    }

    fn ask(&self, most: usize, patience: Duration) -> Answer {
        let workers = self.lock();
        let deadline = Instant::now() + patience;
        let (sender, answers) = sync_channel(workers.len());
        for worker in &*workers {
            let answer = sender.clone();
            // One that has ended, or has not answered the last ones, is silent.
            let _ = worker.try_send(Inquiry { answer, most });
        }
        // What is left are the workers': when all are gone, nothing more comes.
        drop(sender);
        let mut silent_workers: Vec<_> = (0..workers.len()).collect();
        let mut census = Census::default();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok((worker, said)) = answers.recv_timeout(left) else {
                break;
            };
            silent_workers.retain(|silent| *silent != worker);
            census.merge(said, most);
        }
        Answer {
            census,
            silent_workers,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Inquiry>>> {
        // A panic while it is held leaves a list of whole senders behind.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connections that are shown, at most: some 20 MB of JSON, and more than anybody reads.
const MOST: usize = 100_000;
/// A worker that is busy for longer has other troubles, and its connections are then not what is missing most.
const PATIENCE: Duration = Duration::from_secs(1);
/// Questions that a worker may leave unanswered before it is not asked any more.
const UNANSWERED: usize = 2;

#[cfg(test)]
mod tests;
