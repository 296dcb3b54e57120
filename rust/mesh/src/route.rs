//! Where an outbound connection goes: straight on, or through a tunnel to whom.
//!
//! The rules are those of spec/dataplane.md §2.2; its letters stand at the steps. What they need and we cannot do yet
//! (waypoints, gateways, names to resolve) is refused, never gone around: beyond a waypoint may stand the only policy
//! there is. `route/inbound.rs` is the other end.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::balance::{LeftOut, Purpose, choose_endpoint};
use crate::identity::Identity;
use crate::service::Service;
use crate::snapshot::MeshSnapshot;
use crate::workload::{TunnelProtocol, Workload};

mod inbound;

pub use inbound::{
    Candidate, InboundFacts, InboundRefusal, InboundRoute, guess_service, inbound, plaintext,
};

/// What a connection was opened to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address and port.
    Address(SocketAddr),
    /// A hostname and port; compared byte by byte.
    Host {
        /// The name.
        hostname: String,
        /// The service's port.
        port: u16,
    },
}

impl Target {
    /// Reads `ip:port`, `[ip]:port` or `hostname:port`; hostnames are lower-cased.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return (address.port() != 0).then_some(Self::Address(address));
        }
        let (hostname, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port != 0)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        let is_name = !hostname.is_empty() && hostname.bytes().all(plain);
        is_name.then(|| Self::Host {
            hostname: hostname.to_ascii_lowercase(),
            port,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { hostname, port } => write!(f, "{hostname}:{port}"),
        }
    }
}

/// What is known of an outbound connection before it is decided where it goes.
#[derive(Clone, Copy, Debug)]
pub struct RouteFacts<'a> {
    /// The workload that opened it.
    pub source: &'a Workload,
    /// The address it came from.
    pub client: IpAddr,
    /// What it was opened to.
    pub target: &'a Target,
    /// The network we are in.
    pub network: &'a str,
    /// The port on which peers take tunnels, 15008 but in tests.
    pub hbone_port: u16,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Into a tunnel.
    Hbone {
        /// Whom to dial.
        peer: SocketAddr,
        /// What to ask the peer for.
        authority: Target,
        /// Whom the peer's certificate may name; never empty.
        expected: Vec<Identity>,
        /// The workload at the other end of the tunnel: the destination or its waypoint.
        workload: Arc<Workload>,
        /// The service it was chosen for.
        service: Option<Arc<Service>>,
    },
    /// Into a tunnel through a tunnel: another network's gateway carries the inner one (§2.3).
    DoubleHbone {
        /// The gateway to dial.
        peer: SocketAddr,
        /// What to ask the gateway for, and the inner peer again: a service's hostname and port.
        authority: Target,
        /// Whom the gateway's certificate may name.
        expected: Vec<Identity>,
        /// Whom the inner peer's certificate may name. Empty: nobody can be meant, and the inner handshake must fail.
        inner_expected: Vec<Identity>,
        /// The gateway.
        workload: Arc<Workload>,
        /// The service it was chosen for.
        service: Arc<Service>,
    },
    /// A name has to be resolved first; [`Unresolved::answered`] goes on from there.
    Resolve(Box<Unresolved>),
    /// Straight on, as plain TCP.
    Passthrough {
        /// Whom to dial.
        destination: SocketAddr,
        /// The workload there, if it is one of the mesh.
        workload: Option<Arc<Workload>>,
        /// The service it was chosen for.
        service: Option<Arc<Service>>,
    },
}

/// A route that lacks an address: the chosen workload has a hostname instead (§10.7, §10.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    hostname: Arc<str>,
}

impl Unresolved {
    /// The name to resolve.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// The route, now that the name's addresses are known; `choose` as for [`route`].
    ///
    /// # Errors
    /// None of the addresses can be used.
    pub fn answered(
        self,
        _addresses: &[IpAddr],
        _choose: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Route, NoRoute> {
        Err(NoRoute::Unresolved(self.hostname))
    }
}

/// Why a connection goes nowhere. Texts with a counterpart upstream are upstream's (spec/dataplane.md §2, §14).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// The workload is in another network, behind a gateway.
    #[error(
        "no route through a network gateway: {gateway} (workload {workload}); gateways are not supported yet"
    )]
    NeedsGateway {
        /// The gateway.
        gateway: String,
        /// The workload's uid.
        workload: Arc<str>,
    },
    /// An L7 hop stands in front of the destination.
    #[error("no route through a waypoint: {0} has one; waypoints are not supported yet")]
    NeedsWaypoint(String),
    /// A service has no endpoint that could take the connection.
    #[error("no healthy upstream: {0}")]
    NoHealthyUpstream(Target),
    /// A workload in another network was addressed by itself.
    #[error("no service for target address: {0}")]
    NoService(Target),
    /// A workload has no address that could be used.
    #[error("no valid routing destination for workload: {0}")]
    NoValidDestination(Arc<str>),
    /// No service goes by this name.
    #[error("no service or workload for hostname: {0}")]
    UnknownHost(String),
    /// A workload has a name to resolve instead of addresses.
    #[error(
        "no ip addresses were resolved for workload: {0}; resolving names is not supported yet"
    )]
    Unresolved(Arc<str>),
}

/// Draws a number below the one given.
pub(crate) type Chance<'a> = &'a mut dyn FnMut(u64) -> u64;

/// Hears of the steps of a decision; `explain` listens, the path does not.
pub(crate) type Listener<'a> = &'a mut dyn FnMut(&Step<'_>);

/// Decides where an outbound connection goes. `choose` draws a number from 0 up to, not including, the total weight it
/// is given.
///
/// # Errors
/// When it goes nowhere; the connection is then closed with that text in the log.
pub fn route(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    choose: &mut dyn FnMut(u64) -> u64,
) -> Result<Route, NoRoute> {
    decide(mesh, facts, choose, &mut |_| {})
}

pub(crate) fn decide(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Result<Route, NoRoute> {
    match facts.target {
        Target::Address(address) => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            to_address(mesh, facts, address, chance, listener)
        }
        Target::Host { hostname, port } => {
            let Some(service) = mesh.service_by_hostname(hostname, Some(&facts.source.namespace))
            else {
                return Err(NoRoute::UnknownHost(hostname.clone()));
            };
            to_service(mesh, facts, service, *port, chance, listener)
        }
    }
}

fn to_address(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    address: SocketAddr,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Result<Route, NoRoute> {
    let straight_on = Route::Passthrough {
        destination: address,
        workload: None,
        service: None,
    };
    let client = Some(&*facts.source.namespace);
    let network = &*facts.source.network;
    // A. Here a workload hides a service on the same address; in B it does not.
    let hidden = mesh
        .workload_by_address(facts.network, address.ip())
        .is_some();
    let meant = mesh
        .service_by_vip(facts.network, address.ip(), client)
        .filter(|_| !hidden);
    if let Some(service) = meant.filter(|service| service.needs_waypoint()) {
        return Err(NoRoute::NeedsWaypoint(format!("service {}", service.key())));
    }
    // B. A service on the address goes before a workload on it.
    if let Some(service) = mesh.service_by_vip(network, address.ip(), client) {
        if service.is_passthrough() && !service.needs_waypoint() {
            listener(&Step::PassthroughService(service));
            return Ok(straight_on);
        }
        return to_service(mesh, facts, service, address.port(), chance, listener);
    }
    if let Some(workload) = mesh.workload_by_address(network, address.ip()) {
        return to_workload(facts, workload, address.port(), None, listener);
    }
    if meant.is_some_and(|service| !service.is_passthrough()) {
        return Err(NoRoute::NoHealthyUpstream(facts.target.clone()));
    }
    listener(&Step::UnknownAddress(address));
    Ok(straight_on)
}

fn to_service(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    service: &Arc<Service>,
    port: u16,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Result<Route, NoRoute> {
    listener(&Step::Service(service));
    if service.needs_waypoint() {
        return Err(NoRoute::NeedsWaypoint(format!("service {}", service.key())));
    }
    let (workload, port) = choose_endpoint(
        mesh,
        service,
        facts.source,
        port,
        Purpose::Traffic,
        chance,
        listener,
    )
    .ok_or_else(|| NoRoute::NoHealthyUpstream(facts.target.clone()))?;
    to_workload(facts, workload, port, Some(service), listener)
}

fn to_workload(
    facts: &RouteFacts<'_>,
    workload: &Arc<Workload>,
    port: u16,
    service: Option<&Arc<Service>>,
    listener: Listener<'_>,
) -> Result<Route, NoRoute> {
    listener(&Step::Workload(workload, port));
    // C. Another network is reached through its gateway, and only on behalf of a service.
    if workload.network != facts.source.network {
        return Err(other_network(facts, workload, service));
    }
    // D2. Traffic for a service never passes a workload's waypoint.
    if service.is_none() && workload.waypoint.is_some() {
        return Err(NoRoute::NeedsWaypoint(format!("workload {}", workload.uid)));
    }
    // D3.
    let address = select_address(facts, workload, service)?;
    let destination = SocketAddr::new(address, port);
    let (workload, service) = (Arc::clone(workload), service.cloned());
    Ok(match workload.protocol {
        TunnelProtocol::Hbone => Route::Hbone {
            peer: SocketAddr::new(address, facts.hbone_port),
            authority: Target::Address(destination),
            expected: expected(&workload, service.as_deref()),
            workload,
            service,
        },
        TunnelProtocol::Tcp => Route::Passthrough {
            destination,
            workload: Some(workload),
            service,
        },
    })
}

fn other_network(
    facts: &RouteFacts<'_>,
    workload: &Workload,
    service: Option<&Arc<Service>>,
) -> NoRoute {
    match (service, &workload.network_gateway) {
        (None, _) => NoRoute::NoService(facts.target.clone()),
        (Some(_), None) => NoRoute::NoValidDestination(Arc::clone(&workload.uid)),
        (Some(_), Some(gateway)) => NoRoute::NeedsGateway {
            gateway: gateway.destination.to_string(),
            workload: Arc::clone(&workload.uid),
        },
    }
}

/// §10.7: the address asked for if it is one of the workload's, else the first of the same family, else the first.
/// Who asked for a name gets the family it came by.
fn select_address(
    facts: &RouteFacts<'_>,
    workload: &Workload,
    service: Option<&Arc<Service>>,
) -> Result<IpAddr, NoRoute> {
    let wanted = match facts.target {
        Target::Address(address) => address.ip().to_canonical(),
        Target::Host { .. } => facts.client.to_canonical(),
    };
    let by_address = matches!(facts.target, Target::Address(_));
    if by_address && workload.addresses.contains(&wanted) {
        return Ok(wanted);
    }
    let allowed =
        |address: &&IpAddr| service.is_none_or(|service| service.allows_family(**address));
    let mut usable = workload.addresses.iter().filter(allowed);
    let same_family = usable
        .clone()
        .find(|address| address.is_ipv4() == wanted.is_ipv4());
    same_family
        .or_else(|| usable.next())
        .copied()
        .ok_or_else(|| {
            if workload.hostname.is_empty() {
                NoRoute::NoValidDestination(Arc::clone(&workload.uid))
            } else {
                NoRoute::Unresolved(Arc::clone(&workload.uid))
            }
        })
}

fn expected(workload: &Workload, service: Option<&Service>) -> Vec<Identity> {
    let names = service
        .into_iter()
        .flat_map(|service| &service.subject_alt_names);
    let mut expected: Vec<Identity> = names.filter_map(|name| name.identity().cloned()).collect();
    expected.push(workload.identity());
    expected
}

/// A step of a decision, for the record.
pub(crate) enum Step<'a> {
    Chosen(&'a Workload, usize),
    /// A line for each endpoint; who listens asks for them.
    LeftOut(&'a LeftOut<'a>),
    NoSuchPort(&'a Service, u16),
    PassthroughService(&'a Service),
    Service(&'a Service),
    UnknownAddress(SocketAddr),
    Workload(&'a Workload, u16),
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(workload, 1) => write!(f, "endpoint {} is the only one", workload.uid),
            Self::Chosen(workload, count) => {
                write!(f, "endpoint {} was drawn from {count}", workload.uid)
            }
            Self::LeftOut(left_out) => {
                let mut lines = left_out.lines();
                lines.try_for_each(|line| writeln!(f, "{line}"))
            }
            Self::NoSuchPort(service, port) => {
                write!(f, "service {} has no port {port}", service.key())
            }
            Self::PassthroughService(service) => {
                write!(
                    f,
                    "service {} keeps the original destination",
                    service.key()
                )
            }
            Self::Service(service) => write!(f, "the target is service {}", service.key()),
            Self::UnknownAddress(address) => {
                write!(f, "{address} is no workload and no service of the mesh")
            }
            Self::Workload(workload, port) => {
                let protocol = match workload.protocol {
                    TunnelProtocol::Hbone => "through a tunnel",
                    TunnelProtocol::Tcp => "by plain TCP",
                };
                write!(
                    f,
                    "workload {} is reached {protocol} on port {port}",
                    workload.uid
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
