//! What a decision looked for in vain, under the key by which a control plane can be asked for it (spec/control.md §4.8).
//!
//! The decision is the same one; here its steps are heard. Who asks, and how long it waits, is not known here.
//!
//! Keys are addresses and names, never uids: who is looked for by uid here was named by a service of a local file, and a
//! service of istiod's brings its workloads with it (spec/istio.md A3.5).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use super::outbound::decide;
use super::{InboundFacts, InboundRefusal, NoRoute, Route, RouteFacts, Step, Target};
use crate::address::{NamespacedHostname, NetworkAddress};
use crate::snapshot::{Holder, MeshSnapshot};
use crate::workload::{GatewayDestination, Workload};

/// As [`super::route_noting`], and the first thing that is not known and might have changed the answer.
pub fn route_or_miss(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    choose: &mut dyn FnMut(u64) -> u64,
    odd: &mut dyn FnMut(&dyn fmt::Display),
) -> (Result<Route, NoRoute>, Option<GatewayDestination>) {
    let mut missed = None;
    let decided = decide(mesh, facts, choose, &mut |step| match step {
        Step::StraightOn(address, false) => {
            missed = missed_address(&facts.source.network, address.ip());
        }
        Step::Unknown(destination) => missed = Some(GatewayDestination::clone(destination)),
        step if step.is_odd() => odd(step),
        _ => {}
    });
    if let (Err(NoRoute::UnknownHost(_)), Target::Host { hostname, .. }) = (&decided, facts.target)
    {
        missed = Some(missed_hostname(hostname, &facts.source.namespace));
    }
    (decided, missed)
}

/// What is not known and might have changed a refusal: who stands at the address that was asked for, its waypoint, or the
/// service that was asked for by name.
#[must_use]
pub fn inbound_miss(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
    refusal: &InboundRefusal,
) -> Option<GatewayDestination> {
    match refusal {
        InboundRefusal::AddressMismatch { asked, .. } => {
            match mesh.holder(facts.network, *asked, None) {
                None => missed_address(facts.network, *asked),
                Some(Holder::Service(service)) => {
                    let several = service.weighted_waypoints.iter();
                    let waypoints = several.map(|each| &each.destination);
                    let mut waypoints = waypoints.chain(&service.waypoint);
                    waypoints.find_map(|waypoint| unknown(mesh, &waypoint.destination))
                }
                Some(Holder::Workload(workload)) => {
                    let waypoint = workload.waypoint.as_ref();
                    waypoint.and_then(|waypoint| unknown(mesh, &waypoint.destination))
                }
            }
        }
        InboundRefusal::UnknownHost(hostname) => {
            Some(missed_hostname(hostname, &facts.local.namespace))
        }
        _ => None,
    }
}

/// The workload at an address, or the key to ask for it by.
///
/// # Errors
/// The key, if nobody is known there and somebody might be.
pub fn workload_or_miss<'a>(
    mesh: &'a MeshSnapshot,
    network: &str,
    address: IpAddr,
) -> Result<&'a Arc<Workload>, Option<GatewayDestination>> {
    mesh.workload_by_address(network, address)
        .ok_or_else(|| missed_address(network, address))
}

impl MeshSnapshot {
    /// Whether somebody goes by this key.
    #[must_use]
    pub fn knows(&self, key: &GatewayDestination) -> bool {
        self.gateway(key, None).is_some()
    }
}

fn unknown(mesh: &MeshSnapshot, destination: &GatewayDestination) -> Option<GatewayDestination> {
    (!mesh.knows(destination)).then(|| destination.clone())
}

/// Nothing of a mesh stands at addresses that mean nobody or many.
fn missed_address(network: &str, address: IpAddr) -> Option<GatewayDestination> {
    let address = address.to_canonical();
    let possible = !(address.is_unspecified() || address.is_multicast());
    possible.then(|| {
        GatewayDestination::Address(NetworkAddress {
            network: network.into(),
            address,
        })
    })
}

/// A key has a namespace and a hostname has not: that of a Kubernetes service says it, any other is taken for one of the
/// client's own.
fn missed_hostname(hostname: &str, client: &str) -> GatewayDestination {
    let mut labels = hostname.split('.').skip(1);
    let namespace = match (labels.next(), labels.next()) {
        (Some(namespace), Some("svc")) if !namespace.is_empty() => namespace,
        _ => client,
    };
    GatewayDestination::Hostname(NamespacedHostname {
        namespace: namespace.into(),
        hostname: hostname.into(),
    })
}

#[cfg(test)]
mod tests;
