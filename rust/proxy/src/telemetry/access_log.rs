//! The access log: one line for each connection that ended, one for each that was turned away early.
//!
//! A pure formatter; names, order and quoting are upstream's (spec/dataplane.md §15), or Envoy's where somebody wants
//! that (`envoy.rs`). `log.rs` writes the lines.

mod envoy;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::log::{Format, Level};
use super::text::{Record, Value, render};
use super::time::Timestamp;
use envoy::Names;

pub use envoy::Ending;

/// A connection as its lines name it.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub source: SocketAddr,
    /// Outbound: whom we dialled. Inbound: the pod's address with the port the tunnel came to.
    pub destination: SocketAddr,
    /// The target inside the tunnel, `ip:port` or `host:port`; [`Value::Absent`] without one.
    pub hbone_address: Value<'a>,
    pub parties: &'a Parties,
}

/// Who is connected: the fields that all connections of a pair have in common, rendered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Those between the two addresses.
    source: Box<str>,
    /// Those behind the target.
    destination: Box<str>,
    /// What Envoy's lines need instead.
    envoy: Option<Names>,
    format: Format,
}

/// One side of a pair. Names that are not known are left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Party<'a> {
    /// The pod's name; failing that, the canonical service.
    pub workload: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Only if the connection was mutual TLS.
    pub identity: Option<&'a str>,
    pub cluster: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Inbound,
    Outbound,
}

/// How the connection ended.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Outbound: client → server. Inbound: server → client (spec/dataplane.md §15.3).
    pub bytes_sent: u64,
    pub bytes_received: u64,
    pub duration: Duration,
    pub error: Option<&'a str>,
    pub ending: Ending,
}

/// A connection refused before anything but its addresses was known.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    pub source: SocketAddr,
    /// Absent when the connection ended before it said where it wanted to go.
    pub destination: Option<SocketAddr>,
    pub direction: Direction,
    pub error: &'a str,
    pub ending: Ending,
}

impl Line<'_> {
    /// The level of the line that `opened` writes: usually filtered out, so ask before building one.
    pub const OPENED: Level = Level::Debug;

    /// Appends the `connection complete` line.
    pub fn complete(&self, end: &End<'_>, at: SystemTime, format: Format, out: &mut String) {
        debug_assert_eq!(self.parties.format, format);
        if let Some(names) = &self.parties.envoy {
            envoy::complete(self, names, end, at, out);
            return;
        }
        let [source, names, destination, target, more] = self.names();
        let fields = [
            source,
            names,
            destination,
            target,
            more,
            ("bytes_sent", Value::Number(end.bytes_sent)),
            ("bytes_recv", Value::Number(end.bytes_received)),
            ("duration", Value::Milliseconds(end.duration)),
            ("error", end.error.into()),
        ];
        record(at, end.level(), "connection complete", &fields).write(format, out);
    }

    /// Appends the `connection opened` line; Envoy has none, as it has one line a connection.
    pub fn opened(&self, at: SystemTime, format: Format, out: &mut String) {
        debug_assert_eq!(self.parties.format, format);
        if format == Format::Envoy {
            return;
        }
        let names = self.names();
        record(at, Self::OPENED, "connection opened", &names).write(format, out);
    }

    fn names(&self) -> [(&'static str, Value<'_>); 5] {
        [
            ("src.addr", Value::Address(self.source)),
            ("", Value::Rendered(&self.parties.source)),
            ("dst.addr", Value::Address(self.destination)),
            ("dst.hbone_addr", self.hbone_address),
            ("", Value::Rendered(&self.parties.destination)),
        ]
    }
}

impl Parties {
    /// Renders both sides in the format of the log that will hold the lines.
    #[must_use]
    pub fn render(
        source: &Party<'_>,
        destination: &Party<'_>,
        service: Option<&str>,
        direction: Direction,
        format: Format,
    ) -> Self {
        if format == Format::Envoy {
            let identity = |party: &Party<'_>| party.identity.unwrap_or_default().into();
            return Self {
                source: "".into(),
                destination: "".into(),
                envoy: Some(Names {
                    direction,
                    source_identity: identity(source),
                    destination_identity: identity(destination),
                }),
                format,
            };
        }
        let source = [
            ("src.workload", source.workload.into()),
            ("src.namespace", source.namespace.into()),
            ("src.identity", source.identity.into()),
            ("src.cluster", source.cluster.into()),
        ];
        let destination = [
            ("dst.service", service.into()),
            ("dst.workload", destination.workload.into()),
            ("dst.namespace", destination.namespace.into()),
            ("dst.identity", destination.identity.into()),
            ("dst.cluster", destination.cluster.into()),
            ("direction", Value::Text(direction.as_str())),
        ];
        Self {
            source: render(&source, format).into(),
            destination: render(&destination, format).into(),
            envoy: None,
            format,
        }
    }
}

impl End<'_> {
    /// Failures are errors, all else is information.
    #[must_use]
    pub fn level(&self) -> Level {
        Self::level_of(self.error.is_some())
    }

    /// The same before there is an end: ask before making one.
    #[must_use]
    pub fn level_of(failed: bool) -> Level {
        if failed { Level::Error } else { Level::Info }
    }
}

impl Denied<'_> {
    pub const LEVEL: Level = Level::Warn;

    /// Appends the `connection failed` line.
    pub fn write(&self, at: SystemTime, format: Format, out: &mut String) {
        if format == Format::Envoy {
            envoy::denied(self, at, out);
            return;
        }
        let fields = [
            ("src.addr", Value::Address(self.source)),
            (
                "dst.addr",
                self.destination.map_or(Value::Absent, Value::Address),
            ),
            ("direction", Value::Text(self.direction.as_str())),
            ("error", Value::Text(self.error)),
        ];
        record(at, Self::LEVEL, "connection failed", &fields).write(format, out);
    }
}

impl Direction {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

fn record<'a>(
    at: SystemTime,
    level: Level,
    message: &'a str,
    fields: &'a [(&'a str, Value<'a>)],
) -> Record<'a> {
    Record {
        at: Timestamp(at),
        level,
        target: TARGET,
        message,
        fields,
    }
}

/// The log target of these lines, for filters.
pub const TARGET: &str = "access";

#[cfg(test)]
mod tests;
