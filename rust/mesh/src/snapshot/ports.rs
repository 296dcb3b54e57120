//! Which services lead to which port of a workload that is in many.
//!
//! A connection's service is guessed by its port (spec/dataplane.md §3.9). Of a workload in a few services, whoever
//! guesses looks at each; of one in thousands that would take longer than the connection's whole set-up, so that their
//! ports are sorted here, as workloads and services come and go.

use std::sync::Arc;

use rpds::RedBlackTreeSetSync;

use super::{MeshSnapshot, Table};
use crate::address::NamespacedHostname;
use crate::service::Service;
use crate::workload::{PortMap, Workload};

/// More services than this are sorted. Looking at one takes about a microsecond when it is in no cache.
const MANY: usize = 32;

#[derive(Clone, Debug, Default)]
pub(crate) struct PortIndex(Table<Arc<str>, Sorted>);

/// A workload in many services.
#[derive(Clone, Debug)]
struct Sorted {
    uid: Arc<str>,
    leading_to: Table<u16, RedBlackTreeSetSync<NamespacedHostname>>,
}

impl PortIndex {
    /// Whether a workload's services have to be sorted.
    pub(crate) fn concerns(workload: Option<&Workload>) -> bool {
        workload.is_some_and(|workload| workload.services.len() > MANY)
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    /// The first service that leads to a port. None if the workload's services are not sorted, since they are few.
    pub(super) fn first(&self, uid: &str, port: u16) -> Option<Option<&NamespacedHostname>> {
        let services = self.0.get(uid)?.leading_to.get(&port);
        Some(services.and_then(RedBlackTreeSetSync::first))
    }
}

impl Sorted {
    fn new(workload: &Workload, mesh: &MeshSnapshot) -> Self {
        let mut sorted = Self {
            uid: Arc::clone(&workload.uid),
            leading_to: Table::default(),
        };
        for (name, own) in workload.services.iter() {
            sorted.replace(
                name,
                own,
                None,
                mesh.service(name).map(|service| &**service),
            );
        }
        sorted
    }

    fn replace(
        &mut self,
        name: &NamespacedHostname,
        own: &PortMap,
        last: Option<&Service>,
        next: Option<&Service>,
    ) {
        for port in last.into_iter().flat_map(|last| targets(last, own)) {
            if let Some(services) = self.leading_to.get_mut(&port) {
                services.remove_mut(name);
                if services.is_empty() {
                    self.leading_to.remove(&port);
                }
            }
        }
        for port in next.into_iter().flat_map(|next| targets(next, own)) {
            self.leading_to.or_default(&port).insert_mut(name.clone());
        }
    }
}

impl MeshSnapshot {
    /// These services as they are, to be handed to [`MeshSnapshot::sort_ports`] when they have changed.
    pub(crate) fn before(&self, names: &[NamespacedHostname]) -> Vec<Option<Arc<Service>>> {
        if self.ports.is_empty() {
            return Vec::new();
        }
        names
            .iter()
            .map(|name| self.service(name).cloned())
            .collect()
    }

    /// Follows changes that are in this view already: of services, with what they were, and of workloads that are or
    /// were in many services.
    pub(crate) fn sort_ports(
        &mut self,
        names: &[NamespacedHostname],
        before: &[Option<Arc<Service>>],
        uids: &[Arc<str>],
    ) {
        // Usually nobody is in many services.
        if before.is_empty() && uids.is_empty() {
            return;
        }
        let mut ports = PortIndex::clone(&self.ports);
        for (name, last) in names.iter().zip(before) {
            let next = self.service(name);
            let same = |last: &Arc<Service>| next.is_some_and(|next| next.ports == last.ports);
            if last.as_ref().is_some_and(same) {
                continue;
            }
            let all: Vec<_> = ports.0.values().map(|each| Arc::clone(&each.uid)).collect();
            for uid in all {
                let workload = self.workload_by_uid(&uid);
                if let Some(own) = workload.and_then(|workload| workload.services.get(name))
                    && let Some(sorted) = ports.0.get_mut(&*uid)
                {
                    let (last, next) = (last.as_deref(), next.map(|next| &**next));
                    sorted.replace(name, own, last, next);
                }
            }
        }
        for uid in uids {
            let workload = self.workload_by_uid(uid).map(|workload| &**workload);
            match workload.filter(|workload| PortIndex::concerns(Some(workload))) {
                Some(workload) => ports.0.insert(Arc::clone(uid), Sorted::new(workload, self)),
                None => drop(ports.0.remove(&**uid)),
            }
        }
        self.ports = Arc::new(ports);
    }
}

/// The ports of a workload that a service's ports lead to, by its own word or by the workload's.
fn targets(service: &Service, own: &PortMap) -> impl Iterator<Item = u16> {
    service.ports.iter().flat_map(|(of_service, target)| {
        [Some(*target), own.get(of_service).copied()]
            .into_iter()
            .flatten()
    })
}
