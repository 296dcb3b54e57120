//! Waypoints, the L7 hops in front of a destination, and gateways, the ways into other networks
//! (spec/dataplane.md §2.3, §10.5, §10.6).

use std::net::SocketAddr;
use std::sync::Arc;

use super::outbound::{Decision, Upstream, draw};
use super::place::{Ending, Place, Wanted, expected, named};
use super::{NoRoute, Route, Step, Target};
use crate::balance::Purpose;
use crate::service::Service;
use crate::snapshot::Holder;
use crate::workload::{GatewayAddress, GatewayDestination, Workload};

/// What somebody is looked for to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    NetworkGateway,
    Waypoint,
}

impl Role {
    fn purpose(self) -> Purpose {
        match self {
            Self::NetworkGateway => Purpose::Traffic,
            Self::Waypoint => Purpose::Waypoint,
        }
    }

    fn not_found(self, name: String) -> NoRoute {
        match self {
            Self::NetworkGateway => NoRoute::UnknownNetworkGateway(name),
            Self::Waypoint => NoRoute::UnknownWaypoint(name),
        }
    }
}

/// A waypoint or gateway that was found.
struct Hop<'a> {
    upstream: Upstream<'a>,
    place: Place,
    wanted: Wanted,
}

impl<'a> Decision<'a, '_> {
    /// A1 to A3. None if the service has no waypoint.
    pub(super) fn through_waypoint_of(
        &mut self,
        service: &'a Arc<Service>,
    ) -> Result<Option<Route>, NoRoute> {
        let Some(waypoint) = self.waypoint_of(service) else {
            return Ok(None);
        };
        self.say(&Step::WaypointOfService(service, waypoint));
        let hop = self.hop(waypoint, Role::Waypoint)?;
        // A2.
        if hop.upstream.workload.network != self.facts.source.network {
            return self.through_gateway(hop.upstream, service).map(Some);
        }
        let authority = self.authority(Some(service));
        self.tunnel_to(hop, authority, Some(service)).map(Some)
    }

    /// D2. Unlike A2, a waypoint in another network is dialled all the same.
    pub(super) fn through_waypoint_of_workload(
        &mut self,
        workload: &'a Arc<Workload>,
        service: Option<&'a Arc<Service>>,
    ) -> Result<Route, NoRoute> {
        let Some(waypoint) = &workload.waypoint else {
            return Err(NoRoute::NoValidDestination(Arc::clone(&workload.uid)));
        };
        self.say(&Step::WaypointOfWorkload(workload, waypoint));
        let hop = self.hop(waypoint, Role::Waypoint)?;
        let authority = self.authority(None);
        self.tunnel_to(hop, authority, service)
    }

    /// §2.3. `beyond` is whom the gateway leads to, on behalf of `service`.
    pub(super) fn through_gateway(
        &mut self,
        beyond: Upstream<'a>,
        service: &'a Arc<Service>,
    ) -> Result<Route, NoRoute> {
        let remote = beyond.workload;
        let Some(gateway) = &remote.network_gateway else {
            return Err(NoRoute::NoValidDestination(Arc::clone(&remote.uid)));
        };
        self.say(&Step::OtherNetwork(remote, gateway));
        let hop = self.hop(gateway, Role::NetworkGateway)?;
        let Upstream {
            workload,
            port,
            service: gateways,
        } = hop.upstream;
        self.say(&Step::Hop(Role::NetworkGateway, workload, port));
        let ending = Ending::TunnelInTunnel {
            port,
            authority: Target::Host {
                hostname: service.hostname.to_string(),
                port: self.facts.target.port(),
            },
            expected: expected(workload, gateways.map(|service| &**service)),
            // Not the workload's own: which of those beyond takes it, the gateway decides.
            inner_expected: named(beyond.service.map(|service| &**service)),
            workload: Arc::clone(workload),
            service: Arc::clone(service),
        };
        self.end(hop.place, hop.wanted, gateways, ending)
    }

    fn tunnel_to(
        &mut self,
        hop: Hop<'a>,
        authority: Target,
        service: Option<&Arc<Service>>,
    ) -> Result<Route, NoRoute> {
        let Upstream {
            workload,
            port,
            service: waypoints,
        } = hop.upstream;
        self.say(&Step::Hop(Role::Waypoint, workload, port));
        let ending = Ending::Tunnel {
            port,
            authority,
            expected: expected(workload, waypoints.map(|service| &**service)),
            workload: Arc::clone(workload),
            service: service.cloned(),
        };
        self.end(hop.place, hop.wanted, waypoints, ending)
    }

    /// §10.6: one of several is drawn for each connection; if none of them has a weight, the only one there is.
    fn waypoint_of(&mut self, service: &'a Arc<Service>) -> Option<&'a GatewayAddress> {
        let several = &service.weighted_waypoints;
        let total = several.iter().map(|each| u64::from(each.weight)).sum();
        let Some(mut drawn) = draw(self.chance, total) else {
            return service.waypoint.as_ref();
        };
        let found = several.iter().find(|each| {
            let weight = u64::from(each.weight);
            let rest = drawn.checked_sub(weight);
            drawn = rest.unwrap_or(drawn);
            rest.is_none()
        })?;
        self.say(&Step::Drawn(found, total));
        Some(&found.destination)
    }

    /// §10.5. By address it is what stands there, dialled at that address if it can be; by name, the caller's family
    /// decides.
    fn hop(&mut self, gateway: &'a GatewayAddress, role: Role) -> Result<Hop<'a>, NoRoute> {
        let port = gateway.hbone_mtls_port;
        let (found, wanted) = match &gateway.destination {
            GatewayDestination::Address(at) => {
                let there = self.meanings(&at.network, SocketAddr::new(at.address, port));
                if there.is_nobody() {
                    self.say(&Step::Unknown(&gateway.destination));
                }
                let found = self.upstream(there, port, role.purpose());
                (found, Wanted::Address(at.address))
            }
            GatewayDestination::Hostname(name) => {
                let client = Some(&*self.facts.source.namespace);
                let found = match self.mesh.gateway(&gateway.destination, client) {
                    Some(Holder::Service(service)) => {
                        self.endpoint_of(service, port, role.purpose())
                    }
                    Some(Holder::Workload(workload)) => Some(Upstream {
                        workload,
                        port,
                        service: None,
                    }),
                    None => {
                        self.say(&Step::Unknown(&gateway.destination));
                        return Err(role.not_found(name.hostname.to_string()));
                    }
                };
                (found, self.wanted())
            }
        };
        let upstream = found.ok_or_else(|| role.not_found(spelled(gateway)))?;
        let place = Place::of(upstream.workload, upstream.service, wanted)?;
        Ok(Hop {
            upstream,
            place,
            wanted,
        })
    }

    /// D1: whether the source is the waypoint of a workload, so that its own traffic must not be sent to it again.
    ///
    /// Of a service's endpoints only those can be the source that have its address: itself, or who else is found there.
    /// An unhealthy one is the waypoint all the same.
    pub(super) fn is_from_waypoint_of(&mut self, workload: &Workload) -> bool {
        let Some(waypoint) = &workload.waypoint else {
            return false;
        };
        let (mesh, source) = (self.mesh, self.facts.source);
        let client = self.facts.client.to_canonical();
        let is_source = |other: &Workload| {
            other.addresses.contains(&client)
                && other.trust_domain == source.trust_domain
                && other.namespace == source.namespace
                && other.service_account == source.service_account
        };
        let from = match mesh.gateway(&waypoint.destination, Some(&source.namespace)) {
            Some(Holder::Workload(other)) => is_source(other),
            Some(Holder::Service(service)) => {
                let there = mesh.workload_by_address(&source.network, client);
                let there = there.filter(|there| there.uid != source.uid);
                let mut suspects = there.map(|there| &**there).into_iter().chain([source]);
                suspects
                    .any(|other| is_source(other) && mesh.endpoint(service, &other.uid).is_some())
            }
            None => false,
        };
        if from {
            self.say(&Step::FromWaypoint(workload));
        }
        from
    }

    /// What a service's waypoint is asked for: what was dialled, untranslated. Who asked for a name gets the address that
    /// the name means, since every waypoint knows the service by its addresses.
    fn authority(&self, service: Option<&Service>) -> Target {
        if let Some(address) = self.facts.target.address() {
            return Target::Address(address);
        }
        let network = &self.facts.source.network;
        let vips = service.into_iter().flat_map(|service| &service.vips);
        let mut own = vips.filter(|vip| vip.network == *network);
        let ipv4 = self.wanted().is_ipv4();
        let alike = own.clone().find(|vip| vip.address.is_ipv4() == ipv4);
        match alike.or_else(|| own.next()) {
            Some(vip) => Target::Address(SocketAddr::new(vip.address, self.facts.target.port())),
            None => self.facts.target.clone(),
        }
    }
}

/// A waypoint or gateway at which nobody could be chosen: `network/ip:port`, `network/[ip]:port` or
/// `namespace/hostname:port`, as in the dump and with the port, which is the usual mistake.
pub(super) fn spelled(gateway: &GatewayAddress) -> String {
    let port = gateway.hbone_mtls_port;
    match &gateway.destination {
        GatewayDestination::Address(at) => {
            format!("{}/{}", at.network, SocketAddr::new(at.address, port))
        }
        GatewayDestination::Hostname(name) => format!("{name}:{port}"),
    }
}
