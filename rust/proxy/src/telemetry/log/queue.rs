//! The queue between those who log and the one who writes, bounded in lines and in bytes.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::limit::{Admission, Limiter, PERIOD};
use super::sink::Sink;
use super::{Format, Level, Losses};
use crate::telemetry::text::{Record, Value};
use crate::telemetry::time::Timestamp;

/// Shared by all loggers of one output and its writer.
pub(super) struct Queue {
    format: Format,
    losses: Arc<Losses>,
    state: Mutex<State>,
    limiter: Mutex<Limiter>,
    /// There is something to write, or it is time to end.
    work: Condvar,
    /// Everything is written.
    idle: Condvar,
}

/// Whose line it is, for the count of losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Access,
    Operational,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(String, Kind)>,
    bytes: usize,
    /// Lines lost since the loss was last told.
    lost: u64,
    /// The writer sleeps until told; otherwise it looks by itself, and nobody pays for waking it.
    writer_sleeps: bool,
    writing: bool,
    closed: Option<Instant>,
    /// The writer has nothing left to say.
    ended: bool,
    told: Option<Instant>,
}

impl State {
    fn is_unfinished(&self) -> bool {
        if self.closed.is_some() {
            !self.ended
        } else {
            self.writing || !self.lines.is_empty()
        }
    }
}

impl Queue {
    pub(super) fn new(format: Format, losses: Arc<Losses>) -> Self {
        Self {
            format,
            losses,
            state: Mutex::default(),
            limiter: Mutex::default(),
            work: Condvar::new(),
            idle: Condvar::new(),
        }
    }

    /// Queues a line, or drops and counts it.
    pub(super) fn push(&self, line: String, kind: Kind) {
        let mut state = self.lock();
        let full = state.lines.len() >= MAX_LINES || state.bytes + line.len() > MAX_BYTES;
        if full || state.closed.is_some() {
            state.lost += 1;
            self.count_lost(kind);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back((line, kind));
        if mem::take(&mut state.writer_sleeps) {
            self.work.notify_one();
        }
    }

    /// Whether a message of this class may be logged now.
    pub(super) fn admit(&self, class: &'static str, most: u32, now: Instant) -> bool {
        let admission = self.limiter().admit(class, most, now);
        if admission == Admission::Passes {
            return true;
        }
        self.losses.suppressed.fetch_add(1, Relaxed);
        // The writer must wake in time to tell the number, though no line comes.
        if admission == Admission::FirstHeld && mem::take(&mut self.lock().writer_sleeps) {
            self.work.notify_one();
        }
        false
    }

    pub(super) fn close(&self) {
        self.lock().closed.get_or_insert_with(Instant::now);
        self.work.notify_one();
    }

    /// Waits until all lines are written. False if they are not in time.
    pub(super) fn flush(&self, within: Duration) -> bool {
        let state = self.lock();
        self.work.notify_one();
        let (_state, timeout) = self
            .idle
            .wait_timeout_while(state, within, |state| state.is_unfinished())
            .unwrap_or_else(PoisonError::into_inner);
        !timeout.timed_out()
    }

    /// The next lines to write; waits for them. `None` when closed and empty.
    fn next(&self) -> Option<Vec<(String, Kind)>> {
        let mut state = self.lock();
        state.writing = false;
        loop {
            self.tell_losses(&mut state);
            if !state.lines.is_empty() {
                state.writing = true;
                return Some(take_batch(&mut state));
            }
            state.ended = state.closed.is_some();
            self.idle.notify_all();
            if state.ended {
                return None;
            }
            state = self.sleep(state);
        }
    }

    /// Sleeps until a line comes, then a moment longer, in which more come without waking anybody.
    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.writer_sleeps = true;
        let held_back = self.limiter().is_holding();
        let longest = if held_back { PERIOD } else { FOR_EVER };
        state = self.wait(state, longest);
        state.writer_sleeps = false;
        if state.closed.is_some() || state.lines.is_empty() {
            return state;
        }
        self.wait(state, LINGER)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, longest: Duration) -> MutexGuard<'a, State> {
        let (state, _) = self
            .work
            .wait_timeout(state, longest)
            .unwrap_or_else(PoisonError::into_inner);
        state
    }

    /// Puts lines about what is missing behind what is there, once a second if there is always something.
    fn tell_losses(&self, state: &mut State) {
        let now = Instant::now();
        let last_chance = state.closed.is_some();
        let ended = if last_chance { now + PERIOD } else { now };
        for (class, count) in self.limiter().report(ended) {
            let message = format!("suppressed {count} similar messages");
            self.tell(state, &message, ("class", Value::Text(class)));
        }
        let due = state.told.is_none_or(|told| now - told >= PERIOD);
        let room = state.lines.len() < MAX_LINES;
        if state.lost > 0 && room && (due || last_chance || state.lines.is_empty()) {
            state.told = Some(now);
            let lost = mem::take(&mut state.lost);
            let count = ("count", Value::Number(lost));
            self.tell(state, "log lines dropped; the output is too slow", count);
        }
    }

    fn tell(&self, state: &mut State, message: &str, field: (&str, Value<'_>)) {
        let record = Record {
            at: Timestamp(SystemTime::now()),
            level: Level::Warn,
            target: "telemetry",
            message,
            fields: &[field],
        };
        let mut line = String::new();
        record.write(self.format, &mut line);
        state.bytes += line.len();
        state.lines.push_back((line, Kind::Operational));
    }

    fn write(&self, sink: &mut Sink, batch: &[(String, Kind)]) {
        let text: String = batch.iter().map(|(line, _)| line.as_str()).collect();
        let pause = |moment| {
            let state = self.wait(self.lock(), moment);
            state.closed.is_none_or(|at| at.elapsed() < PATIENCE)
        };
        if sink.write(text.as_bytes(), pause).is_err() {
            // Disk full, reader gone: nobody to tell but the metrics.
            for (_, kind) in batch {
                self.count_lost(*kind);
            }
        }
    }

    fn count_lost(&self, kind: Kind) {
        let counter = match kind {
            Kind::Access => &self.losses.access,
            Kind::Operational => &self.losses.operational,
        };
        counter.fetch_add(1, Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn limiter(&self) -> MutexGuard<'_, Limiter> {
        self.limiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends when the queue is closed and empty. Never joined: a stuck output must not hold up the end.
pub(super) fn spawn_writer(queue: Arc<Queue>, mut sink: Sink) -> io::Result<()> {
    thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || {
            while let Some(batch) = queue.next() {
                queue.write(&mut sink, &batch);
            }
        })
        .map(drop)
}

fn take_batch(state: &mut State) -> Vec<(String, Kind)> {
    let lines = state.lines.len().min(BATCH);
    let batch: Vec<_> = state.lines.drain(..lines).collect();
    state.bytes -= batch.iter().map(|(line, _)| line.len()).sum::<usize>();
    batch
}

/// Upstream's bound (spec/control.md §13): a tenth of a second of a busy node.
const MAX_LINES: usize = 10_000;
/// Ten thousand typical lines; peers that make long ones get fewer.
const MAX_BYTES: usize = 8 << 20;
/// Lines per write, as upstream.
const BATCH: usize = 64;
/// A wake costs the logging thread microseconds, so it is paid at most once in this time.
const LINGER: Duration = Duration::from_millis(1);
/// How long a closed log still tries a full pipe.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longer than any process lives.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);
