//! Where a request that came through a tunnel goes, or a plain connection: to the local workload, and only to it.
//!
//! Runs after the authority was parsed and before policy (spec/dataplane.md §3.2 checks 4 and 5, §11). `route` is the
//! other end.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::route::Target;
use crate::service::{Endpoint, Service};
use crate::snapshot::MeshSnapshot;
use crate::workload::{ApplicationProtocol, Workload};

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
    /// The services that may have been meant; [`guess_service`] picks one for metrics.
    pub candidates: Vec<Candidate>,
}

/// A service that a request may have been meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The service.
    pub service: Arc<Service>,
    /// What the local workload is to it.
    pub endpoint: Option<Arc<Endpoint>>,
}

impl Candidate {
    fn of(mesh: &MeshSnapshot, service: &Arc<Service>, local: &Workload) -> Self {
        Self {
            service: Arc::clone(service),
            endpoint: mesh.endpoint(service, &local.uid).cloned(),
        }
    }

    fn own_port(&self, port: u16) -> Option<u16> {
        self.endpoint.as_ref()?.port.get(&port).copied()
    }
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
    /// The application wants a header that we cannot write yet; without it, it would take the peer for us.
    #[error("application tunnel of workload is not supported yet: PROXY (workload {0})")]
    ApplicationTunnel(Arc<str>),
    /// The application believes what a header says of the client, and anybody can write one: only we may.
    #[error("port {port} takes PROXY headers, which only the mesh may write (workload {workload})")]
    HeaderForged {
        /// The application's port.
        port: u16,
        /// The application's workload.
        workload: Arc<str>,
    },
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
            Self::ApplicationTunnel(_)
            | Self::HeaderForged { .. }
            | Self::NoPort { .. }
            | Self::SelfCall
            | Self::UnknownHost(_) => 503,
        }
    }
}

/// Decides where a request goes.
///
/// # Errors
/// When it goes nowhere, with the status to answer.
pub fn inbound(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
) -> Result<InboundRoute, InboundRefusal> {
    check_destination(facts)?;
    let (port, candidates) = next_hop(mesh, facts)?;
    let tunnel = facts.local.application_tunnel;
    let upstream = tunnel.and_then(|tunnel| tunnel.port).unwrap_or(port);
    // Upstream looks at the port asked for only; a tunnel port of ours would be a loop all the same.
    if facts.reserved_ports.contains(&port) || facts.reserved_ports.contains(&upstream) {
        return Err(InboundRefusal::SelfCall);
    }
    if tunnel.is_some_and(|tunnel| tunnel.protocol == ApplicationProtocol::Proxy) {
        return Err(InboundRefusal::ApplicationTunnel(Arc::clone(
            &facts.local.uid,
        )));
    }
    let destination = SocketAddr::new(facts.local_address.to_canonical(), upstream);
    Ok(InboundRoute {
        destination,
        header: None,
        candidates,
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
    Ok(InboundRoute {
        destination,
        header: None,
        candidates: candidates(mesh, local),
    })
}

/// §3.4. A name may still fail in `next_hop`; behind an application tunnel the application decides. That we may be the
/// waypoint of the address asked for comes with waypoints: until then it is refused.
fn check_destination(facts: &InboundFacts<'_>) -> Result<(), InboundRefusal> {
    let Target::Address(asked) = facts.target else {
        return Ok(());
    };
    let (local, asked) = (
        facts.local_address.to_canonical(),
        asked.ip().to_canonical(),
    );
    if asked == local || facts.local.application_tunnel.is_some() {
        return Ok(());
    }
    Err(InboundRefusal::AddressMismatch { local, asked })
}

/// §3.5: the port, and the services that may have been meant.
fn next_hop(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
) -> Result<(u16, Vec<Candidate>), InboundRefusal> {
    let local = facts.local;
    match facts.target {
        Target::Address(asked) => Ok((asked.port(), candidates(mesh, local))),
        Target::Host { hostname, port } => {
            let service = mesh
                .service_by_hostname(hostname, Some(&local.namespace))
                .ok_or_else(|| InboundRefusal::UnknownHost(hostname.clone()))?;
            let candidate = Candidate::of(mesh, service, local);
            let own = candidate.own_port(*port);
            let target = own.or_else(|| service.ports.get(port).copied());
            match target.filter(|target| *target != 0) {
                Some(target) => Ok((target, vec![candidate])),
                None => Err(InboundRefusal::NoPort {
                    hostname: hostname.clone(),
                    port: *port,
                }),
            }
        }
    }
}

fn candidates(mesh: &MeshSnapshot, local: &Workload) -> Vec<Candidate> {
    let services = local.services.keys().filter_map(|name| mesh.service(name));
    let candidates = services.map(|service| Candidate::of(mesh, service, local));
    candidates.collect()
}

/// The service that a connection to `port` of the local workload was probably meant for (§3.9): the one the client
/// named, else the first with a port that leads there.
#[must_use]
pub fn guess_service<'a>(
    candidates: &'a [Candidate],
    for_host: Option<&str>,
    port: u16,
) -> Option<&'a Arc<Service>> {
    let mut named = candidates.iter();
    let named = named.find(|candidate| for_host == Some(&*candidate.service.hostname));
    let leads_there = |candidate: &&Candidate| {
        let mut ports = candidate.service.ports.iter();
        ports.any(|(own, target)| *target == port || candidate.own_port(*own) == Some(port))
    };
    let guessed = named.or_else(|| candidates.iter().find(leads_there));
    guessed.map(|candidate| &candidate.service)
}

#[cfg(test)]
mod tests;
