//! At which of its addresses a workload is reached, and what is left to do if it has only a name
//! (spec/dataplane.md §10.7, §10.8).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{NoRoute, Route, Target};
use crate::identity::Identity;
use crate::service::Service;
use crate::workload::{TunnelProtocol, Workload};

/// What decides between the addresses of a workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// This one if the workload has it, else one like it.
    Address(IpAddr),
    /// One of the same family: who asked for a name gets the family it came by.
    FamilyOf(IpAddr),
}

impl Wanted {
    pub(super) fn is_ipv4(self) -> bool {
        let (Self::Address(address) | Self::FamilyOf(address)) = self;
        address.is_ipv4()
    }
}

/// Where a workload is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At an address.
    At(IpAddr),
    /// Only the gateway of its network knows.
    BehindGateway,
    /// At an address that its name leads to.
    Named,
}

impl Place {
    /// The place of a workload that was chosen for `service`: the address wanted if it is one of the workload's, else the
    /// first of the same family, else the first, as far as the service allows the family.
    pub(super) fn of(
        workload: &Workload,
        service: Option<&Arc<Service>>,
        wanted: Wanted,
    ) -> Result<Self, NoRoute> {
        if let Wanted::Address(address) = wanted
            && workload.addresses.contains(&address)
        {
            return Ok(Self::At(address));
        }
        let allowed =
            |address: &&IpAddr| service.is_none_or(|service| service.allows_family(**address));
        let mut usable = workload.addresses.iter().filter(allowed);
        let alike = usable
            .clone()
            .find(|address| address.is_ipv4() == wanted.is_ipv4());
        if let Some(address) = alike.or_else(|| usable.next()) {
            return Ok(Self::At(*address));
        }
        if !workload.hostname.is_empty() {
            return Ok(Self::Named);
        }
        match workload.network_gateway {
            Some(_) => Ok(Self::BehindGateway),
            None => Err(NoRoute::NoValidDestination(Arc::clone(&workload.uid))),
        }
    }
}

/// A route but for the address to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// To the workload itself, as it wants to be reached.
    Direct {
        port: u16,
        hbone_port: u16,
        workload: Arc<Workload>,
        service: Option<Arc<Service>>,
    },
    /// Through a tunnel to a waypoint.
    Tunnel {
        port: u16,
        authority: Target,
        expected: Vec<Identity>,
        workload: Arc<Workload>,
        service: Option<Arc<Service>>,
    },
    /// Through a tunnel that another network's gateway carries on.
    TunnelInTunnel {
        port: u16,
        authority: Target,
        expected: Vec<Identity>,
        inner_expected: Vec<Identity>,
        workload: Arc<Workload>,
        service: Arc<Service>,
    },
}

impl Ending {
    fn workload(&self) -> &Arc<Workload> {
        let (Self::Direct { workload, .. }
        | Self::Tunnel { workload, .. }
        | Self::TunnelInTunnel { workload, .. }) = self;
        workload
    }

    fn service(&self) -> Option<&Arc<Service>> {
        match self {
            Self::Direct { service, .. } | Self::Tunnel { service, .. } => service.as_ref(),
            Self::TunnelInTunnel { service, .. } => Some(service),
        }
    }

    /// There is no address, and no name that leads to one.
    pub(super) fn nowhere(&self) -> NoRoute {
        NoRoute::NoValidDestination(Arc::clone(&self.workload().uid))
    }

    pub(super) fn at(self, address: IpAddr) -> Route {
        match self {
            Self::Direct {
                port,
                hbone_port,
                workload,
                service,
            } => {
                let destination = SocketAddr::new(address, port);
                match workload.protocol {
                    TunnelProtocol::Hbone => Route::Hbone {
                        peer: SocketAddr::new(address, hbone_port),
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
                }
            }
            Self::Tunnel {
                port,
                authority,
                expected,
                workload,
                service,
            } => Route::Hbone {
                peer: SocketAddr::new(address, port),
                authority,
                expected,
                workload,
                service,
            },
            Self::TunnelInTunnel {
                port,
                authority,
                expected,
                inner_expected,
                workload,
                service,
            } => Route::DoubleHbone {
                peer: SocketAddr::new(address, port),
                authority,
                expected,
                inner_expected,
                workload,
                service,
            },
        }
    }
}

/// A route that lacks an address: the chosen workload has a hostname instead (§10.7, §10.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unresolved {
    ending: Ending,
    ipv4_first: bool,
    /// For whose endpoint it was chosen, which may rule out a family.
    chosen_for: Option<Arc<Service>>,
}

impl Unresolved {
    pub(super) fn new(
        ending: Ending,
        wanted: Wanted,
        chosen_for: Option<&Arc<Service>>,
    ) -> Box<Self> {
        Box::new(Self {
            ending,
            ipv4_first: wanted.is_ipv4(),
            chosen_for: chosen_for.cloned(),
        })
    }

    /// The name to resolve.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.ending.workload().hostname
    }

    /// The workload whose name it is.
    #[must_use]
    pub fn workload(&self) -> &Arc<Workload> {
        self.ending.workload()
    }

    /// The service for which the way leads there.
    #[must_use]
    pub fn service(&self) -> Option<&Arc<Service>> {
        self.ending.service()
    }

    /// The route, now that the name's addresses are known; `choose` as for [`super::route`]. One of the family that was
    /// asked for is drawn, else one of the other.
    ///
    /// # Errors
    /// None of the addresses can be used.
    pub fn answered(
        self,
        addresses: &[IpAddr],
        choose: &mut dyn FnMut(u64) -> u64,
    ) -> Result<Route, NoRoute> {
        let allowed = |address: &IpAddr| {
            let service = self.chosen_for.as_ref();
            service.is_none_or(|service| service.allows_family(*address))
        };
        let usable = addresses.iter().map(IpAddr::to_canonical).filter(allowed);
        let (first, other): (Vec<_>, Vec<_>) =
            usable.partition(|address| address.is_ipv4() == self.ipv4_first);
        let list = if first.is_empty() { other } else { first };
        match super::outbound::draw(choose, list.len() as u64)
            .and_then(|at| list.get(usize::try_from(at).ok()?))
        {
            Some(address) => Ok(self.ending.at(*address)),
            None => Err(NoRoute::EmptyAnswer(Arc::clone(&self.workload().uid))),
        }
    }

    /// What to say when resolving failed, or took too long.
    #[must_use]
    pub fn failed(self) -> NoRoute {
        NoRoute::Unresolved(Arc::clone(&self.workload().uid))
    }
}

/// Whom the certificate of a workload chosen for `service` may name: the service's names first, as upstream has them in
/// the key of its pool.
pub(super) fn expected(workload: &Workload, service: Option<&Service>) -> Vec<Identity> {
    let mut expected = named(service);
    expected.push(workload.identity());
    expected
}

/// The identities among a service's names.
pub(super) fn named(service: Option<&Service>) -> Vec<Identity> {
    let names = service
        .into_iter()
        .flat_map(|service| &service.subject_alt_names);
    names.filter_map(|name| name.identity().cloned()).collect()
}
