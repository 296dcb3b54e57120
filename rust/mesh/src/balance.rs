//! Choosing one endpoint of a service: who can take the connection, and whose turn it is.
//!
//! Chance is handed in. A choice looks at the few pools that the endpoints are sorted into (`balance/pools.rs`), follows the
//! client's values of the service's preferences down (`balance/ranks.rs`) and draws by sums (`balance/sum_tree.rs`); it is
//! as fast for 10,000 endpoints as for 100.

use std::sync::Arc;

use crate::route::{Chance, Listener, Step};
use crate::service::{Endpoint, LoadBalancerMode, Service};
use crate::snapshot::{MeshSnapshot, Said};
use crate::workload::{PortMap, Workload};

mod pools;
mod ranks;
mod sum_tree;

use pools::{Asked, Candidates};
pub(crate) use pools::{EndpointSet, Seat};

/// What an endpoint is chosen for (`mode` of spec/dataplane.md §10.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To take the connection, or to be a network's gateway: the service must have the port.
    Traffic,
    /// To be a waypoint: an application tunnel makes up for a port that the service does not have.
    Waypoint,
}

/// An endpoint of `service` for a connection of `source` to its `port`, with the endpoint's own port
/// (spec/dataplane.md §10.4).
pub(crate) fn choose_endpoint<'a>(
    mesh: &'a MeshSnapshot,
    service: &'a Service,
    source: &'a Workload,
    port: u16,
    purpose: Purpose,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Option<(&'a Arc<Workload>, u16)> {
    let target = service.ports.get(&port).copied();
    if target.is_none() && purpose == Purpose::Traffic {
        listener(&Step::NoSuchPort(service, port));
        return None;
    }
    let endpoints = mesh.services.endpoint_set(service)?;
    let asked = Asked {
        service,
        source,
        port,
        target,
        purpose,
    };
    let candidates = endpoints.candidates(&asked);
    listener(&Step::LeftOut(&LeftOut {
        mesh,
        endpoints,
        asked: &asked,
        candidates,
    }));
    let full = ranks::full_rank(endpoints.scopes());
    if service.mode() == LoadBalancerMode::Strict && candidates.rank < full {
        return None;
    }
    let total = candidates.sums.weight;
    if total == 0 {
        return None;
    }
    // A careless source of chance gets the last endpoint, not a panic.
    let drawn = chance(total).min(total - 1);
    let number = endpoints.at(&asked, candidates, drawn)?;
    let workload = mesh.workloads.by_number(number)?;
    let count = candidates.sums.count - candidates.sums.idle;
    listener(&Step::Chosen(workload, count as usize));
    let said = Said::of(service, workload)?;
    endpoint_port(workload, said.ports, port, target).map(|port| (workload, port))
}

/// The endpoints that are not drawn from. Finding them is a look at every endpoint, which only who explains takes.
pub(crate) struct LeftOut<'a> {
    mesh: &'a MeshSnapshot,
    endpoints: &'a EndpointSet,
    asked: &'a Asked<'a>,
    candidates: Candidates,
}

impl LeftOut<'_> {
    /// A line for each, in the order of their uids.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let endpoints = self.mesh.endpoints(self.asked.service);
        endpoints.filter_map(|endpoint| {
            let reason = self.reason(&endpoint)?;
            let uid = &endpoint.workload_uid;
            Some(format!("endpoint {uid} is left out: {reason}"))
        })
    }

    fn reason(&self, endpoint: &Endpoint) -> Option<&'static str> {
        let (asked, scopes) = (self.asked, self.endpoints.scopes());
        let Some(workload) = self.mesh.workload_by_uid(&endpoint.workload_uid) else {
            return Some("no such workload is known");
        };
        let said = (&**workload, endpoint.status, &endpoint.port);
        if let Some(obstacle) = self.endpoints.obstacle(asked, said) {
            return Some(obstacle);
        }
        let rank = ranks::rank(scopes, asked.source, workload);
        if asked.service.mode() == LoadBalancerMode::Strict && rank < ranks::full_rank(scopes) {
            return Some("it does not match every preference, and the service is strict");
        }
        if rank < self.candidates.rank {
            return Some("another locality ranks better");
        }
        (workload.capacity == 0).then_some("its capacity is 0")
    }
}

/// The endpoint's own, else the service's, else the one asked for if an application tunnel has a port of its own
/// (spec/dataplane.md §10.4). Before that, a 0 means "not said".
fn endpoint_port(
    workload: &Workload,
    own: &PortMap,
    port: u16,
    target: Option<u16>,
) -> Option<u16> {
    let tunnelled = workload
        .application_tunnel
        .is_some_and(|tunnel| tunnel.port.is_some());
    let mut said = [own.get(&port).copied(), target].into_iter().flatten();
    said.find(|port| *port != 0)
        .or_else(|| tunnelled.then_some(port))
}

#[cfg(test)]
mod tests;
