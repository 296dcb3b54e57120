//! What was measured, as one line of JSON: exact percentiles of every sample.

use serde_json::{Value, json};

/// Nanoseconds of each round trip. Bounded: what comes after is counted but not kept.
pub(crate) struct Samples {
    kept: Vec<u32>,
    pub(crate) count: u64,
}

/// 64 MiB of them: a million round trips a second for a quarter of a minute.
const MOST: usize = 16 * 1024 * 1024;

impl Samples {
    pub(crate) fn new() -> Self {
        Self {
            kept: Vec::with_capacity(64 * 1024),
            count: 0,
        }
    }

    pub(crate) fn add(&mut self, nanos: u32) {
        self.count += 1;
        if self.kept.len() < MOST {
            self.kept.push(nanos);
        }
    }

    /// Microseconds. Sorts what is there.
    pub(crate) fn summary(&mut self) -> Value {
        self.kept.sort_unstable();
        let at = |share: f64| self.percentile(share);
        json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p999": at(0.999), "max": at(1.0), "min": at(0.0),
        })
    }

    /// The smallest sample that at least this share of all does not exceed, in microseconds.
    fn percentile(&self, share: f64) -> Option<f64> {
        let rank = (share * self.kept.len() as f64).ceil() as usize;
        self.kept
            .get(rank.saturating_sub(1))
            .map(|nanos| f64::from(*nanos) / 1000.0)
    }
}

#[cfg(test)]
mod tests;
