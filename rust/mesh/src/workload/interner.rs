//! Makes workloads so that what many of them have in common is there once.
//!
//! The writer's alone: a workload at hand needs no interner. What nobody else holds any more is given back when the set
//! of it has doubled since it was last looked through, so that looking costs a little for each new thing, not all for one.

use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU16;
use std::sync::Arc;

use hashbrown::HashTable;

use super::{Profile, Site, Workload, WorkloadParts};
use crate::address::{Locality, NamespacedHostname};
use crate::hash::Keyed;

/// What workloads have in common.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    keyed: Keyed,
    texts: Pool<str>,
    sites: Pool<Site>,
    profiles: Pool<Profile>,
}

impl Interner {
    /// The workload of these parts.
    pub(crate) fn workload(&mut self, parts: WorkloadParts<'_>) -> Workload {
        Workload {
            uid: parts.uid.into(),
            site: self.site(parts.node, parts.locality),
            profile: self.profile(&parts),
            addresses: parts.addresses.into(),
        }
    }

    /// How many things there are of each kind.
    #[cfg(test)]
    pub(super) fn sizes(&self) -> [usize; 3] {
        let (sites, profiles) = (&self.sites.held, &self.profiles.held);
        [sites.len(), profiles.len(), self.texts.held.len()]
    }

    fn site(&mut self, node: &str, locality: [&str; 3]) -> Arc<Site> {
        let hash = self.keyed.hash_one((node, locality));
        let is = |Site {
                      node: held,
                      locality: l,
                  }: &Site| {
            **held == *node && [&*l.region, &*l.zone, &*l.subzone] == locality
        };
        if let Some(held) = self.sites.find(hash, is) {
            return held;
        }
        let [region, zone, subzone] = locality.map(|text| self.text(text));
        let site = Site {
            node: self.text(node),
            locality: Locality {
                region,
                zone,
                subzone,
            },
        };
        self.sites.add(hash, Arc::new(site))
    }

    fn profile(&mut self, parts: &WorkloadParts<'_>) -> Arc<Profile> {
        let named = parts.named();
        let mut hasher = self.keyed.build_hasher();
        parts.hash_profile(&mut hasher);
        named.hash(&mut hasher);
        let hash = hasher.finish();
        let held = self.profiles.find(hash, |held| parts.make(held, named));
        held.unwrap_or_else(|| {
            let profile = self.new_profile(parts, named);
            self.profiles.add(hash, Arc::new(profile))
        })
    }

    /// Profiles that differ have most of their texts in common still.
    fn new_profile(
        &mut self,
        parts: &WorkloadParts<'_>,
        (name_at, own_name): (Option<NonZeroU16>, Option<&str>),
    ) -> Profile {
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
            workload_type: self.text(parts.workload_type),
            canonical_name: self.text(parts.canonical_name),
            canonical_revision: self.text(parts.canonical_revision),
            hostname: self.text(parts.hostname),
            cluster: self.text(parts.cluster),
            authorization_policies: (parts.authorization_policies.iter())
                .map(|key| self.text(key))
                .collect(),
            services: services.into_iter().collect(),
            capacity: parts.capacity,
            status: parts.status,
            name_at,
            own_name: own_name.map(Into::into),
            controller: parts.controller().map(|name| self.text(name)),
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
