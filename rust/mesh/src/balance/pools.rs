//! The endpoints of a service, sorted so that one can be chosen without looking at the others.
//!
//! Whether an endpoint may be chosen depends on little: its health, the named ports it has, how it is reached. Endpoints
//! that agree in these make a pool, and a connection looks at pools, not at endpoints. Nearly always there is one; a
//! service with named ports whose every endpoint has others has as many, and a choice is then as long as that list.
//! How well an endpoint suits a client is a way down a tree (`balance/ranks.rs`).
//!
//! Endpoints are the numbers of their workloads: nothing in here changes when a workload changes in what does not matter
//! to the choice. Copies share what is the same in both.

use std::sync::Arc;

use super::Purpose;
use super::ranks::{Best, Ranked};
use super::sum_tree::Sums;
use crate::service::{LoadBalancerMode, LoadBalancerScope, Service};
use crate::snapshot::Number;
use crate::workload::{HealthStatus, PortMap, Workload};

/// All endpoints of a service whose workloads are known.
#[derive(Clone, Debug, Default)]
pub(crate) struct EndpointSet {
    shape: Arc<Shape>,
    pools: Vec<Pool>,
}

/// What a service says that decides how its endpoints are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// What an endpoint should have in common with the client, the most important first.
    scopes: Vec<LoadBalancerScope>,
    /// The ports that endpoints give a meaning to.
    named: Vec<u16>,
}

impl Shape {
    /// That of a service; without one the endpoints wait in no order.
    pub(crate) fn of(service: Option<&Service>) -> Self {
        let Some(service) = service else {
            return Self::default();
        };
        let balancer = service.load_balancer.as_ref();
        let ranking = balancer.filter(|b| b.mode != LoadBalancerMode::Standard);
        let named = service.ports.iter().filter(|(_, target)| **target == 0);
        Self {
            scopes: ranking.map_or_else(Vec::new, |b| b.routing_preferences.clone()),
            named: named.map(|(port, _)| *port).collect(),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Pool {
    class: Arc<Class>,
    members: Ranked,
}

/// What decides whether an endpoint may be chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Class {
    status: HealthStatus,
    /// Those of the service's named ports that it has.
    ports: Vec<u16>,
    reached: Reached,
    application_tunnel: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reached {
    Directly,
    /// Only from other networks than its own.
    ThroughGateway(Arc<str>),
    NotAtAll,
}

impl Reached {
    fn of(workload: &Workload) -> Self {
        if !workload.addresses.is_empty() || !workload.hostname.is_empty() {
            Self::Directly
        } else if workload.network_gateway.is_some() {
            Self::ThroughGateway(Arc::clone(&workload.network))
        } else {
            Self::NotAtAll
        }
    }
}

/// What is asked for.
pub(super) struct Asked<'a> {
    pub(super) service: &'a Service,
    pub(super) source: &'a Workload,
    pub(super) port: u16,
    /// Where the service leads that port, if it has it.
    pub(super) target: Option<u16>,
    pub(super) purpose: Purpose,
}

impl Class {
    fn of(shape: &Shape, workload: &Workload, status: HealthStatus, ports: &PortMap) -> Self {
        let named = shape.named.iter().filter(|port| ports.contains_key(*port));
        Self {
            status,
            ports: named.copied().collect(),
            reached: Reached::of(workload),
            application_tunnel: workload.application_tunnel.is_some(),
        }
    }

    /// Why a connection may not go to such an endpoint.
    fn obstacle(&self, asked: &Asked<'_>) -> Option<&'static str> {
        if !asked.service.takes(self.status) {
            return Some("it is unhealthy");
        }
        let reached = match &self.reached {
            Reached::Directly => true,
            Reached::ThroughGateway(network) => *network != asked.source.network,
            Reached::NotAtAll => false,
        };
        if !reached {
            return Some("it has no address");
        }
        match (asked.purpose, asked.target) {
            (Purpose::Traffic, Some(0)) if self.ports.binary_search(&asked.port).is_err() => {
                Some("it does not have the named port")
            }
            (Purpose::Waypoint, None) if !self.application_tunnel => {
                Some("neither the service has the port nor it an application tunnel")
            }
            _ => None,
        }
    }
}

/// Where an endpoint stands in its service.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seat<'a> {
    class: Class,
    workload: &'a Workload,
}

/// Endpoints that a choice is made from: those that suit best of all that can take the connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Candidates {
    /// How well they suit (spec/dataplane.md §10.4).
    pub(super) rank: usize,
    pub(super) sums: Sums,
}

impl EndpointSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// In no order.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = Number> {
        self.pools.iter().flat_map(|pool| pool.members.numbers())
    }

    pub(super) fn scopes(&self) -> &[LoadBalancerScope] {
        &self.shape.scopes
    }

    /// Sorts all anew if the service says something else; `said` is what is known of an endpoint.
    pub(crate) fn reshape<'a>(
        &mut self,
        service: Option<&Service>,
        said: impl Fn(Number) -> Option<(&'a Workload, HealthStatus, &'a PortMap)>,
    ) {
        let shape = Shape::of(service);
        if shape == *self.shape {
            return;
        }
        let last = std::mem::take(self);
        self.shape = Arc::new(shape);
        for number in last.numbers() {
            if let Some((workload, status, ports)) = said(number) {
                let seat = self.seat(workload, status, ports);
                self.put(number, &seat);
            }
        }
    }

    pub(crate) fn seat<'a>(
        &self,
        workload: &'a Workload,
        status: HealthStatus,
        ports: &PortMap,
    ) -> Seat<'a> {
        Seat {
            class: Class::of(&self.shape, workload, status, ports),
            workload,
        }
    }

    /// Whether an endpoint need not be moved from the one to the other.
    pub(crate) fn is_same(&self, last: &Seat<'_>, next: &Seat<'_>) -> bool {
        last.class == next.class
            && last.workload.capacity == next.workload.capacity
            && (self.shape.scopes.iter())
                .all(|scope| scope.of(last.workload) == scope.of(next.workload))
    }

    pub(crate) fn put(&mut self, number: Number, seat: &Seat<'_>) {
        let found = self.pools.iter().position(|p| *p.class == seat.class);
        let at = found.unwrap_or_else(|| {
            self.pools.push(Pool {
                class: Arc::new(seat.class.clone()),
                members: Ranked::new(&self.shape.scopes),
            });
            self.pools.len() - 1
        });
        let members = &mut self.pools[at].members;
        members.put(&self.shape.scopes, seat.workload, number);
    }

    pub(crate) fn take(&mut self, number: Number, seat: &Seat<'_>) {
        if let Some(at) = self.pools.iter().position(|p| *p.class == seat.class) {
            let members = &mut self.pools[at].members;
            members.take(&self.shape.scopes, seat.workload, number);
            if members.is_empty() {
                self.pools.remove(at);
            }
        }
    }

    pub(super) fn obstacle(
        &self,
        asked: &Asked<'_>,
        (workload, status, ports): (&Workload, HealthStatus, &PortMap),
    ) -> Option<&'static str> {
        Class::of(&self.shape, workload, status, ports).obstacle(asked)
    }

    pub(super) fn candidates(&self, asked: &Asked<'_>) -> Candidates {
        let mut best = Candidates::default();
        for Best { rank, level } in self.best_of_each(asked) {
            let sums = level.sums();
            if rank > best.rank {
                best = Candidates { rank, sums };
            } else if rank == best.rank {
                best.sums = best.sums + sums;
            }
        }
        best
    }

    /// The candidate on which a number below their weight falls.
    pub(super) fn at(
        &self,
        asked: &Asked<'_>,
        candidates: Candidates,
        mut number: u64,
    ) -> Option<Number> {
        for Best { rank, level } in self.best_of_each(asked) {
            if rank != candidates.rank {
                continue;
            }
            match number.checked_sub(level.sums().weight) {
                Some(rest) => number = rest,
                None => return level.at(number),
            }
        }
        None
    }

    fn best_of_each<'a>(&'a self, asked: &'a Asked<'_>) -> impl Iterator<Item = Best<'a>> {
        let takes = |pool: &&Pool| pool.class.obstacle(asked).is_none();
        let pools = self.pools.iter().filter(takes);
        pools.map(|pool| pool.members.best(&self.shape.scopes, asked.source))
    }
}
