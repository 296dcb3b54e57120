use super::*;
use crate::telemetry::{
    ConnectionMetrics, Labels, Reporter, ResponseFlag, SecurityPolicy, ServiceLabels, SideLabels,
};

mod idle;
mod oracle;

fn metrics(limit: usize) -> Metrics {
    Metrics::with_limit("1.2.3", Arc::default(), limit)
}

/// A connection of these labels, opened.
fn opened(recorder: &Recorder, labels: &Labels<'_>) -> ConnectionMetrics {
    let connections = recorder.connections(labels);
    connections.open();
    connections
}

/// A connection of the recorded mesh: pod a to the service echo, answered by pod b.
fn recorded() -> Labels<'static> {
    Labels {
        reporter: Reporter::Source,
        source: SideLabels {
            workload: "poda",
            canonical_service: "a",
            canonical_revision: "latest",
            namespace: "default",
            principal: "spiffe://cluster.local/ns/default/sa/sa-a",
            app: "a",
            version: "latest",
            cluster: "Kubernetes",
            region: "r1",
            zone: "z1",
        },
        destination: SideLabels {
            workload: "podb",
            canonical_service: "echo",
            canonical_revision: "latest",
            namespace: "default",
            principal: "spiffe://cluster.local/ns/default/sa/sa-b",
            app: "echo",
            version: "latest",
            cluster: "Kubernetes",
            region: "r1",
            zone: "z2",
        },
        service: ServiceLabels {
            hostname: "echo.default.svc.cluster.local",
            namespace: "default",
            name: "echo",
        },
        security_policy: SecurityPolicy::MutualTls,
        claimed: false,
    }
}

fn from<'a>(workload: &'a str) -> Labels<'a> {
    let labels: Labels<'a> = recorded();
    Labels {
        source: SideLabels {
            workload,
            ..labels.source
        },
        ..labels
    }
}

/// The samples of a family, without its comments.
fn samples(text: &str, name: &str) -> Vec<String> {
    let with_labels = format!("{name}{{");
    let without = format!("{name} ");
    text.lines()
        .filter(|line| line.starts_with(&with_labels) || line.starts_with(&without))
        .map(ToOwned::to_owned)
        .collect()
}

fn value(text: &str, name: &str) -> u64 {
    samples(text, name)
        .iter()
        .map(|sample| sample.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap())
        .sum()
}

#[test]
fn the_exposition_of_a_connection_is_that_of_the_recording() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    let _socket = recorder.socket(Reporter::Source);
    let connection = opened(&recorder, &recorded());
    connection.add_received(6);
    connection.add_sent(2);
    connection.add_sent(3);
    connection.close(ResponseFlag::None);
    // Everything from `istio_build` on is upstream's, but for the tag, the values and what was never counted.
    let labels = r#"reporter="source",source_workload="poda",source_canonical_service="a",source_canonical_revision="latest",source_workload_namespace="default",source_principal="spiffe://cluster.local/ns/default/sa/sa-a",source_app="a",source_version="latest",source_cluster="Kubernetes",destination_service="echo.default.svc.cluster.local",destination_service_namespace="default",destination_service_name="echo",destination_workload="podb",destination_canonical_service="echo",destination_canonical_revision="latest",destination_workload_namespace="default",destination_principal="spiffe://cluster.local/ns/default/sa/sa-b",destination_app="echo",destination_version="latest",destination_cluster="Kubernetes",request_protocol="tcp",response_flags="-",connection_security_policy="mutual_tls",source_region="r1",source_zone="z1",destination_region="r1",destination_zone="z2""#;
    let expected = format!(
        r#"# HELP istio_build Istio component build info.
# TYPE istio_build gauge
istio_build{{component="ztunnel",tag="1.2.3"}} 1
# HELP istio_tcp_connections_opened The total number of TCP connections opened.
# TYPE istio_tcp_connections_opened counter
istio_tcp_connections_opened_total{{{labels}}} 1
# HELP istio_tcp_connections_closed The total number of TCP connections closed.
# TYPE istio_tcp_connections_closed counter
istio_tcp_connections_closed_total{{{labels}}} 1
# HELP istio_tcp_received_bytes The size of total bytes received during request in case of a TCP connection.
# TYPE istio_tcp_received_bytes counter
istio_tcp_received_bytes_total{{{labels}}} 6
# HELP istio_tcp_sent_bytes The size of total bytes sent during response in case of a TCP connection.
# TYPE istio_tcp_sent_bytes counter
istio_tcp_sent_bytes_total{{{labels}}} 5
# HELP istio_tcp_sockets_open The current number of open TCP sockets (unstable).
# TYPE istio_tcp_sockets_open gauge
istio_tcp_sockets_open{{reporter="source"}} 1
"#
    );
    let text = metrics.encode();
    let istio = &text[text.find("# HELP istio_build").unwrap()..];
    assert!(istio.starts_with(&expected), "{istio}");
    assert!(text.ends_with("\n# EOF\n"));
    assert!(text.starts_with(
        "# HELP process_open_fds Number of open file descriptors\n# TYPE process_open_fds gauge\nprocess_open_fds "
    ));
}

#[test]
fn a_failure_counts_as_closed_and_as_failed_with_its_flag() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    for flag in ResponseFlag::ALL {
        opened(&recorder, &recorded()).close(flag);
    }
    let text = metrics.encode();
    assert_eq!(value(&text, "istio_tcp_connections_opened_total"), 8);
    assert_eq!(value(&text, "istio_tcp_connections_closed_total"), 8);
    assert_eq!(value(&text, "istio_tcp_connections_failed_total"), 7);
    for flag in ResponseFlag::ALL {
        let label = format!(r#"response_flags="{}""#, flag.as_str());
        let with_flag = |name| {
            samples(&text, name)
                .iter()
                .filter(|sample| sample.contains(&label))
                .count()
        };
        assert_eq!(
            with_flag("istio_tcp_connections_closed_total"),
            1,
            "{label}"
        );
        assert_eq!(
            with_flag("istio_tcp_connections_failed_total"),
            usize::from(flag.is_failure()),
            "{label}"
        );
    }
}

#[test]
fn bytes_show_while_the_connection_is_open() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    let connection = opened(&recorder, &recorded());
    let text = metrics.encode();
    assert_eq!(samples(&text, "istio_tcp_received_bytes_total").len(), 1);
    assert_eq!(value(&text, "istio_tcp_received_bytes_total"), 0);
    connection.add_received(1 << 40);
    assert_eq!(
        value(&metrics.encode(), "istio_tcp_received_bytes_total"),
        1 << 40
    );
}

#[test]
fn families_without_samples_are_not_shown() {
    let text = metrics(MAX_SERIES).encode();
    assert!(!text.contains("istio_tcp"), "{text}");
    assert!(!text.contains("ztunnel_refusals"), "{text}");
}

#[test]
fn past_the_limit_every_family_counts_in_overflow() {
    let metrics = metrics(3);
    let recorder = metrics.recorder();
    for number in 0..50 {
        let name = format!("workload-{number}");
        let connection = opened(&recorder, &from(&name));
        connection.add_received(10);
        connection.close(ResponseFlag::ALL[number % 8]);
    }
    let text = metrics.encode();
    for family in [
        "istio_tcp_connections_opened_total",
        "istio_tcp_received_bytes_total",
        "istio_tcp_sent_bytes_total",
    ] {
        assert_eq!(samples(&text, family).len(), 3 + 1, "{family}");
    }
    let closed = samples(&text, "istio_tcp_connections_closed_total");
    let (overflow, ordinary): (Vec<_>, Vec<_>) = closed
        .iter()
        .partition(|sample| sample.contains(r#"source_workload="overflow""#));
    assert!(ordinary.len() <= 3, "{ordinary:?}");
    assert!(overflow.len() <= 8, "{overflow:?}");
    assert_eq!(value(&text, "istio_tcp_connections_opened_total"), 50);
    assert_eq!(value(&text, "istio_tcp_connections_closed_total"), 50);
    assert_eq!(value(&text, "istio_tcp_received_bytes_total"), 500);
    assert!(value(&text, "ztunnel_metric_overflows_total") >= 47);
    let kept = samples(&text, "istio_tcp_connections_opened_total");
    assert!(
        kept.iter()
            .any(|sample| sample.contains(r#"reporter="source""#) && sample.contains("overflow"))
    );
}

#[test]
fn a_known_label_set_is_still_counted_when_full() {
    let metrics = metrics(1);
    let recorder = metrics.recorder();
    for name in ["known", "other", "known"] {
        opened(&recorder, &from(name));
    }
    let text = metrics.encode();
    let known = samples(&text, "istio_tcp_connections_opened_total")
        .into_iter()
        .find(|sample| sample.contains(r#"source_workload="known""#))
        .unwrap();
    assert!(known.ends_with(" 2"));
}

#[test]
fn guards_hold_gauges_while_they_live() {
    let metrics = metrics(MAX_SERIES);
    let recorders = [metrics.recorder(), metrics.recorder()];
    let sockets = recorders
        .each_ref()
        .map(|recorder| recorder.socket(Reporter::Destination));
    let tunnels = [metrics.tunnel(Side::Inbound), metrics.tunnel(Side::Inbound)];
    let text = metrics.encode();
    assert_eq!(value(&text, "istio_tcp_sockets_open"), 2);
    assert_eq!(value(&text, "ztunnel_tunnels_open"), 2);
    drop((sockets, tunnels));
    let text = metrics.encode();
    assert_eq!(value(&text, "istio_tcp_sockets_open"), 0);
    assert_eq!(value(&text, "ztunnel_tunnels_open"), 0);
}

#[test]
fn our_own_metrics_say_that_they_are_unstable() {
    let metrics = metrics(MAX_SERIES);
    metrics.refused(Side::Inbound, "wrong_trust_domain");
    metrics.handshake(Side::Outbound, Handshake::TimedOut);
    let _tunnel = metrics.tunnel(Side::Outbound);
    metrics.control_loop_turned(Duration::from_millis(250), Duration::from_secs(60));
    let text = metrics.encode();
    assert!(
        text.contains("ztunnel_refusals_total{side=\"inbound\",reason=\"wrong_trust_domain\"} 1\n")
    );
    assert!(text.contains("ztunnel_handshakes_total{side=\"outbound\",result=\"timed_out\"} 1\n"));
    let helps: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("# HELP ztunnel_"))
        .collect();
    assert!(text.contains("\nztunnel_control_loop_lag_seconds 0.25\n"));
    // Shown before there is one: whoever watches it wants to see it move.
    assert!(text.contains("\nztunnel_panics_total 0\n"));
    assert_eq!(helps.len(), 12);
    for help in helps {
        assert!(help.contains("unstable"), "{help}");
    }
}

#[test]
fn labels_that_peers_choose_cannot_break_the_exposition() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    opened(&recorder, &from("a\"} 1\n# EOF\n\\\u{1f}x"));
    let text = metrics.encode();
    assert_eq!(text.matches("# EOF\n").count(), 1);
    assert!(text.contains("source_workload=\"a\\\"} 1\u{fffd}# EOF\u{fffd}\\\\\u{fffd}x\","));
}

#[test]
fn flags_are_numbered_in_their_order() {
    for (number, flag) in ResponseFlag::ALL.into_iter().enumerate() {
        assert_eq!(flag as usize, number);
    }
}

#[test]
fn many_threads_counting_lose_nothing() {
    let metrics = metrics(8);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let recorder = metrics.recorder();
                for number in 0..1000 {
                    let name = format!("workload-{}", number % 20);
                    let connection = opened(&recorder, &from(&name));
                    connection.add_sent(1);
                    connection.close(ResponseFlag::None);
                }
            });
        }
    });
    let text = metrics.encode();
    assert_eq!(value(&text, "istio_tcp_connections_opened_total"), 4000);
    assert_eq!(value(&text, "istio_tcp_connections_closed_total"), 4000);
    assert_eq!(value(&text, "istio_tcp_sent_bytes_total"), 4000);
}

#[test]
fn what_an_ended_thread_counted_stays_and_its_place_is_taken_over() {
    let metrics = metrics(MAX_SERIES);
    for round in 1..=5 {
        let recorder = metrics.recorder();
        let connection = opened(&recorder, &recorded());
        drop(recorder); // the connection outlives it
        let other = metrics.recorder();
        opened(&other, &recorded()).add_sent(1);
        connection.add_sent(10);
        connection.close(ResponseFlag::None);
        let text = metrics.encode();
        assert_eq!(
            value(&text, "istio_tcp_connections_opened_total"),
            2 * round
        );
        assert_eq!(value(&text, "istio_tcp_sent_bytes_total"), 11 * round);
    }
    assert_eq!(metrics.hands.count(), 2);
}

#[test]
fn totals_never_go_back_while_threads_come_and_go() {
    let metrics = metrics(MAX_SERIES);
    let counting = AtomicU64::new(2);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..200 {
                    let recorder = metrics.recorder();
                    for number in 0..5 {
                        let name = format!("workload-{number}");
                        let connection = opened(&recorder, &from(&name));
                        connection.add_received(7);
                        connection.close(ResponseFlag::Connect);
                    }
                }
                counting.fetch_sub(1, Relaxed);
            });
        }
        let mut last = [0; 3];
        while counting.load(Relaxed) > 0 {
            let text = metrics.encode();
            let now = [
                "istio_tcp_connections_opened_total",
                "istio_tcp_connections_closed_total",
                "istio_tcp_received_bytes_total",
            ]
            .map(|name| value(&text, name));
            assert!(last.iter().zip(now).all(|(last, now)| *last <= now));
            assert!(now[1] <= now[0], "{now:?}");
            last = now;
        }
    });
    assert_eq!(
        value(&metrics.encode(), "istio_tcp_received_bytes_total"),
        2 * 200 * 5 * 7
    );
}

/// HELP, TYPE and UNIT lines, by family, in their order.
fn heads(text: &str) -> Vec<(String, Vec<String>)> {
    let mut heads: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().filter(|line| *line != "# EOF") {
        let Some(name) = line
            .strip_prefix("# ")
            .and_then(|line| line.split(' ').nth(1))
        else {
            continue;
        };
        match heads.last_mut() {
            Some((last, lines)) if last == name => lines.push(line.to_owned()),
            _ => heads.push((name.to_owned(), vec![line.to_owned()])),
        }
    }
    heads
}

/// Families of upstream's that are not there without a control plane's stream.
const MISSING: [&str; 2] = ["istio_xds_message", "istio_xds_message_bytes"];

/// `test_stats_exist` of upstream (spec/dataplane.md §18), and its order.
#[test]
fn upstreams_families_come_first_as_recorded_and_all_others_say_that_they_are_unstable() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let metrics = metrics(MAX_SERIES);
    let _shown = metrics.runtime(0, runtime.metrics(), Arc::default());
    let recorder = metrics.recorder();
    let _socket = recorder.socket(Reporter::Source);
    opened(&recorder, &recorded()).close(ResponseFlag::Connect);
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/upstream");
    let golden = std::fs::read_to_string(folder.join("node-a-metrics.txt")).unwrap();
    let expected: Vec<_> = heads(&golden)
        .into_iter()
        .filter(|(name, _)| !MISSING.contains(&name.as_str()))
        .collect();
    let text = metrics.encode();
    let ours = heads(&text);
    let (theirs, more): (Vec<_>, Vec<_>) = ours
        .iter()
        .cloned()
        .partition(|head| expected.iter().any(|(name, _)| *name == head.0));
    assert_eq!(theirs, expected);
    assert_eq!(ours[..theirs.len()], theirs, "ours stand behind upstream's");
    for (name, lines) in more {
        assert!(lines[0].contains("(unstable)"), "{name}: {lines:?}");
    }
    for stable in [
        "istio_build",
        "istio_tcp_connections_opened",
        "istio_tcp_connections_closed",
        "istio_tcp_received_bytes",
        "istio_tcp_sent_bytes",
        "process_max_fds",
        "process_open_fds",
    ] {
        let (_, lines) = expected.iter().find(|(name, _)| name == stable).unwrap();
        assert!(!lines[0].contains("unstable"));
    }
}

/// T22, U9: what peers say of themselves may fill half of the room, whatever they say.
#[test]
fn inventing_labels_costs_bounded_memory_and_keeps_room_for_those_whom_the_mesh_knows() {
    let limit = 200;
    let metrics = metrics(limit);
    let recorder = metrics.recorder();
    for number in 0..100_000 {
        let name = format!("invented-{number}");
        let claimed = Labels {
            claimed: true,
            ..from(&name)
        };
        opened(&recorder, &claimed).close(ResponseFlag::None);
    }
    for number in 0..50 {
        let name = format!("known-{number}");
        opened(&recorder, &from(&name)).close(ResponseFlag::None);
    }
    let text = metrics.encode();
    for family in [
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
    ] {
        let shown = samples(&text, family);
        let named = |word: &str| shown.iter().filter(|sample| sample.contains(word)).count();
        assert_eq!(named("\"invented-"), limit / 2, "{family}");
        assert_eq!(named("\"known-"), 50, "{family}");
        assert_eq!(named("\"overflow\""), 1, "{family}");
    }
    assert_eq!(value(&text, "istio_tcp_connections_opened_total"), 100_050);
    assert!(text.len() < 1 << 20);
}
