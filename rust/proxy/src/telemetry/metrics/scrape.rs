//! One exposition, taken in pieces: a snapshot of the numbers that becomes text only as somebody reads it.
//!
//! Ten thousand label sets make 40 MiB of text out of 2 MiB of numbers, and a slow reader shall not make us hold the
//! former. The length is known from the start, as HTTP wants it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use super::{Handshake, Metrics, Side};
use crate::telemetry::exposition::{Exposition, Kind};
use crate::telemetry::flag::ResponseFlag;
use crate::telemetry::labels::Reporter;
use crate::telemetry::process;
use crate::telemetry::traffic::Total;

/// An exposition on its way out.
pub struct Scrape {
    /// What stands before the connections' families; taken first.
    head: Option<Vec<u8>>,
    totals: Vec<Total>,
    /// The families that have samples and are not done, last first.
    families: Vec<&'static Family>,
    /// The label set of the current family that comes next.
    next: usize,
    tail: Option<Vec<u8>>,
    length: usize,
}

impl Scrape {
    /// Families in the order of the recording (spec/control.md §12).
    pub(super) fn of(metrics: &Metrics, now: Instant) -> Self {
        let (mut head, mut tail) = (Exposition::default(), Exposition::default());
        process::show(&mut head);
        metrics.runtimes.show(&mut head);
        metrics.show_build(&mut head);
        metrics.xds.show(&mut head);
        let totals = metrics.traffic.totals(now);
        metrics.show_sockets(&mut tail);
        metrics.show_on_demand(&mut tail);
        metrics.crl.show(&mut tail);
        process::show_ours(&mut tail);
        metrics.show_ours(&mut tail);
        metrics.xds.show_age(&mut tail, Instant::now());
        metrics.show_control_loop(now, &mut tail);
        metrics.show_losses(&mut tail);
        tail.end();
        let mut length = head.len() + tail.len();
        let mut families = Vec::new();
        for family in FAMILIES.iter().rev() {
            let samples = family.length(&totals);
            // A family without samples is not shown at all, as upstream.
            if samples > 0 {
                families.push(family);
                length += Exposition::family_length(family.name, family.help, Kind::Counter);
                length += samples;
            }
        }
        Self {
            head: Some(head.into_bytes()),
            totals,
            families,
            next: 0,
            tail: Some(tail.into_bytes()),
            length,
        }
    }

    /// Bytes of all pieces together.
    pub fn total_bytes(&self) -> usize {
        self.length
    }

    /// The next piece, about 64 KiB; `None` when that was all.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let mut piece = Exposition::with_capacity(PIECE + MARGIN);
        while let Some(family) = self.families.last() {
            while let Some(total) = self.totals.get(self.next) {
                if piece.len() >= PIECE {
                    return Some(piece.into_bytes());
                }
                if self.next == 0 {
                    piece.family(family.name, family.help, Kind::Counter);
                }
                family.show(total, &mut piece);
                self.next += 1;
            }
            self.next = 0;
            self.families.pop();
        }
        self.totals = Vec::new();
        if piece.len() > 0 {
            return Some(piece.into_bytes());
        }
        self.tail.take()
    }
}

/// One of the five families that connections count in.
struct Family {
    name: &'static str,
    /// The name as samples have it.
    sample: &'static str,
    help: &'static str,
    shows: Shows,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Closed,
    Failed,
    Opened,
    Received,
    Sent,
}

impl Family {
    fn show(&self, total: &Total, text: &mut Exposition) {
        let labels = total.labels();
        self.samples(total, |flag, value| {
            text.rendered(self.sample, labels, flag.as_str(), value);
        });
    }

    /// Bytes of all samples.
    fn length(&self, totals: &[Total]) -> usize {
        let mut length = 0;
        for total in totals {
            let labels = total.labels();
            self.samples(total, |flag, value| {
                length += Exposition::rendered_length(self.sample, labels, flag.as_str(), value);
            });
        }
        length
    }

    fn samples(&self, total: &Total, mut sample: impl FnMut(ResponseFlag, u64)) {
        let counts = &total.counts;
        let alive = match self.shows {
            Shows::Opened => counts.opened,
            Shows::Received => counts.received,
            Shows::Sent => counts.sent,
            Shows::Closed | Shows::Failed => {
                for flag in ResponseFlag::ALL {
                    let count = counts.closed[flag as usize];
                    if count > 0 && (flag.is_failure() || self.shows == Shows::Closed) {
                        sample(flag, count);
                    }
                }
                return;
            }
        };
        // Overflow may hold nothing but ends, of connections that had a set of their own.
        if counts.opened > 0 {
            sample(ResponseFlag::None, alive);
        }
    }
}

impl Metrics {
    fn show_build(&self, text: &mut Exposition) {
        let labels = [("component", "ztunnel"), ("tag", self.tag.as_str())];
        text.family("istio_build", "Istio component build info.", Kind::Gauge);
        text.sample("istio_build", &labels, 1);
    }

    fn show_sockets(&self, text: &mut Exposition) {
        let samples = [Reporter::Destination, Reporter::Source].map(|reporter| {
            let labels = [("reporter", reporter.as_str())];
            (labels, self.hands.open_sockets(reporter))
        });
        labelled(
            text,
            "istio_tcp_sockets_open",
            "The current number of open TCP sockets (unstable).",
            Kind::Gauge,
            samples,
        );
    }

    fn show_on_demand(&self, text: &mut Exposition) {
        let totals = self.on_demand.totals();
        if totals.is_empty() {
            return;
        }
        let help = "The total number of requests that used on-demand DNS (unstable).";
        text.family("istio_on_demand_dns", help, Kind::Counter);
        for (labels, count) in totals {
            text.rendered("istio_on_demand_dns_total", (&labels, ""), "", count);
        }
    }

    fn show_ours(&self, text: &mut Exposition) {
        let refusals = self.refusals().clone();
        labelled(
            text,
            "ztunnel_refusals",
            "Peers refused for their certificate, identity, authority or by policy (unstable).",
            Kind::Counter,
            refusals.into_iter().map(|((side, reason), count)| {
                let labels = [("side", side.as_str()), ("reason", reason)];
                (labels, Some(signed(count)))
            }),
        );
        let unknown = self.unknown_policies.load(Relaxed);
        labelled::<0>(
            text,
            "istio_unknown_policies",
            "Policies skipped as a workload names them and nobody knows them (unstable).",
            Kind::Counter,
            [([], (unknown > 0).then(|| signed(unknown)))],
        );
        labelled::<0>(
            text,
            "ztunnel_panics",
            "Mistakes of ours that ended a connection, a listener or a worker; please report them (unstable).",
            Kind::Counter,
            [([], Some(signed(self.panics.load(Relaxed))))],
        );
        labelled(
            text,
            "ztunnel_tunnels_open",
            "The current number of open HBONE connections (unstable).",
            Kind::Gauge,
            Side::ALL.map(|side| {
                let labels = [("side", side.as_str())];
                (labels, self.tunnels[side as usize].shown())
            }),
        );
        let handshakes = Side::ALL.into_iter().flat_map(|side| {
            Handshake::ALL.into_iter().map(move |result| {
                let count = self.handshakes[side as usize][result as usize].load(Relaxed);
                let labels = [("side", side.as_str()), ("result", result.as_str())];
                (labels, (count > 0).then(|| signed(count)))
            })
        });
        labelled(
            text,
            "ztunnel_handshakes",
            "TLS handshakes by how they ended (unstable).",
            Kind::Counter,
            handshakes,
        );
    }

    fn show_control_loop(&self, now: Instant, text: &mut Exposition) {
        let Some(lag) = self.control_loop.lag(now) else {
            return;
        };
        let name = "ztunnel_control_loop_lag_seconds";
        let help = "The longest the control side's event loop was late in the last minute, or is (unstable).";
        text.family(name, help, Kind::Gauge);
        text.written(name, &[], &format!("{:?}", lag.as_secs_f64()));
    }

    /// What telemetry itself had to give up.
    fn show_losses(&self, text: &mut Exposition) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        for (name, help, value) in [
            (
                "ztunnel_access_log_lines_dropped",
                "Access log lines that nobody took in time (unstable).",
                read(&self.losses.access),
            ),
            (
                "ztunnel_log_lines_dropped",
                "Operational log lines that nobody took in time (unstable).",
                read(&self.losses.operational),
            ),
            (
                "ztunnel_log_lines_suppressed",
                "Repeated operational log lines that were held back (unstable).",
                read(&self.losses.suppressed),
            ),
            (
                "ztunnel_metric_overflows",
                "Connection events counted as `overflow` as there are too many series (unstable).",
                self.traffic.overflowed(),
            ),
            (
                "ztunnel_metrics_evicted_series",
                "Label sets no longer shown as they were idle; they come back with their counts (unstable).",
                self.traffic.evicted(),
            ),
        ] {
            let sample = [([], Some(signed(value)))];
            labelled::<0>(text, name, help, Kind::Counter, sample);
        }
        let forgotten = self.traffic.forgotten();
        labelled(
            text,
            "ztunnel_metrics_forgotten",
            "What evicted label sets had counted that are remembered no more (unstable).",
            Kind::Counter,
            [
                ("series", forgotten.series),
                ("connections", forgotten.connections),
                ("received_bytes", forgotten.received),
                ("sent_bytes", forgotten.sent),
            ]
            .map(|(of, count)| ([("of", of)], Some(signed(count)))),
        );
    }
}

/// A family with its samples; not at all if there are none.
fn labelled<'a, const N: usize>(
    text: &mut Exposition,
    name: &str,
    help: &str,
    kind: Kind,
    samples: impl IntoIterator<Item = ([(&'a str, &'a str); N], Option<i64>)>,
) {
    let suffix = if kind == Kind::Counter { "_total" } else { "" };
    let sample = format!("{name}{suffix}");
    let samples = samples.into_iter();
    let mut begun = false;
    for (labels, value) in samples.filter_map(|(labels, value)| Some((labels, value?))) {
        if !begun {
            begun = true;
            text.family(name, help, kind);
        }
        text.sample(&sample, &labels, value);
    }
}

/// No counter of ours comes this far in a thousand years.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// In the order of the recording.
const FAMILIES: [Family; 5] = [
    Family {
        name: "istio_tcp_connections_opened",
        sample: "istio_tcp_connections_opened_total",
        help: "The total number of TCP connections opened.",
        shows: Shows::Opened,
    },
    Family {
        name: "istio_tcp_connections_closed",
        sample: "istio_tcp_connections_closed_total",
        help: "The total number of TCP connections closed.",
        shows: Shows::Closed,
    },
    Family {
        name: "istio_tcp_received_bytes",
        sample: "istio_tcp_received_bytes_total",
        help: "The size of total bytes received during request in case of a TCP connection.",
        shows: Shows::Received,
    },
    Family {
        name: "istio_tcp_sent_bytes",
        sample: "istio_tcp_sent_bytes_total",
        help: "The size of total bytes sent during response in case of a TCP connection.",
        shows: Shows::Sent,
    },
    Family {
        name: "istio_tcp_connections_failed",
        sample: "istio_tcp_connections_failed_total",
        help: "The total number of TCP connections that failed to establish (unstable).",
        shows: Shows::Failed,
    },
];

/// Enough for one write to the kernel, little enough to make while a probe waits (about 10 µs).
const PIECE: usize = 64 * 1024;
/// A piece ends behind the label set that fills it: eight flags of one with values of ordinary length.
const MARGIN: usize = 8 * 1024;
