//! The endpoints of a service, sorted so that one can be chosen without looking at the others.
//!
//! Whether an endpoint may be chosen depends on little: its health, its own ports, whether it can be reached only through
//! a gateway. Endpoints that agree in these make a pool, and a connection looks at pools, not at endpoints. Nearly always
//! there is one; a service whose every endpoint names other ports has as many, and a choice is then as long as that list.
//! Copies share what is the same in both (`sum_tree.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::sum_tree::{Keyed, SumTree};
use crate::service::{Endpoint, Service};
use crate::workload::{HealthStatus, Workload};

/// All endpoints of a service.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointSet {
    /// By uid, those that cannot be chosen too.
    all: SumTree<Arc<Member>>,
    pools: Vec<Pool>,
}

/// An endpoint, with its workload if that is known.
#[derive(Debug)]
pub(crate) struct Member {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) workload: Option<Arc<Workload>>,
}

impl Keyed for Arc<Member> {
    fn key(&self) -> &str {
        &self.endpoint.workload_uid
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pool {
    class: Arc<Class>,
    /// Each weighs as much as its workload's capacity, which is not 0.
    members: SumTree<Arc<Member>>,
}

/// What decides whether an endpoint may be chosen.
#[derive(Debug, PartialEq, Eq)]
struct Class {
    status: HealthStatus,
    /// The service's ports for which it names its own.
    ports: Vec<u16>,
    /// Its network, if only a gateway leads to it.
    behind_gateway: Option<Arc<str>>,
}

impl Class {
    /// None for what nobody can choose.
    fn of(member: &Member) -> Option<Self> {
        let workload = member.workload.as_deref().filter(|w| w.capacity > 0)?;
        let found = !workload.addresses.is_empty() || !workload.hostname.is_empty();
        if !found && workload.network_gateway.is_none() {
            return None;
        }
        Some(Self {
            status: member.endpoint.status,
            ports: member.endpoint.port.keys().copied().collect(),
            behind_gateway: (!found).then(|| Arc::clone(&workload.network)),
        })
    }
}

impl Pool {
    /// Whether a connection of `source` to `port` of the service, which leads to `target`, may go to its members.
    pub(super) fn takes(
        &self,
        service: &Service,
        source: &Workload,
        port: u16,
        target: u16,
    ) -> bool {
        let class = &self.class;
        service.takes(class.status)
            && class.behind_gateway.as_ref() != Some(&source.network)
            && (target != 0 || class.ports.binary_search(&port).is_ok())
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn weight(&self) -> u64 {
        self.members.weight()
    }

    pub(super) fn at(&self, number: u64) -> Option<&Member> {
        self.members.at(number).map(|member| &**member)
    }
}

impl EndpointSet {
    pub(crate) fn get(&self, uid: &str) -> Option<&Arc<Endpoint>> {
        self.all.get(uid).map(|member| &member.endpoint)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.len() == 0
    }

    /// In the order of their uids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.members().map(|member| &member.endpoint)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.all.iter()
    }

    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// Sets what is known of an endpoint.
    pub(crate) fn insert(&mut self, endpoint: Arc<Endpoint>, workload: Option<Arc<Workload>>) {
        let member = Arc::new(Member { endpoint, workload });
        let class = Class::of(&member);
        self.leave_pool(member.key(), class.as_ref());
        if let Some(class) = class {
            let capacity = member.workload.as_ref().map_or(0, |w| w.capacity);
            let pool = self.pool(class);
            pool.members.insert(capacity, Arc::clone(&member));
        }
        self.all.insert(0, member);
    }

    pub(crate) fn remove(&mut self, uid: &str) {
        self.leave_pool(uid, None);
        self.all.remove(uid);
    }

    fn pool(&mut self, class: Class) -> &mut Pool {
        let found = self.pools.iter().position(|pool| *pool.class == class);
        let at = found.unwrap_or_else(|| {
            self.pools.push(Pool {
                class: Arc::new(class),
                members: SumTree::default(),
            });
            self.pools.len() - 1
        });
        &mut self.pools[at]
    }

    /// Takes an endpoint out of the pool it is in, unless that is the pool of `next`.
    fn leave_pool(&mut self, uid: &str, next: Option<&Class>) {
        let Some(class) = self.all.get(uid).and_then(|member| Class::of(member)) else {
            return;
        };
        if Some(&class) == next {
            return;
        }
        if let Some(at) = self.pools.iter().position(|pool| *pool.class == class) {
            self.pools[at].members.remove(uid);
            if self.pools[at].len() == 0 {
                self.pools.remove(at);
            }
        }
    }
}

/// As the dump spells it: by uid.
impl Serialize for EndpointSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let by_uid: BTreeMap<_, _> = self.iter().map(|e| (&e.workload_uid, e)).collect();
        by_uid.serialize(serializer)
    }
}
