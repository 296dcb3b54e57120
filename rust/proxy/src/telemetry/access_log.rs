//! The access log: one line for each connection that ended, one for each that was turned away early.
//!
//! A pure formatter; names, order and quoting are upstream's (spec/dataplane.md §15). `log.rs` writes the lines.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::log::{Format, Level};
use super::text::{Record, Value};
use super::time::Timestamp;

/// What is known of a connection. Names that are not known are left out.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub source: Source<'a>,
    pub destination: Destination<'a>,
    pub direction: Direction,
}

#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub address: SocketAddr,
    /// The pod's name; failing that, the canonical service.
    pub workload: Option<&'a str>,
    pub namespace: Option<&'a str>,
    /// Only if the connection was mutual TLS.
    pub identity: Option<&'a str>,
    pub cluster: Option<&'a str>,
}

#[derive(Clone, Copy)]
pub struct Destination<'a> {
    /// Outbound: whom we dialled. Inbound: the pod's address with the port the tunnel came to.
    pub address: SocketAddr,
    /// The target inside the tunnel, `ip:port` or `host:port`.
    pub hbone_address: Option<&'a dyn Display>,
    pub service: Option<&'a str>,
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
}

/// A connection refused before anything but its addresses was known.
#[derive(Clone, Copy, Debug)]
pub struct Denied<'a> {
    pub source: SocketAddr,
    /// Absent when the connection ended before it said where it wanted to go.
    pub destination: Option<SocketAddr>,
    pub direction: Direction,
    pub error: &'a str,
}

impl Line<'_> {
    /// The level of the line that `opened` writes: usually filtered out, so ask before building one.
    pub const OPENED: Level = Level::Debug;

    /// Appends the `connection complete` line.
    pub fn complete(&self, end: &End<'_>, at: SystemTime, format: Format, out: &mut String) {
        let duration = format!("{}ms", end.duration.as_millis());
        let mut fields = [("", Value::Absent); NAMES + 4];
        fields[..NAMES].copy_from_slice(&self.names());
        fields[NAMES..].copy_from_slice(&[
            ("bytes_sent", Value::Number(end.bytes_sent)),
            ("bytes_recv", Value::Number(end.bytes_received)),
            ("duration", Value::Text(&duration)),
            ("error", end.error.into()),
        ]);
        let level = end.level();
        record(at, level, "connection complete", &fields).write(format, out);
    }

    /// Appends the `connection opened` line.
    pub fn opened(&self, at: SystemTime, format: Format, out: &mut String) {
        let names = self.names();
        record(at, Self::OPENED, "connection opened", &names).write(format, out);
    }

    fn names(&self) -> [(&'static str, Value<'_>); NAMES] {
        let (source, destination) = (&self.source, &self.destination);
        [
            ("src.addr", Value::Address(source.address)),
            ("src.workload", source.workload.into()),
            ("src.namespace", source.namespace.into()),
            ("src.identity", source.identity.into()),
            ("src.cluster", source.cluster.into()),
            ("dst.addr", Value::Address(destination.address)),
            (
                "dst.hbone_addr",
                destination.hbone_address.map_or(Value::Absent, Value::Bare),
            ),
            ("dst.service", destination.service.into()),
            ("dst.workload", destination.workload.into()),
            ("dst.namespace", destination.namespace.into()),
            ("dst.identity", destination.identity.into()),
            ("dst.cluster", destination.cluster.into()),
            ("direction", Value::Text(self.direction.as_str())),
        ]
    }
}

impl End<'_> {
    /// Failures are errors, all else is information.
    #[must_use]
    pub fn level(&self) -> Level {
        match self.error {
            None => Level::Info,
            Some(_) => Level::Error,
        }
    }
}

impl Denied<'_> {
    pub const LEVEL: Level = Level::Warn;

    /// Appends the `connection failed` line.
    pub fn write(&self, at: SystemTime, format: Format, out: &mut String) {
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

/// Fields from `src.addr` to `direction`.
const NAMES: usize = 13;

#[cfg(test)]
mod tests;
