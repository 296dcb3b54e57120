//! Makes workloads so that what many of them have in common is there once.
//!
//! The writer's alone: a workload at hand needs no interner. What nobody else holds any more is given back when the set
//! of it has doubled since it was last looked through, so that looking costs a little for each new thing, not all for one.

use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashTable;

use super::{Profile, Shared, Workload, WorkloadParts};
use crate::address::{Locality, NamespacedHostname};
use crate::hash::Keyed;

/// What workloads have in common.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    keyed: Keyed,
    texts: Pool<str>,
    nodes: Pool<Arc<str>>,
    localities: Pool<Locality>,
    profiles: Pool<Profile>,
}

impl Interner {
    /// The workload of these parts.
    pub(crate) fn workload(&mut self, parts: WorkloadParts<'_>) -> Workload {
        let name_at = parts.name_at();
        let name_at = name_at.and_then(|at| NonZeroU16::new(u16::try_from(at + 1).ok()?));
        let own_name = name_at.is_none().then_some(parts.name);
        Workload {
            uid: parts.uid.into(),
            node: self.node(parts.node),
            locality: self.locality(parts.locality),
            profile: self.profile(&parts, own_name),
            addresses: parts.addresses.into(),
            capacity: parts.capacity,
            name_at,
            status: parts.status,
        }
    }

    /// How many things there are of each kind.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 4] {
        let (localities, profiles) = (&self.localities.held, &self.profiles.held);
        let [nodes, texts] = [self.nodes.held.len(), self.texts.held.len()];
        [localities.len(), profiles.len(), nodes, texts]
    }

    fn node(&mut self, node: &str) -> Shared {
        let hash = self.keyed.hash_one(node);
        let held = self.nodes.find(hash, |held| **held == *node);
        Shared(held.unwrap_or_else(|| self.nodes.add(hash, Arc::new(node.into()))))
    }

    fn locality(&mut self, parts: [&str; 3]) -> Arc<Locality> {
        let hash = self.keyed.hash_one(parts);
        let is = |held: &Locality| [&*held.region, &*held.zone, &*held.subzone] == parts;
        if let Some(held) = self.localities.find(hash, is) {
            return held;
        }
        let [region, zone, subzone] = parts.map(|text| self.text(text));
        let locality = Locality {
            region,
            zone,
            subzone,
        };
        self.localities.add(hash, Arc::new(locality))
    }

    fn profile(&mut self, parts: &WorkloadParts<'_>, own_name: Option<&str>) -> Arc<Profile> {
        let mut hasher = self.keyed.build_hasher();
        parts.hash_profile(&mut hasher);
        own_name.hash(&mut hasher);
        let hash = hasher.finish();
        let held = self.profiles.find(hash, |held| parts.make(held, own_name));
        held.unwrap_or_else(|| {
            let profile = self.new_profile(parts, own_name);
            self.profiles.add(hash, Arc::new(profile))
        })
    }

    /// Profiles that differ have most of their texts in common still.
    fn new_profile(&mut self, parts: &WorkloadParts<'_>, own_name: Option<&str>) -> Profile {
        let mut services = Vec::with_capacity(parts.services.len());
        for ((namespace, hostname), ports) in &parts.services {
            let name = NamespacedHostname {
                namespace: self.text(namespace),
                hostname: self.text(hostname),
            };
            services.push((name, ports.iter().copied().collect()));
        }
        Profile {
            namespace: self.text(parts.namespace),
            trust_domain: (parts.trust_domain.clone()).map_text(|own| self.text(&own)),
            service_account: self.text(parts.service_account),
            network: self.text(parts.network),
            protocol: parts.protocol,
            network_mode: parts.network_mode,
            waypoint: parts.waypoint.clone(),
            network_gateway: parts.network_gateway.clone(),
            application_tunnel: parts.application_tunnel,
            native_tunnel: parts.native_tunnel,
            workload_name: self.text(parts.workload_name),
            workload_type: self.text(parts.workload_type),
            canonical_name: self.text(parts.canonical_name),
            canonical_revision: self.text(parts.canonical_revision),
            hostname: self.text(parts.hostname),
            cluster: self.text(parts.cluster),
            authorization_policies: (parts.authorization_policies.iter())
                .map(|key| self.text(key))
                .collect(),
            services: services.into_iter().collect(),
            own_name: own_name.map(Into::into),
        }
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        let hash = self.keyed.hash_one(text);
        let held = self.texts.find(hash, |held| *held == *text);
        held.unwrap_or_else(|| self.texts.add(hash, text.into()))
    }
}

/// Things of which there is one of each kind, with their hashes: they are looked for by what they would be made of.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    held: HashTable<(u64, Arc<T>)>,
    /// When to look for what nobody holds.
    look_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Self {
        Self {
            held: HashTable::new(),
            look_at: FIRST_LOOK,
        }
    }
}

impl<T: ?Sized> Pool<T> {
    fn find(&self, hash: u64, is: impl Fn(&T) -> bool) -> Option<Arc<T>> {
        let found = self.held.find(hash, |(_, held)| is(held));
        found.map(|(_, held)| Arc::clone(held))
    }

    fn add(&mut self, hash: u64, thing: Arc<T>) -> Arc<T> {
        let hash_of = |(hash, _): &(u64, Arc<T>)| *hash;
        if self.held.len() >= self.look_at {
            self.held.retain(|(_, held)| Arc::strong_count(held) > 1);
            self.held.shrink_to(self.held.len() * 2, hash_of);
            self.look_at = FIRST_LOOK.max(self.held.len() * 2);
        }
        self.held
            .insert_unique(hash, (hash, Arc::clone(&thing)), hash_of);
        thing
    }
}

const FIRST_LOOK: usize = 1024;
