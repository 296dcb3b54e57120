//! The first sync of a large mesh as a node takes it: one answer of addresses, one of policies, then single changes.
//!
//! `cargo run --release -p micro --example delta_size [WORKLOADS SERVICES POLICIES]`. Says for each answer how long it takes
//! to read, to apply and to remember, on this thread's processor; what is resident once the answers are dropped, and what the
//! ledgers are of it. Then a thousand answers of one changed workload each.

#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever ran it")]

use std::time::{Duration, Instant};

use mesh::decode::{TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::delta::{Ledger, Response};
use mesh::store::MeshStore;
use micro::istio;

const CHANGES: u32 = 1_000;

fn main() {
    let given: Vec<u32> = std::env::args()
        .skip(1)
        .map(|text| text.parse().expect("a number"))
        .collect();
    let [workloads, services, policies] = match given[..] {
        [] => [100_000, 5_000, 2_000],
        [workloads, services, policies] => [workloads, services, policies],
        _ => panic!("usage: delta_size [WORKLOADS SERVICES POLICIES]"),
    };
    let mut node = Node::default();
    let before = resident_bytes();
    let pods = (0..workloads).map(|n| istio::workload(n, services));
    let addresses = pods.chain((0..services).map(|n| istio::service(n, false)));
    node.tell("addresses", istio::answer(TYPE_ISTIO_ADDRESS, addresses));
    let policies = (0..policies).map(istio::policy);
    node.tell(
        "policies",
        istio::answer(TYPE_ISTIO_AUTHORIZATION, policies),
    );
    let grown = resident_bytes().saturating_sub(before);
    let ledgers: usize = node.ledgers.iter().map(Ledger::footprint).sum();
    let held: usize = node.ledgers.iter().map(Ledger::len).sum();
    println!(
        "resident: {:.1} MiB more, of it ledgers {:.1} MiB for {held} names ({} B each); at most {:.1} MiB",
        mib(grown),
        mib(ledgers),
        ledgers / held,
        mib(peak_bytes()),
    );
    node.change(services);
    let grown = resident_bytes().saturating_sub(before);
    println!(
        "resident after {CHANGES} changes: {:.1} MiB more",
        mib(grown)
    );
}

#[derive(Default)]
struct Node {
    store: MeshStore,
    /// Of addresses, and of policies.
    ledgers: [Ledger; 2],
}

impl Node {
    fn tell(&mut self, what: &str, message: Vec<u8>) {
        let size = message.len();
        let start = on_cpu();
        let response = Response::read(message).expect("written by us");
        let read = on_cpu();
        self.apply(&response);
        let applied = on_cpu();
        self.remember(&response);
        let remembered = on_cpu();
        println!(
            "{what}: {} resources, {:.1} MiB: read {:.3} s, applied {:.3} s, remembered {:.3} s",
            response.count(),
            mib(size),
            (read - start).as_secs_f64(),
            (applied - read).as_secs_f64(),
            (remembered - applied).as_secs_f64(),
        );
    }

    /// A change of address and port of one workload each, all else as it is.
    fn change(&mut self, services: u32) {
        let answers: Vec<_> = (0..CHANGES)
            .map(|n| istio::changed_workload(n * 97, services, 1))
            .map(|changed| istio::answer(TYPE_ISTIO_ADDRESS, [changed]))
            .collect();
        let mut spent: Vec<Duration> = Vec::new();
        let begin = on_cpu();
        for answer in answers {
            let start = Instant::now();
            let response = Response::read(answer).expect("written by us");
            self.apply(&response);
            self.remember(&response);
            spent.push(start.elapsed());
        }
        let mean = (on_cpu() - begin).as_secs_f64() * 1e6 / f64::from(CHANGES);
        spent.sort_unstable();
        let micros = |at: usize| spent[at].as_secs_f64() * 1e6;
        println!(
            "{CHANGES} changes: {mean:.1} µs each on the processor; by the clock {:.1} µs in the median, p99 {:.1} µs, at most {:.1} µs",
            micros(spent.len() / 2),
            micros(spent.len() * 99 / 100),
            micros(spent.len() - 1),
        );
    }

    fn apply(&mut self, response: &Response<Vec<u8>>) {
        let (resources, rejections) = response.batch();
        assert_eq!(rejections, []);
        assert_eq!(self.store.apply(&resources, &[]).rejections, []);
    }

    fn remember(&mut self, response: &Response<Vec<u8>>) {
        let of = usize::from(response.type_url() == TYPE_ISTIO_AUTHORIZATION);
        self.ledgers[of].record(response, &[]);
    }
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// For how long this thread has had a processor: what others do on the machine counts less than by the clock.
fn on_cpu() -> Duration {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = spent.split(' ').next().and_then(|spent| spent.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// The process' resident memory.
fn resident_bytes() -> usize {
    status("VmRSS:")
}

/// The most that it was.
fn peak_bytes() -> usize {
    status("VmHWM:")
}

fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.map_or(0, |kib: usize| kib * 1024)
}
