//! Where an outbound connection goes: straight on, through a tunnel to whom, or through a tunnel in a tunnel.
//!
//! Here are the question and its answers. The steps between them are `route/outbound.rs` (spec/dataplane.md §2.2),
//! waypoints and gateways `route/gateway.rs`, the address to dial `route/place.rs`; `route/step.rs` puts them into words.
//! `route/inbound.rs` is the other end.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::identity::Identity;
use crate::service::Service;
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

mod gateway;
mod guess;
mod inbound;
mod missing;
mod outbound;
mod place;
mod step;

pub use guess::{Candidates, guess_service};
pub use inbound::{InboundFacts, InboundRefusal, InboundRoute, inbound, plaintext};
pub use missing::{inbound_miss, route_or_miss, workload_or_miss};
pub use place::Unresolved;

pub(crate) use inbound::{decide_inbound, decide_plaintext};
pub(crate) use outbound::decide;
pub(crate) use step::{InboundStep, Step};

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

    fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host { port, .. } => *port,
        }
    }

    /// The address, if it is one; IPv4 in IPv6's spelling becomes IPv4.
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => {
                Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
            }
            Self::Host { .. } => None,
        }
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

/// Why a connection goes nowhere. Texts with a counterpart upstream are upstream's (spec/dataplane.md §2, §14).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// Names were looked up for a workload, and the answer had no address that could be used.
    #[error(
        "ip addresses were resolved for workload {0}, but valid dns response had no A/AAAA records"
    )]
    EmptyAnswer(Arc<str>),
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
    /// The way into another network is not known, or nothing there could take the connection: its hostname if nobody
    /// goes by it, else `network/ip:port` or `namespace/hostname:port`.
    #[error("unknown network gateway: network gateway {0} not found")]
    UnknownNetworkGateway(String),
    /// The L7 hop in front of the destination is not known, or nothing there could take the connection; as above.
    /// The connection never goes around it: beyond may stand the only policy there is.
    #[error("unknown waypoint: waypoint {0} not found")]
    UnknownWaypoint(String),
    /// A workload has a name instead of addresses, and resolving it failed.
    #[error("no ip addresses were resolved for workload: {0}")]
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

/// As [`route`]. `odd` hears what is kept as upstream has it and can hardly be meant: a workload at a service's address,
/// so that the service's waypoint is not asked (spec/dataplane.md §20.2 item 18).
///
/// # Errors
/// As [`route`].
pub fn route_noting(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    choose: &mut dyn FnMut(u64) -> u64,
    odd: &mut dyn FnMut(&dyn fmt::Display),
) -> Result<Route, NoRoute> {
    decide(mesh, facts, choose, &mut |step| {
        if step.is_odd() {
            odd(step);
        }
    })
}

#[cfg(test)]
mod tests;
