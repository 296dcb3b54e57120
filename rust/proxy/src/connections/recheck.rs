//! After a change of policy: which live connections are no longer allowed (spec/dataplane.md §8.4).
//!
//! Asking takes microseconds per connection and a worker may have a hundred thousand, so they are asked about in slices,
//! between which the worker moves bytes. A connection that comes while a change is being worked through is not missed: it
//! was registered before its own first question, which was put to a mesh that has the change.

use mesh::authorize::{Verdict, authorize};
use mesh::snapshot::MeshSnapshot;

use super::story::Story;
use super::{ConnectionTable, Cut, Guarded};

/// Connections asked about in one go: some 5 us each with ten thousand policies, so a fraction of a millisecond.
const SLICE: usize = 32;

impl ConnectionTable {
    /// Ends those of a slice of connections, from place `start` on, that policy no longer allows. Gives what was ended,
    /// and where the next slice begins.
    pub(crate) fn recheck(
        &self,
        mesh: &MeshSnapshot,
        start: usize,
    ) -> (Vec<Guarded>, Option<usize>) {
        let mut ended = Vec::new();
        let next = self.some(start, SLICE, |entry| {
            let Some(Story::Inbound(guarded)) = entry.story.as_deref() else {
                return;
            };
            // One that is told to end already is not ended a second time.
            if entry.cut.is_none() && !is_allowed(mesh, guarded) {
                ended.push(guarded.clone());
                entry.cut(Cut::PolicyChanged);
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
