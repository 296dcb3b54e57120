//! One thread's hand on the metrics: what a connection counts, it counts here.
//!
//! Label sets are looked up once and kept by the caller; from then on counting takes no lock and no shared cache
//! line. `metrics.rs` adds the hands up at a scrape, and what an ended one has counted stays counted.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::flag::ResponseFlag;
use super::labels::{Labels, Reporter};
use super::traffic::{Counters, Found, Hand, OverflowKind, Series, Traffic};

/// Made by [`super::metrics::Metrics::recorder`] on the thread that counts.
pub struct Recorder {
    place: Rc<Place>,
    sockets: Sockets,
}

/// The counters of one label set, for any number of connections of one thread.
pub struct ConnectionMetrics {
    place: Rc<Place>,
    counters: Arc<Counters>,
    series: Arc<Series>,
    /// Which of the overflow sets takes a close for which there is no room.
    overflow: OverflowKind,
    overflowing: bool,
    /// Sets evicted before this was looked up.
    evictions: u64,
}

/// Keeps a gauge one higher while it lives.
#[derive(Debug)]
pub struct Held(Arc<Gauge>);

impl Recorder {
    pub(super) fn new(traffic: &Arc<Traffic>, hands: &Arc<Hands>) -> Self {
        let (hand, sockets) = hands.join();
        Self {
            place: Rc::new(Place {
                traffic: Arc::clone(traffic),
                hands: Arc::clone(hands),
                hand,
            }),
            sockets,
        }
    }

    /// The counters of a label set. Worth keeping: this is the look-up.
    #[must_use]
    pub fn connections(&self, labels: &Labels<'_>) -> ConnectionMetrics {
        let evictions = self.place.traffic.evicted();
        let Found {
            series,
            counters,
            overflowing,
        } = self.place.traffic.find(labels, self.place.hand);
        ConnectionMetrics {
            place: Rc::clone(&self.place),
            counters,
            series,
            overflow: (labels.reporter, labels.security_policy),
            overflowing,
            evictions,
        }
    }

    /// An accepted socket, open until the guard is dropped.
    #[must_use]
    pub fn socket(&self, reporter: Reporter) -> Held {
        Held::new(&self.sockets[reporter as usize])
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recorder({})", self.place.hand)
    }
}

impl ConnectionMetrics {
    /// A connection more.
    pub fn open(&self) {
        self.counters.opened.add(1);
        if self.overflowing {
            self.place.traffic.count_overflow();
        } else {
            self.place.traffic.show(&self.series);
        }
    }

    /// Whether a look-up would still give these counters: those of an evicted set, or of `overflow` when there is room
    /// again, are not to be kept.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        if self.overflowing {
            self.evictions == self.place.traffic.evicted()
        } else {
            !self.series.is_evicted()
        }
    }

    /// Bytes that went downstream → upstream.
    pub fn add_received(&self, bytes: u64) {
        self.counters.received.add(bytes);
    }

    /// Bytes that went upstream → downstream.
    pub fn add_sent(&self, bytes: u64) {
        self.counters.sent.add(bytes);
    }

    /// Counts an end, and the failure if the flag is one.
    pub fn close(&self, flag: ResponseFlag) {
        let traffic = &self.place.traffic;
        let counter = &self.counters.closed[flag as usize];
        if counter.get() > 0 || self.overflowing || traffic.admits(&self.series, flag) {
            counter.add(1);
            return;
        }
        traffic.count_overflow();
        self.series.divert();
        let overflow = traffic.overflow(self.overflow, self.place.hand);
        overflow.counters.closed[flag as usize].add(1);
    }
}

impl fmt::Debug for ConnectionMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionMetrics")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

/// Held by everything that counts for a thread, and given back with the last of it: no counter ever has two writers.
struct Place {
    traffic: Arc<Traffic>,
    hands: Arc<Hands>,
    hand: Hand,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hands.leave(self.hand);
    }
}

/// Who counts, and what is counted without labels of peers.
#[derive(Debug, Default)]
pub(super) struct Hands(Mutex<Numbering>);

#[derive(Debug, Default)]
struct Numbering {
    free: Vec<Hand>,
    /// By hand.
    sockets: Vec<Sockets>,
}

/// By reporter.
type Sockets = [Arc<Gauge>; 2];

impl Hands {
    fn join(&self) -> (Hand, Sockets) {
        let mut numbering = self.lock();
        let hand = numbering.free.pop().unwrap_or(numbering.sockets.len());
        if hand == numbering.sockets.len() {
            numbering.sockets.push(Sockets::default());
        }
        (hand, numbering.sockets[hand].clone())
    }

    fn leave(&self, hand: Hand) {
        self.lock().free.push(hand);
    }

    /// Open sockets of a reporter; `None` if there never was one.
    pub(super) fn open_sockets(&self, reporter: Reporter) -> Option<i64> {
        let numbering = self.lock();
        let gauges = numbering.sockets.iter().map(|all| &all[reporter as usize]);
        gauges
            .filter_map(|gauge| gauge.shown())
            .reduce(|a, b| a + b)
    }

    /// Places ever given out at once.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.lock().sockets.len()
    }

    fn lock(&self) -> MutexGuard<'_, Numbering> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many there are now. Not shown before there has been one, as upstream.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    value: AtomicI64,
    used: AtomicBool,
}

impl Gauge {
    pub(super) fn shown(&self) -> Option<i64> {
        self.used.load(Relaxed).then(|| self.value.load(Relaxed))
    }
}

impl Held {
    pub(super) fn new(gauge: &Arc<Gauge>) -> Self {
        if !gauge.used.load(Relaxed) {
            gauge.used.store(true, Relaxed);
        }
        gauge.value.fetch_add(1, Relaxed);
        Self(Arc::clone(gauge))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.value.fetch_sub(1, Relaxed);
    }
}
