//! The exposition as `prometheus-client` writes it, from the same events: the plain version of what `scrape.rs` and
//! `labels.rs` do ahead of time.

use std::collections::BTreeMap;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use proptest::prelude::*;

use super::*;

type Samples = BTreeMap<String, u64>;
type Set = Vec<(&'static str, String)>;

/// The five families, each label set written out for each sample.
struct Plain {
    registry: Registry,
    families: [Family<Set, Counter>; 5],
}

/// What happens to one connection.
#[derive(Clone, Debug)]
struct Event {
    source: usize,
    destination: usize,
    received: u64,
    sent: u64,
    flag: Option<usize>,
    destination_reports: bool,
}

impl Plain {
    fn new() -> Self {
        let mut registry = Registry::default();
        let families = <[Family<Set, Counter>; 5]>::default();
        let istio = registry.sub_registry_with_prefix("istio");
        for ((name, help), family) in [
            (
                "tcp_connections_opened",
                "The total number of TCP connections opened",
            ),
            (
                "tcp_connections_closed",
                "The total number of TCP connections closed",
            ),
            (
                "tcp_received_bytes",
                "The size of total bytes received during request in case of a TCP connection",
            ),
            (
                "tcp_sent_bytes",
                "The size of total bytes sent during response in case of a TCP connection",
            ),
            (
                "tcp_connections_failed",
                "The total number of TCP connections that failed to establish (unstable)",
            ),
        ]
        .into_iter()
        .zip(&families)
        {
            istio.register(name, help, family.clone());
        }
        Self { registry, families }
    }

    fn count(&self, labels: &Labels<'_>, event: &Event) {
        let [opened, closed, received, sent, failed] = &self.families;
        let none = set(labels, "-");
        opened.get_or_create(&none).inc();
        received.get_or_create(&none).inc_by(event.received);
        sent.get_or_create(&none).inc_by(event.sent);
        let Some(flag) = event.flag else { return };
        let ended = set(labels, ResponseFlag::ALL[flag].as_str());
        closed.get_or_create(&ended).inc();
        if flag > 0 {
            failed.get_or_create(&ended).inc();
        }
    }

    fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// The labels in the order of spec/dataplane.md §16.
fn set(labels: &Labels<'_>, flag: &str) -> Set {
    let (source, destination) = (&labels.source, &labels.destination);
    let service = &labels.service;
    let policy = match labels.security_policy {
        SecurityPolicy::MutualTls => "mutual_tls",
        SecurityPolicy::Unknown => "unknown",
    };
    [
        ("reporter", labels.reporter.as_str()),
        ("source_workload", source.workload),
        ("source_canonical_service", source.canonical_service),
        ("source_canonical_revision", source.canonical_revision),
        ("source_workload_namespace", source.namespace),
        ("source_principal", source.principal),
        ("source_app", source.app),
        ("source_version", source.version),
        ("source_cluster", source.cluster),
        ("destination_service", service.hostname),
        ("destination_service_namespace", service.namespace),
        ("destination_service_name", service.name),
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
        ("response_flags", flag),
        ("connection_security_policy", policy),
        ("source_region", source.region),
        ("source_zone", source.zone),
        ("destination_region", destination.region),
        ("destination_zone", destination.zone),
    ]
    .map(|(name, value)| (name, value_of(value)))
    .into()
}

fn value_of(value: &str) -> String {
    if value.is_empty() {
        return "unknown".into();
    }
    let printable = |c: char| if c.is_ascii_control() { '\u{fffd}' } else { c };
    value.chars().map(printable).collect()
}

/// Families in their order, each with its samples sorted: the crate keeps none.
fn read(text: &str) -> Vec<(String, Samples)> {
    let mut families: Vec<(String, Samples)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with("# EOF")) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            families.push((help.to_owned(), Samples::new()));
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            families.last_mut().unwrap().0.push_str(kind);
        } else {
            let (labels, value) = line.rsplit_once(' ').unwrap();
            let value = value.parse().unwrap();
            let before = families.last_mut().unwrap().1.insert(labels.into(), value);
            assert_eq!(before, None, "twice: {line}");
        }
    }
    families.retain(|(head, _)| head.starts_with("istio_tcp_") && !head.contains("sockets_open"));
    families
}

const NAMES: [&str; 7] = [
    "",
    "shop",
    "a\"b",
    "back\\slash",
    "new\nline",
    "tab\tbell\u{7}",
    "größe-日本",
];

fn labels(event: &Event) -> Labels<'static> {
    let side = |name| SideLabels {
        workload: name,
        principal: name,
        zone: name,
        ..recorded().source
    };
    Labels {
        reporter: if event.destination_reports {
            Reporter::Destination
        } else {
            Reporter::Source
        },
        source: side(NAMES[event.source]),
        destination: side(NAMES[event.destination]),
        ..recorded()
    }
}

fn event() -> impl Strategy<Value = Event> {
    (
        0..NAMES.len(),
        0..NAMES.len(),
        0..1_u64 << 40,
        0..1_u64 << 40,
        proptest::option::of(0..ResponseFlag::ALL.len()),
        any::<bool>(),
    )
        .prop_map(
            |(source, destination, received, sent, flag, destination_reports)| Event {
                source,
                destination,
                received,
                sent,
                flag,
                destination_reports,
            },
        )
}

proptest! {
    #[test]
    fn the_exposition_is_what_the_plain_encoder_writes(
        events in proptest::collection::vec(event(), 0..60),
    ) {
        let (metrics, plain) = (metrics(MAX_SERIES), Plain::new());
        let recorders = [metrics.recorder(), metrics.recorder()];
        for (number, event) in events.iter().enumerate() {
            let labels = labels(event);
            let connection = opened(&recorders[number % 2], &labels);
            connection.add_received(event.received);
            connection.add_sent(event.sent);
            if let Some(flag) = event.flag {
                connection.close(ResponseFlag::ALL[flag]);
            }
            plain.count(&labels, event);
        }
        let (ours, theirs) = (read(&metrics.encode()), read(&plain.encode()));
        prop_assert_eq!(ours.len(), theirs.len());
        for ((head, ours), (expected, theirs)) in ours.iter().zip(&theirs) {
            prop_assert_eq!(head, expected);
            let only = |these: &Samples, those: &Samples| {
                let only = these.iter().filter(|(labels, value)| those.get(*labels) != Some(value));
                only.map(|(labels, value)| format!("{labels} {value}")).collect::<Vec<_>>()
            };
            prop_assert_eq!(only(ours, theirs), only(theirs, ours));
        }
    }
}

#[test]
fn the_pieces_are_as_long_as_was_said() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    for number in 0..500 {
        let name = format!("workload-{number}");
        let connection = opened(&recorder, &from(&name));
        connection.add_sent(1 << (number % 60));
        connection.close(ResponseFlag::ALL[number % 8]);
    }
    let mut scrape = metrics.scrape();
    let said = scrape.total_bytes();
    let pieces: Vec<_> = std::iter::from_fn(|| scrape.next_piece()).collect();
    assert!(pieces.len() > 10, "{}", pieces.len());
    assert_eq!(pieces.iter().map(Vec::len).sum::<usize>(), said);
}
