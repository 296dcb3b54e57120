//! The steps of a decision, in words. `explain` listens to them; the path makes none of these texts.

use std::fmt;
use std::net::SocketAddr;

use super::gateway::{Role, spelled};
use crate::balance::LeftOut;
use crate::service::{Service, WeightedWaypoint};
use crate::workload::{GatewayAddress, GatewayDestination, TunnelProtocol, Workload};

/// A step of an outbound decision.
pub(crate) enum Step<'a> {
    Chosen(&'a Workload, usize),
    /// A waypoint, and the weight of all of them together.
    Drawn(&'a WeightedWaypoint, u64),
    FromWaypoint(&'a Workload),
    Hidden {
        service: &'a Service,
        workload: &'a Workload,
    },
    /// A waypoint or gateway, and the port on which it is dialled.
    Hop(Role, &'a Workload, u16),
    /// A line for each endpoint; who listens asks for them.
    LeftOut(&'a LeftOut<'a>),
    Name(&'a Workload),
    NoSuchPort(&'a Service, u16),
    OtherNetwork(&'a Workload, &'a GatewayAddress),
    PassthroughService(&'a Service),
    Service(&'a Service),
    /// As plain TCP, to an address that means a service or does not.
    StraightOn(SocketAddr, bool),
    /// A waypoint or gateway that nobody is.
    Unknown(&'a GatewayDestination),
    WaypointOfService(&'a Service, &'a GatewayAddress),
    WaypointOfWorkload(&'a Workload, &'a GatewayAddress),
    Workload(&'a Workload, u16),
}

impl Step<'_> {
    /// Kept as upstream has it, and hardly what somebody wanted.
    pub(crate) fn is_odd(&self) -> bool {
        // Without a waypoint nothing is gone around.
        matches!(self, Self::Hidden { service, .. }
            if service.waypoint.is_some() || !service.weighted_waypoints.is_empty())
    }
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chosen(workload, 1) => write!(f, "endpoint {} is the only one", workload.uid),
            Self::Chosen(workload, count) => {
                write!(f, "endpoint {} was drawn from {count}", workload.uid)
            }
            Self::Drawn(waypoint, total) => write!(
                f,
                "waypoint {} was drawn by its weight, {} of {total}",
                waypoint.destination.destination, waypoint.weight
            ),
            Self::FromWaypoint(workload) => write!(
                f,
                "workload {} has a waypoint, and the source is that waypoint",
                workload.uid
            ),
            Self::Hidden { service, workload } => write!(
                f,
                "workload {} has the address of service {}: that service's waypoint is not asked",
                workload.uid,
                service.key()
            ),
            Self::Hop(role, workload, port) => {
                let what = match role {
                    Role::NetworkGateway => "network gateway",
                    Role::Waypoint => "waypoint",
                };
                let uid = &workload.uid;
                write!(f, "{what} {uid} takes the tunnel on port {port}")
            }
            Self::LeftOut(left_out) => {
                let mut lines = left_out.lines();
                lines.try_for_each(|line| writeln!(f, "{line}"))
            }
            Self::Name(workload) => write!(
                f,
                "workload {} has no address, but a name to resolve: {}",
                workload.uid, workload.hostname
            ),
            Self::NoSuchPort(service, port) => {
                write!(f, "service {} has no port {port}", service.key())
            }
            Self::OtherNetwork(workload, gateway) => write!(
                f,
                "workload {} is in another network: {}; the gateway to it is {}",
                workload.uid,
                workload.network,
                spelled(gateway)
            ),
            Self::PassthroughService(service) => {
                let key = service.key();
                write!(f, "service {key} keeps the original destination")
            }
            Self::Service(service) => write!(f, "the target is service {}", service.key()),
            Self::StraightOn(address, true) => {
                write!(f, "{address} is dialled as plain TCP")
            }
            Self::StraightOn(address, false) => {
                write!(f, "{address} is no workload and no service of the mesh")
            }
            Self::Unknown(destination) => write!(f, "nobody is known as {destination}"),
            Self::WaypointOfService(service, waypoint) => write!(
                f,
                "service {} has a waypoint: {}",
                service.key(),
                spelled(waypoint)
            ),
            Self::WaypointOfWorkload(workload, waypoint) => {
                let uid = &workload.uid;
                write!(f, "workload {uid} has a waypoint: {}", spelled(waypoint))
            }
            Self::Workload(workload, port) => {
                let protocol = match workload.protocol {
                    TunnelProtocol::Hbone => "through a tunnel",
                    TunnelProtocol::Tcp => "by plain TCP",
                };
                let uid = &workload.uid;
                write!(f, "workload {uid} is reached {protocol} on port {port}")
            }
        }
    }
}

/// A step of an inbound decision.
pub(crate) enum InboundStep<'a> {
    /// Behind an application tunnel any address is taken.
    AnyAddress,
    /// A plain connection goes where it was going.
    Captured(SocketAddr),
    Header(SocketAddr),
    OwnAddress(SocketAddr),
    /// A service's port, and the local workload's that it leads to.
    Port(&'a Service, u16, u16),
    TunnelPort(u16),
    WaypointOfService(&'a Service),
    WaypointOfWorkload(&'a Workload),
}

impl fmt::Display for InboundStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyAddress => {
                f.write_str("behind an application tunnel the application decides what it takes")
            }
            Self::Captured(address) => {
                write!(f, "{address} is where the plain connection was going")
            }
            Self::Header(target) => {
                write!(f, "a PROXY header names the destination: {target}")
            }
            Self::OwnAddress(address) => {
                write!(f, "{address} is on the local workload's address")
            }
            Self::Port(service, port, target) => {
                let key = service.key();
                write!(f, "port {port} of service {key} leads to port {target}")
            }
            Self::TunnelPort(port) => {
                write!(f, "the application tunnel has a port of its own: {port}")
            }
            Self::WaypointOfService(service) => write!(
                f,
                "the local workload is the waypoint of service {}",
                service.key()
            ),
            Self::WaypointOfWorkload(workload) => write!(
                f,
                "the local workload is the waypoint of workload {}",
                workload.uid
            ),
        }
    }
}
