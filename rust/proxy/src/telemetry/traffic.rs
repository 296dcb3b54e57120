//! What the five TCP families count: one record for each label set, in it one set of counters for each thread.
//!
//! A counter has one writer, its thread (`recorder.rs`), so that counting is an addition and touches no other
//! thread's memory; a scrape adds up. Label values come from peers, so the number of records is bounded: whoever
//! comes after the last one is counted as `overflow`. What peers claim of themselves gets half of the room, so that
//! nobody who invents names hides those whom the mesh knows (spec/reliability.md U9, T22). Nothing is thrown out to
//! make room: then a peer with a hundred thousand names could reset everybody's counters.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::flag::ResponseFlag;
use super::labels::{LabelText, Labels, Reporter, SecurityPolicy};

/// All label sets seen so far.
pub(super) struct Traffic {
    ordinary: RwLock<Known>,
    /// At most four: two reporters, two security policies.
    overflow: RwLock<Known>,
    limit: usize,
    /// Label sets times the flags they ended with: the closed family has more series than the others.
    closed_series: AtomicUsize,
    /// Those of them whose sets are claimed.
    claimed_closed_series: AtomicUsize,
    overflowed: AtomicU64,
}

/// In the order in which they came, which is that of every scrape.
#[derive(Default)]
struct Known {
    index: HashMap<Arc<str>, usize>,
    claimed: usize,
    all: Vec<Arc<Series>>,
}

/// One label set.
#[derive(Debug)]
pub(super) struct Series {
    labels: LabelText,
    claimed: bool,
    /// One for each thread that has counted here. They stay when the thread ends, so nothing is ever taken back;
    /// whoever takes over its place in the numbering goes on with them.
    counters: Mutex<Vec<(Hand, Arc<Counters>)>>,
    /// Flags for which there was room, one bit each.
    admitted: AtomicU8,
}

/// A thread's place in the numbering of those who count.
pub(super) type Hand = usize;

/// What one thread has counted under one label set. Only that thread writes.
#[derive(Debug, Default)]
#[repr(align(64))] // two whole cache lines: no thread's counting disturbs another's
pub(super) struct Counters {
    pub(super) opened: Counter,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    /// By flag. What failed is what closed with a flag other than `-`, so it needs no counter of its own.
    pub(super) closed: [Counter; ResponseFlag::ALL.len()],
}

/// A number with one writer and any number of readers.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    /// For the one writer: no locked instruction, as nobody else adds.
    pub(super) fn add(&self, count: u64) {
        let next = self.0.load(Relaxed).wrapping_add(count);
        self.0.store(next, Release); // whoever sees an end sees the beginning
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Acquire)
    }
}

/// What is kept of a label set for which there is no room.
pub(super) type OverflowKind = (Reporter, SecurityPolicy);

/// A record as its thread holds it.
pub(super) struct Found {
    pub(super) series: Arc<Series>,
    pub(super) counters: Arc<Counters>,
    /// There was no room: these are the counters of `overflow`.
    pub(super) overflowing: bool,
}

impl Traffic {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ordinary: RwLock::default(),
            overflow: RwLock::default(),
            limit,
            closed_series: AtomicUsize::new(0),
            claimed_closed_series: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// A thread's counters of a label set; those of `overflow` if there is no room for another.
    pub(super) fn find(&self, labels: &Labels<'_>, hand: Hand) -> Found {
        let kind = (labels.reporter, labels.security_policy);
        match self.ordinary(labels.text(), labels.claimed) {
            Some(series) => Found {
                counters: series.counters(hand),
                series,
                overflowing: false,
            },
            None => self.overflow(kind, hand),
        }
    }

    /// The counters that take what there is no room for.
    pub(super) fn overflow(&self, (reporter, policy): OverflowKind, hand: Hand) -> Found {
        let labels = Labels::overflow(reporter, policy).text();
        let mut known = self
            .overflow
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let series = known.entry(labels, false);
        Found {
            counters: series.counters(hand),
            series,
            overflowing: true,
        }
    }

    pub(super) fn count_overflow(&self) {
        self.overflowed.fetch_add(1, Relaxed);
    }

    /// Events counted as `overflow` because the families are full.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// Whether a label set may have a series for this flag in the closed family; the first to ask takes the room.
    pub(super) fn admits(&self, series: &Series, flag: ResponseFlag) -> bool {
        let bit = 1 << (flag as u8);
        if series.admitted.load(Relaxed) & bit != 0 {
            return true;
        }
        let taken = self.take_room(series.claimed);
        if taken && series.admitted.fetch_or(bit, Relaxed) & bit != 0 {
            // Another thread was as fast: the series is one and needs the room once.
            self.closed_series.fetch_sub(1, Relaxed);
            if series.claimed {
                self.claimed_closed_series.fetch_sub(1, Relaxed);
            }
        }
        taken
    }

    /// Room for one more series in the closed family.
    fn take_room(&self, claimed: bool) -> bool {
        let take = |count: &AtomicUsize, limit: usize| {
            let next = |taken| (taken < limit).then_some(taken + 1);
            count.fetch_update(Relaxed, Relaxed, next).is_ok()
        };
        if claimed && !take(&self.claimed_closed_series, self.claimed_limit()) {
            return false;
        }
        let taken = take(&self.closed_series, self.limit);
        if claimed && !taken {
            self.claimed_closed_series.fetch_sub(1, Relaxed);
        }
        taken
    }

    fn claimed_limit(&self) -> usize {
        self.limit / 2
    }

    fn is_full(&self, known: &Known, claimed: bool) -> bool {
        known.all.len() >= self.limit || claimed && known.claimed >= self.claimed_limit()
    }

    fn ordinary(&self, labels: LabelText, claimed: bool) -> Option<Arc<Series>> {
        let known = self.ordinary.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = known.index.get(&**labels.as_str()) {
            return Some(Arc::clone(&known.all[index]));
        }
        // Checked before asking for the write lock: a peer that invents labels must not make others wait.
        if self.is_full(&known, claimed) {
            return None;
        }
        drop(known);
        let mut known = self
            .ordinary
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if self.is_full(&known, claimed) && !known.index.contains_key(&**labels.as_str()) {
            return None;
        }
        Some(known.entry(labels, claimed))
    }

    /// Everything counted so far. Takes the locks for pointers only, so that a scrape of many series keeps nobody.
    pub(super) fn totals(&self) -> Vec<Total> {
        let mut all = Vec::new();
        for known in [&self.ordinary, &self.overflow] {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            all.extend_from_slice(&known.all);
        }
        all.iter().map(Total::of).collect()
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Known {
    fn entry(&mut self, labels: LabelText, claimed: bool) -> Arc<Series> {
        let next = self.all.len();
        let index = *self
            .index
            .entry(Arc::clone(labels.as_str()))
            .or_insert(next);
        if index == next {
            self.claimed += usize::from(claimed);
            self.all.push(Arc::new(Series {
                labels,
                claimed,
                counters: Mutex::default(),
                admitted: AtomicU8::new(0),
            }));
        }
        Arc::clone(&self.all[index])
    }
}

impl Series {
    fn counters(&self, hand: Hand) -> Arc<Counters> {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) = all.iter().find(|(owner, _)| *owner == hand) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Counters::default());
        all.push((hand, Arc::clone(&counters)));
        counters
    }
}

/// A label set at the moment of a scrape.
pub(super) struct Total {
    labels: LabelText,
    pub(super) opened: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) closed: [u64; ResponseFlag::ALL.len()],
}

impl Total {
    fn of(series: &Arc<Series>) -> Self {
        let mut total = Self {
            labels: series.labels.clone(),
            opened: 0,
            received: 0,
            sent: 0,
            closed: [0; ResponseFlag::ALL.len()],
        };
        let all = series
            .counters
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (_, counters) in &*all {
            // Ends before beginnings: no scrape shows more connections closed than opened.
            for (sum, closed) in total.closed.iter_mut().zip(&counters.closed) {
                *sum += closed.get();
            }
            total.received += counters.received.get();
            total.sent += counters.sent.get();
            total.opened += counters.opened.get();
        }
        total
    }

    /// The labels of its samples, before and behind the flag.
    pub(super) fn labels(&self) -> (&str, &str) {
        self.labels.around_flag()
    }
}

// One bit for each flag.
const _: () = assert!(ResponseFlag::ALL.len() <= u8::BITS as usize);
const _: () = assert!(mem::size_of::<Counters>() == 128);
