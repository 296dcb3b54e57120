//! Label sets that nobody has counted in for long: shown no more, and remembered small.
//!
//! Whoever scrapes pays: a scrape has added everything up anyway, and sees what has not changed since the last ones.
//! A set that comes back goes on where it was, so that no counter is ever seen to go back; what a remembered set costs
//! is a third of a shown one's memory, and nothing of a scrape. Only when too many are remembered, the oldest is
//! forgotten, and what it had counted is told in sum.
//!
//! The byte path knows nothing of this. A connection that opens looks once whether its set is still shown
//! ([`Traffic::show`]).

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::{Counts, Known, Series, Total, Traffic, Watched};

/// Evicted sets by a hash of their labels: two sets that share 128 random bits would be counted as one.
#[derive(Default)]
pub(super) struct Remembered {
    ordinary: Queue,
    /// Apart from those whom the mesh knows, as nobody who invents names may push these out.
    claimed: Queue,
    hashers: [RandomState; 2],
    forgotten: Forgotten,
}

/// What is no longer known under its labels, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::telemetry) struct Forgotten {
    pub(in crate::telemetry) series: u64,
    pub(in crate::telemetry) connections: u64,
    pub(in crate::telemetry) received: u64,
    pub(in crate::telemetry) sent: u64,
}

/// What is left of an evicted set.
pub(super) enum Memory {
    /// Somebody still holds the record: it is the one to go on with, else there would be two of the same labels.
    Alive(Arc<Series>),
    Counts(Counts),
}

/// The oldest first.
#[derive(Default)]
struct Queue {
    by_hash: HashMap<u128, Trace>,
    order: VecDeque<(u128, u64)>,
    evictions: u64,
}

struct Trace {
    series: Weak<Series>,
    counts: Counts,
    /// Which eviction this was: an older place in the order is not this trace's.
    eviction: u64,
}

impl Traffic {
    /// Makes sure that a record in which a connection has just been opened is shown: it may have been evicted while a
    /// cache held it.
    pub(in crate::telemetry) fn show(&self, series: &Arc<Series>) {
        // With the one in `retire`: either it sees the connection, or we see that the record is gone.
        fence(SeqCst);
        if series.evicted.load(Relaxed) {
            self.bring_back(series);
        }
    }

    /// Label sets evicted so far.
    pub(in crate::telemetry) fn evicted(&self) -> u64 {
        self.evicted.load(Relaxed)
    }

    /// What evicted sets had counted that nobody remembers under their labels.
    pub(in crate::telemetry) fn forgotten(&self) -> Forgotten {
        let known = self.ordinary.read().unwrap_or_else(PoisonError::into_inner);
        known.remembered.forgotten
    }

    #[cold]
    fn bring_back(&self, series: &Arc<Series>) {
        let mut known = self
            .ordinary
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if !series.evicted.load(Relaxed) {
            return; // the scrape has seen the connection, or another thread was as fast
        }
        if let Some(other) = known.index.get(series.labels.as_str()) {
            // Forgotten meanwhile, and begun anew by somebody else: the two are one from now on.
            adopt(other, series);
            return;
        }
        known.remembered.take(series.labels.as_str());
        known.insert(series, &self.room());
    }

    /// Evicts what no scrape has seen change for long and where no connection is open.
    pub(super) fn evict_idle(&self, shown: &[Arc<Series>], totals: &[Total], now: Instant) {
        let claimed = shown.iter().filter(|series| series.claimed).count();
        let crowded = shown.len() > self.limit / 2;
        let claimed_crowded = crowded || claimed > self.claimed_limit() / 2;
        let idle: Vec<&Arc<Series>> = shown
            .iter()
            .zip(totals)
            .filter(|(series, total)| {
                let crowded = if series.claimed {
                    claimed_crowded
                } else {
                    crowded
                };
                let patience = if crowded { IDLE_IN_A_CROWD } else { IDLE };
                series.is_idle(&total.counts, now, patience)
            })
            .map(|(series, _)| series)
            .take(AT_ONCE)
            .collect();
        if !idle.is_empty() {
            self.retire(&idle);
        }
    }

    fn retire(&self, idle: &[&Arc<Series>]) {
        let mut known = self
            .ordinary
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let limits = [self.limit, self.claimed_limit()];
        let mut evicted = 0;
        for series in idle {
            if known.evict(series, limits) {
                self.room().give_back(series);
                evicted += 1;
            }
        }
        let before = known.all.len();
        // In one sweep, as the order of the others stays.
        let all = std::mem::take(&mut known.all);
        let (gone, kept) = all
            .into_iter()
            .partition(|s: &Arc<Series>| s.evicted.load(Relaxed));
        known.all = kept;
        debug_assert_eq!(before - known.all.len(), evicted);
        drop(known);
        self.evicted.fetch_add(evicted as u64, Relaxed);
        drop::<Vec<_>>(gone); // texts of a kilobyte each: not while others wait
    }
}

impl Known {
    /// Takes a record out of the index, unless something was counted in it since it was found idle.
    fn evict(&mut self, series: &Arc<Series>, limits: [usize; 2]) -> bool {
        if series.evicted.swap(true, Relaxed) {
            return false; // another scrape was as fast
        }
        fence(SeqCst);
        let counts = series.counts();
        let watched = series
            .watched
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let unchanged = watched.is_some_and(|watched| watched.sum == counts.sum());
        drop(watched);
        if !unchanged {
            series.evicted.store(false, Relaxed);
            return false;
        }
        self.index.remove(series.labels.as_str());
        self.claimed -= usize::from(series.claimed);
        self.remembered.put(series, counts, limits);
        true
    }
}

impl Series {
    /// Shown no more: not to be kept by anybody.
    pub(in crate::telemetry) fn is_evicted(&self) -> bool {
        self.evicted.load(Relaxed)
    }

    /// Whether nothing was counted for so long, and nobody is connected.
    fn is_idle(&self, counts: &Counts, now: Instant, patience: Duration) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = counts.sum();
        let unchanged = watched.filter(|watched| watched.sum == sum);
        let Watched { since, .. } =
            *watched.insert(unchanged.unwrap_or(Watched { sum, since: now }));
        let ended = counts.ended() + self.diverted.load(Relaxed);
        ended >= counts.opened && now.saturating_duration_since(since) >= patience
    }
}

/// Gives all that `orphan` has counted to the record that is shown.
fn adopt(shown: &Series, orphan: &Series) {
    // One after the other, and never the other way round: both are held only here, under the lock of the index.
    let counters = orphan
        .counters
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    let mut all = shown
        .counters
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    for (hand, theirs) in counters {
        if !all.iter().any(|(_, known)| Arc::ptr_eq(known, &theirs)) {
            all.push((hand, theirs));
        }
    }
}

impl Remembered {
    /// Gives back what is left of a set, and lets go of it.
    pub(super) fn take(&mut self, labels: &str) -> Option<Memory> {
        let hash = self.hash(labels);
        let trace = match self.ordinary.by_hash.remove(&hash) {
            Some(trace) => trace,
            None => self.claimed.by_hash.remove(&hash)?,
        };
        let series = trace.series.upgrade();
        Some(series.map_or(Memory::Counts(trace.counts), Memory::Alive))
    }

    fn put(&mut self, series: &Arc<Series>, counts: Counts, limits: [usize; 2]) {
        let hash = self.hash(series.labels.as_str());
        let queue = if series.claimed {
            &mut self.claimed
        } else {
            &mut self.ordinary
        };
        let limit = limits[usize::from(series.claimed)];
        queue.evictions += 1;
        let eviction = queue.evictions;
        let series = Arc::downgrade(series);
        let trace = Trace {
            series,
            counts,
            eviction,
        };
        queue.by_hash.insert(hash, trace);
        queue.order.push_back((hash, eviction));
        while queue.order.len() > limit {
            if let Some(counts) = queue.forget_oldest() {
                self.forgotten.series += 1;
                self.forgotten.connections += counts.opened;
                self.forgotten.received += counts.received;
                self.forgotten.sent += counts.sent;
            }
        }
    }

    fn hash(&self, labels: &str) -> u128 {
        let [a, b] = &self.hashers;
        u128::from(a.hash_one(labels)) << 64 | u128::from(b.hash_one(labels))
    }
}

impl Queue {
    /// Makes the order one shorter; gives what was forgotten by that, if it had not come back since.
    fn forget_oldest(&mut self) -> Option<Counts> {
        let (hash, eviction) = self.order.pop_front()?;
        let trace = self.by_hash.get(&hash)?;
        if trace.eviction != eviction {
            return None;
        }
        self.by_hash.remove(&hash).map(|trace| trace.counts)
    }
}

/// Longer than Prometheus shows a sample that it has no newer one of (five minutes), so that no panel has a gap.
const IDLE: Duration = Duration::from_secs(600);
/// The same once half of the room is taken: four scrapes of the usual fifteen seconds.
const IDLE_IN_A_CROWD: Duration = Duration::from_secs(60);
/// Of one scrape, so that connections wait a millisecond for their labels at the most.
const AT_ONCE: usize = 4096;
