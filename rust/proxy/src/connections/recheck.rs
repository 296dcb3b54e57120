//! After a change of policy: which live connections are no longer allowed (spec/dataplane.md §8.4).
//!
//! Asking takes microseconds per connection, ending one takes more, and a worker may have a hundred thousand: so it is done
//! in turns, between which the worker moves the bytes of all others. A connection that comes while a change is being worked
//! through is not missed: it was registered before its own first question, which was put to a mesh that has the change.

use std::ops::ControlFlow;

use mesh::authorize::{Verdict, authorize};
use mesh::snapshot::MeshSnapshot;

use super::story::Story;
use super::{ConnectionTable, Cut, Guarded};

/// Connections asked about in one turn: up to 5 us each with ten thousand policies.
const ASKED: usize = 64;
/// Connections ended in one turn: some 15 us each, half of which is the kernel's for a RST. Together with those asked about
/// some 0.6 ms at the worst, which is how long others wait; fewer would cost a record and a write of the tunnel's for each.
const ENDED: usize = 16;

impl ConnectionTable {
    /// One turn: ends those that policy no longer allows, from place `start` on. Gives what was ended, and where the next
    /// turn begins. They end when their tasks run: before the next turn, if the caller yields.
    pub(crate) fn recheck(
        &self,
        mesh: &MeshSnapshot,
        start: usize,
    ) -> (Vec<Guarded>, Option<usize>) {
        let mut ended = Vec::new();
        let next = self.some(start, ASKED, |entry| {
            let Some(Story::Inbound(guarded)) = entry.story.as_deref() else {
                return ControlFlow::Continue(());
            };
            // One that is told to end already is not ended a second time.
            if entry.cut.is_none() && !is_allowed(mesh, guarded) {
                ended.push(guarded.clone());
                entry.cut(Cut::PolicyChanged);
            }
            if ended.len() < ENDED {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        (ended, next)
    }
}

fn is_allowed(mesh: &MeshSnapshot, guarded: &Guarded) -> bool {
    // The workload as it is now, with policies that were attached since. One that left the mesh is not a policy's matter:
    // its own end ends the connection.
    let Some(workload) = mesh.workload_by_uid(&guarded.workload) else {
        return true;
    };
    matches!(
        authorize(mesh, workload, &guarded.facts).verdict,
        Verdict::Allow
    )
}

#[cfg(test)]
mod tests;
