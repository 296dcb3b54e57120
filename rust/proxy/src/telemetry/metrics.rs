//! All metrics of the data plane, and their text.
//!
//! `traffic.rs` counts connections and bytes; this file names the families, adds our own and writes
//! OpenMetrics. `stats.rs` serves it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family as Labelled;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::labels::{Labels, Reporter};
use super::log::Losses;
use super::process::Process;
use super::traffic::{ConnectionMetrics, Family, Kind, Traffic};

/// Shared by all workers; every method may be called from any thread.
pub struct Metrics {
    registry: Registry,
    traffic: Arc<Traffic>,
    sockets: Labelled<OneLabel, Gauge>,
    refusals: Labelled<TwoLabels, Counter>,
    handshakes: Labelled<TwoLabels, Counter>,
    tunnels: Labelled<OneLabel, Gauge>,
}

/// Which way the traffic of a tunnel goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Inbound,
    Outbound,
}

/// How a TLS handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handshake {
    Completed,
    Failed,
    TimedOut,
}

/// Keeps a gauge one higher while it lives.
#[derive(Debug)]
pub struct Held(Gauge);

type OneLabel = [(&'static str, &'static str); 1];
type TwoLabels = [(&'static str, &'static str); 2];

impl Metrics {
    /// `tag` is the version that `istio_build` shows; `losses` is what the log could not write.
    #[must_use]
    pub fn new(tag: &str, losses: Arc<Losses>) -> Self {
        Self::with_limit(tag, losses, MAX_SERIES)
    }

    fn with_limit(tag: &str, losses: Arc<Losses>, limit: usize) -> Self {
        let traffic = Arc::new(Traffic::new(limit));
        let metrics = Self {
            registry: Registry::default(),
            traffic: Arc::clone(&traffic),
            sockets: Labelled::default(),
            refusals: Labelled::default(),
            handshakes: Labelled::default(),
            tunnels: Labelled::default(),
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Process));
        let istio = registry.sub_registry_with_prefix("istio");
        metrics.register_istio(istio, tag);
        let ours = registry.sub_registry_with_prefix("ztunnel");
        metrics.register_ours(ours);
        ours.register_collector(Box::new(Lost { losses, traffic }));
        Self {
            registry,
            ..metrics
        }
    }

    /// Counts a connection as opened; the handle counts the rest.
    #[must_use]
    pub fn connection(&self, labels: &Labels<'_>) -> ConnectionMetrics {
        self.traffic.open(labels)
    }

    /// An accepted socket, open until the guard is dropped.
    #[must_use]
    pub fn socket(&self, reporter: Reporter) -> Held {
        Held::new(&self.sockets, [("reporter", reporter.as_str())])
    }

    /// An HBONE connection, open until the guard is dropped.
    #[must_use]
    pub fn tunnel(&self, side: Side) -> Held {
        Held::new(&self.tunnels, [("side", side.as_str())])
    }

    /// A peer that was refused for its certificate, identity, authority or by policy. `reason` is one of a
    /// fixed list: it becomes a label.
    pub fn refused(&self, side: Side, reason: &'static str) {
        self.refusals
            .get_or_create(&[("side", side.as_str()), ("reason", reason)])
            .inc();
    }

    /// The end of a TLS handshake.
    pub fn handshake(&self, side: Side, result: Handshake) {
        self.handshakes
            .get_or_create(&[("side", side.as_str()), ("result", result.as_str())])
            .inc();
    }

    /// OpenMetrics text, up to and with `# EOF`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        text::encode(&mut out, &self.registry).expect("writing to a string cannot fail");
        out
    }

    /// Names and texts of upstream (spec/control.md §12), families in the order of the recording.
    fn register_istio(&self, registry: &mut Registry, tag: &str) {
        let build = Labelled::<Vec<(&'static str, String)>, Gauge>::default();
        let labels = vec![("component", "ztunnel".to_owned()), ("tag", tag.to_owned())];
        build.get_or_create(&labels).set(1);
        registry.register("build", "Istio component build info", build);
        for (name, help, kind) in [
            (
                "tcp_connections_opened",
                "The total number of TCP connections opened",
                Kind::Opened,
            ),
            (
                "tcp_connections_closed",
                "The total number of TCP connections closed",
                Kind::Closed,
            ),
            (
                "tcp_received_bytes",
                "The size of total bytes received during request in case of a TCP connection",
                Kind::Received,
            ),
            (
                "tcp_sent_bytes",
                "The size of total bytes sent during response in case of a TCP connection",
                Kind::Sent,
            ),
            (
                "tcp_connections_failed",
                "The total number of TCP connections that failed to establish (unstable)",
                Kind::Failed,
            ),
        ] {
            let traffic = Arc::clone(&self.traffic);
            registry.register(name, help, Family { traffic, kind });
        }
        registry.register(
            "tcp_sockets_open",
            "The current number of open TCP sockets (unstable)",
            self.sockets.clone(),
        );
    }

    fn register_ours(&self, registry: &mut Registry) {
        registry.register(
            "refusals",
            "Peers refused for their certificate, identity, authority or by policy (unstable)",
            self.refusals.clone(),
        );
        registry.register(
            "tunnels_open",
            "The current number of open HBONE connections (unstable)",
            self.tunnels.clone(),
        );
        registry.register(
            "handshakes",
            "TLS handshakes by how they ended (unstable)",
            self.handshakes.clone(),
        );
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Side {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Handshake {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
        }
    }
}

impl Held {
    fn new(family: &Labelled<OneLabel, Gauge>, labels: OneLabel) -> Self {
        let gauge = family.get_or_create_owned(&labels);
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What telemetry itself had to give up.
#[derive(Debug)]
struct Lost {
    losses: Arc<Losses>,
    traffic: Arc<Traffic>,
}

impl Collector for Lost {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut counter = |name: &str, help: &str, value: u64| {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, _, u64>(&value, None)
        };
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        counter(
            "access_log_lines_dropped",
            "Access log lines that nobody took in time (unstable).",
            read(&self.losses.access),
        )?;
        counter(
            "log_lines_dropped",
            "Operational log lines that nobody took in time (unstable).",
            read(&self.losses.operational),
        )?;
        counter(
            "log_lines_suppressed",
            "Repeated operational log lines that were held back (unstable).",
            read(&self.losses.suppressed),
        )?;
        counter(
            "metric_overflows",
            "Connection events counted as `overflow` as there are too many series (unstable).",
            self.traffic.overflowed(),
        )
    }
}

/// Label sets per family. A large node sees a few thousand; past this, a scrape takes seconds and somebody is
/// inventing labels (spec/reliability.md U9).
const MAX_SERIES: usize = 20_000;

#[cfg(test)]
mod tests;
