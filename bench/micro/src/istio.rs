//! Resources as a control plane of Istio sends them (spec/control.md §5), written field by field: the benches need a few
//! messages, and no generator.

use mesh::decode::{TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};

use crate::meshes::Owned;

/// Workload `n` of a mesh: a pod of a deployment of one of `services` services, on one of 500 nodes in nine zones.
pub fn workload(n: u32, services: u32) -> Owned {
    changed_workload(n, services, 0)
}

/// The same; each `version` has another address and another port.
pub fn changed_workload(n: u32, services: u32, version: u8) -> Owned {
    let service = n % services;
    let namespace = format!("team-{}", service % 50);
    let hash = service.wrapping_mul(2_654_435_761);
    let name = format!("app-{service}-{hash:08x}-{n:05x}");
    let uid = format!("Kubernetes//Pod/{namespace}/{name}");
    let node = n.wrapping_mul(7_919) % 500;
    let (region, zone) = (node % 3, node % 9);
    let app = format!("app-{service}");
    let locality = Message::default()
        .text(1, &format!("region-{region}"))
        .text(2, &format!("region-{region}-zone-{zone}"));
    let ports = Message::default()
        .part(1, &port(80, 8080 + u32::from(version)))
        .part(1, &port(443, 8443));
    let services = Message::default()
        .text(1, &format!("{namespace}/{}", hostname(service)))
        .part(2, &ports);
    let [_, a, b, c] = n.to_be_bytes();
    let workload = Message::default()
        .text(1, &name)
        .text(2, &namespace)
        .bytes(3, &[10 + version, a, b, c])
        .number(5, 1)
        .text(7, &app)
        .text(9, &format!("node-{node}.example.internal"))
        .text(10, &app)
        .text(11, "v1")
        .text(13, &app)
        .text(18, "Kubernetes")
        .text(20, &uid)
        .part(22, &services)
        .part(24, &locality);
    Owned {
        type_url: TYPE_ISTIO_ADDRESS,
        name: uid,
        value: Message::default().part(1, &workload).0,
    }
}

/// Service `n` of that mesh. `near` makes it prefer endpoints by network, region, zone and subzone.
pub fn service(n: u32, near: bool) -> Owned {
    let namespace = format!("team-{}", n % 50);
    let hostname = hostname(n);
    let [_, _, a, b] = n.to_be_bytes();
    let mut service = Message::default()
        .text(1, &format!("app-{n}"))
        .text(2, &namespace)
        .text(3, &hostname)
        .part(4, &Message::default().bytes(2, &[10, 255, a, b]))
        .part(5, &port(80, 8080))
        .part(5, &port(443, 8443));
    if near {
        // Packed: NETWORK, REGION, ZONE, SUBZONE; mode FAILOVER.
        let preferences = Message::default().bytes(1, &[6, 1, 2, 3]).number(2, 2);
        service = service.part(8, &preferences);
    }
    Owned {
        type_url: TYPE_ISTIO_ADDRESS,
        name: format!("{namespace}/{hostname}"),
        value: Message::default().part(2, &service).0,
    }
}

/// Policy `n` of that mesh: who may talk to the workloads of one of its 50 namespaces.
pub fn policy(n: u32) -> Owned {
    let namespace = format!("team-{}", n % 50);
    let name = format!("policy-{n}");
    let principal = format!("cluster.local/ns/{namespace}/sa/app-{n}");
    let principal = Message::default().text(1, &principal);
    let found = Message::default().part(3, &principal);
    let clause = Message::default().part(2, &found);
    let rule = Message::default().part(1, &clause);
    let policy = Message::default()
        .text(1, &name)
        .text(2, &namespace)
        .number(3, 1)
        .part(5, &rule);
    Owned {
        type_url: TYPE_ISTIO_AUTHORIZATION,
        name: format!("{namespace}/{name}"),
        value: policy.0,
    }
}

/// An answer of delta ADS that brings these, as it stands on the wire. Addresses have versions, policies have none. Takes
/// them one by one: nothing of them is left in the allocator's lists.
pub fn answer(type_url: &str, resources: impl IntoIterator<Item = Owned>) -> Vec<u8> {
    let mut answer = Message::default();
    for (number, resource) in resources.into_iter().enumerate() {
        let any = Message::default()
            .text(1, type_url)
            .bytes(2, &resource.value);
        let mut named = Message::default();
        if type_url == TYPE_ISTIO_ADDRESS {
            let spread = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            named = named.text(1, &format!("{spread:016x}"));
        }
        let named = named.part(2, &any).text(3, &resource.name);
        answer = answer.part(2, &named);
    }
    answer.text(4, type_url).text(5, "nonce").0
}

fn hostname(service: u32) -> String {
    let namespace = service % 50;
    format!("app-{service}.team-{namespace}.svc.cluster.local")
}

fn port(service: u32, target: u32) -> Message {
    Message::default().number(1, service).number(2, target)
}

/// A protobuf message that grows.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn part(self, field: u32, part: &Self) -> Self {
        self.bytes(field, &part.0)
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(u32::try_from(bytes.len()).expect("a small message"));
        self.0.extend_from_slice(bytes);
        self
    }

    fn number(mut self, field: u32, number: u32) -> Self {
        self.varint(field << 3);
        self.varint(number);
        self
    }

    fn varint(&mut self, mut number: u32) {
        while number > 0x7f {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }
}
