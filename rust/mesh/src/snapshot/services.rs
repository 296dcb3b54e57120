//! Services by name, hostname, virtual address and block, and the endpoints that workloads bring to them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Slot, Table, put, take};
use crate::address::{Cidr, NamespacedHostname};
use crate::service::{Endpoint, Endpoints, Service};

#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceIndex {
    entries: Table<NamespacedHostname, Entry>,
    by_hostname: Table<Arc<str>, Slot<Service>>,
    by_vip: Table<IpAddr, Slot<Service>>,
    by_cidr: Table<Cidr, Slot<Service>>,
    /// How many blocks have each prefix length: these are the only ones worth a look-up.
    prefixes: BTreeMap<u8, usize>,
}

/// What is known under one service name. Endpoints that arrive before their service wait here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// As the service itself was declared, with the endpoints it names.
    declared: Option<Arc<Service>>,
    /// What workloads say of themselves.
    attached: Arc<Endpoints>,
    /// The two put together.
    published: Option<Arc<Service>>,
}

impl ServiceIndex {
    pub(super) fn by_name(&self, name: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.entries.get(name)?.published.as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.entries
            .values()
            .filter_map(|entry| entry.published.as_ref())
    }

    /// Endpoints whose service is not known (yet).
    pub(super) fn staged(&self) -> impl Iterator<Item = (&NamespacedHostname, &Endpoints)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.published.is_none())
            .map(|(name, entry)| (name, &*entry.attached))
    }

    pub(super) fn by_hostname(
        &self,
        hostname: &str,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        best(self.by_hostname.get(hostname)?.iter(), client)
    }

    pub(super) fn by_vip(
        &self,
        network: &str,
        address: IpAddr,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        let exact = self.by_vip.get(&address).and_then(|slot| {
            let here = |service: &&Arc<Service>| {
                let mut vips = service.vips.iter();
                vips.any(|vip| vip.address == address && *vip.network == *network)
            };
            best(slot.iter().filter(here), client)
        });
        exact.or_else(|| self.by_block(network, address, client))
    }

    /// The client's namespace goes before the longer prefix, that before `canonical`; then the first one learned.
    fn by_block(
        &self,
        network: &str,
        address: IpAddr,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        let width = if address.is_ipv4() { 32 } else { 128 };
        let mut found: Option<(BlockRank, &Arc<Service>)> = None;
        for prefix in self.prefixes.range(..=width).map(|(prefix, _)| *prefix) {
            let block = Cidr::masked(address, prefix);
            for service in self
                .by_cidr
                .get(&block)
                .into_iter()
                .flat_map(|slot| slot.iter())
            {
                let mut blocks = service.cidr_vips.iter();
                let here = blocks.any(|vip| vip.cidr == block && *vip.network == *network);
                if !here || !service.visible_to(client) {
                    continue;
                }
                let own = client.is_some_and(|namespace| *namespace == *service.namespace);
                let rank = (own, prefix, service.canonical);
                if found.is_none_or(|(best, _)| rank > best) {
                    found = Some((rank, service));
                }
            }
        }
        found.map(|(_, service)| service)
    }

    pub(crate) fn declared(&self, name: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.entries.get(name)?.declared.as_ref()
    }

    /// Declares or withdraws a service; `publish` makes it seen.
    pub(crate) fn declare(&mut self, name: &NamespacedHostname, service: Option<Service>) {
        self.entry(name).declared = service.map(Arc::new);
    }

    /// Adds or takes away what a workload says of itself; `publish` makes it seen.
    pub(crate) fn attach(
        &mut self,
        name: &NamespacedHostname,
        uid: &Arc<str>,
        endpoint: Option<Endpoint>,
    ) {
        let attached = Arc::make_mut(&mut self.entry(name).attached);
        match endpoint {
            Some(endpoint) => drop(attached.insert(Arc::clone(uid), Arc::new(endpoint))),
            None => drop(attached.remove(uid)),
        }
    }

    /// Puts declaration and endpoints together again; once per service and batch, however many endpoints changed.
    pub(crate) fn publish(&mut self, name: &NamespacedHostname) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let next = entry.declared.as_ref().map(|declared| {
            if entry.attached.is_empty() {
                return Arc::clone(declared);
            }
            let mut service = Service::clone(declared);
            let attached = entry.attached.iter();
            service
                .endpoints
                .extend(attached.map(|(uid, e)| (Arc::clone(uid), Arc::clone(e))));
            Arc::new(service)
        });
        let last = std::mem::replace(&mut entry.published, next.clone());
        if next.is_none() && entry.attached.is_empty() {
            self.entries.remove(name);
        }
        self.reindex(last.as_deref(), next.as_ref());
    }

    fn entry(&mut self, name: &NamespacedHostname) -> &mut Entry {
        self.entries.or_default(name.clone())
    }

    /// A service keeps its place among those that share a key, so that changes of endpoints do not change its rank.
    fn reindex(&mut self, last: Option<&Service>, next: Option<&Arc<Service>>) {
        if let Some(last) = last {
            let same =
                |held: &Service| held.hostname == last.hostname && held.namespace == last.namespace;
            for vip in &last.vips {
                if !next.is_some_and(|next| next.vips.iter().any(|v| v.address == vip.address)) {
                    take(&mut self.by_vip, &vip.address, same);
                }
            }
            for vip in &last.cidr_vips {
                self.count_prefix(vip.cidr.prefix(), false);
                if !next.is_some_and(|next| next.cidr_vips.iter().any(|v| v.cidr == vip.cidr)) {
                    take(&mut self.by_cidr, &vip.cidr, same);
                }
            }
            if next.is_none() {
                take(&mut self.by_hostname, &*last.hostname, same);
            }
        }
        if let Some(next) = next {
            let same =
                |held: &Service| held.hostname == next.hostname && held.namespace == next.namespace;
            for vip in &next.vips {
                put(&mut self.by_vip, vip.address, next, same);
            }
            for vip in &next.cidr_vips {
                self.count_prefix(vip.cidr.prefix(), true);
                put(&mut self.by_cidr, vip.cidr, next, same);
            }
            put(
                &mut self.by_hostname,
                Arc::clone(&next.hostname),
                next,
                same,
            );
        }
    }

    fn count_prefix(&mut self, prefix: u8, more: bool) {
        let count = self.prefixes.entry(prefix).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        if *count == 0 {
            self.prefixes.remove(&prefix);
        }
    }
}

/// (of the client's namespace, prefix length, canonical)
type BlockRank = (bool, u8, bool);

/// The client's own namespace (the last one learned, should it claim a key twice), else the last canonical one, else the
/// first one learned.
fn best<'a>(
    services: impl DoubleEndedIterator<Item = &'a Arc<Service>> + Clone,
    client: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let mut visible = services.filter(|service| service.visible_to(client));
    let own = |service: &&Arc<Service>| client.is_some_and(|ns| *ns == *service.namespace);
    visible
        .clone()
        .rfind(own)
        .or_else(|| visible.clone().rfind(|service| service.canonical))
        .or_else(|| visible.next())
}
