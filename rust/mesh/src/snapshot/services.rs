//! Services by name, hostname, virtual address and block, and the endpoints that workloads bring to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Number, Slot, Table, WorkloadIndex, put, take};
use crate::address::{Cidr, NamespacedHostname};
use crate::balance::{EndpointSet, Seat};
use crate::service::{Endpoint, Service};
use crate::workload::{HealthStatus, PortMap, Workload};

#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceIndex {
    /// By hostname first, so that a service at hand finds its endpoints without a key being made.
    /// Those of one hostname in the order of their namespaces.
    entries: Table<Arc<str>, Arc<Vec<Arc<Entry>>>>,
    by_hostname: Table<Arc<str>, Slot<Service>>,
    by_vip: Table<IpAddr, Slot<Service>>,
    by_cidr: Table<Cidr, Slot<Service>>,
    /// Which services name a workload as their endpoint of themselves.
    naming: Table<Arc<str>, Arc<Vec<NamespacedHostname>>>,
    /// How many blocks have each prefix length: these are the only ones worth a look-up.
    prefixes: BTreeMap<u8, usize>,
}

/// What is known under one service name. Endpoints that arrive before their service wait here.
///
/// The endpoints stand beside the service, not in it: a connection keeps its service for as long as it lives, and
/// must keep neither an old list of endpoints with it nor see another service for every endpoint that comes or goes.
#[derive(Clone, Debug)]
struct Entry {
    name: NamespacedHostname,
    /// As the service itself was declared.
    declared: Option<Arc<Service>>,
    /// As it is found in the indexes: the declaration as of the end of the last batch.
    published: Option<Arc<Service>>,
    /// Of workloads that are known: what they say of themselves and, where they say nothing, what the service says.
    endpoints: EndpointSet,
}

/// What is said of a workload as an endpoint of a service.
#[derive(Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) status: HealthStatus,
    pub(crate) ports: &'a PortMap,
}

impl<'a> Said<'a> {
    /// By the workload itself or, if it says nothing, by the service.
    pub(crate) fn of(service: &'a Service, workload: &'a Workload) -> Option<Self> {
        let (namespace, hostname) = (&service.namespace, &service.hostname);
        Self::under(namespace, hostname, Some(service), workload)
    }

    fn under(
        namespace: &str,
        hostname: &str,
        service: Option<&'a Service>,
        workload: &'a Workload,
    ) -> Option<Self> {
        if let Some(ports) = workload.ports_of(namespace, hostname) {
            let status = workload.status;
            return Some(Self { status, ports });
        }
        let endpoint = service?.endpoints.get(&workload.uid)?;
        Some(Self {
            status: endpoint.status,
            ports: &endpoint.port,
        })
    }

    pub(crate) fn endpoint(self, workload: &Workload) -> Endpoint {
        Endpoint {
            workload_uid: Arc::clone(&workload.uid),
            port: self.ports.clone(),
            status: self.status,
        }
    }
}

impl Entry {
    fn said<'a>(&'a self, workload: &'a Workload) -> Option<Said<'a>> {
        let declared = self.declared.as_deref();
        Said::under(
            &self.name.namespace,
            &self.name.hostname,
            declared,
            workload,
        )
    }

    fn seat<'a>(&self, workload: &'a Workload) -> Option<Seat<'a>> {
        let said = self.said(workload)?;
        Some(self.endpoints.seat(workload, said.status, said.ports))
    }

    /// All of them, in the order of their uids.
    fn list(&self, workloads: &WorkloadIndex) -> Vec<Endpoint> {
        let known = self.endpoints.numbers();
        let known = known.filter_map(|number| {
            let workload = workloads.by_number(number)?;
            Some(self.said(workload)?.endpoint(workload))
        });
        let named = self.declared.iter().flat_map(|s| s.endpoints.values());
        let unknown = named.filter(|e| workloads.number(&e.workload_uid).is_none());
        let mut list: Vec<_> = known.chain(unknown.map(|e| Endpoint::clone(e))).collect();
        list.sort_unstable_by(|a, b| a.workload_uid.cmp(&b.workload_uid));
        list
    }
}

impl ServiceIndex {
    pub(super) fn by_name(&self, name: &NamespacedHostname) -> Option<&Arc<Service>> {
        self.entry(&name.hostname, &name.namespace)?
            .published
            .as_ref()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Service>> {
        let entries = self.entries.values().flat_map(|slot| slot.iter());
        entries.filter_map(|entry| entry.published.as_ref())
    }

    /// The endpoints of a service of this view, in the order of their uids.
    pub(super) fn endpoints(&self, service: &Service, workloads: &WorkloadIndex) -> Vec<Endpoint> {
        let entry = self.entry(&service.hostname, &service.namespace);
        entry.map_or_else(Vec::new, |entry| entry.list(workloads))
    }

    /// Those of them that can be chosen.
    pub(crate) fn endpoint_set(&self, service: &Service) -> Option<&EndpointSet> {
        let entry = self.entry(&service.hostname, &service.namespace)?;
        Some(&entry.endpoints)
    }

    /// Endpoints whose service is not known (yet).
    pub(super) fn staged(
        &self,
        workloads: &WorkloadIndex,
    ) -> impl Iterator<Item = (&NamespacedHostname, Vec<Endpoint>)> {
        let entries = self.entries.values().flat_map(|slot| slot.iter());
        let staged = entries.filter(|entry| entry.published.is_none());
        staged.map(|entry| (&entry.name, entry.list(workloads)))
    }

    pub(super) fn by_hostname(
        &self,
        hostname: &str,
        client: Option<&str>,
    ) -> Option<&Arc<Service>> {
        best(self.by_hostname.get(hostname)?.iter(), client)
    }

    /// Every service of this hostname.
    pub(super) fn of_hostname(&self, hostname: &str) -> impl Iterator<Item = &Arc<Service>> {
        let slot = self.by_hostname.get(hostname);
        slot.into_iter().flat_map(|slot| slot.iter())
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
        self.entry(&name.hostname, &name.namespace)?
            .declared
            .as_ref()
    }

    /// The services that name a workload as their endpoint of themselves.
    pub(crate) fn naming(&self, uid: &str) -> Option<Arc<Vec<NamespacedHostname>>> {
        self.naming.get(uid).cloned()
    }

    /// Declares or withdraws a service; `publish` makes it seen.
    pub(crate) fn declare(
        &mut self,
        name: &NamespacedHostname,
        service: Option<Service>,
        workloads: &WorkloadIndex,
    ) {
        let entry = self.entry_mut(name);
        let next = service.map(Arc::new);
        let last = entry.declared.clone();
        let uids = |service: &Option<Arc<Service>>| -> BTreeSet<Arc<str>> {
            let services = service.iter();
            services.flat_map(|s| s.endpoints.keys().cloned()).collect()
        };
        let (before, after) = (uids(&last), uids(&next));
        let known: Vec<(Number, &Workload)> = (before.union(&after))
            .filter_map(|uid| {
                let number = workloads.number(uid)?;
                Some((number, &**workloads.by_number(number)?))
            })
            .collect();
        for (number, workload) in &known {
            if let Some(seat) = entry.seat(workload) {
                entry.endpoints.take(*number, &seat);
            }
        }
        entry.declared.clone_from(&next);
        entry.endpoints.reshape(next.as_deref(), |number| {
            let workload = workloads.by_number(number)?;
            let service = next.as_deref();
            let said = Said::under(&name.namespace, &name.hostname, service, workload)?;
            Some((&**workload, said.status, said.ports))
        });
        for (number, workload) in &known {
            if let Some(seat) = entry.seat(workload) {
                entry.endpoints.put(*number, &seat);
            }
        }
        for uid in before.difference(&after) {
            if let Some(slot) = self.naming.get_mut(uid) {
                Arc::make_mut(slot).retain(|held| held != name);
                if slot.is_empty() {
                    self.naming.remove(uid);
                }
            }
        }
        for uid in after.difference(&before) {
            Arc::make_mut(self.naming.or_default(uid)).push(name.clone());
        }
    }

    /// Follows a change of a workload: what was known of it as an endpoint of a service, and what is known now.
    pub(crate) fn refresh(
        &mut self,
        name: &NamespacedHostname,
        number: Number,
        last: Option<&Workload>,
        next: Option<&Workload>,
    ) {
        if let Some(entry) = self.entry(&name.hostname, &name.namespace) {
            let seats = [last, next].map(|workload| workload.and_then(|w| entry.seat(w)));
            match &seats {
                [None, None] => return,
                [Some(last), Some(next)] if entry.endpoints.is_same(last, next) => return,
                _ => {}
            }
        }
        let entry = self.entry_mut(name);
        if let Some(seat) = last.and_then(|workload| entry.seat(workload)) {
            entry.endpoints.take(number, &seat);
        }
        if let Some(seat) = next.and_then(|workload| entry.seat(workload)) {
            entry.endpoints.put(number, &seat);
        }
        if entry.endpoints.is_empty() {
            self.prune(name);
        }
    }

    /// Makes the declaration seen; once per service and batch.
    pub(crate) fn publish(&mut self, name: &NamespacedHostname) {
        if self.entry(&name.hostname, &name.namespace).is_none() {
            return;
        }
        let entry = self.entry_mut(name);
        let next = entry.declared.clone();
        let last = std::mem::replace(&mut entry.published, next.clone());
        self.prune(name);
        self.reindex(last.as_ref(), next.as_ref());
    }

    fn entry(&self, hostname: &str, namespace: &str) -> Option<&Entry> {
        let slot = self.entries.get(hostname)?;
        let at = place(slot, namespace).ok()?;
        Some(&slot[at])
    }

    fn entry_mut(&mut self, name: &NamespacedHostname) -> &mut Entry {
        let slot = Arc::make_mut(self.entries.or_default(&name.hostname));
        let at = place(slot, &name.namespace).unwrap_or_else(|at| {
            let entry = Entry {
                name: name.clone(),
                declared: None,
                published: None,
                endpoints: EndpointSet::default(),
            };
            slot.insert(at, Arc::new(entry));
            at
        });
        Arc::make_mut(&mut slot[at])
    }

    /// Forgets a name under which nothing is known.
    fn prune(&mut self, name: &NamespacedHostname) {
        let known = |entry: &Entry| {
            entry.declared.is_some() || entry.published.is_some() || !entry.endpoints.is_empty()
        };
        let entry = self.entry(&name.hostname, &name.namespace);
        if entry.is_none_or(known) {
            return;
        }
        if let Some(slot) = self.entries.get_mut(&name.hostname) {
            let slot = Arc::make_mut(slot);
            if let Ok(at) = place(slot, &name.namespace) {
                slot.remove(at);
            }
            if slot.is_empty() {
                self.entries.remove(&name.hostname);
            }
        }
    }

    /// A service keeps its place among those that share a key, so that a change of it does not change its rank.
    fn reindex(&mut self, last: Option<&Arc<Service>>, next: Option<&Arc<Service>>) {
        if let Some(last) = last {
            for vip in &last.vips {
                if !next.is_some_and(|next| next.vips.iter().any(|v| v.address == vip.address)) {
                    take(&mut self.by_vip, &vip.address, last);
                }
            }
            for vip in &last.cidr_vips {
                self.count_prefix(vip.cidr.prefix(), false);
                if !next.is_some_and(|next| next.cidr_vips.iter().any(|v| v.cidr == vip.cidr)) {
                    take(&mut self.by_cidr, &vip.cidr, last);
                }
            }
            if next.is_none() {
                take(&mut self.by_hostname, &*last.hostname, last);
            }
        }
        if let Some(next) = next {
            for vip in &next.vips {
                put(&mut self.by_vip, &vip.address, next, last);
            }
            for vip in &next.cidr_vips {
                self.count_prefix(vip.cidr.prefix(), true);
                put(&mut self.by_cidr, &vip.cidr, next, last);
            }
            put(&mut self.by_hostname, &next.hostname, next, last);
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

/// Where the entry of a namespace stands among those of a hostname, or where it would.
fn place(slot: &[Arc<Entry>], namespace: &str) -> Result<usize, usize> {
    slot.binary_search_by(|entry| (*entry.name.namespace).cmp(namespace))
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
