//! All live connections of a data plane, by local workload, for an operator to look at (spec/control.md §11).
//!
//! A worker looks through its table in slices, and goes on moving bytes. `inquiries.rs` asks all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use serde::Serialize;
use tokio::task::yield_now;

use super::ConnectionTable;
use super::story::{Shown, Story};

/// Connections looked at in one go: some 100 ns each.
const SLICE: usize = 512;

/// The answer of one worker, or of several.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Census {
    /// By the uid of the local workload.
    workloads: BTreeMap<Arc<str>, Live>,
    /// Connections that are not shown, as there are too many.
    #[serde(rename = "leftOff")]
    left_off: usize,
    #[serde(skip)]
    shown: usize,
}

/// One workload's, each once: streams of one tunnel to one port for one service look the same, and upstream keeps them
/// under one key.
#[derive(Debug, Default, Serialize)]
struct Live {
    inbound: BTreeSet<Shown>,
    outbound: BTreeSet<Shown>,
}

impl Census {
    /// A workload that is to be shown even if nobody is connected.
    pub(crate) fn include(&mut self, uid: &Arc<str>) {
        self.workloads.entry(Arc::clone(uid)).or_default();
    }

    /// Connections that are not shown, as there are too many.
    pub(crate) fn left_off(&self) -> usize {
        self.left_off
    }

    /// The uids of the workloads, in order.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Arc<str>> {
        self.workloads.keys()
    }

    /// Calls for each connection of a workload with its JSON, until it has enough.
    pub(crate) fn each(
        &self,
        uid: &str,
        side: Side,
        each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let Some(live) = self.workloads.get(uid) else {
            return ControlFlow::Continue(());
        };
        let connections = match side {
            Side::Inbound => &live.inbound,
            Side::Outbound => &live.outbound,
        };
        connections.iter().try_for_each(|shown| {
            // Addresses and texts: nothing that JSON could not say.
            each(&serde_json::to_vec(shown).unwrap_or_default())
        })
    }

    fn enter(&mut self, story: &Story, most: usize) {
        if self.shown >= most {
            self.left_off += 1;
            return;
        }
        let live = self.workloads.entry(Arc::clone(story.workload()));
        let live = live.or_default();
        let side = match story {
            Story::Inbound(_) => &mut live.inbound,
            Story::Outbound(_) => &mut live.outbound,
        };
        if side.insert(story.shown()) {
            self.shown += 1;
        }
    }

    /// Takes in what another worker has said.
    pub(crate) fn merge(&mut self, other: Self, most: usize) {
        self.left_off += other.left_off;
        for (workload, live) in other.workloads {
            let mine = self.workloads.entry(workload).or_default();
            for (side, theirs) in [
                (&mut mine.inbound, live.inbound),
                (&mut mine.outbound, live.outbound),
            ] {
                for shown in theirs {
                    if self.shown >= most {
                        self.left_off += 1;
                    } else if side.insert(shown) {
                        self.shown += 1;
                    }
                }
            }
        }
    }
}

/// Whose connections: those that come to a workload, or its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Side {
    Inbound,
    Outbound,
}

impl ConnectionTable {
    /// What is live now, `most` of it at the longest.
    pub(crate) async fn census(self: &Rc<Self>, most: usize) -> Census {
        let mut census = Census::default();
        let mut next = Some(0);
        while let Some(start) = next {
            next = self.some(start, SLICE, |entry| {
                if let Some(story) = &entry.story {
                    census.enter(story, most);
                }
                ControlFlow::Continue(())
            });
            yield_now().await;
        }
        census
    }
}

#[cfg(test)]
mod tests;
