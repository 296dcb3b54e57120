//! What the five TCP families count: one record for each label set, in it one set of counters for each thread.
//!
//! A counter has one writer, its thread (`recorder.rs`), so that counting is an addition and touches no other
//! thread's memory; a scrape adds up. Label values come from peers, so the number of records is bounded: whoever
//! comes after the last one is counted as `overflow`. What peers claim of themselves gets half of the room, so that
//! nobody who invents names hides those whom the mesh knows (spec/reliability.md U9, T22). Only what has been idle for
//! long makes room, and its counts are kept (`idle.rs`): else a peer with a hundred thousand names could reset
//! everybody's counters.

mod idle;

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::ops::AddAssign;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use super::flag::ResponseFlag;
use super::labels::{LabelText, Labels, Reporter, SecurityPolicy};
use idle::Remembered;

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
    /// Label sets that were idle and are shown no more, counted each time.
    evicted: AtomicU64,
}

/// In the order in which they came, which is that of every scrape.
#[derive(Default)]
struct Known {
    index: HashMap<Arc<str>, Arc<Series>>,
    claimed: usize,
    all: Vec<Arc<Series>>,
    /// Those that were among them.
    remembered: Remembered,
}

/// One label set.
#[derive(Debug)]
pub(super) struct Series {
    labels: LabelText,
    claimed: bool,
    /// One for each thread that has counted here. They stay when the thread ends, so nothing is ever taken back;
    /// whoever takes over its place in the numbering goes on with them.
    counters: Mutex<Vec<(Hand, Arc<Counters>)>>,
    /// What the set had counted before it was idle, and its record was dropped.
    before: Counts,
    /// Flags for which there was room, one bit each.
    admitted: AtomicU8,
    /// Ends that `overflow` has counted for want of room: they are no open connections.
    diverted: AtomicU64,
    /// Shown no more: whoever still holds it and counts brings it back.
    evicted: AtomicBool,
    watched: Mutex<Option<Watched>>,
}

/// A series as the last scrapes have seen it.
#[derive(Clone, Copy, Debug)]
struct Watched {
    /// Of all its numbers: none of them ever falls, so the sum is the same if they are.
    sum: u64,
    since: Instant,
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

/// The room in the closed family, for a whole record.
struct Room<'a> {
    closed_series: &'a AtomicUsize,
    claimed_closed_series: &'a AtomicUsize,
}

impl Room<'_> {
    /// For a record that comes back: it had the room before, so it is not asked whether there is any.
    fn take_back(&self, series: &Series) {
        let flags = series.flags();
        self.closed_series.fetch_add(flags, Relaxed);
        if series.claimed {
            self.claimed_closed_series.fetch_add(flags, Relaxed);
        }
    }

    fn give_back(&self, series: &Series) {
        let flags = series.flags();
        self.closed_series.fetch_sub(flags, Relaxed);
        if series.claimed {
            self.claimed_closed_series.fetch_sub(flags, Relaxed);
        }
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
            evicted: AtomicU64::new(0),
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
        let series = known.entry(labels, false, &self.room());
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

    fn room(&self) -> Room<'_> {
        Room {
            closed_series: &self.closed_series,
            claimed_closed_series: &self.claimed_closed_series,
        }
    }

    fn claimed_limit(&self) -> usize {
        self.limit / 2
    }

    fn is_full(&self, known: &Known, claimed: bool) -> bool {
        known.all.len() >= self.limit || claimed && known.claimed >= self.claimed_limit()
    }

    fn ordinary(&self, labels: LabelText, claimed: bool) -> Option<Arc<Series>> {
        let known = self.ordinary.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.index.get(&**labels.as_str()) {
            return Some(Arc::clone(series));
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
        Some(known.entry(labels, claimed, &self.room()))
    }

    /// Everything counted so far; what has been idle for long is shown for the last time. Takes the locks for pointers
    /// only, so that a scrape of many series keeps nobody.
    pub(super) fn totals(&self, now: Instant) -> Vec<Total> {
        let series = |known: &RwLock<Known>| {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            known.all.clone()
        };
        let ordinary = series(&self.ordinary);
        let mut totals: Vec<_> = ordinary.iter().map(Total::of).collect();
        self.evict_idle(&ordinary, &totals, now);
        totals.extend(series(&self.overflow).iter().map(Total::of));
        totals
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
    /// The record of a label set: the one there is, the one that was there, or a new one.
    fn entry(&mut self, labels: LabelText, claimed: bool, room: &Room<'_>) -> Arc<Series> {
        if let Some(series) = self.index.get(labels.as_str()) {
            return Arc::clone(series);
        }
        let series = match self.remembered.take(labels.as_str()) {
            Some(idle::Memory::Alive(series)) => series,
            Some(idle::Memory::Counts(before)) => Arc::new(Series::new(labels, claimed, before)),
            None => Arc::new(Series::new(labels, claimed, Counts::default())),
        };
        self.insert(&series, room);
        series
    }

    fn insert(&mut self, series: &Arc<Series>, room: &Room<'_>) {
        series.evicted.store(false, Relaxed);
        self.claimed += usize::from(series.claimed);
        let text = Arc::clone(series.labels.as_str());
        self.index.insert(text, Arc::clone(series));
        self.all.push(Arc::clone(series));
        room.take_back(series);
    }
}

impl Series {
    fn new(labels: LabelText, claimed: bool, before: Counts) -> Self {
        let mut admitted = 0;
        for (flag, count) in before.closed.iter().enumerate() {
            admitted |= u8::from(*count > 0) << flag;
        }
        Self {
            labels,
            claimed,
            counters: Mutex::default(),
            before,
            admitted: AtomicU8::new(admitted),
            // Nobody was connected: what had not ended here had ended there.
            diverted: AtomicU64::new(before.opened.saturating_sub(before.ended())),
            evicted: AtomicBool::new(false),
            watched: Mutex::default(),
        }
    }

    fn counters(&self, hand: Hand) -> Arc<Counters> {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counters)) = all.iter().find(|(owner, _)| *owner == hand) {
            return Arc::clone(counters);
        }
        let counters = Arc::new(Counters::default());
        all.push((hand, Arc::clone(&counters)));
        counters
    }

    fn counts(&self) -> Counts {
        let mut sum = self.before;
        let all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, counters) in &*all {
            sum += counters.read();
        }
        sum
    }

    /// Flags for which it has room in the closed family.
    fn flags(&self) -> usize {
        self.admitted.load(Relaxed).count_ones() as usize
    }

    /// An end of this series that `overflow` counts.
    pub(super) fn divert(&self) {
        self.diverted.fetch_add(1, Relaxed);
    }
}

impl Counters {
    fn read(&self) -> Counts {
        // Ends before beginnings: no scrape shows more connections closed than opened.
        Counts {
            closed: self.closed.each_ref().map(Counter::get),
            received: self.received.get(),
            sent: self.sent.get(),
            opened: self.opened.get(),
        }
    }
}

/// The numbers of a label set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) closed: [u64; ResponseFlag::ALL.len()],
}

impl Counts {
    fn ended(&self) -> u64 {
        self.closed.iter().sum()
    }

    fn sum(&self) -> u64 {
        let bytes = self.received.wrapping_add(self.sent);
        bytes.wrapping_add(self.opened).wrapping_add(self.ended())
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        self.opened += more.opened;
        self.received += more.received;
        self.sent += more.sent;
        for (sum, closed) in self.closed.iter_mut().zip(more.closed) {
            *sum += closed;
        }
    }
}

/// A label set at the moment of a scrape.
pub(super) struct Total {
    labels: LabelText,
    pub(super) counts: Counts,
}

impl Total {
    fn of(series: &Arc<Series>) -> Self {
        Self {
            labels: series.labels.clone(),
            counts: series.counts(),
        }
    }

    /// The labels of its samples, before and behind the flag.
    pub(super) fn labels(&self) -> (&str, &str) {
        self.labels.around_flag()
    }
}

// One bit for each flag.
const _: () = assert!(ResponseFlag::ALL.len() <= u8::BITS as usize);
const _: () = assert!(mem::size_of::<Counters>() == 128);
