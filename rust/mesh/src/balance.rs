//! Choosing one endpoint of a service: who can take the connection, and whose turn it is.
//!
//! Chance is handed in. A choice looks at the few pools that the endpoints are sorted into (`balance/pools.rs`) and goes
//! down one tree (`balance/sum_tree.rs`); it is as fast for 10,000 endpoints as for 100. Locality preferences come with the
//! rest of upstream's balancing.

use std::sync::Arc;

use crate::route::{Chance, Listener, Step};
use crate::service::{Endpoint, Service};
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

mod pools;
mod sum_tree;

pub(crate) use pools::EndpointSet;
use pools::Member;

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
    _purpose: Purpose,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Option<(&'a Arc<Workload>, u16)> {
    let Some(target) = service.ports.get(&port).copied() else {
        listener(&Step::NoSuchPort(service, port));
        return None;
    };
    let endpoints = mesh.services.endpoints(service)?;
    listener(&Step::LeftOut(&LeftOut {
        endpoints,
        service,
        source,
        port,
        target,
    }));
    let pools = endpoints.pools().iter();
    let mut pools = pools.filter(|pool| pool.takes(service, source, port, target));
    let (count, total) = pools.clone().fold((0, 0), |(count, total), pool| {
        (count + pool.len(), total + pool.weight())
    });
    if total == 0 {
        return None;
    }
    // A careless source of chance gets the last endpoint, not a panic.
    let mut drawn = chance(total).min(total - 1);
    let pool = pools.find(|pool| match drawn.checked_sub(pool.weight()) {
        Some(rest) => {
            drawn = rest;
            false
        }
        None => true,
    });
    let member = pool?.at(drawn)?;
    let workload = member.workload.as_ref()?;
    listener(&Step::Chosen(workload, count));
    endpoint_port(workload, &member.endpoint, port, target).map(|port| (workload, port))
}

/// The endpoints that cannot take a connection. Finding them is a look at every endpoint, which only who explains
/// takes.
pub(crate) struct LeftOut<'a> {
    endpoints: &'a EndpointSet,
    service: &'a Service,
    source: &'a Workload,
    port: u16,
    target: u16,
}

impl LeftOut<'_> {
    /// A line for each, in the order of their uids.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.endpoints.members().filter_map(|member| {
            let reason = self.reason(member)?;
            let uid = &member.endpoint.workload_uid;
            Some(format!("endpoint {uid} is left out: {reason}"))
        })
    }

    /// The same as the pools say, for one member.
    fn reason(&self, member: &Member) -> Option<&'static str> {
        let endpoint = &member.endpoint;
        if !self.service.takes(endpoint.status) {
            return Some("it is unhealthy");
        }
        let Some(workload) = &member.workload else {
            return Some("no such workload is known");
        };
        let behind_gateway =
            workload.network != self.source.network && workload.network_gateway.is_some();
        if workload.addresses.is_empty() && workload.hostname.is_empty() && !behind_gateway {
            return Some("it has no address");
        }
        if self.target == 0 && !endpoint.port.contains_key(&self.port) {
            return Some("it does not have the named port");
        }
        (workload.capacity == 0).then_some("its capacity is 0")
    }
}

fn endpoint_port(workload: &Workload, endpoint: &Endpoint, port: u16, target: u16) -> Option<u16> {
    // Before the tunnel's port is looked at, a 0 means "not said".
    let said = [endpoint.port.get(&port).copied().unwrap_or(0), target];
    let tunnelled = workload
        .application_tunnel
        .is_some_and(|t| t.port.is_some());
    let said = said.into_iter().find(|port| *port != 0);
    said.or_else(|| tunnelled.then_some(port))
}

#[cfg(test)]
mod tests;
