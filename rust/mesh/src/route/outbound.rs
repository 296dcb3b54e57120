//! The steps of an outbound decision (spec/dataplane.md §2.2; its letters stand at the steps).

use std::net::SocketAddr;
use std::sync::Arc;

use super::place::{Ending, Place, Unresolved, Wanted};
use super::{Chance, Listener, NoRoute, Route, RouteFacts, Step, Target};
use crate::balance::{Purpose, choose_endpoint};
use crate::service::Service;
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

/// [`super::route`], for who listens to the steps.
pub(crate) fn decide(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    chance: Chance<'_>,
    listener: Listener<'_>,
) -> Result<Route, NoRoute> {
    let mut decision = Decision {
        mesh,
        facts,
        chance,
        listener,
    };
    match facts.target {
        Target::Address(address) => {
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            decision.reach_address(address)
        }
        Target::Host { hostname, port } => decision.reach_hostname(hostname, *port),
    }
}

/// A decision under way.
pub(super) struct Decision<'a, 'l> {
    pub(super) mesh: &'a MeshSnapshot,
    pub(super) facts: &'a RouteFacts<'a>,
    pub(super) chance: Chance<'l>,
    pub(super) listener: Listener<'l>,
}

/// A workload that was chosen, and why.
#[derive(Clone, Copy)]
pub(super) struct Upstream<'a> {
    pub(super) workload: &'a Arc<Workload>,
    pub(super) port: u16,
    /// For which service, if for one.
    pub(super) service: Option<&'a Arc<Service>>,
}

/// What an address may mean in one network.
#[derive(Clone, Copy)]
pub(super) struct Meanings<'a> {
    service: Option<&'a Arc<Service>>,
    workload: Option<&'a Arc<Workload>>,
}

impl Meanings<'_> {
    pub(super) const fn is_nobody(self) -> bool {
        self.service.is_none() && self.workload.is_none()
    }
}

impl<'a> Decision<'a, '_> {
    fn reach_address(&mut self, address: SocketAddr) -> Result<Route, NoRoute> {
        let (ours, sources) = (self.facts.network, &*self.facts.source.network);
        let here = self.meanings(ours, address);
        // A. Here a workload hides a service on the same address; in B it does not (§20.2 item 18).
        let meant = match (here.service, here.workload) {
            (Some(service), Some(workload)) => {
                self.say(&Step::Hidden { service, workload });
                None
            }
            (service, _) => service,
        };
        if let Some(service) = meant {
            self.say(&Step::Service(service));
            if let Some(route) = self.through_waypoint_of(service)? {
                return Ok(route);
            }
        }
        // B. A service on the address goes before a workload on it.
        let there = if ours == sources {
            here
        } else {
            self.meanings(sources, address)
        };
        let upstream = self.upstream(there, address.port(), Purpose::Traffic);
        match upstream {
            Some(upstream) => self.reach(upstream, meant),
            None if meant.is_some_and(|service| !service.is_passthrough()) => {
                Err(NoRoute::NoHealthyUpstream(self.facts.target.clone()))
            }
            None => {
                self.say(&Step::StraightOn(address, there.service.is_some()));
                Ok(Route::Passthrough {
                    destination: address,
                    workload: None,
                    service: None,
                })
            }
        }
    }

    /// Upstream resolves the name first and goes on with an address; here the service is known at once. It is not
    /// asked whether destinations are kept, since there is none.
    fn reach_hostname(&mut self, hostname: &str, port: u16) -> Result<Route, NoRoute> {
        let client = Some(&*self.facts.source.namespace);
        let Some(service) = self.mesh.service_by_hostname(hostname, client) else {
            return Err(NoRoute::UnknownHost(hostname.to_owned()));
        };
        self.say(&Step::Service(service));
        if let Some(route) = self.through_waypoint_of(service)? {
            return Ok(route);
        }
        match self.endpoint_of(service, port, Purpose::Traffic) {
            Some(upstream) => self.reach(upstream, Some(service)),
            None => Err(NoRoute::NoHealthyUpstream(self.facts.target.clone())),
        }
    }

    /// C and D. `meant` is the service that was addressed.
    fn reach(
        &mut self,
        upstream: Upstream<'a>,
        meant: Option<&'a Arc<Service>>,
    ) -> Result<Route, NoRoute> {
        let Upstream {
            workload,
            port,
            service,
        } = upstream;
        let place = Place::of(workload, service, self.wanted())?;
        // C. Another network is reached through its gateway, and only on behalf of a service.
        if workload.network != self.facts.source.network {
            let Some(meant) = meant else {
                return Err(NoRoute::NoService(self.facts.target.clone()));
            };
            return self.through_gateway(upstream, meant);
        }
        // D1, D2. Traffic for a service never passes a workload's waypoint.
        if meant.is_none() && !self.is_from_waypoint_of(workload) && workload.waypoint.is_some() {
            return self.through_waypoint_of_workload(workload, service);
        }
        // D3.
        self.say(&Step::Workload(workload, port));
        let ending = Ending::Direct {
            port,
            hbone_port: self.facts.hbone_port,
            workload: Arc::clone(workload),
            service: service.cloned(),
        };
        self.end(place, self.wanted(), service, ending)
    }

    pub(super) fn meanings(&self, network: &str, address: SocketAddr) -> Meanings<'a> {
        let client = Some(&*self.facts.source.namespace);
        Meanings {
            service: self.mesh.service_by_vip(network, address.ip(), client),
            workload: self.mesh.workload_by_address(network, address.ip()),
        }
    }

    /// §10.4: an endpoint of the service there, else the workload there.
    pub(super) fn upstream(
        &mut self,
        there: Meanings<'a>,
        port: u16,
        purpose: Purpose,
    ) -> Option<Upstream<'a>> {
        match there.service {
            Some(service) if service.is_passthrough() => {
                self.say(&Step::PassthroughService(service));
                None
            }
            Some(service) => self.endpoint_of(service, port, purpose),
            None => there.workload.map(|workload| Upstream {
                workload,
                port,
                service: None,
            }),
        }
    }

    pub(super) fn endpoint_of(
        &mut self,
        service: &'a Arc<Service>,
        port: u16,
        purpose: Purpose,
    ) -> Option<Upstream<'a>> {
        let chosen = choose_endpoint(
            self.mesh,
            service,
            self.facts.source,
            port,
            purpose,
            self.chance,
            self.listener,
        );
        chosen.map(|(workload, port)| Upstream {
            workload,
            port,
            service: Some(service),
        })
    }

    /// The route that ends at `place`, which a workload chosen for the service `chosen_for` has.
    pub(super) fn end(
        &mut self,
        place: Place,
        wanted: Wanted,
        chosen_for: Option<&Arc<Service>>,
        ending: Ending,
    ) -> Result<Route, NoRoute> {
        match place {
            Place::At(address) => Ok(ending.at(address)),
            Place::BehindGateway => Err(ending.nowhere()),
            Place::Named => {
                let unresolved = Unresolved::new(ending, wanted, chosen_for);
                self.say(&Step::Name(unresolved.workload()));
                Ok(Route::Resolve(unresolved))
            }
        }
    }

    /// What the target says about the address to dial.
    pub(super) fn wanted(&self) -> Wanted {
        match self.facts.target {
            Target::Address(address) => Wanted::Address(address.ip().to_canonical()),
            Target::Host { .. } => Wanted::FamilyOf(self.facts.client.to_canonical()),
        }
    }

    pub(super) fn say(&mut self, step: &Step<'_>) {
        (self.listener)(step);
    }
}

/// A number below `total`; none if there is none. A careless source of chance gets the last one, not a panic.
pub(super) fn draw(chance: Chance<'_>, total: u64) -> Option<u64> {
    let last = total.checked_sub(1)?;
    Some(chance(total).min(last))
}
