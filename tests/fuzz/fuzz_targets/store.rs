//! After every batch each look-up answers as a walk over plain lists of all that is known would, and views taken before stay as they were.
//!
//! The input is a program of four-byte instructions (`Instruction`); the naive mesh that follows it is `Model`. What
//! it knows of ranks is spec/dataplane.md §10.1 to §10.3.

#![no_main]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use mesh::decode::{Resource, TYPE_ISTIO_ADDRESS, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;
use serde_json::{Value, json};

const NETWORKS: [&str; 2] = ["", "net"];
const NAMESPACES: [&str; 3] = ["one", "two", "three"];
const BLOCKS: [&str; 4] = ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.2/32", "0.0.0.0/0"];

fuzz_target!(|input: &[u8]| {
    let (mut store, mut model) = (MeshStore::new(), Model::default());
    let mut held = (store.snapshot(), dump(&store.snapshot()));
    for batch in input
        .chunks_exact(4)
        .map(Instruction::read)
        .collect::<Vec<_>>()
        .split(|instruction| *instruction == Instruction::EndOfBatch)
    {
        let accepted = tell(&mut store, batch);
        model.take(&accepted);
        let mesh = store.snapshot();
        let now = dump(&mesh);
        model.compare(&mesh, &now);
        assert_eq!(dump(&held.0), held.1, "an old view changed");
        held = (mesh, now);
    }
});

#[derive(Clone, Copy, Debug, PartialEq)]
enum Instruction {
    EndOfBatch,
    Remove(usize, bool),
    Service(usize, u8, u8),
    Workload(usize, u8, u8),
}

impl Instruction {
    fn read(bytes: &[u8]) -> Self {
        let [kind, which, a, b] = *bytes else {
            return Self::EndOfBatch;
        };
        match kind % 8 {
            0 => Self::EndOfBatch,
            1 => Self::Remove(usize::from(which % 14), a % 2 == 0),
            2..=4 => Self::Service(usize::from(which % 6), a, b),
            _ => Self::Workload(usize::from(which % 8), a, b),
        }
    }
}

/// The name of workload 0 to 7 or, from 8 on, of service 0 to 5.
fn name(which: usize) -> String {
    match which {
        0..4 => format!("cluster//Pod/one/{which}"),
        4..8 => format!("cluster/machine/{which}"),
        _ => service_name(which - 8),
    }
}

/// Two hostnames in three namespaces.
fn service_name(which: usize) -> String {
    format!("{}/host{}", NAMESPACES[which % 3], which / 3)
}

#[derive(Clone, Debug, PartialEq)]
struct Workload {
    network: usize,
    addresses: BTreeSet<IpAddr>,
    host_network: bool,
    hostname: bool,
    hbone: bool,
    healthy: bool,
    port: u16,
    services: BTreeSet<usize>,
}

impl Workload {
    fn new(a: u8, b: u8) -> Self {
        let bit = |n: u8| a >> n & 1 == 1;
        Self {
            network: usize::from(bit(0)),
            // Some of them are a service's, too.
            addresses: (0..3)
                .filter(|n| bit(n + 1))
                .map(|n| [10, 1, 0, n].into())
                .collect(),
            host_network: bit(4) && bit(5),
            hostname: bit(4) != bit(5),
            hbone: bit(6),
            healthy: bit(7),
            port: u16::from(b >> 6) + 8000,
            services: (0..6).filter(|n| b >> n & 1 == 1).collect(),
        }
    }

    fn json(&self, uid: &str) -> Value {
        let services = self
            .services
            .iter()
            .map(|s| (service_name(*s), json!({"80": self.port})));
        json!({
            "uid": uid, "namespace": "one", "network": NETWORKS[self.network], "workloadIps": self.addresses,
            "networkMode": if self.host_network { "HostNetwork" } else { "Standard" },
            "hostname": if self.hostname { "host0" } else { "" },
            "protocol": if self.hbone { "HBONE" } else { "TCP" },
            "status": if self.healthy { "Healthy" } else { "Unhealthy" },
            "services": services.collect::<serde_json::Map<_, _>>(),
        })
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Service {
    network: usize,
    vips: BTreeSet<IpAddr>,
    blocks: BTreeSet<usize>,
    canonical: bool,
    private: bool,
    all: bool,
}

impl Service {
    fn new(a: u8, b: u8) -> Self {
        let bit = |n: u8| b >> n & 1 == 1;
        Self {
            network: usize::from(bit(0)),
            vips: (0..3)
                .filter(|n| a >> n & 1 == 1)
                .map(|n| [10, 1, 0, n].into())
                .collect(),
            blocks: (0..4).filter(|n| a >> (n + 4) & 1 == 1).collect(),
            canonical: bit(1),
            private: bit(2),
            all: bit(3),
        }
    }

    fn json(&self, which: usize) -> Value {
        let network = NETWORKS[self.network];
        let blocks = self
            .blocks
            .iter()
            .map(|n| json!({"network": network, "cidr": BLOCKS[*n]}));
        let health = if self.all { "AllowAll" } else { "OnlyHealthy" };
        json!({
            "name": "s", "namespace": NAMESPACES[which % 3], "hostname": format!("host{}", which / 3),
            "vips": self.vips.iter().map(|ip| format!("{network}/{ip}")).collect::<Vec<_>>(),
            "cidrVips": blocks.collect::<Vec<_>>(), "ports": {"80": 80}, "canonical": self.canonical,
            "visibility": if self.private { "Namespace" } else { "Public" },
            "loadBalancer": {"routingPreferences": [], "mode": "Standard", "healthPolicy": health},
        })
    }

    fn keys(&self, which: usize) -> BTreeSet<Key> {
        let vips = self.vips.iter().map(|ip| Key::Vip(*ip));
        let blocks = self.blocks.iter().map(|n| Key::Block(*n));
        vips.chain(blocks)
            .chain([Key::Hostname(which / 3)])
            .collect()
    }
}

/// By what a service is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Block(usize),
    Hostname(usize),
    Vip(IpAddr),
}

/// Tells the store a batch; what it must have taken: of upserts the first of each name, then the removals.
fn tell(store: &mut MeshStore, batch: &[Instruction]) -> Vec<Instruction> {
    let (mut removed, mut upserts, mut twice) = (Vec::new(), Vec::new(), 0);
    let (mut taken, mut gone) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for instruction in batch {
        let (type_url, which, value) = match *instruction {
            Instruction::Remove(which, as_istio) => {
                let local = if which < 8 {
                    TYPE_WORKLOAD
                } else {
                    TYPE_SERVICE
                };
                removed.push((
                    if as_istio { TYPE_ISTIO_ADDRESS } else { local },
                    name(which),
                ));
                gone.push(*instruction);
                continue;
            }
            Instruction::Service(which, a, b) => {
                (TYPE_SERVICE, which + 8, Service::new(a, b).json(which))
            }
            Instruction::Workload(which, a, b) => {
                (TYPE_WORKLOAD, which, Workload::new(a, b).json(&name(which)))
            }
            Instruction::EndOfBatch => continue,
        };
        upserts.push((type_url, name(which), value.to_string()));
        if seen.insert(which) {
            taken.push(*instruction);
        } else {
            twice += 1;
        }
    }
    let resources: Vec<_> = upserts
        .iter()
        .map(|(type_url, name, value)| Resource {
            type_url,
            name,
            value: value.as_bytes(),
        })
        .collect();
    let removed: Vec<_> = removed
        .iter()
        .map(|(type_url, name)| (*type_url, &**name))
        .collect();
    let applied = store.apply(&resources, &removed);
    assert_eq!(applied.rejections.len(), twice, "{:?}", applied.rejections);
    taken.extend(gone);
    taken
}

/// All that is known, in plain lists.
#[derive(Default)]
struct Model {
    /// With the time of the last change, which ranks those that share an address.
    workloads: BTreeMap<usize, (u64, Workload)>,
    services: BTreeMap<usize, Service>,
    /// Since when a service is found by a key, which ranks those that share it.
    found_since: BTreeMap<(usize, Key), u64>,
    now: u64,
}

impl Model {
    fn take(&mut self, batch: &[Instruction]) {
        let mut declared = Vec::new();
        for instruction in batch {
            self.now += 1;
            match *instruction {
                Instruction::Remove(which @ 0..8, _) => drop(self.workloads.remove(&which)),
                Instruction::Remove(which, _) => drop(self.services.remove(&(which - 8))),
                Instruction::Workload(which, a, b) => {
                    let new = Workload::new(a, b);
                    if self
                        .workloads
                        .get(&which)
                        .is_none_or(|(_, held)| *held != new)
                    {
                        self.workloads.insert(which, (self.now, new));
                    }
                }
                Instruction::Service(which, a, b) => {
                    self.services.insert(which, Service::new(a, b));
                    declared.push(which);
                }
                Instruction::EndOfBatch => {}
            }
        }
        let services = &self.services;
        let found = |which: &usize, key: &Key| {
            services
                .get(which)
                .is_some_and(|s| s.keys(*which).contains(key))
        };
        self.found_since.retain(|(which, key), _| found(which, key));
        // What was declared and removed is not there.
        for (which, service) in declared
            .into_iter()
            .filter_map(|which| services.get_key_value(&which))
        {
            let which = *which;
            for key in service.keys(which) {
                self.now += 1;
                self.found_since.entry((which, key)).or_insert(self.now);
            }
        }
    }

    fn compare(&self, mesh: &MeshSnapshot, dump: &[Value; 2]) {
        for which in 0..8 {
            let found = mesh.workload_by_uid(&name(which)).is_some();
            assert_eq!(
                found,
                self.workloads.contains_key(&which),
                "workload {which}"
            );
        }
        assert_eq!(mesh.workload_count(), self.workloads.len());
        assert_eq!(mesh.service_count(), self.services.len());
        for (which, network) in (0..4_u8).flat_map(|n| [(n, 0), (n, 1)]) {
            let address = IpAddr::from([10, 1, 0, which]);
            let found = mesh.workload_by_address(NETWORKS[network], address);
            let expected = self.workload_at(network, address).map(name);
            assert_eq!(
                found.map(|w| w.uid.to_string()),
                expected,
                "{network} {address}"
            );
        }
        let named = |(which, (_, w)): (&usize, &(u64, Workload))| w.hostname.then(|| name(*which));
        let found = mesh.workload_by_hostname(&"one/host0".parse().expect("a name"));
        let expected = self.workloads.iter().filter_map(named).min();
        assert_eq!(found.map(|w| w.uid.to_string()), expected, "by hostname");
        for client in [None, Some(0), Some(1), Some(2)] {
            let seen_by = client.map(|client: usize| NAMESPACES[client]);
            for host in 0..2 {
                let found = mesh.service_by_hostname(&format!("host{host}"), seen_by);
                let expected = self
                    .best(Key::Hostname(host), None, client)
                    .map(service_name);
                assert_eq!(
                    found.map(|s| s.key().to_string()),
                    expected,
                    "{host} {client:?}"
                );
            }
            for (address, network) in addresses() {
                let found = mesh.service_by_vip(NETWORKS[network], address, seen_by);
                let expected = self.service_at(network, address, client).map(service_name);
                assert_eq!(
                    found.map(|s| s.key().to_string()),
                    expected,
                    "{network} {address} {client:?}"
                );
            }
        }
        for which in 0..6 {
            self.compare_endpoints(mesh, dump, which);
        }
    }

    fn compare_endpoints(&self, mesh: &MeshSnapshot, dump: &[Value; 2], which: usize) {
        let members = self
            .workloads
            .iter()
            .filter(|(_, (_, w))| w.services.contains(&which));
        let expected: BTreeMap<String, (u16, bool)> = members
            .map(|(n, (_, w))| (name(*n), (w.port, w.healthy)))
            .collect();
        let key = service_name(which);
        let shown = |endpoint: &Value| {
            let port = endpoint["port"]["80"]
                .as_u64()
                .and_then(|port| port.try_into().ok());
            (port.expect("it was given"), endpoint["status"] == "Healthy")
        };
        let in_dump = |endpoints: &Value| -> BTreeMap<String, (u16, bool)> {
            let endpoints = endpoints.as_object().into_iter().flatten();
            endpoints
                .map(|(uid, endpoint)| (uid.clone(), shown(endpoint)))
                .collect()
        };
        let [services, staged] = dump;
        let Some(known) = self.services.get(&which) else {
            assert!(mesh.service(&key.parse().expect("a name")).is_none());
            assert_eq!(in_dump(&staged[&key]), expected, "staged for {key}");
            return;
        };
        let service = mesh
            .service(&key.parse().expect("a name"))
            .expect("it is known");
        let found: Vec<_> = mesh
            .endpoints(service)
            .map(|e| e.workload_uid.to_string())
            .collect();
        assert_eq!(
            found,
            expected.keys().cloned().collect::<Vec<_>>(),
            "endpoints of {key}"
        );
        for uid in &found {
            assert!(mesh.endpoint(service, uid).is_some());
        }
        let usable: BTreeMap<_, _> = expected
            .into_iter()
            .filter(|(_, (_, healthy))| known.all || *healthy)
            .collect();
        let services = services.as_array().expect("a list");
        let whole = services.iter().find(|s| {
            format!(
                "{}/{}",
                s["namespace"].as_str().unwrap_or(""),
                s["hostname"].as_str().unwrap_or("")
            ) == key
        });
        assert_eq!(
            in_dump(&whole.expect("it is dumped")["endpoints"]),
            usable,
            "shown of {key}"
        );
        assert!(staged[&key].is_null());
    }

    fn workload_at(&self, network: usize, address: IpAddr) -> Option<usize> {
        let here = |w: &Workload| {
            !w.host_network && w.network == network && w.addresses.contains(&address)
        };
        let rank = |n: usize, w: &Workload| u8::from(n < 4) * 2 + u8::from(w.hbone);
        let found = self.workloads.iter().filter(|(_, (_, w))| here(w));
        let best = found.max_by_key(|(n, (changed, w))| (rank(**n, w), *changed));
        best.map(|(n, _)| *n)
    }

    fn service_at(&self, network: usize, address: IpAddr, client: Option<usize>) -> Option<usize> {
        let exact = self.best(Key::Vip(address), Some(network), client);
        exact.or_else(|| self.by_block(network, address, client))
    }

    fn visible(&self, which: usize, network: Option<usize>, client: Option<usize>) -> bool {
        let service = &self.services[&which];
        network.is_none_or(|network| network == service.network)
            && (!service.private || client.is_none_or(|client| client == which % 3))
    }

    /// The last of the client's namespace, else the last canonical one, else the first.
    fn best(&self, key: Key, network: Option<usize>, client: Option<usize>) -> Option<usize> {
        let mut found: Vec<(u64, usize)> = self
            .found_since
            .iter()
            .filter(|((which, by), _)| *by == key && self.visible(*which, network, client))
            .map(|((which, _), since)| (*since, *which))
            .collect();
        found.sort_unstable();
        let own = found.iter().rfind(|(_, which)| client == Some(which % 3));
        let canonical = || {
            found
                .iter()
                .rfind(|(_, which)| self.services[which].canonical)
        };
        own.or_else(canonical)
            .or(found.first())
            .map(|(_, which)| *which)
    }

    /// The client's namespace, then the longer prefix, then a canonical one, then the first.
    fn by_block(&self, network: usize, address: IpAddr, client: Option<usize>) -> Option<usize> {
        let blocks = BLOCKS
            .iter()
            .enumerate()
            .filter(|(_, cidr)| contains(cidr, address));
        let found = blocks.flat_map(|(n, cidr)| {
            let holders = self
                .found_since
                .iter()
                .filter(move |((_, key), _)| *key == Key::Block(n));
            holders
                .filter(|((which, _), _)| self.visible(*which, Some(network), client))
                .map(move |((which, _), since)| {
                    let canonical = self.services[which].canonical;
                    (
                        (
                            client == Some(which % 3),
                            prefix(cidr),
                            canonical,
                            Reverse(*since),
                        ),
                        *which,
                    )
                })
        });
        found.max().map(|(_, which)| which)
    }
}

/// Those of the services and some beside them, in both networks.
fn addresses() -> impl Iterator<Item = (IpAddr, usize)> {
    let near = (0..4).map(|n| [10, 1, 0, n]);
    let all = near.chain([[10, 1, 9, 9], [10, 9, 9, 9], [11, 0, 0, 1]]);
    all.flat_map(|ip| [(IpAddr::from(ip), 0), (IpAddr::from(ip), 1)])
}

fn prefix(cidr: &str) -> u32 {
    cidr.split('/')
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("one of ours")
}

fn contains(cidr: &str, address: IpAddr) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(four) => u64::from(u32::from(four)),
        IpAddr::V6(_) => unreachable!("ours are IPv4"),
    };
    let network = cidr
        .split('/')
        .next()
        .and_then(|ip| ip.parse().ok())
        .expect("one of ours");
    bits(network) >> (32 - prefix(cidr)) == bits(address) >> (32 - prefix(cidr))
}

/// Services and staged endpoints.
fn dump(mesh: &MeshSnapshot) -> [Value; 2] {
    ["services", "stagedServices"].map(|section| {
        let bytes = mesh.dump(section).expect("the section exists");
        serde_json::from_slice(&bytes).expect("a dump is JSON")
    })
}
