//! Label sets that come and go (spec/reliability.md T22; upstream's families grow without end).

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;

const OPENED: &str = "istio_tcp_connections_opened_total";

impl Metrics {
    fn text_at(&self, now: Instant) -> String {
        whole(self.scrape_at(now))
    }
}

/// Moments of a test: scrapes, a quarter of a minute apart.
struct Scrapes(Instant);

impl Scrapes {
    fn begin() -> Self {
        Self(Instant::now())
    }

    fn next(&mut self, metrics: &Metrics) -> String {
        self.0 += Duration::from_secs(15);
        metrics.text_at(self.0)
    }

    /// So many, the last one's text.
    fn after(&mut self, minutes: u32, metrics: &Metrics) -> String {
        (0..minutes * 4).map(|_| self.next(metrics)).last().unwrap()
    }
}

fn evicted(text: &str) -> u64 {
    value(text, "ztunnel_metrics_evicted_series_total")
}

/// One whole connection.
fn visit(recorder: &Recorder, labels: &Labels<'_>) {
    let connection = opened(recorder, labels);
    connection.add_received(10);
    connection.close(ResponseFlag::None);
}

#[test]
fn a_label_set_that_is_idle_for_ten_minutes_goes_and_comes_back_with_its_counts() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    visit(&recorder, &from("a"));
    let mut scrapes = Scrapes::begin();
    assert_eq!(value(&scrapes.after(10, &metrics), OPENED), 1);
    let text = scrapes.after(1, &metrics);
    assert_eq!(samples(&text, OPENED), Vec::<String>::new());
    assert_eq!(evicted(&text), 1);
    visit(&recorder, &from("a"));
    let text = scrapes.next(&metrics);
    assert_eq!(value(&text, OPENED), 2);
    assert_eq!(value(&text, "istio_tcp_connections_closed_total"), 2);
    assert_eq!(value(&text, "istio_tcp_received_bytes_total"), 20);
    assert_eq!(value(&text, "ztunnel_metrics_forgotten_total"), 0);
}

#[test]
fn an_open_connection_keeps_its_label_set_however_quiet_it_is() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    let connection = opened(&recorder, &from("a"));
    let mut scrapes = Scrapes::begin();
    assert_eq!(value(&scrapes.after(120, &metrics), OPENED), 1);
    connection.close(ResponseFlag::None);
    assert_eq!(value(&scrapes.after(10, &metrics), OPENED), 1);
    assert_eq!(value(&scrapes.after(1, &metrics), OPENED), 0);
}

#[test]
fn whoever_holds_the_counters_of_a_gone_set_brings_it_back() {
    let metrics = metrics(MAX_SERIES);
    let recorder = metrics.recorder();
    let kept = opened(&recorder, &from("a"));
    kept.close(ResponseFlag::None);
    let mut scrapes = Scrapes::begin();
    assert_eq!(value(&scrapes.after(11, &metrics), OPENED), 0);
    assert!(!kept.is_current());
    kept.open();
    assert!(kept.is_current());
    assert_eq!(value(&scrapes.next(&metrics), OPENED), 2);
    // Another thread's look-up finds the same set.
    opened(&metrics.recorder(), &from("a")).close(ResponseFlag::None);
    let text = scrapes.next(&metrics);
    assert_eq!((samples(&text, OPENED).len(), value(&text, OPENED)), (1, 3));
}

#[test]
fn a_crowd_is_given_one_minute_and_makes_room_for_those_who_come() {
    let metrics = metrics(4);
    let recorder = metrics.recorder();
    let full: Vec<_> = ["a", "b", "c", "d"]
        .map(|name| opened(&recorder, &from(name)))
        .into();
    let late = opened(&recorder, &from("e"));
    assert!(late.is_current()); // counted as overflow, and rightly so
    for connection in &full[1..] {
        connection.close(ResponseFlag::None);
    }
    let mut scrapes = Scrapes::begin();
    let text = scrapes.after(2, &metrics);
    assert_eq!(evicted(&text), 3);
    assert!(!late.is_current());
    let again = opened(&recorder, &from("e"));
    let text = scrapes.next(&metrics);
    let shown = samples(&text, OPENED);
    assert_eq!(shown.len(), 3, "{shown:#?}");
    for name in ["a", "e", "overflow"] {
        let label = format!("source_workload=\"{name}\"");
        assert!(
            shown.iter().any(|sample| sample.contains(&label)),
            "{name}: {shown:#?}"
        );
    }
    // The room in the closed family was given back as well.
    again.close(ResponseFlag::None);
    assert_eq!(
        value(&scrapes.next(&metrics), "ztunnel_metric_overflows_total"),
        1
    );
}

#[test]
fn what_is_remembered_is_bounded_and_what_is_forgotten_is_told() {
    let metrics = metrics(10);
    let recorder = metrics.recorder();
    let mut scrapes = Scrapes::begin();
    for crowd in 0..3 {
        for number in 0..10 {
            visit(&recorder, &from(&format!("w{crowd}-{number}")));
        }
        assert_eq!(value(&scrapes.after(11, &metrics), OPENED), 0);
    }
    let text = scrapes.next(&metrics);
    assert_eq!(evicted(&text), 30);
    let told = text
        .lines()
        .filter(|line| line.starts_with("ztunnel_metrics_forgotten_total{"));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "ztunnel_metrics_forgotten_total{of=\"series\"} 20",
            "ztunnel_metrics_forgotten_total{of=\"connections\"} 20",
            "ztunnel_metrics_forgotten_total{of=\"received_bytes\"} 200",
            "ztunnel_metrics_forgotten_total{of=\"sent_bytes\"} 0",
        ]
    );
    // The first ones begin anew, the last ones go on.
    visit(&recorder, &from("w0-0"));
    visit(&recorder, &from("w2-9"));
    assert_eq!(value(&scrapes.next(&metrics), OPENED), 3);
}

#[test]
fn ten_thousand_short_lived_peers_leave_no_more_than_a_minute_of_them() {
    let limit = 1000;
    let metrics = metrics(limit);
    let recorder = metrics.recorder();
    let regular = opened(&recorder, &from("regular"));
    let mut now = Instant::now();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    let (mut most, mut visits) = (0, 1);
    // Ten new ones a second, of whom every tenth comes again when it is no longer shown.
    for second in 0..1000 {
        for number in 0..10 {
            visit(&recorder, &from(&format!("w{}", second * 10 + number)));
            visits += 1;
        }
        if second >= 90 {
            visit(&recorder, &from(&format!("w{}", (second - 90) * 10)));
            visits += 1;
        }
        regular.add_received(1);
        now += Duration::from_secs(1);
        let totals = metrics.traffic.totals(now);
        most = most.max(totals.len());
        for total in &totals {
            let labels = format!("{:?}", total.labels());
            let count = total.counts.opened;
            let before = seen.insert(labels, count).unwrap_or(0);
            assert!(count >= before, "went back from {before} to {count}");
        }
    }
    assert!(most <= limit, "{most}");
    assert!(most > limit / 2, "{most}");
    // Nothing that was counted is missing: it was all shown, each under its own label set.
    assert_eq!(seen.len(), 10_001);
    assert_eq!(seen.values().sum::<u64>(), visits);
    let text = metrics.text_at(now);
    assert_eq!(value(&text, "ztunnel_metric_overflows_total"), 0);
    let alive = samples(&text, OPENED);
    assert!(alive.iter().any(|sample| sample.contains("\"regular\"")));
}

#[test]
fn threads_that_count_while_their_sets_are_evicted_lose_nothing() {
    let metrics = metrics(MAX_SERIES);
    let (threads, rounds) = (4, 3000);
    std::thread::scope(|scope| {
        let counting: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let recorder = metrics.recorder();
                    let kept = recorder.connections(&from("kept"));
                    for _ in 0..rounds {
                        kept.open();
                        kept.add_sent(1);
                        kept.close(ResponseFlag::None);
                        visit(&recorder, &from("sought"));
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        // Time flies: whatever has not changed between two looks is idle.
        let mut now = Instant::now();
        while !counting.iter().all(|thread| thread.is_finished()) {
            now += Duration::from_secs(601);
            metrics.text_at(now);
        }
    });
    visit(&metrics.recorder(), &from("sought"));
    metrics.recorder().connections(&from("kept")).open();
    let text = metrics.encode();
    let of = |name: &str| {
        let label = format!("source_workload=\"{name}\"");
        let all: Vec<_> = samples(&text, OPENED)
            .into_iter()
            .filter(|sample| sample.contains(&label))
            .collect();
        assert_eq!(all.len(), 1, "{all:#?}");
        all[0].rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    assert_eq!(of("kept"), threads * rounds + 1);
    assert_eq!(of("sought"), threads * rounds + 1);
    assert!(evicted(&text) > 0);
}
