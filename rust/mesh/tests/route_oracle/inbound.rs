//! Where a request goes that came through a tunnel, sentence by sentence from spec/dataplane.md §3.4, §3.5 and §3.9.

use std::net::{IpAddr, SocketAddr};

use crate::oracle::{by_address, by_hostname, by_name, by_vip, key, named_workloads};
use crate::world::{Gateway, Inbound, Place, Service, Workload, World};

const RESERVED: [u16; 3] = [15001, 15006, 15008];

pub(crate) struct Oracle<'w> {
    pub(crate) world: &'w World,
    pub(crate) ask: &'w Inbound,
    /// `cfg.network`
    pub(crate) network: &'w str,
}

/// (destination, header, guessed service) or (status, text)
pub(crate) type Outcome = Result<(SocketAddr, Option<SocketAddr>, Option<String>), (u16, String)>;

impl<'w> Oracle<'w> {
    fn local(&self) -> &'w Workload {
        &self.world.workloads[self.ask.local]
    }

    pub(crate) fn route(&self) -> Outcome {
        let local = self.local();
        if let Ok(asked) = self.ask.asked
            && asked != self.ask.local_address
            && local.tunnel.is_none()
            && !self.is_waypoint_of(asked)
        {
            let text = format!("ip mismatch: {} != {asked}", self.ask.local_address);
            return Err((400, text));
        }
        let mine = || {
            let all = self.world.services.iter();
            let mut all: Vec<&Service> = all
                .filter(|s| local.services.contains_key(&key(s)))
                .collect();
            // In the order of the workload's own map.
            all.sort_by_key(|service| key(service));
            all
        };
        let (port, candidates) = match &self.ask.asked {
            Ok(_) => (self.ask.port, mine()),
            Err(host) => {
                let Some(service) = by_hostname(self.world, host, Some(local.namespace)) else {
                    return Err((503, format!("no service or workload for hostname: {host}")));
                };
                let own = local.services.get(&key(service));
                let own = own.and_then(|ports| ports.get(&self.ask.port));
                let port = own.or_else(|| service.ports.get(&self.ask.port));
                let Some(port) = port.copied().filter(|port| *port != 0) else {
                    let (port, start) = (self.ask.port, "requested service");
                    let text = format!("{start} {host}:{port} found, but cannot resolve port");
                    return Err((503, text));
                };
                (port, vec![service])
            }
        };
        let upstream = local.tunnel.and_then(|(_, port)| port).unwrap_or(port);
        // Ours looks at the tunnel's port as well.
        if RESERVED.contains(&port) || RESERVED.contains(&upstream) {
            return Err((503, "attempted recursive call to ourselves".into()));
        }
        let header = match local.tunnel {
            Some((true, _)) => Some(self.header(candidates.first().copied())?),
            _ => None,
        };
        let destination = SocketAddr::new(self.ask.local_address, upstream);
        let guess = self.guess(&candidates, upstream);
        Ok((destination, header, guess))
    }

    fn header(&self, service: Option<&Service>) -> Result<SocketAddr, (u16, String)> {
        let host = match &self.ask.asked {
            Ok(asked) => return Ok(SocketAddr::new(*asked, self.ask.port)),
            Err(host) => host,
        };
        let mut best: Option<(u8, IpAddr)> = None;
        for (network, vip) in service.map_or(&[][..], |service| &service.vips) {
            let rank = match (*network == self.network, vip.is_ipv4()) {
                (true, true) => 2,
                (true, false) => 1,
                (false, _) => 0,
            };
            if best.is_none_or(|(other, _)| rank >= other) {
                best = Some((rank, *vip));
            }
        }
        let Some((_, vip)) = best else {
            let text = format!("requested service {host} found, but has no IP addresses");
            return Err((503, text));
        };
        Ok(SocketAddr::new(vip, self.ask.port))
    }

    /// §3.4 "am I the waypoint of that target?", with any member of a weighted set (§20.2 item 7).
    fn is_waypoint_of(&self, asked: IpAddr) -> bool {
        let gateways: Vec<&Gateway> = if let Some(w) = by_address(self.world, self.network, asked) {
            w.waypoint.iter().collect()
        } else if let Some(s) = by_vip(self.world, self.network, asked, None) {
            let weighted = s.weighted.iter().map(|(gateway, _)| gateway);
            s.waypoint.iter().chain(weighted).collect()
        } else {
            return false;
        };
        gateways.iter().any(|gateway| self.is_us(gateway))
    }

    fn is_us(&self, gateway: &Gateway) -> bool {
        let of_service = |s: &Service| self.local().services.contains_key(&key(s));
        let of_workload = |w: &Workload| w.addresses.contains(&self.ask.local_address);
        match &gateway.place {
            Place::Address(network, address) => match by_address(self.world, network, *address) {
                Some(workload) => of_workload(workload),
                None => by_vip(self.world, network, *address, None).is_some_and(of_service),
            },
            Place::Host(namespace, hostname) => match by_name(self.world, namespace, hostname) {
                Some(service) => of_service(service),
                None => named_workloads(self.world, namespace, hostname).is_some_and(of_workload),
            },
        }
    }

    /// §3.9, without a name from the client.
    fn guess(&self, candidates: &[&Service], port: u16) -> Option<String> {
        let found = candidates.iter().find(|service| {
            let own = self.local().services.get(&key(service));
            service.ports.iter().any(|(service_port, target)| {
                *target == port || own.and_then(|own| own.get(service_port)) == Some(&port)
            })
        });
        found.map(|service| format!("{}/{}", service.namespace, service.hostname))
    }
}
