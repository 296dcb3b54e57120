//! The single writer: takes batches from the control side, publishes frozen views.
//!
//! A batch is taken as far as it is right: each bad resource is rejected by itself and what was known under its name
//! stays. What readers see changes once per batch.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::address::NamespacedHostname;
use crate::authorization::Authorization;
use crate::decode::{
    Decoded, Refused, Rejection, Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD, decode,
};
use crate::service::{Endpoint, Service};
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

/// All we know of the mesh.
#[derive(Debug, Default)]
pub struct MeshStore {
    current: Arc<MeshSnapshot>,
}

impl MeshStore {
    /// A store that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The view as of the last batch.
    #[must_use]
    pub fn snapshot(&self) -> Arc<MeshSnapshot> {
        Arc::clone(&self.current)
    }

    /// Takes one batch: removals (type URL, resource name) first, then upserts in order.
    ///
    /// A name given twice in one batch is taken once; the later ones are rejected. Removing what is not there is no
    /// mistake: the control side may repeat itself.
    pub fn apply(&mut self, upserts: &[Resource<'_>], removed: &[(&str, &str)]) -> Applied {
        let mut batch = Batch {
            mesh: MeshSnapshot::clone(&self.current),
            declared: Vec::new(),
            touched: BTreeSet::new(),
            applied: Applied::default(),
        };
        for (type_url, name) in removed {
            batch.remove(type_url, name);
        }
        let mut seen = HashSet::new();
        for resource in upserts {
            if seen.insert((resource.type_url, resource.name)) {
                batch.upsert(resource);
            } else {
                batch.reject(resource, "is given twice in one batch".into());
            }
        }
        let (mesh, applied) = batch.finish();
        if !applied.changes.is_empty() {
            self.current = Arc::new(mesh);
        }
        applied
    }
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What is not as it was before.
    pub changes: Changes,
    /// What was not taken, one entry for each mistake.
    pub rejections: Vec<Rejection>,
}

/// What is not as it was before a batch; what was sent again unchanged is not here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Uids of workloads that came, went or differ.
    pub workloads: BTreeSet<Arc<str>>,
    /// Those of them for which other policies apply than before.
    pub attachments: BTreeSet<Arc<str>>,
    /// Services that came, went or differ, in themselves or in their endpoints.
    pub services: BTreeSet<NamespacedHostname>,
    /// Keys of policies that came, went or differ.
    pub policies: BTreeSet<Arc<str>>,
}

impl Changes {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.services.is_empty() && self.policies.is_empty()
    }

    /// Whether a connection that was allowed may now be denied, so that live ones have to be asked about again.
    #[must_use]
    pub fn concern_policy(&self) -> bool {
        !self.policies.is_empty() || !self.attachments.is_empty()
    }
}

/// A batch under way: the next view, which nobody sees yet.
struct Batch {
    mesh: MeshSnapshot,
    /// Services in the order in which they were declared: it ranks those that share a name or address.
    declared: Vec<NamespacedHostname>,
    /// All services to put together again at the end.
    touched: BTreeSet<NamespacedHostname>,
    applied: Applied,
}

impl Batch {
    fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            TYPE_AUTHORIZATION if self.mesh.policy(name).is_some() => {
                Arc::make_mut(&mut self.mesh.policies).remove(name);
                self.applied.changes.policies.insert(name.into());
            }
            TYPE_SERVICE => {
                if let Ok(name) = name.parse::<NamespacedHostname>()
                    && self.mesh.services.declared(&name).is_some()
                {
                    Arc::make_mut(&mut self.mesh.services).declare(&name, None);
                    self.touched.insert(name);
                }
            }
            TYPE_WORKLOAD => {
                if let Some(old) = self.mesh.workload_by_uid(name).cloned() {
                    Arc::make_mut(&mut self.mesh.workloads).remove(name);
                    self.replaced(Some(&old), None);
                }
            }
            _ => {}
        }
    }

    fn upsert(&mut self, resource: &Resource<'_>) {
        match decode(resource) {
            Ok(Decoded::Authorization(policy)) => self.set_policy(resource.name, policy),
            Ok(Decoded::Service(service)) => self.set_service(service),
            Ok(Decoded::Workload(workload)) => self.set_workload(workload),
            Err(Refused {
                reasons,
                fail_closed,
            }) => {
                for reason in reasons {
                    self.reject(resource, reason);
                }
                // The last good one goes on; without one, what can be read is enforced rather than nothing.
                if let Some(policy) = fail_closed
                    && self
                        .mesh
                        .policy(resource.name)
                        .is_none_or(|held| held.unreadable)
                {
                    self.set_policy(resource.name, policy);
                }
            }
        }
    }

    fn set_policy(&mut self, key: &str, policy: Authorization) {
        if self.mesh.policy(key).is_none_or(|held| **held != policy) {
            let key: Arc<str> = key.into();
            Arc::make_mut(&mut self.mesh.policies).insert(&key, policy);
            self.applied.changes.policies.insert(key);
        }
    }

    fn set_service(&mut self, service: Service) {
        let name = service.key();
        if self
            .mesh
            .services
            .declared(&name)
            .is_none_or(|held| **held != service)
        {
            Arc::make_mut(&mut self.mesh.services).declare(&name, Some(service));
            self.declared.push(name.clone());
            self.touched.insert(name);
        }
    }

    fn set_workload(&mut self, workload: Workload) {
        let old = self.mesh.workload_by_uid(&workload.uid).cloned();
        if old.as_ref().is_some_and(|held| **held == workload) {
            return;
        }
        let workload = Arc::new(workload);
        let workloads = Arc::make_mut(&mut self.mesh.workloads);
        workloads.remove(&workload.uid);
        workloads.insert(&workload);
        self.replaced(old.as_deref(), Some(&workload));
    }

    /// Follows up a change of a workload: its endpoints, and what has to be said about it.
    fn replaced(&mut self, old: Option<&Workload>, new: Option<&Workload>) {
        // What a workload says of itself to a service; often the same before and after, and then nothing to do.
        let said = |workload: Option<&Workload>, service: &NamespacedHostname| {
            let workload = workload?;
            let ports = workload.services.get(service)?;
            Some(Endpoint::of(workload, ports))
        };
        for workload in [old, new].into_iter().flatten() {
            for service in workload.services.keys() {
                let endpoint = said(new, service);
                if endpoint != said(old, service) {
                    let services = Arc::make_mut(&mut self.mesh.services);
                    services.attach(service, &workload.uid, endpoint);
                    self.touched.insert(service.clone());
                }
            }
            let changes = &mut self.applied.changes;
            changes.workloads.insert(Arc::clone(&workload.uid));
        }
        let policies = |w: Option<&Workload>| {
            w.map(|w| (w.namespace.clone(), w.authorization_policies.clone()))
        };
        if let Some(workload) = new.or(old)
            && policies(old) != policies(new)
        {
            self.applied
                .changes
                .attachments
                .insert(Arc::clone(&workload.uid));
        }
    }

    fn reject(&mut self, resource: &Resource<'_>, reason: String) {
        self.applied.rejections.push(Rejection {
            type_url: resource.type_url.into(),
            name: resource.name.into(),
            reason,
        });
    }

    fn finish(mut self) -> (MeshSnapshot, Applied) {
        if !self.touched.is_empty() {
            let services = Arc::make_mut(&mut self.mesh.services);
            let declared: HashSet<_> = self.declared.iter().collect();
            let others = self.touched.iter().filter(|name| !declared.contains(name));
            for name in self.declared.iter().chain(others) {
                services.publish(name);
            }
            self.applied.changes.services = self.touched;
        }
        (self.mesh, self.applied)
    }
}

#[cfg(test)]
mod tests;
