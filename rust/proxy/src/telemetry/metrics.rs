//! All metrics of the data plane, and their text.
//!
//! `recorder.rs` counts connections and bytes, each thread for itself; this file names the families, adds our own
//! and gives the OpenMetrics text (`scrape.rs`). `stats.rs` serves it.

mod scrape;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::control_loop::ControlLoop;
use super::crl::CrlCounts;
use super::labels::SideLabels;
use super::log::Losses;
use super::on_demand::OnDemand;
use super::recorder::{Gauge, Hands, Recorder};
use super::runtimes::{Runtimes, Shown};
use super::traffic::Traffic;
use super::xds::{StreamEnd, Xds};
use crate::tasks::{Alive, Panics};

pub use super::recorder::Held;
pub use scrape::Scrape;

/// Shared by all workers; every method may be called from any thread.
pub struct Metrics {
    tag: String,
    losses: Arc<Losses>,
    traffic: Arc<Traffic>,
    hands: Arc<Hands>,
    runtimes: Arc<Runtimes>,
    /// By side.
    tunnels: [Arc<Gauge>; 2],
    /// By side, then by result.
    handshakes: [[AtomicU64; Handshake::ALL.len()]; 2],
    refusals: Mutex<BTreeMap<(Side, &'static str), u64>>,
    unknown_policies: AtomicU64,
    panics: Panics,
    on_demand: OnDemand,
    xds: Xds,
    crl: CrlCounts,
    control_loop: ControlLoop,
}

/// Which way the traffic of a tunnel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Inbound,
    Outbound,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Completed,
    Failed,
    TimedOut,
}

impl Metrics {
    /// `tag` is the version that `istio_build` shows; `losses` is what the log could not write.
    #[must_use]
    pub fn new(tag: &str, losses: Arc<Losses>) -> Self {
        Self::with_limit(tag, losses, MAX_SERIES)
    }

    fn with_limit(tag: &str, losses: Arc<Losses>, limit: usize) -> Self {
        Self {
            tag: tag.to_owned(),
            losses,
            traffic: Arc::new(Traffic::new(limit)),
            hands: Arc::default(),
            runtimes: Arc::default(),
            tunnels: <[Arc<Gauge>; 2]>::default(),
            handshakes: Default::default(),
            refusals: Mutex::default(),
            unknown_policies: AtomicU64::new(0),
            panics: Panics::default(),
            on_demand: OnDemand::default(),
            xds: Xds::default(),
            crl: CrlCounts::default(),
            control_loop: ControlLoop::default(),
        }
    }

    /// What the calling thread counts with from now on.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder::new(&self.traffic, &self.hands)
    }

    /// Where tasks count that they panicked.
    pub(crate) fn panics(&self) -> Panics {
        self.panics.clone()
    }

    /// A worker's runtime and how many tasks it has, shown until the guard is dropped.
    #[must_use]
    pub fn runtime(&self, worker: usize, runtime: RuntimeMetrics, tasks: Alive) -> Shown {
        self.runtimes.show_worker(worker, runtime, tasks)
    }

    /// An HBONE connection, open until the guard is dropped.
    #[must_use]
    pub fn tunnel(&self, side: Side) -> Held {
        Held::new(&self.tunnels[side as usize])
    }

    /// A peer that was refused for its certificate, identity, authority or by policy. `reason` is one of a
    /// fixed list: it becomes a label.
    pub fn refused(&self, side: Side, reason: &'static str) {
        *self.refusals().entry((side, reason)).or_default() += 1;
    }

    /// A connection was decided upon without a policy that its workload names and nobody knows.
    pub fn unknown_policy(&self) {
        self.unknown_policies.fetch_add(1, Relaxed);
    }

    /// A destination's name that had to be resolved for a connection of `source`.
    pub fn resolved_on_demand(&self, source: &SideLabels<'_>, hostname: &str) {
        self.on_demand.count(source, hostname);
    }

    /// An answer of the control plane, and bytes of its payloads.
    pub fn xds_answered(&self, type_url: &str, bytes: usize) {
        self.xds.answered(type_url, bytes, Instant::now());
    }

    /// The number of the stream to the control plane, as its log lines have it.
    pub fn xds_stream(&self) -> u64 {
        self.xds.stream()
    }

    /// The end of a stream to the control plane.
    pub fn xds_ended(&self, end: StreamEnd) {
        self.xds.ended(end);
    }

    /// A peer was refused, or its tunnel ended, as a list of revoked certificates names it.
    pub fn crl_rejection(&self, side: Side) {
        self.crl.rejection(side);
    }

    /// A tunnel of which nobody knows what it rests on: it was there before the first list.
    pub fn crl_untracked(&self, side: Side) {
        self.crl.untracked(side);
    }

    /// A list of revoked certificates that cannot be used.
    pub fn crl_unusable(&self) {
        self.crl.unusable();
    }

    /// The control side's event loop has turned, so much later than it wanted to, and will again in `period`.
    pub fn control_loop_turned(&self, late: Duration, period: Duration) {
        self.control_loop.beat(Instant::now(), late, period);
    }

    /// The end of a TLS handshake.
    pub fn handshake(&self, side: Side, result: Handshake) {
        self.handshakes[side as usize][result as usize].fetch_add(1, Relaxed);
    }

    /// Those that were accepted.
    #[cfg(test)]
    pub(crate) fn handshakes_completed(&self) -> u64 {
        self.handshakes[Side::Inbound as usize][Handshake::Completed as usize].load(Relaxed)
    }

    /// The exposition as of now, to be taken in pieces.
    #[must_use]
    pub fn scrape(&self) -> Scrape {
        self.scrape_at(Instant::now())
    }

    /// The same at a moment of the caller's choice: scrapes tell what is idle.
    fn scrape_at(&self, now: Instant) -> Scrape {
        Scrape::of(self, now)
    }

    /// OpenMetrics text, up to and with `# EOF`.
    #[must_use]
    pub fn encode(&self) -> String {
        whole(self.scrape())
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<(Side, &'static str), u64>> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn whole(mut scrape: Scrape) -> String {
    let mut text = Vec::with_capacity(scrape.total_bytes());
    while let Some(piece) = scrape.next_piece() {
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).expect("put together from strings")
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Side {
    const ALL: [Self; 2] = [Self::Inbound, Self::Outbound];

    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Handshake {
    const ALL: [Self; 3] = [Self::Completed, Self::Failed, Self::TimedOut];

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

/// Label sets per family. A large node sees a few thousand; past this, a scrape takes seconds and somebody is
/// inventing labels (spec/reliability.md §8, U9).
const MAX_SERIES: usize = 20_000;

#[cfg(test)]
mod tests;
