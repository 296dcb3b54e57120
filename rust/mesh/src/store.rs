//! The single writer: takes batches from the control side, publishes frozen views.
//!
//! A batch is taken as far as it is right: each bad resource is rejected by itself and what was known under its name
//! stays. What readers see changes once per batch.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::address::NamespacedHostname;
use crate::authorization::{Authorization, Scope};
use crate::decode::{
    Decoded, Refused, Rejection, Resource, TYPE_AUTHORIZATION, TYPE_ISTIO_ADDRESS,
    TYPE_ISTIO_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD, decode,
};
use crate::hash::Keyed;
use crate::identity::TrustDomain;
use crate::service::Service;
use crate::snapshot::{HostnameIndex, MeshSnapshot, Number, Numbers, PortIndex};
use crate::workload::{HealthStatus, Interner, PortMap, Workload};

/// All we know of the mesh.
#[derive(Debug, Default)]
pub struct MeshStore {
    current: Arc<MeshSnapshot>,
    writer: Writer,
}

/// What only the writer needs.
#[derive(Debug, Default)]
struct Writer {
    interner: Interner,
    numbers: Numbers,
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

    /// Takes one batch: upserts in order, then removals (type URL, resource name), as one answer of delta ADS has them
    /// (spec/control.md §4.6): what is in both is gone.
    ///
    /// A name given twice in one batch is taken once; the later ones are rejected, for nobody knows which was meant.
    /// Removing what is not there is no mistake: the control side may repeat itself.
    pub fn apply(&mut self, upserts: &[Resource<'_>], removed: &[(&str, &str)]) -> Applied {
        let mut batch = Batch {
            mesh: MeshSnapshot::clone(&self.current),
            writer: &mut self.writer,
            declared: Vec::new(),
            withdrawn: Vec::new(),
            in_many: Vec::new(),
            workloads: Vec::new(),
            services: HashSet::default(),
            applied: Applied::default(),
        };
        let mut seen = HashSet::with_capacity_and_hasher(upserts.len(), Keyed::default());
        for resource in upserts {
            if seen.insert((resource.type_url, resource.name)) {
                batch.upsert(resource);
            } else {
                batch.reject(resource, "is given twice in one batch".into());
            }
        }
        for (type_url, name) in removed {
            batch.remove(type_url, name);
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
    /// Those of them for which other policies apply than before, or which are somebody else.
    pub attachments: BTreeSet<Arc<str>>,
    /// Services that came, went or differ, in themselves or in their endpoints.
    pub services: BTreeSet<NamespacedHostname>,
    /// Keys of policies that came, went or differ.
    pub policies: BTreeSet<Arc<str>>,
    /// Where these apply, or applied before, other than to workloads that name them.
    pub reach: Reach,
}

/// To whom policies apply without being named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// To everybody.
    pub everywhere: bool,
    /// To the workloads of these namespaces.
    pub namespaces: BTreeSet<Arc<str>>,
}

impl Reach {
    fn add(&mut self, policy: &Authorization) {
        match policy.scope {
            Scope::Global => self.everywhere = true,
            Scope::Namespace => {
                self.namespaces.insert(Arc::clone(&policy.namespace));
            }
            Scope::WorkloadSelector => {}
        }
    }
}

impl Changes {
    /// Whether nothing is different.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workloads.is_empty() && self.services.is_empty() && self.policies.is_empty()
    }

    /// Whether a connection to one of these workloads that was allowed may now be denied, so that live ones have to be
    /// asked about again. `mesh` is what the batch made: a policy that was taken away applied by what is named still, or
    /// the workload itself has changed.
    #[must_use]
    pub fn concern_policy_of(&self, mesh: &MeshSnapshot, uids: &BTreeSet<Arc<str>>) -> bool {
        if !self.attachments.is_disjoint(uids) {
            return true;
        }
        if self.policies.is_empty() {
            return false;
        }
        let mut workloads = uids.iter().filter_map(|uid| mesh.workload_by_uid(uid));
        workloads.any(|workload| {
            let mut named = workload.authorization_policies.iter();
            self.reach.everywhere
                || self.reach.namespaces.contains(&workload.namespace)
                || named.any(|key| self.policies.contains(key))
        })
    }
}

/// A batch under way: the next view, which nobody sees yet.
struct Batch<'a> {
    mesh: MeshSnapshot,
    writer: &'a mut Writer,
    /// Services in the order in which they were declared: it ranks those that share a name or address.
    declared: Vec<NamespacedHostname>,
    /// Services that were withdrawn.
    withdrawn: Vec<NamespacedHostname>,
    /// Workloads that changed and are or were in many services.
    in_many: Vec<Arc<str>>,
    /// Uids of workloads that changed, and whether other policies apply to them: sorted at the end, once.
    workloads: Vec<(Arc<str>, bool)>,
    /// Services that changed.
    services: HashSet<NamespacedHostname, Keyed>,
    applied: Applied,
}

impl Batch<'_> {
    fn remove(&mut self, type_url: &str, name: &str) {
        match type_url {
            TYPE_AUTHORIZATION | TYPE_ISTIO_AUTHORIZATION => self.remove_policy(name),
            // One name space for both (spec/control.md §5.3).
            TYPE_ISTIO_ADDRESS if self.mesh.workload_by_uid(name).is_none() => {
                self.remove_service(name);
            }
            TYPE_ISTIO_ADDRESS | TYPE_WORKLOAD => self.remove_workload(name),
            TYPE_SERVICE => self.remove_service(name),
            _ => {}
        }
    }

    fn remove_policy(&mut self, key: &str) {
        if self.mesh.policy(key).is_none() {
            return;
        }
        let changes = &mut self.applied.changes;
        if let Some(gone) = Arc::make_mut(&mut self.mesh.policies).remove(key) {
            changes.reach.add(&gone);
        }
        changes.policies.insert(key.into());
    }

    fn remove_service(&mut self, name: &str) {
        if let Ok(name) = name.parse::<NamespacedHostname>()
            && self.mesh.services.declared(&name).is_some()
        {
            self.declare(&name, None);
            self.withdrawn.push(name);
        }
    }

    fn remove_workload(&mut self, uid: &str) {
        if let Some(number) = self.mesh.workloads.number(uid)
            && let Some(old) = self.mesh.workloads.by_number(number).cloned()
        {
            self.replaced(number, Some(&old), None);
            let workloads = Arc::make_mut(&mut self.mesh.workloads);
            workloads.remove(uid, &mut self.writer.numbers);
        }
    }

    fn upsert(&mut self, resource: &Resource<'_>) {
        let interner = &mut self.writer.interner;
        match decode(resource, |parts| interner.workload(parts)) {
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
        let held = self.mesh.policy(key);
        if held.is_some_and(|held| **held == policy) {
            return;
        }
        let changes = &mut self.applied.changes;
        changes.reach.add(&policy);
        if let Some(held) = held {
            changes.reach.add(held);
        }
        let key: Arc<str> = key.into();
        Arc::make_mut(&mut self.mesh.policies).insert(&key, policy);
        changes.policies.insert(key);
    }

    fn set_service(&mut self, service: Service) {
        let name = service.key();
        if self
            .mesh
            .services
            .declared(&name)
            .is_none_or(|held| **held != service)
        {
            self.declare(&name, Some(service));
            self.declared.push(name);
        }
    }

    fn declare(&mut self, name: &NamespacedHostname, service: Option<Service>) {
        let services = Arc::make_mut(&mut self.mesh.services);
        services.declare(name, service, &self.mesh.workloads);
        self.services.insert(name.clone());
    }

    fn set_workload(&mut self, workload: Workload) {
        let held = self.mesh.workloads.number(&workload.uid);
        let old = held.and_then(|number| self.mesh.workloads.by_number(number).cloned());
        if old.as_ref().is_some_and(|held| **held == workload) {
            return;
        }
        let workload = Arc::new(workload);
        let workloads = Arc::make_mut(&mut self.mesh.workloads);
        let number = workloads.insert(&workload, held, &mut self.writer.numbers);
        self.replaced(number, old.as_deref(), Some(&workload));
    }

    /// Follows up a change of a workload: its endpoints, and what has to be said about it.
    fn replaced(&mut self, number: Number, old: Option<&Workload>, now: Option<&Workload>) {
        let Some(Workload { uid, .. }) = now.or(old) else {
            return;
        };
        let services = Arc::make_mut(&mut self.mesh.services);
        if PortIndex::concerns(old) || PortIndex::concerns(now) {
            self.in_many.push(Arc::clone(uid));
        }
        if HostnameIndex::concerned(old, now) {
            Arc::make_mut(&mut self.mesh.hostnames).replace(uid, old, now);
        }
        let left = old.iter().flat_map(|old| old.services.keys());
        let left = left.filter(|name| now.is_none_or(|now| !now.services.contains_key(*name)));
        for name in now.iter().flat_map(|now| now.services.keys()).chain(left) {
            services.refresh(name, number, old, now);
            // What it says of itself is often the same before and after, and then the service is not another.
            if said(now, name) != said(old, name) && !self.services.contains(name) {
                self.services.insert(name.clone());
            }
        }
        if let Some(naming) = services.naming(uid) {
            for name in &*naming {
                services.refresh(name, number, old, now);
            }
        }
        let (old, now) = (old.map(policies), now.map(policies));
        self.workloads.push((Arc::clone(uid), old != now));
    }

    fn reject(&mut self, resource: &Resource<'_>, reason: String) {
        self.applied.rejections.push(Rejection {
            type_url: resource.type_url.into(),
            name: resource.name.into(),
            reason,
        });
    }

    fn finish(mut self) -> (MeshSnapshot, Applied) {
        let declared: HashSet<_> = self.declared.iter().collect();
        let gone = self.withdrawn.iter().filter(|n| !declared.contains(n));
        let names: Vec<_> = self.declared.iter().chain(gone).cloned().collect();
        if !self.mesh.workloads.is_settled() {
            Arc::make_mut(&mut self.mesh.workloads).settle();
        }
        let before = self.mesh.before(&names);
        if !names.is_empty() {
            let services = Arc::make_mut(&mut self.mesh.services);
            for name in &names {
                services.publish(name);
            }
        }
        self.mesh.sort_ports(&names, &before, &self.in_many);
        self.workloads.sort_unstable();
        let changes = &mut self.applied.changes;
        let attached = self.workloads.iter().filter(|(_, other)| *other);
        changes.attachments = attached.map(|(uid, _)| Arc::clone(uid)).collect();
        changes.workloads = self.workloads.into_iter().map(|(uid, _)| uid).collect();
        changes.services = self.services.into_iter().collect();
        (self.mesh, self.applied)
    }
}

/// What decides which policies apply to a workload, and who it is: nothing that is decided today depends on the latter,
/// but a workload that is another than before is no place for what was decided for the first.
fn policies(workload: &Workload) -> ([&str; 2], &TrustDomain, &[Arc<str>]) {
    let path = [&*workload.namespace, &*workload.service_account];
    let policies = &workload.authorization_policies;
    (path, &workload.trust_domain, policies)
}

/// What a workload says of itself to a service.
fn said<'a>(
    workload: Option<&'a Workload>,
    service: &NamespacedHostname,
) -> Option<(&'a PortMap, HealthStatus)> {
    let workload = workload?;
    Some((workload.services.get(service)?, workload.status))
}

#[cfg(test)]
mod tests;
