//! What a mesh of a given size takes: seconds to take it in, bytes to keep it.
//!
//! `cargo run --release -p micro --example mesh_size [WORKLOADS[/BATCH]…]`. Each size is taken in by a process of its own, so that
//! no other's free memory is counted. Resources come in batches and are dropped once applied: what is left is the store.

#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever ran it")]

use std::alloc::System;
use std::time::Duration;

use mesh::store::MeshStore;
use micro::istio;
use micro::meshes::{Owned, apply_all};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// As many as one answer of a control plane that sends in pieces; others send all in one.
const BATCH: u32 = 1_000;
const SERVICES: u32 = 1_000;

fn main() {
    let sizes: Vec<String> = std::env::args().skip(1).collect();
    match &sizes[..] {
        [size] => {
            let number = |text: &str| text.parse().expect("a number of workloads");
            match size.split_once('/') {
                Some((size, batch)) => measure(number(size), number(batch)),
                None => measure(number(size), BATCH),
            }
        }
        [] => each(&["1000", "10000", "100000", "100000/100000", "1000000"].map(String::from)),
        _ => each(&sizes),
    }
}

fn each(sizes: &[String]) {
    let program = std::env::current_exe().expect("it runs");
    for size in sizes {
        let status = std::process::Command::new(&program).arg(size).status();
        assert!(status.is_ok_and(|status| status.success()), "{size}");
    }
}

fn measure(workloads: u32, batch: u32) {
    let services: Vec<Owned> = (0..SERVICES).map(|n| istio::service(n, false)).collect();
    let mut store = MeshStore::new();
    apply_all(&mut store, &services);
    drop(services);
    let (resident, region) = (resident_bytes(), Region::new(ALLOCATOR));
    let [mut spent, mut reading] = [Duration::ZERO; 2];
    for first in (0..workloads).step_by(batch as usize) {
        let last = workloads.min(first + batch);
        let batch: Vec<Owned> = (first..last)
            .map(|n| istio::workload(n, SERVICES))
            .collect();
        let start = on_cpu();
        apply_all(&mut store, &batch);
        let middle = on_cpu();
        // Nothing is new: what is left is reading, and finding what is held.
        apply_all(&mut store, &batch);
        spent += middle - start;
        reading += on_cpu() - middle;
    }
    let mesh = store.snapshot();
    assert_eq!(mesh.workload_count(), workloads as usize);
    let stats = region.change();
    let each = |bytes: usize| bytes as f64 / f64::from(workloads);
    println!(
        "{workloads:>9} workloads by {batch}: {:.3} s, {:.3} s of it reading, {:.0} B each asked for, {:.0} B each resident, {:.0} MB resident in all",
        spent.as_secs_f64(),
        reading.as_secs_f64(),
        each(stats.bytes_allocated - stats.bytes_deallocated),
        each(resident_bytes().saturating_sub(resident)),
        resident_bytes() as f64 / 1e6,
    );
}

/// For how long this thread has had a processor: what others do on the machine counts less than by the clock.
fn on_cpu() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = spent.split(' ').next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The process' resident memory.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.map_or(0, |pages: usize| pages * 4096)
}
