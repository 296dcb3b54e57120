use std::fs;
use std::mem::size_of;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::pairs::testing::{pairs, service, workload};
use crate::sys::counting::allocated;
use crate::telemetry::log::{Logger, Output};
use crate::telemetry::metrics::Metrics;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tunnelled(workload: &Arc<Workload>, service: Option<&Arc<Service>>) -> Route {
    Route::Hbone {
        peer: address("10.0.0.2:15008"),
        authority: Target::Address(address("10.0.0.2:80")),
        expected: vec![workload.identity()],
        workload: workload.clone(),
        service: service.cloned(),
    }
}

fn plain(workload: Option<&Arc<Workload>>) -> Route {
    Route::Passthrough {
        destination: address("10.0.0.9:80"),
        workload: workload.cloned(),
        service: None,
    }
}

/// A worker whose log goes to a file of its own.
struct Desk {
    metrics: Metrics,
    pairs: Pairs,
    log: Logger,
    path: PathBuf,
}

impl Desk {
    fn new(name: &str, filter: &str) -> Self {
        let name = format!("ztunnel-connection-{}-{name}.log", std::process::id());
        let path = std::env::temp_dir().join(name);
        let _ = fs::remove_file(&path);
        let (metrics, pairs, log) = pairs(filter, Output::File(path.clone()));
        Self {
            metrics,
            pairs,
            log,
            path,
        }
    }

    fn outbound(&self, route: &Route) -> ConnectionRecord {
        let client = address("10.0.0.1:1234");
        ConnectionRecord::outbound(
            &self.pairs,
            Instant::now(),
            client,
            &workload("a"),
            route,
            None,
        )
    }

    fn lines(&self) -> Vec<String> {
        assert!(self.log.flush(Duration::from_secs(30)));
        let text = fs::read_to_string(&self.path).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    fn samples(&self, start: &str) -> Vec<String> {
        let text = self.metrics.encode();
        let samples = text.lines().filter(|line| line.starts_with(start));
        samples.map(ToOwned::to_owned).collect()
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[test]
fn a_tunnelled_connection_names_both_ends_in_log_and_labels() {
    let desk = Desk::new("tunnelled", "info");
    let record = desk.outbound(&tunnelled(&workload("b"), Some(&service("echo"))));
    record.received.add(6);
    record.sent.add(5);
    record.close(Ok(()));
    let lines = desk.lines();
    assert_eq!(lines.len(), 1);
    let expected = "\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:1234 src.workload=\"a-pod\" src.namespace=\"shop\" src.identity=\"spiffe://cluster.local/ns/shop/sa/a\" src.cluster=\"cluster1\" dst.addr=10.0.0.2:15008 dst.hbone_addr=10.0.0.2:80 dst.service=\"echo.shop.svc.cluster.local\" dst.workload=\"b-pod\" dst.namespace=\"shop\" dst.identity=\"spiffe://cluster.local/ns/shop/sa/b\" dst.cluster=\"cluster1\" direction=\"outbound\" bytes_sent=6 bytes_recv=5 duration=\"";
    assert!(lines[0].contains(expected), "{}", lines[0]);
    let received = desk.samples("istio_tcp_received_bytes_total{reporter=\"source\",source_workload=\"a\",source_canonical_service=\"a-service\",source_canonical_revision=\"v1\",source_workload_namespace=\"shop\",source_principal=\"spiffe://cluster.local/ns/shop/sa/a\",source_app=\"a-service\",");
    assert_eq!(received.len(), 1);
    assert!(received[0].ends_with("} 6"));
    assert!(received[0].contains("connection_security_policy=\"mutual_tls\""));
}

fn through_gateway() -> Route {
    Route::DoubleHbone {
        peer: address("10.0.0.8:15008"),
        authority: Target::Host {
            hostname: "echo.shop.svc.cluster.local".into(),
            port: 80,
        },
        expected: Vec::new(),
        inner_expected: Vec::new(),
        workload: workload("gateway"),
        service: service("echo"),
    }
}

/// The access-log line and the label set of a connection through a gateway, with what was found behind it.
fn behind_gateway(name: &str, baggage: Option<&str>, identity: Option<&str>) -> (String, String) {
    let desk = Desk::new(name, "info");
    let fields = baggage.map_or(Fields::new(), |text| Fields::new().with("baggage", text));
    let identity = identity.map(|text| Identity::parse(text).unwrap());
    let far = FarEnd {
        fields: &fields,
        identity: identity.as_ref(),
    };
    let (client, route) = (address("10.0.0.1:1234"), through_gateway());
    let (started, source) = (Instant::now(), workload("a"));
    ConnectionRecord::outbound(&desk.pairs, started, client, &source, &route, Some(&far))
        .close(Ok(()));
    let opened = desk.samples("istio_tcp_connections_opened_total{");
    assert_eq!(opened.len(), 1);
    (desk.lines().remove(0), opened[0].clone())
}

const FAR: &str = "spiffe://far.local/ns/far/sa/echo";

#[test]
fn behind_a_gateway_it_is_the_inner_peer_that_counts() {
    let baggage = "k8s.cluster.name=c2,k8s.namespace.name=far,k8s.deployment.name=echo,service.name=echo-svc,\
                   service.version=v7,cloud.region=r9,cloud.availability_zone=z9";
    let (line, labels) = behind_gateway("behind", Some(baggage), Some(FAR));
    let expected = " dst.addr=10.0.0.8:15008 dst.hbone_addr=echo.shop.svc.cluster.local:80 dst.service=\"echo.shop.svc.cluster.local\" dst.workload=\"echo\" dst.namespace=\"far\" dst.identity=\"spiffe://far.local/ns/far/sa/echo\" dst.cluster=\"c2\" direction=";
    assert!(line.contains(expected), "{line}");
    for label in [
        "destination_workload=\"echo\"",
        "destination_canonical_service=\"echo-svc\"",
        "destination_canonical_revision=\"v7\"",
        "destination_workload_namespace=\"far\"",
        "destination_principal=\"spiffe://far.local/ns/far/sa/echo\"",
        "destination_app=\"echo\"",
        "destination_version=\"v7\"",
        "destination_cluster=\"c2\"",
        "destination_region=\"r9\"",
        "destination_service=\"echo.shop.svc.cluster.local\"",
        "connection_security_policy=\"mutual_tls\"",
    ] {
        assert!(labels.contains(label), "{label}: {labels}");
    }
}

#[test]
fn a_silent_peer_behind_a_gateway_leaves_the_gateways_labels() {
    for (name, baggage) in [
        ("silent", None),
        ("empty", Some("")),
        ("odd", Some("\u{fc}")),
    ] {
        let (line, labels) = behind_gateway(name, baggage, Some(FAR));
        assert!(line.contains(" dst.workload=\"gateway-pod\" "), "{line}");
        assert!(
            line.contains(&format!(" dst.identity=\"{FAR}\" ")),
            "{line}"
        );
        assert!(
            labels.contains("destination_workload=\"gateway\""),
            "{labels}"
        );
        assert!(labels.contains(&format!("destination_principal=\"{FAR}\"")));
    }
}

#[test]
fn what_failed_before_a_gateways_peer_was_known_counts_for_the_gateway() {
    let desk = Desk::new("unknown", "info");
    desk.outbound(&through_gateway()).close(Ok(()));
    let labels = desk.samples("istio_tcp_connections_opened_total{");
    assert!(
        labels[0].contains("destination_principal=\"spiffe://cluster.local/ns/shop/sa/gateway\"")
    );
}

#[test]
fn a_plain_connection_names_no_identity() {
    let desk = Desk::new("plain", "info");
    desk.outbound(&plain(Some(&workload("b")))).close(Ok(()));
    desk.outbound(&plain(None)).close(Ok(()));
    let lines = desk.lines();
    assert!(lines.iter().all(|line| !line.contains("identity=")));
    assert!(lines[0].contains(" dst.addr=10.0.0.9:80 dst.workload=\"b-pod\" dst.namespace="));
    assert!(lines[1].contains(" dst.addr=10.0.0.9:80 direction=\"outbound\" bytes_sent="));
    let opened = desk.samples("istio_tcp_connections_opened_total{");
    assert!(opened.iter().all(|sample| {
        sample.contains("source_principal=\"unknown\"")
            && sample.contains("connection_security_policy=\"unknown\"")
    }));
}

#[test]
fn an_inbound_connection_counts_from_the_applications_side() {
    let desk = Desk::new("inbound", "info");
    let (b, identity) = (workload("b"), workload("a").identity());
    let fields = Fields::new().with("baggage", "service.name=claimed,k8s.cluster.name=c9");
    let source = Source {
        fields: &fields,
        workload: None,
        identity: Some(&identity),
    };
    let addresses = (address("10.0.0.1:1"), address("10.0.0.2:15008"));
    let target = Target::Host {
        hostname: "echo.shop".into(),
        port: 80,
    };
    let now = Instant::now();
    let record = ConnectionRecord::inbound(&desk.pairs, now, addresses, &source, &b, &target, None);
    record.received.add(6);
    record.sent.add(5);
    let error = Error::policy_changed();
    record.close(Err(&error));
    let line = &desk.lines()[0];
    assert!(line.contains("\terror\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 src.workload=\"claimed\" src.identity=\"spiffe://cluster.local/ns/shop/sa/a\" src.cluster=\"c9\" dst.addr=10.0.0.2:15008 dst.hbone_addr=echo.shop:80 dst.workload=\"b-pod\""), "{line}");
    assert!(line.contains(" direction=\"inbound\" bytes_sent=5 bytes_recv=6 "));
    assert!(line.ends_with(" error=\"connection closed due to policy change\""));
    let failed = desk.samples("istio_tcp_connections_failed_total{reporter=\"destination\"");
    assert!(failed.len() == 1 && failed[0].contains("response_flags=\"DENY\""));
}

#[test]
fn a_connection_ends_once() {
    let desk = Desk::new("once", "info");
    let route = plain(None);
    desk.outbound(&route).close(Ok(()));
    drop(desk.outbound(&route)); // cut by draining
    assert_eq!(desk.lines().len(), 2);
    let closed = desk.samples("istio_tcp_connections_closed_total{");
    assert!(
        closed.len() == 2 || closed[0].ends_with("} 2"),
        "{closed:?}"
    );
    assert!(
        desk.samples("istio_tcp_connections_failed_total{")
            .is_empty()
    );
}

#[test]
fn a_plain_connection_that_comes_in_names_only_us_and_only_in_labels() {
    let desk = Desk::new("plaintext", "info");
    let (a, b, echo) = (workload("a"), workload("b"), service("echo"));
    let addresses = (address("10.0.0.1:1"), address("10.0.0.2:80"));
    let open = |source| {
        let now = Instant::now();
        ConnectionRecord::plaintext(&desk.pairs, now, addresses, source, &b, Some(&echo))
    };
    let known = open(Some(&a));
    known.received.add(6);
    known.close(Ok(()));
    open(None).close(Ok(()));
    let lines = desk.lines();
    assert!(lines[0].contains("\tinfo\taccess\tconnection complete\tsrc.addr=10.0.0.1:1 src.workload=\"a-pod\" src.namespace=\"shop\" src.cluster=\"cluster1\" dst.addr=10.0.0.2:80 dst.service=\"echo.shop.svc.cluster.local\" dst.workload=\"b-pod\" dst.namespace=\"shop\" dst.cluster=\"cluster1\" direction=\"inbound\" bytes_sent=0 bytes_recv=6 "), "{}", lines[0]);
    assert!(lines[1].contains("\tsrc.addr=10.0.0.1:1 dst.addr=10.0.0.2:80 dst.service="));
    let opened = desk.samples("istio_tcp_connections_opened_total{reporter=\"destination\"");
    assert_eq!(opened.len(), 2);
    for part in [
        "source_principal=\"unknown\"",
        "destination_principal=\"spiffe://cluster.local/ns/shop/sa/b\"",
        "connection_security_policy=\"unknown\"",
    ] {
        assert!(opened.iter().all(|sample| sample.contains(part)), "{part}");
    }
}

#[test]
fn an_opened_line_is_written_only_if_somebody_wants_it() {
    let desk = Desk::new("opened", "debug");
    let record = desk.outbound(&plain(None));
    let lines = desk.lines();
    assert!(lines.len() == 1 && lines[0].contains("\tdebug\taccess\tconnection opened\t"));
    drop(record);
}

#[test]
fn a_record_is_small_and_costs_two_allocations() {
    assert!(
        size_of::<ConnectionRecord>() <= 160,
        "{}",
        size_of::<ConnectionRecord>()
    );
    let (_, pairs, _) = pairs("off", Output::Stdout);
    let (a, b) = (workload("a"), workload("b"));
    let (now, client) = (Instant::now(), address("10.0.0.1:1234"));
    let route = tunnelled(&b, Some(&service("echo")));
    let open = || ConnectionRecord::outbound(&pairs, now, client, &a, &route, None);
    open().close(Ok(()));
    let ((), cost) = allocated(|| {
        let record = open();
        record.received.add(1);
        record.close(Ok(()));
    });
    assert!(cost.calls <= 2 && cost.bytes <= 80, "{cost:?}");
}

#[test]
fn a_line_of_the_access_log_costs_one_allocation_more() {
    let desk = Desk::new("line", "info");
    let (a, b) = (workload("a"), workload("b"));
    let (now, client) = (Instant::now(), address("10.0.0.1:1234"));
    let route = tunnelled(&b, Some(&service("echo")));
    let open = || ConnectionRecord::outbound(&desk.pairs, now, client, &a, &route, None);
    open().close(Ok(()));
    let ((), cost) = allocated(|| open().close(Ok(())));
    // The line itself, and now and then the queue that takes it.
    assert!(cost.calls <= 4, "{cost:?}");
    assert_eq!(desk.lines().len(), 2);
}

/// `cargo test --release -p proxy --lib -- --ignored --nocapture what_a_record_costs`
#[test]
#[ignore = "a measurement"]
fn what_a_record_costs() {
    fn each(name: &str, times: u32, mut run: impl FnMut()) {
        let begun = Instant::now();
        (0..times).for_each(|_| run());
        println!("{name}: {:?}", begun.elapsed() / times);
    }
    let (a, b) = (workload("a"), workload("b"));
    let (now, client) = (Instant::now(), address("10.0.0.1:1234"));
    let route = tunnelled(&b, Some(&service("echo")));
    for filter in ["off", "info"] {
        let (_, pairs, _) = pairs(filter, Output::File("/dev/null".into()));
        let open = || ConnectionRecord::outbound(&pairs, now, client, &a, &route, None);
        open().close(Ok(()));
        let ((), cost) = allocated(|| open().close(Ok(())));
        println!("{} bytes, {cost:?}", size_of::<ConnectionRecord>());
        each(&format!("open and close, log {filter}"), 100_000, || {
            open().close(Ok(()));
        });
        let record = open();
        each("a thousand times count bytes", 10_000, || {
            (0..1000).for_each(|_| record.received.add(std::hint::black_box(1)));
        });
    }
    let table = Rc::<crate::connections::ConnectionTable>::default();
    each("register and leave", 1_000_000, || drop(table.register()));
}
