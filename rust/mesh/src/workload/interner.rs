//! Makes workloads so that what many of them have in common is there once.
//!
//! The writer's alone: a workload at hand needs no interner. What nobody else holds any more is given back when the set
//! of it has doubled since it was last looked through, so that looking costs a little for each new thing, not all for one.

use std::collections::HashSet;
use std::hash::Hash;
use std::num::NonZeroU16;
use std::sync::Arc;

use super::{PortMap, Profile, Shared, Workload, WorkloadSpec};
use crate::address::{Locality, NamespacedHostname};
use crate::hash::Keyed;

/// What workloads have in common.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: Pool<str>,
    nodes: Pool<Arc<str>>,
    localities: Pool<Locality>,
    profiles: Pool<Profile>,
}

impl Interner {
    /// The workload of this description.
    pub(crate) fn workload(&mut self, spec: WorkloadSpec) -> Workload {
        let tail = spec.uid.len().checked_sub(spec.name.len());
        let tail = tail.filter(|_| spec.uid.ends_with(&*spec.name));
        let name_at = tail.and_then(|at| NonZeroU16::new(u16::try_from(at + 1).ok()?));
        let own_name = name_at.is_none().then_some(spec.name);
        let profile = Profile {
            namespace: spec.namespace,
            trust_domain: spec.trust_domain,
            service_account: spec.service_account,
            network: spec.network,
            protocol: spec.protocol,
            network_mode: spec.network_mode,
            waypoint: spec.waypoint,
            network_gateway: spec.network_gateway,
            application_tunnel: spec.application_tunnel,
            native_tunnel: spec.native_tunnel,
            workload_name: spec.workload_name,
            workload_type: spec.workload_type,
            canonical_name: spec.canonical_name,
            canonical_revision: spec.canonical_revision,
            hostname: spec.hostname,
            cluster: spec.cluster,
            authorization_policies: spec.authorization_policies,
            services: spec.services,
            own_name,
        };
        Workload {
            uid: spec.uid,
            addresses: spec.addresses.into(),
            node: self.node(spec.node),
            locality: self.locality(&spec.locality),
            profile: self.profile(profile),
            capacity: spec.capacity,
            name_at,
            status: spec.status,
        }
    }

    /// How many things there are of each kind.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let (localities, profiles) = (&self.localities.held, &self.profiles.held);
        let [nodes, texts] = [self.nodes.held.len(), self.texts.held.len()];
        [localities.len(), profiles.len(), nodes, texts]
    }

    fn node(&mut self, node: Arc<str>) -> Shared {
        let held = self.nodes.find(&node);
        Shared(held.unwrap_or_else(|| self.nodes.add(Arc::new(node))))
    }

    fn locality(&mut self, locality: &Locality) -> Arc<Locality> {
        if let Some(held) = self.localities.find(locality) {
            return held;
        }
        let mut shared = |part: &Arc<str>| text(&mut self.texts, Arc::clone(part));
        let own = Locality {
            region: shared(&locality.region),
            zone: shared(&locality.zone),
            subzone: shared(&locality.subzone),
        };
        self.localities.add(Arc::new(own))
    }

    /// Profiles that differ have most of their texts in common still.
    fn profile(&mut self, profile: Profile) -> Arc<Profile> {
        if let Some(held) = self.profiles.find(&profile) {
            return held;
        }
        let mut shared = |own: Arc<str>| text(&mut self.texts, own);
        let mut service = |(name, ports): (&NamespacedHostname, &PortMap)| {
            let name = NamespacedHostname {
                namespace: shared(Arc::clone(&name.namespace)),
                hostname: shared(Arc::clone(&name.hostname)),
            };
            (name, ports.clone())
        };
        let services = profile.services.iter().map(&mut service).collect();
        let own = Profile {
            services,
            namespace: shared(profile.namespace),
            trust_domain: profile.trust_domain.map_text(&mut shared),
            service_account: shared(profile.service_account),
            network: shared(profile.network),
            workload_name: shared(profile.workload_name),
            workload_type: shared(profile.workload_type),
            canonical_name: shared(profile.canonical_name),
            canonical_revision: shared(profile.canonical_revision),
            hostname: shared(profile.hostname),
            cluster: shared(profile.cluster),
            ..profile
        };
        self.profiles.add(Arc::new(own))
    }
}

fn text(texts: &mut Pool<str>, text: Arc<str>) -> Arc<str> {
    match texts.find(&text) {
        Some(held) => held,
        None => texts.add(text),
    }
}

/// Things of which there is one of each kind.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    held: HashSet<Arc<T>, Keyed>,
    /// When to look for what nobody holds.
    look_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            held: HashSet::default(),
            look_at: FIRST_LOOK,
        }
    }
}

impl<T: Eq + Hash + ?Sized> Pool<T> {
    fn find(&self, thing: &T) -> Option<Arc<T>> {
        self.held.get(thing).cloned()
    }

    fn add(&mut self, thing: Arc<T>) -> Arc<T> {
        if self.held.len() >= self.look_at {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.held.shrink_to(self.held.len() * 2);
            self.look_at = FIRST_LOOK.max(self.held.len() * 2);
        }
        self.held.insert(Arc::clone(&thing));
        thing
    }
}

const FIRST_LOOK: usize = 1024;
