//! The five TCP families: one record of counters per label set, shared by all connections that have it.
//!
//! A connection looks its record up once; from then on counting is an addition. Label values come from peers,
//! so the number of records is bounded: whoever comes after the last one is counted as `overflow`.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::flag::ResponseFlag;
use super::labels::{Labels, Rendered, Reporter, SecurityPolicy};

/// All label sets seen so far.
pub(super) struct Traffic {
    ordinary: RwLock<HashMap<Arc<str>, Arc<Series>>>,
    /// At most four: two reporters, two security policies.
    overflow: RwLock<HashMap<Arc<str>, Arc<Series>>>,
    limit: usize,
    /// Label sets times the flags they ended with: the closed family has more series than the others.
    closed_series: AtomicUsize,
    overflowed: AtomicU64,
}

/// The counters of one label set.
#[derive(Debug)]
struct Series {
    key: Arc<str>,
    opened: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// By flag. What failed is what closed with a flag other than `-`, so it needs no counter of its own.
    closed: [AtomicU64; ResponseFlag::ALL.len()],
}

/// One connection's counters. Dropped without [`ConnectionMetrics::close`], it counts as closed without failure:
/// so ends a connection that draining cuts.
#[derive(Debug)]
pub struct ConnectionMetrics {
    traffic: Arc<Traffic>,
    series: Arc<Series>,
    /// Which of the overflow sets takes a close for which there is no room.
    overflow: OverflowKind,
    closed: Cell<bool>,
}

/// What is kept of a label set for which there is no room.
type OverflowKind = (Reporter, SecurityPolicy);

impl Traffic {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            ordinary: RwLock::default(),
            overflow: RwLock::default(),
            limit,
            closed_series: AtomicUsize::new(0),
            overflowed: AtomicU64::new(0),
        }
    }

    /// Counts a connection as opened and hands out its counters.
    pub(super) fn open(self: &Arc<Self>, labels: &Labels<'_>) -> ConnectionMetrics {
        let overflow = (labels.reporter, labels.security_policy);
        let series = self
            .find(&labels.key())
            .unwrap_or_else(|| self.overflowing(overflow));
        series.opened.fetch_add(1, Relaxed);
        ConnectionMetrics {
            traffic: Arc::clone(self),
            series,
            overflow,
            closed: Cell::new(false),
        }
    }

    /// Events counted as `overflow` because the families are full.
    pub(super) fn overflowed(&self) -> u64 {
        self.overflowed.load(Relaxed)
    }

    /// The record of a key, made if there is room.
    fn find(&self, key: &str) -> Option<Arc<Series>> {
        let known = self.ordinary.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(key) {
            return Some(Arc::clone(series));
        }
        // Checked before asking for the write lock: a peer that invents labels must not make others wait.
        if known.len() >= self.limit {
            return None;
        }
        drop(known);
        let mut known = self
            .ordinary
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.limit && !known.contains_key(key) {
            return None;
        }
        Some(entry(&mut known, key.into()))
    }

    fn overflowing(&self, (reporter, policy): OverflowKind) -> Arc<Series> {
        self.overflowed.fetch_add(1, Relaxed);
        let key = Labels::overflow(reporter, policy).key();
        let mut known = self
            .overflow
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        entry(&mut known, key.into())
    }

    fn close(&self, series: &Series, overflow: OverflowKind, flag: ResponseFlag) {
        let counter = &series.closed[flag as usize];
        let is_new = counter.load(Relaxed) == 0;
        if is_new && self.closed_series.fetch_add(1, Relaxed) >= self.limit {
            self.overflowing(overflow).closed[flag as usize].fetch_add(1, Relaxed);
        } else {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Pointers only, so that a scrape of many series holds the locks for a moment.
    fn series(&self) -> Vec<Arc<Series>> {
        let mut all = Vec::new();
        for known in [&self.ordinary, &self.overflow] {
            let known = known.read().unwrap_or_else(PoisonError::into_inner);
            all.extend(known.values().cloned());
        }
        all
    }

    fn is_empty(&self) -> bool {
        [&self.ordinary, &self.overflow].iter().all(|known| {
            known
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty()
        })
    }
}

fn entry(known: &mut HashMap<Arc<str>, Arc<Series>>, key: Arc<str>) -> Arc<Series> {
    let series = known
        .entry(Arc::clone(&key))
        .or_insert_with(|| Arc::new(Series::new(key)));
    Arc::clone(series)
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Series {
    fn new(key: Arc<str>) -> Self {
        Self {
            key,
            opened: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            closed: [const { AtomicU64::new(0) }; ResponseFlag::ALL.len()],
        }
    }
}

impl ConnectionMetrics {
    /// Bytes that went downstream → upstream.
    pub fn add_received(&self, bytes: u64) {
        self.series.received.fetch_add(bytes, Relaxed);
    }

    /// Bytes that went upstream → downstream.
    pub fn add_sent(&self, bytes: u64) {
        self.series.sent.fetch_add(bytes, Relaxed);
    }

    /// Counts the end, and the failure if the flag is one. Only the first call counts.
    pub fn close(&self, flag: ResponseFlag) {
        if !self.closed.replace(true) {
            self.traffic.close(&self.series, self.overflow, flag);
        }
    }
}

impl Drop for ConnectionMetrics {
    fn drop(&mut self) {
        self.close(ResponseFlag::None);
    }
}

/// One of the five families, as the registry sees it.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) traffic: Arc<Traffic>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Closed,
    Failed,
    Opened,
    Received,
    Sent,
}

impl Family {
    fn ends(&self, series: &Series) -> impl Iterator<Item = (ResponseFlag, u64)> {
        let failures_only = self.kind == Kind::Failed;
        ResponseFlag::ALL
            .into_iter()
            .filter(move |flag| flag.is_failure() || !failures_only)
            .map(|flag| (flag, series.closed[flag as usize].load(Relaxed)))
            .filter(|(_, count)| *count > 0)
    }
}

impl EncodeMetric for Family {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        for series in self.traffic.series() {
            let mut sample = |flag, count: u64| {
                let key = &series.key;
                let labels = Rendered { key, flag };
                encoder
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)
            };
            let alive = match self.kind {
                Kind::Opened => &series.opened,
                Kind::Received => &series.received,
                Kind::Sent => &series.sent,
                Kind::Closed | Kind::Failed => {
                    for (flag, count) in self.ends(&series) {
                        sample(flag, count)?;
                    }
                    continue;
                }
            };
            if series.opened.load(Relaxed) > 0 {
                sample(ResponseFlag::None, alive.load(Relaxed))?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }

    /// A family without samples is not shown at all, as upstream.
    fn is_empty(&self) -> bool {
        match self.kind {
            Kind::Closed | Kind::Failed => !self
                .traffic
                .series()
                .iter()
                .any(|series| self.ends(series).next().is_some()),
            Kind::Opened | Kind::Received | Kind::Sent => self.traffic.is_empty(),
        }
    }
}
