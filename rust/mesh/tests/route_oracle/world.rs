//! Small random meshes, as plain data and as the resources that a store takes.
//!
//! Few names, addresses and networks, so that services share addresses, workloads hide services and gateways are found
//! about as often as not. What the text leaves open is not drawn: two services of one namespace on one address, a name
//! instead of addresses for a workload of another network.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

pub(crate) const NAMESPACES: [&str; 3] = ["a", "b", "c"];
pub(crate) const NETWORKS: [&str; 2] = ["", "far"];
pub(crate) const VIPS: [&str; 4] = ["10.9.0.1", "10.9.0.2", "ff06::91", "10.0.0.3"];
pub(crate) const BLOCKS: [(&str, u8); 4] = [
    ("10.9.0.0", 24),
    ("10.0.0.0", 8),
    ("ff06::", 16),
    ("10.9.0.2", 31),
];
pub(crate) const ADDRESSES: [&str; 7] = [
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "ff06::1", "ff06::2", "ff06::3",
];
pub(crate) const PORTS: [u16; 3] = [80, 443, 15008];

/// The seed decides everything (splitmix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// Each of them with a chance of one in `n`.
    fn some<T: Copy>(&mut self, all: &[T], n: u64) -> Vec<T> {
        all.iter().copied().filter(|_| self.one_in(n)).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(&'static str, IpAddr),
    Host(String, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gateway {
    pub(crate) place: Place,
    pub(crate) port: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: &'static str,
    pub(crate) account: &'static str,
    pub(crate) network: &'static str,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) hostname: String,
    pub(crate) hbone: bool,
    pub(crate) host_network: bool,
    pub(crate) waypoint: Option<Gateway>,
    pub(crate) gateway: Option<Gateway>,
    /// (PROXY, port)
    pub(crate) tunnel: Option<(bool, Option<u16>)>,
    pub(crate) healthy: bool,
    pub(crate) capacity: u32,
    pub(crate) region: &'static str,
    pub(crate) zone: &'static str,
    pub(crate) node: &'static str,
    pub(crate) cluster: &'static str,
    /// By `namespace/hostname`.
    pub(crate) services: BTreeMap<(String, String), BTreeMap<u16, u16>>,
}

impl Workload {
    pub(crate) fn identity(&self) -> String {
        format!(
            "spiffe://cluster.local/ns/{}/sa/{}",
            self.namespace, self.account
        )
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Balancer {
    pub(crate) preferences: Vec<&'static str>,
    pub(crate) mode: &'static str,
    pub(crate) all_comers: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) namespace: &'static str,
    pub(crate) hostname: String,
    pub(crate) vips: Vec<(&'static str, IpAddr)>,
    pub(crate) blocks: Vec<(&'static str, IpAddr, u8)>,
    pub(crate) ports: BTreeMap<u16, u16>,
    pub(crate) names: Vec<String>,
    pub(crate) waypoint: Option<Gateway>,
    pub(crate) weighted: Vec<(Gateway, u32)>,
    pub(crate) balancer: Option<Balancer>,
    pub(crate) families: Option<&'static str>,
    pub(crate) canonical: bool,
    pub(crate) private: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) workloads: Vec<Workload>,
    pub(crate) services: Vec<Service>,
}

/// A question about a world.
#[derive(Clone, Debug)]
pub(crate) struct Outbound {
    pub(crate) source: usize,
    pub(crate) client: IpAddr,
    pub(crate) target: IpAddr,
    pub(crate) port: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Inbound {
    pub(crate) local: usize,
    pub(crate) local_address: IpAddr,
    /// An address, or a host.
    pub(crate) asked: Result<IpAddr, String>,
    pub(crate) port: u16,
}

impl World {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let hosts: Vec<(&'static str, String)> = (0..4)
            .map(|n| (dice.of(&NAMESPACES), format!("s{}.mesh", n % 3)))
            .collect();
        let mut world = Self {
            workloads: Vec::new(),
            services: Vec::new(),
        };
        let count = 2 + dice.below(5);
        for n in 0..count {
            let mut workload = workload(dice, n, &hosts);
            let mut others = world.workloads.iter();
            let same =
                |w: &Workload| w.namespace == workload.namespace && w.hostname == workload.hostname;
            // Which of two is found by a name is left open.
            if !workload.hostname.is_empty() && others.any(same) {
                workload.hostname = format!("other{n}.mesh");
            }
            world.workloads.push(workload);
        }
        for (namespace, hostname) in &hosts {
            let known = world.services.iter();
            let mut known = known.filter(|s| s.namespace == *namespace);
            if known.any(|s| s.hostname == *hostname) || dice.one_in(8) {
                continue;
            }
            let service = service(dice, namespace, hostname, &hosts, &world.services);
            world.services.push(service);
        }
        world
    }

    pub(crate) fn ask(&self, dice: &mut Dice) -> Outbound {
        let source = dice.below(self.workloads.len() as u64) as usize;
        let own = self.workloads[source].addresses.first().copied();
        let client = own.unwrap_or_else(|| parse(ADDRESSES[0]));
        let target = if dice.one_in(2) {
            parse(dice.of(&VIPS))
        } else if dice.one_in(8) {
            parse("10.9.0.200")
        } else {
            parse(dice.of(&ADDRESSES))
        };
        Outbound {
            source,
            client,
            target,
            port: dice.of(&PORTS),
        }
    }

    pub(crate) fn knock(&self, dice: &mut Dice) -> Inbound {
        let local = dice.below(self.workloads.len() as u64) as usize;
        let own = self.workloads[local].addresses.first().copied();
        let local_address = own.unwrap_or_else(|| parse(ADDRESSES[0]));
        let asked = match dice.below(4) {
            0 => Ok(local_address),
            1 => Ok(parse(dice.of(&ADDRESSES))),
            2 => Ok(parse(dice.of(&VIPS))),
            _ => Err(format!("s{}.mesh", dice.below(4))),
        };
        Inbound {
            local,
            local_address,
            asked,
            port: dice.of(&[80, 443, 8080, 15008]),
        }
    }

    /// (type, name, value), in the order in which the world lists them.
    pub(crate) fn resources(&self) -> Vec<(&'static str, String, Vec<u8>)> {
        let workloads = self.workloads.iter().map(|w| {
            let value = workload_json(w).to_string().into_bytes();
            ("ztunnel.local/Workload", w.uid.clone(), value)
        });
        let services = self.services.iter().map(|s| {
            let name = format!("{}/{}", s.namespace, s.hostname);
            let value = service_json(s).to_string().into_bytes();
            ("ztunnel.local/Service", name, value)
        });
        workloads.chain(services).collect()
    }
}

pub(crate) fn parse(text: &str) -> IpAddr {
    text.parse().expect("an address of the table above")
}

fn gateway(dice: &mut Dice, hosts: &[(&'static str, String)], port: u16) -> Gateway {
    let place = match dice.below(5) {
        0 | 1 => Place::Address(dice.of(&NETWORKS), parse(dice.of(&ADDRESSES))),
        2 => Place::Address("", parse(dice.of(&VIPS))),
        3 => {
            let (namespace, hostname) = &hosts[dice.below(hosts.len() as u64) as usize];
            Place::Host((*namespace).into(), hostname.clone())
        }
        _ => Place::Host(dice.of(&NAMESPACES).into(), "named.mesh".into()),
    };
    Gateway { place, port }
}

fn ports(dice: &mut Dice) -> BTreeMap<u16, u16> {
    let mut ports = BTreeMap::new();
    for port in dice.some(&PORTS, 2) {
        ports.insert(port, dice.of(&[8080, 9090]));
    }
    ports
}

fn workload(dice: &mut Dice, n: u64, hosts: &[(&'static str, String)]) -> Workload {
    let network = if dice.one_in(4) { "far" } else { "" };
    let mut addresses: Vec<IpAddr> = Vec::new();
    if !dice.one_in(6) {
        addresses.push(parse(dice.of(&ADDRESSES)));
        let second = parse(dice.of(&ADDRESSES));
        if dice.one_in(3) && second != addresses[0] {
            addresses.push(second);
        }
    }
    let named = dice.one_in(5) && (network.is_empty() || !addresses.is_empty());
    let pod = if dice.one_in(2) { "k//Pod" } else { "k/x/VM" };
    let mut services = BTreeMap::new();
    for (namespace, hostname) in hosts {
        if dice.one_in(2) {
            services.insert(((*namespace).into(), hostname.clone()), ports(dice));
        }
    }
    let waypoint = dice.one_in(3).then(|| gateway(dice, hosts, 15008));
    let behind = dice.one_in(if network.is_empty() { 6 } else { 2 });
    Workload {
        uid: format!("{pod}/{n}"),
        name: format!("w{n}"),
        namespace: dice.of(&NAMESPACES),
        account: dice.of(&["x", "y"]),
        network,
        addresses,
        hostname: if named {
            "named.mesh".into()
        } else {
            String::new()
        },
        hbone: !dice.one_in(3),
        host_network: dice.one_in(8),
        waypoint,
        gateway: behind.then(|| gateway(dice, hosts, 15009)),
        tunnel: dice.one_in(4).then(|| {
            let port = dice.one_in(2).then_some(15088);
            (dice.one_in(2), port)
        }),
        healthy: !dice.one_in(5),
        capacity: dice.of(&[1, 1, 1, 2, 0]),
        region: dice.of(&["r1", "r2"]),
        zone: dice.of(&["z1", "z2", ""]),
        node: dice.of(&["n1", "n2"]),
        cluster: dice.of(&["c1", "c2"]),
        services,
    }
}

fn service(
    dice: &mut Dice,
    namespace: &'static str,
    hostname: &str,
    hosts: &[(&'static str, String)],
    others: &[Service],
) -> Service {
    let mut vips: Vec<(&'static str, IpAddr)> = Vec::new();
    for vip in dice.some(&VIPS, 2) {
        let vip = (dice.of(&["", "", "", "far"]), parse(vip));
        let mut claimed = others.iter().filter(|s| s.namespace == namespace);
        if !claimed.any(|s| s.vips.contains(&vip)) {
            vips.push(vip);
        }
    }
    let blocks = dice.some(&BLOCKS, 6).into_iter();
    let mut ports = BTreeMap::new();
    for port in dice.some(&PORTS, 2) {
        ports.insert(port, dice.of(&[8080, 8080, 9090, 0]));
    }
    let modes = ["Standard", "Strict", "Failover", "Passthrough"];
    let scopes: [&[&str]; 6] = [
        &[],
        &["Network"],
        &["Region", "Zone"],
        &["Network", "Region", "Zone"],
        &["Node"],
        &["Cluster", "Network", "Node"],
    ];
    let name = "spiffe://cluster.local/ns/a/sa/y".to_string();
    Service {
        namespace,
        hostname: hostname.into(),
        vips,
        blocks: blocks
            .map(|(block, length)| ("", parse(block), length))
            .collect(),
        ports,
        names: if dice.one_in(3) {
            vec![name]
        } else {
            Vec::new()
        },
        waypoint: dice.one_in(4).then(|| gateway(dice, hosts, 15008)),
        weighted: if dice.one_in(5) {
            let count = 1 + dice.below(2);
            (0..count)
                .map(|_| (gateway(dice, hosts, 15008), dice.of(&[0, 1, 2])))
                .collect()
        } else {
            Vec::new()
        },
        balancer: dice.one_in(2).then(|| Balancer {
            preferences: dice.of(&scopes).to_vec(),
            mode: dice.of(&modes),
            all_comers: dice.one_in(2),
        }),
        families: dice.of(&[None, None, Some("IPv4"), Some("IPv6"), Some("Dual")]),
        canonical: dice.one_in(3),
        private: dice.one_in(4),
    }
}

fn gateway_json(gateway: &Gateway) -> Value {
    let destination = match &gateway.place {
        Place::Address(network, address) => format!("{network}/{address}"),
        Place::Host(namespace, hostname) => format!("{namespace}/{hostname}"),
    };
    json!({"destination": destination, "hboneMtlsPort": gateway.port})
}

fn ports_json(ports: &BTreeMap<u16, u16>) -> Value {
    let ports = ports
        .iter()
        .map(|(port, target)| (port.to_string(), json!(target)));
    Value::Object(ports.collect())
}

fn workload_json(w: &Workload) -> Value {
    let services = w.services.iter().map(|((namespace, hostname), ports)| {
        (format!("{namespace}/{hostname}"), ports_json(ports))
    });
    let mut value = json!({
        "uid": w.uid, "name": w.name, "namespace": w.namespace, "serviceAccount": w.account,
        "trustDomain": "cluster.local", "network": w.network, "workloadIps": w.addresses,
        "hostname": w.hostname, "protocol": if w.hbone { "HBONE" } else { "TCP" },
        "networkMode": if w.host_network { "HostNetwork" } else { "Standard" },
        "status": if w.healthy { "Healthy" } else { "Unhealthy" }, "capacity": w.capacity,
        "locality": {"region": w.region, "zone": w.zone, "subzone": ""},
        "node": w.node, "clusterId": w.cluster, "services": services.collect::<serde_json::Map<_, _>>(),
    });
    if let Some(waypoint) = &w.waypoint {
        value["waypoint"] = gateway_json(waypoint);
    }
    if let Some(gateway) = &w.gateway {
        value["networkGateway"] = gateway_json(gateway);
    }
    if let Some((proxy, port)) = w.tunnel {
        value["applicationTunnel"] =
            json!({"protocol": if proxy { "PROXY" } else { "NONE" }, "port": port});
    }
    value
}

fn service_json(s: &Service) -> Value {
    let vips = s
        .vips
        .iter()
        .map(|(network, vip)| format!("{network}/{vip}"));
    let blocks = s.blocks.iter().map(
        |(network, block, length)| json!({"network": network, "cidr": format!("{block}/{length}")}),
    );
    let mut value = json!({
        "name": s.hostname.split('.').next(), "namespace": s.namespace, "hostname": s.hostname,
        "vips": vips.collect::<Vec<_>>(), "cidrVips": blocks.collect::<Vec<_>>(),
        "ports": ports_json(&s.ports), "subjectAltNames": s.names, "canonical": s.canonical,
        "visibility": if s.private { "Namespace" } else { "Public" },
    });
    if let Some(waypoint) = &s.waypoint {
        value["waypoint"] = gateway_json(waypoint);
    }
    if !s.weighted.is_empty() {
        let weighted = s.weighted.iter().map(
            |(gateway, weight)| json!({"destination": gateway_json(gateway), "weight": weight}),
        );
        value["weightedWaypoints"] = weighted.collect();
    }
    if let Some(balancer) = &s.balancer {
        value["loadBalancer"] = json!({
            "routingPreferences": balancer.preferences, "mode": balancer.mode,
            "healthPolicy": if balancer.all_comers { "AllowAll" } else { "OnlyHealthy" },
        });
    }
    if let Some(families) = s.families {
        value["ipFamilies"] = json!(families);
    }
    value
}
