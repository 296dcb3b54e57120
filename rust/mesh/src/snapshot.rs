//! What readers hold: one frozen view of the mesh, with the look-ups that decisions need.
//!
//! Only `store` makes one. Every look-up is a hash look-up and, where several things share a key, a walk over those few.
//!
//! A view is five indexes behind `Arc`s. Publishing copies neither workloads, services and policies nor whole indexes:
//! of those that changed, only the nodes on the way to the changes (`snapshot/{slab,hash_index,table}.rs`,
//! `balance/sum_tree.rs`).

use std::net::IpAddr;
use std::sync::Arc;

use crate::address::NamespacedHostname;
use crate::authorization::Authorization;
use crate::service::{Endpoint, Service};
use crate::workload::{GatewayDestination, Workload};

mod dump;
mod hash_index;
mod hostnames;
mod policies;
mod ports;
mod services;
mod slab;
mod table;
mod workloads;

pub use dump::Show;
pub(crate) use hostnames::HostnameIndex;
pub(crate) use policies::{Kind, PolicyIndex};
pub(crate) use ports::PortIndex;
pub(crate) use services::{Said, ServiceIndex};
pub(crate) use slab::Numbers;
pub(crate) use workloads::{Number, WorkloadIndex};

use table::Table;

/// One frozen view of the mesh.
#[derive(Clone, Debug, Default)]
pub struct MeshSnapshot {
    pub(crate) workloads: Arc<WorkloadIndex>,
    pub(crate) hostnames: Arc<HostnameIndex>,
    pub(crate) services: Arc<ServiceIndex>,
    pub(crate) policies: Arc<PolicyIndex>,
    pub(crate) ports: Arc<PortIndex>,
}

impl MeshSnapshot {
    /// The workload that an address means. Host-network workloads are not found by address; of several workloads the
    /// best is taken: pods, then tunnel users, then the last one learned (spec/dataplane.md §10.1).
    #[must_use]
    pub fn workload_by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.by_address(network, address.to_canonical())
    }

    /// The workload of this uid.
    #[must_use]
    pub fn workload_by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.by_uid(uid)
    }

    /// The workload with this hostname of its own; of several, the first in the order of their uids.
    #[must_use]
    pub fn workload_by_hostname(&self, name: &NamespacedHostname) -> Option<&Arc<Workload>> {
        self.workload_by_uid(self.hostnames.uid(name)?)
    }

    /// The workload that one proxy instance stands for; all three must match.
    #[must_use]
    pub fn local_workload(
        &self,
        name: &str,
        namespace: &str,
        service_account: &str,
    ) -> Option<&Arc<Workload>> {
        let mut named = self.workloads.by_name(name);
        named.find(|w| *w.namespace == *namespace && *w.service_account == *service_account)
    }

    /// The service that a virtual address means to a client of this namespace: exact addresses first, then blocks
    /// (spec/dataplane.md §10.3).
    #[must_use]
    pub fn service_by_vip(
        &self,
        network: &str,
        address: IpAddr,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        self.services
            .by_vip(network, address.to_canonical(), client)
    }

    /// The service that a hostname means to a client of this namespace.
    #[must_use]
    pub fn service_by_hostname(
        &self,
        hostname: &str,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        self.services.by_hostname(hostname, client)
    }

    /// Every service of this hostname, whatever its namespace.
    pub(crate) fn services_of_hostname(
        &self,
        hostname: &str,
    ) -> impl Iterator<Item = &Arc<Service>> {
        self.services.of_hostname(hostname)
    }

    /// The first of a workload's services that leads to a port of it, if they are sorted by that.
    pub(crate) fn first_service_to(
        &self,
        uid: &str,
        port: u16,
    ) -> Option<Option<&NamespacedHostname>> {
        self.ports.first(uid, port)
    }

    /// Who stands at an address: a workload goes before a service (`find_address` of spec/dataplane.md §10.3).
    pub(crate) fn holder(
        &self,
        network: &str,
        address: IpAddr,
        client: Option<&str>,
    ) -> Option<Holder<'_>> {
        let workload = self.workload_by_address(network, address);
        let service = || self.service_by_vip(network, address, client);
        workload
            .map(Holder::Workload)
            .or_else(|| service().map(Holder::Service))
    }

    /// Who a waypoint or gateway is: for an address as [`MeshSnapshot::holder`]; by name a service goes before a
    /// workload (`find_hostname` of spec/dataplane.md §10.3).
    pub(crate) fn gateway(
        &self,
        destination: &GatewayDestination,
        client: Option<&str>,
    ) -> Option<Holder<'_>> {
        match destination {
            GatewayDestination::Address(at) => self.holder(&at.network, at.address, client),
            GatewayDestination::Hostname(name) => {
                let workload = || self.workload_by_hostname(name);
                self.service(name)
                    .map(Holder::Service)
                    .or_else(|| workload().map(Holder::Workload))
            }
        }
    }

    /// The service of exactly this name.
    #[must_use]
    pub fn service(&self, name: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.services.by_name(name)
    }

    /// The endpoints of a service of this view, in the order of their uids. Collects them all: for dumps and explanations.
    pub fn endpoints(&self, service: &Service) -> impl Iterator<Item = Endpoint> {
        let endpoints = self.services.endpoints(service, &self.workloads);
        endpoints.into_iter()
    }

    /// What this workload is to a service of this view, if it is an endpoint of it.
    #[must_use]
    pub fn endpoint(&self, service: &Service, uid: &str) -> Option<Endpoint> {
        match self.workloads.by_uid(uid) {
            Some(workload) => Said::of(service, workload).map(|said| said.endpoint(workload)),
            None => service
                .endpoints
                .get(uid)
                .map(|named| Endpoint::clone(named)),
        }
    }

    /// The policy of this key (`namespace/name`).
    #[must_use]
    pub fn policy(&self, key: &str) -> Option<&Arc<Authorization>> {
        self.policies.get(key)
    }

    /// How many workloads there are.
    #[must_use]
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.all().count()
    }

    /// How many policies there are.
    #[must_use]
    pub fn policy_count(&self) -> usize {
        self.policies.len()
    }
}

/// Who an address or a name belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder<'a> {
    Service(&'a Arc<Service>),
    Workload(&'a Arc<Workload>),
}

/// Several things under one key. Behind an `Arc`, so that copying a table counts references instead of allocating.
type Slot<T> = Arc<Vec<Arc<T>>>;

/// Puts `value` under `key`: in the place of `last`, which it replaces, or behind the others. Once, however often a service
/// has the key.
///
/// Nobody is looked at, for ten thousand may share a key: they are told apart by where they lie.
fn put<K: std::hash::Hash + Eq + Clone, T>(
    table: &mut Table<K, Slot<T>>,
    key: &K,
    value: &Arc<T>,
    last: Option<&Arc<T>>,
) {
    let slot = Arc::make_mut(table.or_default(key));
    let is_new = |held: &Arc<T>| Arc::ptr_eq(held, value);
    let Some(last) = last else {
        // Should it have the key twice, it stands there last.
        if !slot.last().is_some_and(is_new) {
            slot.push(Arc::clone(value));
        }
        return;
    };
    let place = |held: &&mut Arc<T>| Arc::ptr_eq(held, last) || is_new(held);
    match slot.iter_mut().find(place) {
        Some(held) => *held = Arc::clone(value),
        None => slot.push(Arc::clone(value)),
    }
}

/// Takes `last` from under `key`.
fn take<K, Q, T>(table: &mut Table<K, Slot<T>>, key: &Q, last: &Arc<T>)
where
    K: std::hash::Hash + Eq + Clone + std::borrow::Borrow<Q>,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(slot) = table.get_mut(key) {
        Arc::make_mut(slot).retain(|held| !Arc::ptr_eq(held, last));
        if slot.is_empty() {
            table.remove(key);
        }
    }
}

/// Values in the order of their keys, for dumps: the same mesh always looks the same.
fn sorted<'a, K: Ord, T: 'a>(
    values: impl Iterator<Item = &'a Arc<T>>,
    key: impl Fn(&'a T) -> K,
) -> Vec<&'a T> {
    let mut values: Vec<&T> = values.map(|value| &**value).collect();
    values.sort_by_cached_key(|value| key(value));
    values
}

/// The same for a hundred thousand whose keys are texts that begin alike: what comes behind their common beginning is at
/// hand, and few are looked at where they lie.
fn sorted_by_text<'a, T: 'a>(
    values: impl Iterator<Item = &'a Arc<T>>,
    text: impl Fn(&'a T) -> &'a str,
) -> Vec<&'a T> {
    let values: Vec<&T> = values.map(|value| &**value).collect();
    let first = values.first().map_or("", |value| text(value));
    let common = values.iter().fold(first.len(), |common, value| {
        let both = first.bytes().zip(text(value).bytes()).take(common);
        both.take_while(|(one, other)| one == other).count()
    });
    // Zeros behind a short one: before whatever stands there in another. Two that are told apart only by such are compared
    // as they are.
    let behind = |text: &str| -> u128 {
        let mut next = [0; 16];
        let rest = &text.as_bytes()[common..];
        let length = rest.len().min(next.len());
        next[..length].copy_from_slice(&rest[..length]);
        u128::from_be_bytes(next)
    };
    let mut keyed: Vec<(u128, &T)> = values
        .into_iter()
        .map(|value| (behind(text(value)), value))
        .collect();
    keyed.sort_by(|(one, a), (other, b)| one.cmp(other).then_with(|| text(a).cmp(text(b))));
    keyed.into_iter().map(|(_, value)| value).collect()
}

#[cfg(test)]
mod tests;
