//! What a configuration dump of a large mesh costs: `dump_size [WORKLOADS SERVICES]`.
//!
//! The mesh stays; the dump is read as the admin server reads it, piece by piece, and each piece is let go. Says how long
//! that takes by the clock and of processors, and by how much the process' peak is above what was resident before.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a command for people; what fails ends it with the place"
)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh::decode::{Resource, TYPE_SERVICE, TYPE_WORKLOAD};
use proxy::DataPlane;
use proxy::settings::Settings;
use serde_json::json;

const ROUNDS: usize = 5;
/// For one piece.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() {
    let given: Vec<u32> = std::env::args()
        .skip(1)
        .map(|text| text.parse().unwrap())
        .collect();
    let (workloads, services) = match given[..] {
        [] => (100_000, 5_000),
        [workloads, services] => (workloads, services),
        _ => panic!("usage: dump_size [WORKLOADS SERVICES]"),
    };
    let node =
        json!({"workload": {"namespace": "default", "name": "node", "serviceAccount": "node"}});
    let settings = Settings::parse(node.to_string().as_bytes()).unwrap();
    let plane = DataPlane::new(settings).unwrap();
    fill(&plane, workloads, services);
    println!(
        "{workloads} workloads, {services} services: {:.1} MiB resident",
        mib("VmRSS:")
    );
    for _ in 0..ROUNDS {
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let (before, start, spent) = (mib("VmRSS:"), Instant::now(), on_processors());
        let dump = plane.open_dump(BTreeMap::new()).unwrap();
        let (mut bytes, mut first) = (0, None);
        while let Some(piece) = dump.next_piece(PATIENCE).unwrap() {
            first.get_or_insert_with(|| start.elapsed());
            bytes += piece.len();
        }
        println!(
            "{:.1} MiB of text in {:.0} ms ({:.0} ms of processors), the first piece after {:.0} ms; at most {:.1} MiB more, {:.1} MiB left",
            bytes as f64 / f64::from(1 << 20),
            start.elapsed().as_secs_f64() * 1e3,
            on_processors() - spent,
            first.unwrap().as_secs_f64() * 1e3,
            mib("VmHWM:") - before,
            mib("VmRSS:") - before,
        );
    }
}

fn fill(plane: &DataPlane, workloads: u32, services: u32) {
    let mut all = Vec::new();
    let host = |n: u32| format!("app-{n}.team-{}.svc.cluster.local", n % 50);
    for n in 0..services {
        let [_, _, a, b] = n.to_be_bytes();
        let namespace = format!("team-{}", n % 50);
        let name = format!("{namespace}/{}", host(n));
        let service = json!({"name": format!("app-{n}"), "namespace": namespace, "hostname": host(n),
            "vips": [format!("/10.255.{a}.{b}")], "ports": {"80": 8080, "443": 8443}});
        all.push((TYPE_SERVICE, name, service.to_string()));
    }
    for n in 0..workloads {
        let [_, a, b, c] = n.to_be_bytes();
        let service = n % services;
        let namespace = format!("team-{}", service % 50);
        let uid = format!("Kubernetes//Pod/{namespace}/app-{service}-7c9f6b5d4f-{n:05x}");
        let key = format!("{namespace}/{}", host(service));
        let workload = json!({"uid": uid, "name": format!("app-{service}-7c9f6b5d4f-{n:05x}"),
            "namespace": namespace, "workloadIps": [format!("10.{a}.{b}.{c}")], "protocol": "HBONE",
            "serviceAccount": format!("app-{service}"), "workloadName": format!("app-{service}"),
            "canonicalName": format!("app-{service}"), "canonicalRevision": "v1",
            "clusterId": "Kubernetes", "node": format!("node-{}.example.internal", n % 500),
            "services": {key: {"80": 8080, "443": 8443}}});
        all.push((TYPE_WORKLOAD, uid, workload.to_string()));
    }
    let resources: Vec<_> = all
        .iter()
        .map(|(type_url, name, value)| Resource {
            type_url,
            name,
            value: value.as_bytes(),
        })
        .collect();
    assert_eq!(plane.apply(&resources, &[]), []);
}

/// Milliseconds that this process had processors: what others do on the machine counts less than by the clock.
fn on_processors() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may hold anything: the 12th and 13th field are hundredths of seconds.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next().unwrap().parse::<f64>().unwrap();
    (next() + next()) * 10.0
}

/// A figure of this process.
fn mib(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: f64 = line
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    kib / 1024.0
}
