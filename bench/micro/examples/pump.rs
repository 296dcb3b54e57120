//! One kind of work for the pure crates, a fixed number of times, to have its instructions counted: `pump WORK UNITS`.
//!
//! `tools/gates` runs it under callgrind and counts what happens within `pumped`; setting up lies outside. Cryptography
//! and sockets are not here at all.
#![expect(clippy::unwrap_used, reason = "a command for a script")]

use std::hint::black_box;
use std::net::SocketAddr;

use mesh::authorize::{ConnectionFacts, authorize};
use mesh::route::{RouteFacts, Target, route};
use micro::meshes::{self, CALLER, Owned, VIP, chance, endpoint, one_large_service, uid};
use micro::tunnels::{Pair, hear, taken};

/// A service and a mesh of this size.
const ENDPOINTS: u32 = 10_000;
const POLICIES: u32 = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, work, units] = &arguments[..] else {
        panic!("usage: pump authorize|change|receive-128|receive-16k|route|send-16k|streams UNITS");
    };
    let units: usize = units.parse().unwrap();
    match work.as_str() {
        "authorize" => decisions(units),
        "change" => changes(units),
        "receive-128" => receive(128, units),
        "receive-16k" => receive(16_375, units),
        "route" => routes(units),
        "send-16k" => send(16_375, units),
        "streams" => streams(units),
        _ => panic!("no such work: {work}"),
    }
}

/// What is counted: everything called from here. Its name is known to `tools/gates`.
#[inline(never)]
fn pumped<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

fn receive(size: usize, frames: usize) {
    let mut pair = Pair::new();
    let (ours, _) = pair.open();
    let mut wire = Vec::new();
    // Eight in one read, as the proxy reads.
    for _ in 0..frames / 8 {
        wire.clear();
        for _ in 0..8 {
            pair.frame(ours, size, &mut wire);
        }
        pumped(|| hear(&mut pair.server, &wire));
        pair.exchange();
    }
}

fn send(size: usize, frames: usize) {
    let mut pair = Pair::new();
    let (ours, _) = pair.open();
    let mut wire = Vec::new();
    for _ in 0..frames {
        while pair.client.sendable(ours) < size {
            hear(&mut pair.server, &wire);
            wire.clear();
            let credit = taken(&mut pair.server);
            pumped(|| hear(&mut pair.client, &credit));
        }
        let header = pumped(|| pair.client.send(ours, size, false)).unwrap();
        wire.extend_from_slice(&header);
        wire.resize(wire.len() + size, 7);
    }
}

fn streams(count: usize) {
    let mut pair = Pair::new();
    for _ in 0..count {
        pumped(|| {
            let stream = pair.open();
            pair.close(stream);
        });
    }
}

fn routes(count: usize) {
    let mesh = one_large_service(ENDPOINTS, ENDPOINTS).snapshot();
    let source = mesh.workload_by_uid(&uid(0)).unwrap();
    let target = Target::parse(VIP).unwrap();
    let facts = RouteFacts {
        source,
        client: source.addresses[0],
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let mut chance = chance(42);
    for _ in 0..count {
        pumped(|| route(&mesh, &facts, &mut chance)).unwrap();
    }
}

fn changes(count: usize) {
    let mut store = one_large_service(ENDPOINTS, ENDPOINTS);
    let changes: Vec<Owned> = (0..count)
        .map(|n| endpoint(n as u32 * 7_919 % ENDPOINTS, 0, 1))
        .collect();
    let mut held = store.snapshot();
    for change in &changes {
        pumped(|| {
            store.apply(&[change.borrow()], &[]);
            held = store.snapshot();
        });
    }
    assert_eq!(held.workload_count(), ENDPOINTS as usize);
}

fn decisions(count: usize) {
    let mut resources = meshes::policies(POLICIES);
    resources.push(endpoint(0, 0, 0));
    let mesh = meshes::load(&resources).snapshot();
    let workload = mesh.workload_by_uid(&uid(0)).unwrap();
    // Many callers: where one of them falls in a table of random keys is a matter of luck.
    let callers: Vec<ConnectionFacts> = (0..100)
        .map(|n| ConnectionFacts {
            source: SocketAddr::from(([10, 9, 9, n], 4711)),
            destination: SocketAddr::from(([10, 0, 0, 0], 8080)),
            identity: Some(format!("{CALLER}-{n}").parse().unwrap()),
        })
        .collect();
    for facts in callers.iter().cycle().take(count) {
        pumped(|| authorize(&mesh, workload, facts));
    }
}
