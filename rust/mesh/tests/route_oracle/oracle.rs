//! Where a connection goes, sentence by sentence from spec/dataplane.md §2.2, §2.3 and §10. It scans everything, shares no
//! code with the crate, and answers with all that may happen and how probable each is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::world::{Gateway, Outbound, Place, Service, Workload, World};

/// What may come out, with probabilities that sum to 1.
pub(crate) type Chances<T> = Vec<(T, f64)>;

pub(crate) type Outcome = Result<String, String>;

fn surely<T>(value: T) -> Chances<T> {
    vec![(value, 1.0)]
}

fn then<T, U>(first: Chances<T>, mut next: impl FnMut(T) -> Chances<U>) -> Chances<U> {
    let mut all = Vec::new();
    for (value, chance) in first {
        for (end, share) in next(value) {
            all.push((end, chance * share));
        }
    }
    all
}

pub(crate) fn summed(chances: Chances<Outcome>) -> BTreeMap<Outcome, f64> {
    let mut sums = BTreeMap::new();
    for (outcome, chance) in chances {
        *sums.entry(outcome).or_insert(0.0) += chance;
    }
    sums
}

/// "address, then what"
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Standard,
    Waypoint,
}

/// What a lookup of an address or name came to.
#[derive(Clone, Copy)]
struct Found<'w> {
    workload: &'w Workload,
    port: u16,
    service: Option<&'w Service>,
    /// What the address was selected against.
    wanted: IpAddr,
}

enum Ip {
    Is(IpAddr),
    Name(String),
    None,
}

pub(crate) struct Oracle<'w> {
    world: &'w World,
    source: &'w Workload,
    ask: &'w Outbound,
    /// `cfg.network`
    network: &'w str,
}

impl<'w> Oracle<'w> {
    pub(crate) fn new(world: &'w World, ask: &'w Outbound, network: &'w str) -> Self {
        Self {
            world,
            source: &world.workloads[ask.source],
            ask,
            network,
        }
    }

    /// §2.2
    pub(crate) fn route(&self) -> Chances<Outcome> {
        let target = self.ask.target;
        // "Only a Service result counts."
        let addressed = match by_address(self.world, self.network, target) {
            Some(_) => None,
            None => by_vip(
                self.world,
                self.network,
                target,
                Some(self.source.namespace),
            ),
        };
        let Some(v) = addressed else {
            return self.step_b(None);
        };
        // A1
        then(self.waypoint_of(v), |gateway| match gateway {
            None => self.step_b(Some(v)),
            Some(gateway) => then(self.resolve(&gateway, Mode::Waypoint), |found| {
                let Some(found) = found else {
                    return surely(Err("unknown waypoint".into()));
                };
                if lost(found) {
                    return surely(Err("no valid routing destination for workload".into()));
                }
                // A2
                if found.workload.network != self.source.network {
                    return self.through_gateway(found, v);
                }
                // A3
                surely(self.to_waypoint(found, Some(v)))
            }),
        })
    }

    /// §10.6
    fn waypoint_of(&self, v: &Service) -> Chances<Option<Gateway>> {
        let total: u32 = v.weighted.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return surely(v.waypoint.clone());
        }
        let share = |(gateway, weight): &(Gateway, u32)| {
            (Some(gateway.clone()), f64::from(*weight) / f64::from(total))
        };
        let drawn = v.weighted.iter().filter(|(_, weight)| *weight > 0);
        drawn.map(share).collect()
    }

    fn to_waypoint(&self, found: Found<'w>, service: Option<&Service>) -> Outcome {
        let authority = socket(self.ask.target, self.ask.port);
        match select(found) {
            Ip::None => Err("no valid routing destination for workload".into()),
            Ip::Name(name) => Ok(format!("resolve {name}")),
            Ip::Is(ip) => Ok(format!(
                "hbone {} for {authority} at {} as {:?} service {}",
                socket(ip, found.port),
                found.workload.uid,
                names(found),
                service_name(service),
            )),
        }
    }

    fn step_b(&self, v: Option<&'w Service>) -> Chances<Outcome> {
        let (target, port) = (self.ask.target, self.ask.port);
        let found = self.upstream(self.source.network, target, port, Mode::Standard, target);
        then(found, |found| {
            let Some(u) = found else {
                return surely(match v {
                    Some(v) if !is_passthrough(v) => Err("no healthy upstream".into()),
                    _ => Ok(format!("tcp {} at - service -", socket(target, port))),
                });
            };
            // "DNS/no-IP failures inside propagate as errors."
            if lost(u) {
                return surely(Err("no valid routing destination for workload".into()));
            }
            // C
            if u.workload.network != self.source.network {
                return match v {
                    Some(v) => self.through_gateway(u, v),
                    None => surely(Err("no service for target address".into())),
                };
            }
            // D
            match &u.workload.waypoint {
                Some(gateway) if v.is_none() && !self.is_from_waypoint(gateway) => {
                    then(self.resolve(gateway, Mode::Waypoint), |found| match found {
                        None => surely(Err("unknown waypoint".into())),
                        Some(found) => surely(self.to_waypoint(found, u.service)),
                    })
                }
                _ => surely(self.direct(u)),
            }
        })
    }

    /// D1: "resolves to a workload W (or to a service any of whose endpoint workloads W) such that W.identity == S.identity
    /// AND D ∈ W.workload_ips"
    fn is_from_waypoint(&self, gateway: &Gateway) -> bool {
        let is_us = |w: &Workload| {
            w.identity() == self.source.identity() && w.addresses.contains(&self.ask.client)
        };
        // Ours does not look at every endpoint, only at the two that can be meant: the source itself and whoever has its
        // address. It differs where several workloads of one identity share an address that does not lead to them.
        let there = by_address(self.world, self.source.network, self.ask.client);
        let any_endpoint = |service: &Service| {
            let endpoint = |w: &Workload| w.services.contains_key(&key(service)) && is_us(w);
            endpoint(self.source) || there.is_some_and(endpoint)
        };
        match &gateway.place {
            Place::Address(network, address) => match by_address(self.world, network, *address) {
                Some(workload) => is_us(workload),
                None => by_vip(self.world, network, *address, Some(self.source.namespace))
                    .is_some_and(any_endpoint),
            },
            Place::Host(namespace, hostname) => match by_name(self.world, namespace, hostname) {
                Some(service) => any_endpoint(service),
                None => named_workloads(self.world, namespace, hostname).is_some_and(is_us),
            },
        }
    }

    /// D3
    fn direct(&self, u: Found<'w>) -> Outcome {
        let ip = match select(u) {
            Ip::None => return Err("no valid routing destination for workload".into()),
            Ip::Name(name) => return Ok(format!("resolve {name}")),
            Ip::Is(ip) => ip,
        };
        let (peer, authority) = (socket(ip, 15008), socket(ip, u.port));
        let (uid, service) = (&u.workload.uid, service_name(u.service));
        Ok(if u.workload.hbone {
            format!(
                "hbone {peer} for {authority} at {uid} as {:?} service {service}",
                names(u)
            )
        } else {
            format!("tcp {authority} at {uid} service {service}")
        })
    }

    /// §2.3
    fn through_gateway(&self, x: Found<'w>, v: &Service) -> Chances<Outcome> {
        let Some(gateway) = &x.workload.gateway else {
            return surely(Err("no valid routing destination for workload".into()));
        };
        then(self.resolve(gateway, Mode::Standard), |found| {
            let Some(g) = found else {
                return surely(Err("unknown network gateway".into()));
            };
            let inner = x.service.map(|service| service.names.clone());
            surely(match select(g) {
                Ip::None => Err("no valid routing destination for workload".into()),
                Ip::Name(name) => Ok(format!("resolve {name}")),
                Ip::Is(ip) => Ok(format!(
                    "double {} for {}:{} at {} as {:?} inner {:?} service {}",
                    socket(ip, g.port),
                    v.hostname,
                    self.ask.port,
                    g.workload.uid,
                    names(g),
                    inner.unwrap_or_default(),
                    service_name(Some(v)),
                )),
            })
        })
    }

    /// §10.5
    fn resolve(&self, gateway: &Gateway, mode: Mode) -> Chances<Option<Found<'w>>> {
        match &gateway.place {
            Place::Address(network, address) => {
                self.upstream(network, *address, gateway.port, mode, *address)
            }
            Place::Host(namespace, hostname) => {
                let wanted = self.ask.target;
                if let Some(service) = by_name(self.world, namespace, hostname) {
                    return self.of_service(service, gateway.port, mode, wanted);
                }
                let named = named_workloads(self.world, namespace, hostname);
                surely(named.map(|workload| Found {
                    workload,
                    port: gateway.port,
                    service: None,
                    wanted,
                }))
            }
        }
    }

    /// §10.4
    fn upstream(
        &self,
        network: &str,
        address: IpAddr,
        port: u16,
        mode: Mode,
        wanted: IpAddr,
    ) -> Chances<Option<Found<'w>>> {
        let client = Some(self.source.namespace);
        if let Some(service) = by_vip(self.world, network, address, client) {
            if is_passthrough(service) {
                return surely(None);
            }
            return self.of_service(service, port, mode, wanted);
        }
        let workload = by_address(self.world, network, address);
        surely(workload.map(|workload| Found {
            workload,
            port,
            service: None,
            wanted,
        }))
    }

    fn of_service(
        &self,
        service: &'w Service,
        port: u16,
        mode: Mode,
        wanted: IpAddr,
    ) -> Chances<Option<Found<'w>>> {
        then(self.balance(service, port, mode), |workload| {
            let Some(workload) = workload else {
                return surely(None);
            };
            let own = workload.services[&key(service)].get(&port).copied();
            let shared = service.ports.get(&port).copied().filter(|p| *p > 0);
            let tunnelled = workload.tunnel.and_then(|(_, port)| port).map(|_| port);
            let mapped = own.or(shared).or(tunnelled);
            surely(mapped.map(|port| Found {
                workload,
                port,
                service: Some(service),
                wanted,
            }))
        })
    }

    fn balance(&self, svc: &Service, port: u16, mode: Mode) -> Chances<Option<&'w Workload>> {
        let target = svc.ports.get(&port).copied();
        if mode == Mode::Standard && target.is_none() {
            return surely(None);
        }
        let all_comers = svc.balancer.as_ref().is_some_and(|b| b.all_comers);
        let mut candidates: Vec<&Workload> = Vec::new();
        for w in &self.world.workloads {
            let Some(own) = w.services.get(&key(svc)) else {
                continue;
            };
            if !w.healthy && !all_comers {
                continue;
            }
            let far = w.network != self.source.network && w.gateway.is_some();
            if w.addresses.is_empty() && w.hostname.is_empty() && !far {
                continue;
            }
            let dropped = match mode {
                Mode::Standard => target == Some(0) && !own.contains_key(&port),
                Mode::Waypoint => target.is_none() && w.tunnel.is_none(),
            };
            if !dropped {
                candidates.push(w);
            }
        }
        if let Some(balancer) = svc.balancer.as_ref().filter(|b| b.mode != "Standard") {
            let strict = balancer.mode == "Strict";
            let ranked: Vec<(usize, usize, &Workload)> = candidates
                .iter()
                .map(|w| {
                    let (plain, adjusted) = self.rank(w, &balancer.preferences);
                    (plain, adjusted, *w)
                })
                .filter(|(plain, ..)| !strict || *plain == balancer.preferences.len())
                .collect();
            let best = ranked.iter().map(|(_, adjusted, _)| *adjusted).max();
            let best = ranked
                .into_iter()
                .filter(|(_, adjusted, _)| Some(*adjusted) == best);
            candidates = best.map(|(.., w)| w).collect();
        }
        let total: u32 = candidates.iter().map(|w| w.capacity).sum();
        if total == 0 {
            return surely(None);
        }
        let share = |w: &Workload| f64::from(w.capacity) / f64::from(total);
        let weighed = candidates.iter().filter(|w| w.capacity > 0);
        weighed.map(|w| (Some(*w), share(w))).collect()
    }

    /// (as walked, with what a match of a first NETWORK adds)
    fn rank(&self, w: &Workload, preferences: &[&str]) -> (usize, usize) {
        let s = self.source;
        let mut rank = 0;
        let network_first = preferences.first() == Some(&"Network");
        for (at, preference) in preferences.iter().enumerate() {
            let same = match *preference {
                "Region" => w.region == s.region,
                "Zone" => w.zone == s.zone,
                "Node" => w.node == s.node,
                "Cluster" => w.cluster == s.cluster,
                "Network" => w.network == s.network,
                other => unreachable!("not drawn: {other}"),
            };
            if same {
                rank += 1;
            } else if !(at == 0 && network_first) {
                break;
            }
        }
        let bonus = network_first && w.network == s.network;
        (
            rank,
            if bonus {
                rank + preferences.len() - 1
            } else {
                rank
            },
        )
    }
}

/// §10.7
fn select(found: Found<'_>) -> Ip {
    let w = found.workload;
    if w.addresses.contains(&found.wanted) {
        return Ip::Is(found.wanted);
    }
    let families = found.service.and_then(|service| service.families);
    let usable: Vec<IpAddr> = w
        .addresses
        .iter()
        .copied()
        .filter(|ip| match families {
            Some("IPv4") => ip.is_ipv4(),
            Some("IPv6") => ip.is_ipv6(),
            _ => true,
        })
        .collect();
    let same = usable
        .iter()
        .find(|ip| ip.is_ipv4() == found.wanted.is_ipv4());
    match same.or_else(|| usable.first()) {
        Some(ip) => Ip::Is(*ip),
        None if w.hostname.is_empty() => Ip::None,
        None => Ip::Name(w.hostname.clone()),
    }
}

/// "none and hostname empty: network_gateway present → no IP (gateway path only), else error"
fn lost(found: Found<'_>) -> bool {
    matches!(select(found), Ip::None) && found.workload.gateway.is_none()
}

/// "service SANs followed by workload identity"
fn names(found: Found<'_>) -> Vec<String> {
    let mut names = found.service.map(|s| s.names.clone()).unwrap_or_default();
    names.push(found.workload.identity());
    names
}

/// §10.1
pub(crate) fn by_address<'w>(
    world: &'w World,
    network: &str,
    address: IpAddr,
) -> Option<&'w Workload> {
    let mut best: Option<(u32, &Workload)> = None;
    for w in &world.workloads {
        if w.network != network || w.host_network || !w.addresses.contains(&address) {
            continue;
        }
        let score = 2 * u32::from(w.uid.contains("//Pod/")) + u32::from(w.hbone);
        if best.is_none_or(|(other, _)| score >= other) {
            best = Some((score, w));
        }
    }
    best.map(|(_, w)| w)
}

/// §10.3
fn visible(service: &Service, client: Option<&str>) -> bool {
    !service.private || client.is_none_or(|client| client == service.namespace)
}

fn ranked<'w>(services: &[&'w Service], client: Option<&str>) -> Option<&'w Service> {
    let mut canonical = None;
    for service in services {
        if client == Some(service.namespace) {
            return Some(service);
        }
        if service.canonical {
            canonical = Some(*service);
        }
    }
    canonical.or_else(|| services.first().copied())
}

pub(crate) fn by_vip<'w>(
    world: &'w World,
    network: &str,
    address: IpAddr,
    client: Option<&str>,
) -> Option<&'w Service> {
    let seen: Vec<&Service> = world
        .services
        .iter()
        .filter(|s| visible(s, client))
        .collect();
    let exact: Vec<&Service> = seen
        .iter()
        .copied()
        .filter(|s| {
            s.vips
                .iter()
                .any(|(own, vip)| *own == network && *vip == address)
        })
        .collect();
    if let Some(service) = ranked(&exact, client) {
        return Some(service);
    }
    let mut best: Option<((bool, u8, bool), &Service)> = None;
    for service in seen {
        for (of, block, length) in &service.blocks {
            if *of != network || !contains(*block, *length, address) {
                continue;
            }
            let rank = (
                client == Some(service.namespace),
                *length,
                service.canonical,
            );
            if best.is_none_or(|(other, _)| rank > other) {
                best = Some((rank, service));
            }
        }
    }
    best.map(|(_, service)| service)
}

fn contains(block: IpAddr, length: u8, address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => (32, u128::from(u32::from(ip))),
        IpAddr::V6(ip) => (128, u128::from(ip)),
    };
    let ((width, block), (other, address)) = (bits(block), bits(address));
    let shift = width - u32::from(length);
    width == other && (block >> shift) == (address >> shift)
}

pub(crate) fn by_hostname<'w>(
    world: &'w World,
    host: &str,
    client: Option<&str>,
) -> Option<&'w Service> {
    let all = world.services.iter();
    let named: Vec<&Service> = all
        .filter(|s| s.hostname == host && visible(s, client))
        .collect();
    ranked(&named, client)
}

pub(crate) fn by_name<'w>(
    world: &'w World,
    namespace: &str,
    hostname: &str,
) -> Option<&'w Service> {
    let mut all = world.services.iter();
    all.find(|s| s.namespace == namespace && s.hostname == hostname)
}

/// "linear scan on hostname+namespace". Which of several it finds is left open, so that a world has one at most.
pub(crate) fn named_workloads<'w>(
    world: &'w World,
    namespace: &str,
    host: &str,
) -> Option<&'w Workload> {
    let mut all = world.workloads.iter();
    all.find(|w| w.namespace == namespace && w.hostname == host && !w.hostname.is_empty())
}

fn is_passthrough(service: &Service) -> bool {
    service
        .balancer
        .as_ref()
        .is_some_and(|b| b.mode == "Passthrough")
}

pub(crate) fn key(service: &Service) -> (String, String) {
    (service.namespace.into(), service.hostname.clone())
}

fn service_name(service: Option<&Service>) -> String {
    service.map_or_else(|| "-".into(), |s| format!("{}/{}", s.namespace, s.hostname))
}

fn socket(ip: IpAddr, port: u16) -> std::net::SocketAddr {
    std::net::SocketAddr::new(ip, port)
}
