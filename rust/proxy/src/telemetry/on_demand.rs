//! Names that connections had to have resolved, by who asked (`istio_on_demand_dns`, spec/dataplane.md §10.8, §16).
//!
//! One map for all workers: a look-up costs a thousand times what its lock does, and most nodes have none.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::labels::{self, SideLabels};

/// Requests by rendered labels.
#[derive(Debug, Default)]
pub(super) struct OnDemand(Mutex<BTreeMap<Box<str>, u64>>);

impl OnDemand {
    /// One more request of `source` for `hostname`.
    pub(super) fn count(&self, source: &SideLabels<'_>, hostname: &str) {
        let mut counted = self.lock();
        let labels = labels::of_resolution(source, hostname);
        if let Some(count) = counted.get_mut(&*labels) {
            *count += 1;
            return;
        }
        let labels = if counted.len() < MAX_SERIES {
            labels
        } else {
            labels::of_resolution(&labels::OVERFLOWING, labels::OVERFLOW)
        };
        *counted.entry(labels.into()).or_default() += 1;
    }

    /// Labels and counts, in the order of the labels.
    pub(super) fn totals(&self) -> Vec<(Box<str>, u64)> {
        let counted = self.lock();
        counted
            .iter()
            .map(|(labels, count)| (labels.clone(), *count))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Box<str>, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hostname workloads are written by hand, into ServiceEntry; more than this is somebody inventing them.
const MAX_SERIES: usize = 1000;

#[cfg(test)]
mod tests;
