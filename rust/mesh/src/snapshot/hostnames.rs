//! Workloads by the hostname that they have themselves: how a waypoint or a gateway may be named that is no service.
//!
//! Few workloads have one, and those without cost nothing here. Services by hostname are `services.rs`.

use std::sync::Arc;

use rpds::RedBlackTreeSetSync;

use super::Table;
use crate::address::NamespacedHostname;
use crate::workload::Workload;

/// Uids by name. A set of its own for each, so that any number may share a name and one that comes or goes is still
/// cheap.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostnameIndex(Table<NamespacedHostname, RedBlackTreeSetSync<Arc<str>>>);

impl HostnameIndex {
    /// The first in the order of the uids: always the same one, whatever came first.
    pub(super) fn uid(&self, name: &NamespacedHostname) -> Option<&Arc<str>> {
        self.0.get(name)?.first()
    }

    /// Whether a change from `old` to `new` is one for this index.
    pub(crate) fn concerned(old: Option<&Workload>, new: Option<&Workload>) -> bool {
        old.and_then(name) != new.and_then(name)
    }

    /// Follows a workload of this uid, which was `old` and is `new`.
    pub(crate) fn replace(
        &mut self,
        uid: &Arc<str>,
        old: Option<&Workload>,
        new: Option<&Workload>,
    ) {
        if let Some(name) = old.and_then(name)
            && let Some(uids) = self.0.get_mut(&name)
        {
            uids.remove_mut(uid);
            if uids.is_empty() {
                self.0.remove(&name);
            }
        }
        if let Some(name) = new.and_then(name) {
            self.0.or_default(&name).insert_mut(Arc::clone(uid));
        }
    }
}

fn name(workload: &Workload) -> Option<NamespacedHostname> {
    (!workload.hostname.is_empty()).then(|| NamespacedHostname {
        namespace: Arc::clone(&workload.namespace),
        hostname: Arc::clone(&workload.hostname),
    })
}
