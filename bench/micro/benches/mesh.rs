//! What decisions cost as the mesh grows, and what a change of it costs (rows P1, P2, X1 and X2 of the plan).

use std::net::SocketAddr;
use std::sync::Arc;

use divan::{Bencher, black_box, counter::ItemsCount};
use mesh::authorize::{ConnectionFacts, Verdict, authorize};
use mesh::route::{Route, RouteFacts, Target, route};
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;
use micro::istio;
use micro::meshes::{self, CALLER, Owned, VIP, chance, endpoint, one_large_service, uid};

fn main() {
    divan::main();
}

/// A whole decision: source known, service by address, endpoint drawn.
#[divan::bench(args = [10, 1_000, 10_000, 100_000])]
fn route_to_a_service_of(bencher: Bencher<'_, '_>, endpoints: u32) {
    let mesh = one_large_service(endpoints, endpoints).snapshot();
    let (source, target) = (
        Arc::clone(mesh.workload_by_uid(&uid(0)).expect("it is there")),
        Target::parse(VIP).expect("an address"),
    );
    let facts = RouteFacts {
        source: &source,
        client: source.addresses[0],
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let mut chance = chance(42);
    bencher.bench_local(|| {
        let found = route(&mesh, black_box(&facts), &mut chance);
        debug_assert!(matches!(found, Ok(Route::Hbone { .. })));
        found
    });
}

/// P2: the same from a client to a service that prefers endpoints by network, region, zone and subzone; of nine zones one
/// is the client's.
#[divan::bench(args = [10, 1_000, 10_000])]
fn route_within_the_zone_to_a_service_of(bencher: Bencher<'_, '_>, endpoints: u32) {
    let mut resources = vec![istio::service(0, true)];
    resources.extend((0..endpoints).map(|n| istio::workload(n, 1)));
    let mesh = meshes::load(&resources).snapshot();
    let source = mesh.workload_by_uid(&resources[1].name);
    let (source, target) = (
        Arc::clone(source.expect("it is there")),
        Target::parse("10.255.0.0:80").expect("an address"),
    );
    let facts = RouteFacts {
        source: &source,
        client: source.addresses[0],
        target: &target,
        network: "",
        hbone_port: 15008,
    };
    let mut chance = chance(42);
    bencher.bench_local(|| {
        let found = route(&mesh, black_box(&facts), &mut chance);
        debug_assert!(matches!(found, Ok(Route::Hbone { .. })));
        found
    });
}

/// P2: one look-up in blocks of so many services, of the prefix lengths from 16 to 24.
#[divan::bench(args = [10, 1_000])]
fn service_by_block_among(bencher: Bencher<'_, '_>, services: u32) {
    let blocks: Vec<Owned> = (0..services).map(meshes::service_of_block).collect();
    let mesh = meshes::load(&blocks).snapshot();
    let mut chance = chance(42);
    bencher.bench_local(|| {
        let n = u32::try_from(chance(u64::from(services))).expect("it fits");
        let found = mesh.service_by_vip("", meshes::address_in_block(n), Some("default"));
        debug_assert!(found.is_some());
        found.is_some()
    });
}

#[divan::bench(args = [1_000, 100_000])]
fn workload_by_address_among(bencher: Bencher<'_, '_>, workloads: u32) {
    let mesh = one_large_service(100, workloads).snapshot();
    let mut chance = chance(42);
    bencher.bench_local(|| {
        let n = u32::try_from(chance(u64::from(workloads))).expect("it fits");
        let [_, a, b, c] = n.to_be_bytes();
        mesh.workload_by_address("", [10, a, b, c].into()).is_some()
    });
}

/// X2: one endpoint of a service of 10,000 gets another port, in a mesh of this many workloads: decode, apply, publish.
/// A reader holds the last view, as one always does.
#[divan::bench(args = [10_000, 100_000])]
fn one_endpoint_changes_among(bencher: Bencher<'_, '_>, workloads: u32) {
    let mut store = one_large_service(10_000, workloads);
    // Each second pass takes the first one's changes back.
    let pass = |version| (0..2_000).map(move |n| endpoint(n * 7_919 % 10_000, 0, version));
    let changes: Vec<Owned> = pass(1).chain(pass(0)).collect();
    let (mut next, mut held) = (0, store.snapshot());
    bencher.bench_local(|| {
        apply(&mut store, &changes[next]);
        held = store.snapshot();
        next = (next + 1) % changes.len();
    });
    drop(held);
}

/// The part of the row above that is reading the resource: it is there already, so nothing changes.
#[divan::bench]
fn one_endpoint_sent_again(bencher: Bencher<'_, '_>) {
    let mut store = one_large_service(10_000, 10_000);
    let resource = endpoint(7, 0, 0);
    bencher.bench_local(|| store.apply(black_box(&[resource.borrow()]), &[]));
}

fn apply(store: &mut MeshStore, resource: &Owned) {
    let applied = store.apply(&[resource.borrow()], &[]);
    assert!(!applied.changes.workloads.is_empty(), "a change");
}

/// X1: reading and indexing this many workloads in one batch, a service for each hundred.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 5, sample_size = 1)]
fn take_in(bencher: Bencher<'_, '_>, workloads: u32) {
    let mut resources: Vec<Owned> = (0..=workloads / 100).map(meshes::service).collect();
    resources.extend((0..workloads).map(|n| endpoint(n, n / 100, 0)));
    bencher
        .counter(ItemsCount::new(workloads))
        .bench_local(|| meshes::load(&resources));
}

/// X1 from Istio's protobuf, in a mesh of 1,000 services.
#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 5, sample_size = 1)]
fn take_in_from_istio(bencher: Bencher<'_, '_>, workloads: u32) {
    let mut resources: Vec<Owned> = (0..1_000).map(|n| istio::service(n, false)).collect();
    resources.extend((0..workloads).map(|n| istio::workload(n, 1_000)));
    bencher
        .counter(ItemsCount::new(workloads))
        .bench_local(|| meshes::load(&resources));
}

/// X2 from Istio's protobuf: one endpoint of a service of 10,000 changes address and port.
#[divan::bench]
fn one_endpoint_changes_from_istio(bencher: Bencher<'_, '_>) {
    let mut resources = vec![istio::service(0, true)];
    resources.extend((0..10_000).map(|n| istio::workload(n, 1)));
    let mut store = meshes::load(&resources);
    let pass =
        |version| (0..2_000).map(move |n| istio::changed_workload(n * 7_919 % 10_000, 1, version));
    let changes: Vec<Owned> = pass(1).chain(pass(0)).collect();
    let (mut next, mut held) = (0, store.snapshot());
    bencher.bench_local(|| {
        apply(&mut store, &changes[next]);
        held = store.snapshot();
        next = (next + 1) % changes.len();
    });
    drop(held);
}

/// P1: a connection that none of so many DENY policies of ten rules meets.
#[divan::bench(args = [10, 1_000, 10_000])]
fn authorize_by(bencher: Bencher<'_, '_>, policies: u32) {
    let mut resources = meshes::policies(policies);
    resources.push(endpoint(0, 0, 0));
    let mesh = meshes::load(&resources).snapshot();
    let facts = ConnectionFacts {
        source: SocketAddr::from(([10, 9, 9, 9], 4711)),
        destination: SocketAddr::from(([10, 0, 0, 0], 8080)),
        identity: Some(CALLER.parse().expect("an identity")),
    };
    let workload = server(&mesh);
    bencher.bench_local(|| {
        let decision = authorize(&mesh, &workload, black_box(&facts));
        assert!(decision.verdict == Verdict::Allow);
        decision
    });
}

fn server(mesh: &MeshSnapshot) -> Arc<mesh::workload::Workload> {
    Arc::clone(mesh.workload_by_uid(&uid(0)).expect("it is there"))
}
