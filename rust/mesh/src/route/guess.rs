//! Which service an inbound connection was probably meant for, for metrics (spec/dataplane.md §3.9).

use std::fmt;
use std::sync::Arc;

use crate::service::Service;
use crate::snapshot::MeshSnapshot;
use crate::workload::{PortMap, Workload};

/// The services that a connection may have been meant for: one, or all of the local workload's.
///
/// They are not gathered, since a workload may be in thousands of services: [`guess_service`] looks for the one it needs
/// in the view of the mesh that the decision was made in.
#[derive(Clone, Default)]
pub struct Candidates {
    mesh: MeshSnapshot,
    local: Arc<str>,
    named: Option<Arc<Service>>,
}

impl Candidates {
    /// All services of the local workload.
    pub(super) fn all(mesh: &MeshSnapshot, local: &Workload) -> Self {
        Self {
            mesh: mesh.clone(),
            local: Arc::clone(&local.uid),
            named: None,
        }
    }

    /// The one that the client named.
    pub(super) fn one(mesh: &MeshSnapshot, local: &Workload, service: &Arc<Service>) -> Self {
        Self {
            named: Some(Arc::clone(service)),
            ..Self::all(mesh, local)
        }
    }

    fn of_host(&self, workload: &Workload, host: &str) -> Option<&Arc<Service>> {
        let named = self.mesh.services_of_hostname(host);
        let own = named.filter(|service| workload.services.contains_key(&service.key()));
        own.min_by(|one, other| one.namespace.cmp(&other.namespace))
    }

    fn of_port(&self, workload: &Workload, port: u16) -> Option<&Arc<Service>> {
        if let Some(first) = self.mesh.first_service_to(&workload.uid, port) {
            return self.mesh.service(first?);
        }
        let mut services = workload.services.iter();
        services.find_map(|(name, own)| {
            let service = self.mesh.service(name)?;
            leads_to(service, Some(own), port).then_some(service)
        })
    }
}

impl PartialEq for Candidates {
    fn eq(&self, other: &Self) -> bool {
        self.local == other.local && self.named == other.named
    }
}

impl Eq for Candidates {}

impl fmt::Debug for Candidates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.named {
            Some(service) => write!(f, "service {}", service.key()),
            None => write!(f, "the services of {}", self.local),
        }
    }
}

/// The service that a connection to `port` of the local workload was probably meant for (§3.9): the one the client
/// named, else the first with a port that leads there. The order is that of their names.
#[must_use]
pub fn guess_service<'a>(
    candidates: &'a Candidates,
    for_host: Option<&str>,
    port: u16,
) -> Option<&'a Arc<Service>> {
    let mesh = &candidates.mesh;
    if let Some(service) = &candidates.named {
        let own = || mesh.endpoint(service, &candidates.local);
        let meant = for_host == Some(&*service.hostname)
            || leads_to(service, own().map(|endpoint| endpoint.port).as_ref(), port);
        return meant.then_some(service);
    }
    let workload = mesh.workload_by_uid(&candidates.local)?;
    let named = for_host.and_then(|host| candidates.of_host(workload, host));
    named.or_else(|| candidates.of_port(workload, port))
}

/// Whether one of the service's ports leads to this one, by its own word or by the endpoint's.
fn leads_to(service: &Service, own: Option<&PortMap>, port: u16) -> bool {
    let mut ports = service.ports.iter();
    ports.any(|(of_service, target)| {
        *target == port || own.is_some_and(|own| own.get(of_service) == Some(&port))
    })
}

#[cfg(test)]
mod tests;
