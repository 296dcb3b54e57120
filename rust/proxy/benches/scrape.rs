//! O1: a scrape of 10,000 label sets, beside the same families in `prometheus-client`, which is what upstream uses.
//!
//! `cargo bench -p proxy --bench scrape`. CPU of the encoding thread, medians of alternating rounds; ours both as one
//! text and in the pieces that the metrics port sends.
#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever ran it")]

use std::hint::black_box;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use proxy::telemetry::metrics::Metrics;
use proxy::telemetry::{Labels, Reporter, ResponseFlag, SecurityPolicy, ServiceLabels, SideLabels};

type Set = Vec<(&'static str, String)>;

/// One connection's names.
struct Names {
    source: String,
    destination: String,
    principal: String,
}

impl Names {
    fn of(number: usize) -> Self {
        Self {
            source: format!("client-deployment-{}", number / 100),
            destination: format!("server-deployment-{}", number % 100),
            principal: format!("spiffe://cluster.local/ns/shop/sa/account-{number}"),
        }
    }

    fn labels(&self) -> Labels<'_> {
        let side = |name| SideLabels {
            workload: name,
            canonical_service: name,
            canonical_revision: "latest",
            namespace: "shop",
            principal: &self.principal,
            app: name,
            version: "latest",
            cluster: "Kubernetes",
            region: "europe-west3",
            zone: "europe-west3-a",
        };
        Labels {
            reporter: Reporter::Source,
            source: side(&self.source),
            destination: side(&self.destination),
            service: ServiceLabels {
                hostname: "server.shop.svc.cluster.local",
                namespace: "shop",
                name: "server",
            },
            security_policy: SecurityPolicy::MutualTls,
            claimed: false,
        }
    }
}

fn ours(sets: usize) -> Metrics {
    let metrics = Metrics::new("bench", Arc::default());
    // As two workers would have it.
    let recorders = [metrics.recorder(), metrics.recorder()];
    for number in 0..sets {
        let names = Names::of(number);
        for recorder in &recorders {
            let connections = recorder.connections(&names.labels());
            connections.open();
            connections.add_received(number as u64 * 1000);
            connections.add_sent(number as u64 * 100_000);
            connections.close(ResponseFlag::None);
        }
    }
    metrics
}

fn theirs(sets: usize) -> Registry {
    let mut registry = Registry::default();
    let families = <[Family<Set, Counter>; 4]>::default();
    let names = [
        "tcp_connections_opened",
        "tcp_connections_closed",
        "tcp_received_bytes",
        "tcp_sent_bytes",
    ];
    let istio = registry.sub_registry_with_prefix("istio");
    for (name, family) in names.iter().zip(&families) {
        istio.register(*name, "As ours", family.clone());
    }
    for number in 0..sets {
        let set = written_out(&Names::of(number).labels());
        for family in &families {
            family.get_or_create(&set).inc_by(number as u64 * 1000);
        }
    }
    registry
}

fn written_out(labels: &Labels<'_>) -> Set {
    let (source, destination) = (&labels.source, &labels.destination);
    [
        ("reporter", "source"),
        ("source_workload", source.workload),
        ("source_canonical_service", source.canonical_service),
        ("source_canonical_revision", source.canonical_revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", source.principal),
        ("source_app", source.app),
        ("source_version", source.version),
        ("source_cluster", source.cluster),
        ("destination_service", labels.service.hostname),
        ("destination_service_namespace", labels.service.namespace),
        ("destination_service_name", labels.service.name),
        ("destination_workload", destination.workload),
        (
            "destination_canonical_service",
            destination.canonical_service,
        ),
        (
            "destination_canonical_revision",
            destination.canonical_revision,
        ),
        ("destination_workload_namespace", destination.namespace),
        ("destination_principal", destination.principal),
        ("destination_app", destination.app),
        ("destination_version", destination.version),
        ("destination_cluster", destination.cluster),
        ("request_protocol", "tcp"),
        ("response_flags", "-"),
        ("connection_security_policy", "mutual_tls"),
        ("source_region", source.region),
        ("source_zone", source.zone),
        ("destination_region", destination.region),
        ("destination_zone", destination.zone),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

/// What this thread has used so far (proc_pid_schedstat(5), first field), in microseconds.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split(' ').next().and_then(|first| first.parse().ok());
    first.unwrap_or(0_u64) / 1000
}

fn measured(work: impl FnOnce() -> usize) -> (u64, usize) {
    let begun = cpu();
    let bytes = black_box(work());
    (cpu() - begun, bytes)
}

fn main() {
    // `cargo test` runs it too: once, small.
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (sets, rounds) = if is_bench { (10_000, 15) } else { (100, 1) };
    let (metrics, registry) = (ours(sets), theirs(sets));
    let mut results = [
        ("prometheus-client, one text", Vec::new(), 0),
        ("ours, one text", Vec::new(), 0),
        ("ours, in pieces", Vec::new(), 0),
    ];
    for _ in 0..rounds {
        let round = [
            measured(|| {
                let mut out = String::new();
                text::encode(&mut out, &registry).map_or(0, |()| out.len())
            }),
            measured(|| metrics.encode().len()),
            measured(|| {
                let mut scrape = metrics.scrape();
                let mut bytes = 0;
                while let Some(piece) = scrape.next_piece() {
                    bytes += black_box(&piece).len();
                }
                bytes
            }),
        ];
        for ((_, times, bytes), (time, size)) in results.iter_mut().zip(round) {
            times.push(time);
            *bytes = size;
        }
    }
    for (name, mut times, bytes) in results {
        times.sort_unstable();
        let median = times[times.len() / 2];
        println!("{sets} label sets, {name}: {median} us CPU, {bytes} bytes");
    }
}
