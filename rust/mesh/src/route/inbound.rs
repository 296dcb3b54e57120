//! Where a request that came through a tunnel goes, or a plain connection: to the local workload, and only to it.
//!
//! Runs after the authority was parsed and before policy (spec/dataplane.md §3.2 checks 4 and 5, §11). `route` is the
//! other end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::guess::Candidates;
use super::{InboundStep, Target};
use crate::service::Service;
use crate::snapshot::{Holder, MeshSnapshot};
use crate::workload::{ApplicationProtocol, GatewayAddress, Workload};

/// What is known of a request before it is decided where it goes.
#[derive(Clone, Copy, Debug)]
pub struct InboundFacts<'a> {
    /// The workload we stand for.
    pub local: &'a Workload,
    /// The address on which the tunnel reached us.
    pub local_address: IpAddr,
    /// The request's authority.
    pub target: &'a Target,
    /// The network we are in.
    pub network: &'a str,
    /// Our own ports, which no request may reach.
    pub reserved_ports: &'a [u16],
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    /// What to dial; also what policy is asked about.
    pub destination: SocketAddr,
    /// The application wants a PROXY v2 header in front of the bytes, with this address as its destination (§3.8).
    pub header: Option<SocketAddr>,
    /// The services that may have been meant; [`super::guess_service`] picks one for metrics.
    pub candidates: Candidates,
}

/// Why a request goes nowhere; the texts are upstream's (spec/dataplane.md §3.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InboundRefusal {
    /// The authority names another address than the one the tunnel reached.
    #[error("ip mismatch: {local} != {asked}")]
    AddressMismatch {
        /// The address on which the tunnel reached us.
        local: IpAddr,
        /// The address asked for.
        asked: IpAddr,
    },
    /// The application believes what a header says of the client, and anybody can write one: only we may.
    #[error("port {port} takes PROXY headers, which only the mesh may write (workload {workload})")]
    HeaderForged {
        /// The application's port.
        port: u16,
        /// The application's workload.
        workload: Arc<str>,
    },
    /// A header has to name an address, and the service has none.
    #[error("requested service {0} found, but has no IP addresses")]
    NoAddress(String),
    /// The service does not have the port.
    #[error("requested service {hostname}:{port} found, but cannot resolve port")]
    NoPort {
        /// The service asked for.
        hostname: String,
        /// Its port.
        port: u16,
    },
    /// The port is one of ours.
    #[error("attempted recursive call to ourselves")]
    SelfCall,
    /// No service goes by this name.
    #[error("no service or workload for hostname: {0}")]
    UnknownHost(String),
}

impl InboundRefusal {
    /// The HTTP status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::AddressMismatch { .. } => 400,
            Self::HeaderForged { .. }
            | Self::NoAddress(_)
            | Self::NoPort { .. }
            | Self::SelfCall
            | Self::UnknownHost(_) => 503,
        }
    }
}

/// Hears of the steps of a decision; `explain` listens, the path does not.
type Listener<'a> = &'a mut dyn FnMut(&InboundStep<'_>);

/// Decides where a request goes.
///
/// # Errors
/// When it goes nowhere, with the status to answer.
pub fn inbound(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
) -> Result<InboundRoute, InboundRefusal> {
    decide_inbound(mesh, facts, &mut |_| {})
}

pub(crate) fn decide_inbound(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
    listener: Listener<'_>,
) -> Result<InboundRoute, InboundRefusal> {
    check_destination(mesh, facts, listener)?;
    let meant = service_meant(mesh, facts)?;
    let port = match meant {
        Some((service, port)) => own_port(mesh, facts.local, service, port, listener)?,
        None => facts.target.port(),
    };
    let tunnel = facts.local.application_tunnel;
    let upstream = match tunnel.and_then(|tunnel| tunnel.port) {
        Some(own) => {
            listener(&InboundStep::TunnelPort(own));
            own
        }
        None => port,
    };
    // Upstream looks at the port asked for only; a tunnel port of ours would be a loop all the same.
    if facts.reserved_ports.contains(&port) || facts.reserved_ports.contains(&upstream) {
        return Err(InboundRefusal::SelfCall);
    }
    let headers = tunnel.is_some_and(|tunnel| tunnel.protocol == ApplicationProtocol::Proxy);
    let header = match (headers, meant) {
        (false, _) => None,
        (true, Some((service, port))) => Some(address_of(service, port, facts.network)?),
        (true, None) => facts.target.address(),
    };
    if let Some(target) = header {
        listener(&InboundStep::Header(target));
    }
    Ok(InboundRoute {
        destination: SocketAddr::new(facts.local_address.to_canonical(), upstream),
        header,
        candidates: match meant {
            Some((service, _)) => Candidates::one(mesh, facts.local, service),
            None => Candidates::all(mesh, facts.local),
        },
    })
}

/// Decides where a plain connection goes that was captured on its way to `destination`: there, if anywhere.
///
/// # Errors
/// Its first bytes could be taken for a header of ours (spec/reliability.md T24).
pub fn plaintext(
    mesh: &MeshSnapshot,
    local: &Workload,
    destination: SocketAddr,
) -> Result<InboundRoute, InboundRefusal> {
    decide_plaintext(mesh, local, destination, &mut |_| {})
}

/// Headers are refused on their port at every address of the pod: we hand ours over on loopback, but an application
/// that listens there listens on all its addresses as often. Who calls it on loopback from inside the pod is not stopped
/// here, since that never comes to us; such a caller shares the application's identity anyway.
pub(crate) fn decide_plaintext(
    mesh: &MeshSnapshot,
    local: &Workload,
    destination: SocketAddr,
    listener: Listener<'_>,
) -> Result<InboundRoute, InboundRefusal> {
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    let port = destination.port();
    let headers = local
        .application_tunnel
        .filter(|tunnel| tunnel.protocol == ApplicationProtocol::Proxy);
    if headers.is_some_and(|tunnel| tunnel.port.is_none_or(|own| own == port)) {
        return Err(InboundRefusal::HeaderForged {
            port,
            workload: Arc::clone(&local.uid),
        });
    }
    listener(&InboundStep::Captured(destination));
    Ok(InboundRoute {
        destination,
        header: None,
        candidates: Candidates::all(mesh, local),
    })
}

/// §3.4. A name may still fail later; behind an application tunnel the application decides; else the address must be our
/// own, or one whose waypoint we are.
fn check_destination(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
    listener: Listener<'_>,
) -> Result<(), InboundRefusal> {
    let Some(target) = facts.target.address() else {
        return Ok(());
    };
    let local = facts.local_address.to_canonical();
    if target.ip() == local {
        listener(&InboundStep::OwnAddress(target));
        return Ok(());
    }
    if facts.local.application_tunnel.is_some() {
        listener(&InboundStep::AnyAddress);
        return Ok(());
    }
    if is_waypoint_of(mesh, facts, target.ip(), listener) {
        return Ok(());
    }
    Err(InboundRefusal::AddressMismatch {
        local,
        asked: target.ip(),
    })
}

/// Whether the local workload is a waypoint of what stands at `asked`. Every one of several is, whatever its weight:
/// the peer that drew it may know an older one (§20.2 item 7).
fn is_waypoint_of(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
    asked: IpAddr,
    listener: Listener<'_>,
) -> bool {
    match mesh.holder(facts.network, asked, None) {
        Some(Holder::Service(service)) => {
            let several = service.weighted_waypoints.iter();
            let mut all = several
                .map(|each| &each.destination)
                .chain(&service.waypoint);
            let is_one = all.any(|waypoint| is_local(mesh, facts, waypoint));
            if is_one {
                listener(&InboundStep::WaypointOfService(service));
            }
            is_one
        }
        Some(Holder::Workload(workload)) => {
            let waypoint = workload.waypoint.as_ref();
            let is_one = waypoint.is_some_and(|waypoint| is_local(mesh, facts, waypoint));
            if is_one {
                listener(&InboundStep::WaypointOfWorkload(workload));
            }
            is_one
        }
        None => false,
    }
}

/// Whether a waypoint is the local workload: an endpoint of a service, healthy or not, or who has our address.
fn is_local(mesh: &MeshSnapshot, facts: &InboundFacts<'_>, waypoint: &GatewayAddress) -> bool {
    match mesh.gateway(&waypoint.destination, None) {
        Some(Holder::Service(service)) => mesh.endpoint(service, &facts.local.uid).is_some(),
        Some(Holder::Workload(workload)) => workload
            .addresses
            .contains(&facts.local_address.to_canonical()),
        None => false,
    }
}

/// The service that was asked for by its name, with the port of it.
fn service_meant<'a>(
    mesh: &'a MeshSnapshot,
    facts: &InboundFacts<'_>,
) -> Result<Option<(&'a Arc<Service>, u16)>, InboundRefusal> {
    let Target::Host { hostname, port } = facts.target else {
        return Ok(None);
    };
    let service = mesh.service_by_hostname(hostname, Some(&facts.local.namespace));
    let service = service.ok_or_else(|| InboundRefusal::UnknownHost(hostname.clone()))?;
    Ok(Some((service, *port)))
}

/// The local workload's port for a service's: its own word goes before the service's.
fn own_port(
    mesh: &MeshSnapshot,
    local: &Workload,
    service: &Arc<Service>,
    port: u16,
    listener: Listener<'_>,
) -> Result<u16, InboundRefusal> {
    let own = mesh
        .endpoint(service, &local.uid)
        .and_then(|endpoint| endpoint.port.get(&port).copied());
    let target = own.or_else(|| service.ports.get(&port).copied());
    match target.filter(|target| *target != 0) {
        Some(target) => {
            listener(&InboundStep::Port(service, port, target));
            Ok(target)
        }
        None => Err(InboundRefusal::NoPort {
            hostname: service.hostname.to_string(),
            port,
        }),
    }
}

/// What a header says for a service that was asked for by name (§3.5): an address in our network, preferably IPv4; the
/// last of equals.
fn address_of(service: &Service, port: u16, network: &str) -> Result<SocketAddr, InboundRefusal> {
    let best = service.vips.iter().max_by_key(|vip| {
        match (*vip.network == *network, vip.address.is_ipv4()) {
            (true, true) => 2,
            (true, false) => 1,
            (false, _) => 0,
        }
    });
    match best {
        Some(vip) => Ok(SocketAddr::new(vip.address, port)),
        None => Err(InboundRefusal::NoAddress(service.hostname.to_string())),
    }
}

#[cfg(test)]
mod tests;
