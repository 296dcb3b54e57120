//! Access lines as a mesh of Envoys writes them: Istio's default format, one line a connection.
//!
//! ```text
//! [START] "METHOD PATH PROTOCOL" CODE FLAGS DETAILS TERMINATION "FAILURE" RECEIVED SENT MS SERVICE_MS
//!     "FORWARDED_FOR" "USER_AGENT" "REQUEST_ID" "AUTHORITY" "UPSTREAM_HOST" UPSTREAM_CLUSTER UPSTREAM_LOCAL
//!     DOWNSTREAM_LOCAL DOWNSTREAM_REMOTE SERVER_NAME ROUTE direction kind "PEER"
//! ```
//!
//! For those whose tools read these (spec/users.md #23); what Envoy would know and we do not is `-`, as Envoy writes it.
//! Behind Istio's fields stands the peer's proven identity. Every line begins with `[`, and no other line of a log does:
//! operational lines begin with a time or `{`.

use std::fmt::{self, Display, Write};
use std::time::SystemTime;

use super::{Denied, Direction, End, Line};
use crate::telemetry::text::{Quoted, Value};
use crate::telemetry::time::Milliseconds;

/// An end in Envoy's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ending {
    /// `%RESPONSE_FLAGS%`; `-` if it is empty.
    pub flags: &'static str,
    /// The connection had been up: a tunnel's request was answered with 200.
    pub established: bool,
}

/// What of a line is the same for all connections of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) direction: Direction,
    /// Of the two sides; empty if nothing proves it.
    pub(super) source_identity: Box<str>,
    pub(super) destination_identity: Box<str>,
}

/// Everything that is not the same in every line.
struct Columns<'a> {
    started: SystemTime,
    request: &'a str,
    code: u16,
    flags: &'a str,
    details: &'a str,
    failure: Option<&'a str>,
    received: u64,
    sent: u64,
    milliseconds: u128,
    authority: Value<'a>,
    upstream: Value<'a>,
    cluster: Cluster<'a>,
    local: Value<'a>,
    remote: Value<'a>,
    kind: &'a str,
    peer: &'a str,
}

enum Cluster<'a> {
    None,
    Passthrough,
    /// Tunnels are of one identity each.
    Tunnel(&'a str),
    VirtualInbound,
}

/// The line of a connection that ended.
pub(super) fn complete(
    line: &Line<'_>,
    names: &Names,
    end: &End<'_>,
    at: SystemTime,
    out: &mut String,
) {
    let tunnelled = !matches!(line.hbone_address, Value::Absent);
    let failed = end.error.is_some();
    // Envoy counts from the downstream, our lines from the application that the node stands for.
    let inbound = names.direction == Direction::Inbound;
    let (received, sent) = if inbound {
        (end.bytes_received, end.bytes_sent)
    } else {
        (end.bytes_sent, end.bytes_received)
    };
    let destination = Value::Address(line.destination);
    let target = if tunnelled {
        line.hbone_address
    } else {
        destination
    };
    let code = match (inbound && tunnelled, end.ending.established || !failed) {
        (true, true) => 200,
        _ => 0, // TCP has no answer, and of a refusal this line does not know it
    };
    let kind = match (inbound, tunnelled) {
        (true, true) => "inbound hcm",
        (true, false) => "inbound passthrough",
        (false, true) => "outbound tunnel",
        (false, false) => "outbound passthrough",
    };
    Columns {
        started: at.checked_sub(end.duration).unwrap_or(at),
        request: if inbound && tunnelled {
            "CONNECT - HTTP/2"
        } else {
            "- - -"
        },
        code,
        flags: end.ending.flags,
        details: if code == 200 { "via_upstream" } else { "" },
        failure: end.error,
        received,
        sent,
        milliseconds: end.duration.as_millis(),
        authority: line.hbone_address,
        upstream: if inbound { target } else { destination },
        cluster: match kind {
            "outbound tunnel" => Cluster::Tunnel(&names.source_identity),
            "outbound passthrough" => Cluster::Passthrough,
            _ => Cluster::VirtualInbound,
        },
        local: if inbound { destination } else { target },
        remote: Value::Address(line.source),
        kind,
        peer: if inbound {
            &names.source_identity
        } else {
            &names.destination_identity
        },
    }
    .write(out);
}

/// The line of a connection that was turned away early.
pub(super) fn denied(denied: &Denied<'_>, at: SystemTime, out: &mut String) {
    Columns {
        started: at,
        request: "- - -",
        code: 0,
        flags: denied.ending.flags,
        details: "",
        failure: Some(denied.error),
        received: 0,
        sent: 0,
        milliseconds: 0,
        authority: Value::Absent,
        upstream: Value::Absent,
        cluster: Cluster::None,
        local: denied.destination.map_or(Value::Absent, Value::Address),
        remote: Value::Address(denied.source),
        kind: match denied.direction {
            Direction::Inbound => "inbound denied",
            Direction::Outbound => "outbound denied",
        },
        peer: "",
    }
    .write(out);
}

impl Columns<'_> {
    fn write(&self, out: &mut String) {
        let result = self.write_to(out);
        debug_assert!(result.is_ok(), "only a broken Display can fail here");
        out.push('\n');
    }

    fn write_to(&self, out: &mut String) -> fmt::Result {
        let Self {
            code,
            received,
            sent,
            milliseconds,
            ..
        } = self;
        write!(
            out,
            "[{}] \"{}\" {code} ",
            Milliseconds(self.started),
            self.request
        )?;
        write!(out, "{} {} - ", dash(self.flags), dash(self.details))?;
        write!(out, "{} ", Quoted(self.failure.unwrap_or("-")))?;
        write!(out, "{received} {sent} {milliseconds} - \"-\" \"-\" \"-\" ")?;
        // Quoted: a name of a peer's choice may be in it.
        write!(out, "{} {} ", Text(&self.authority), Text(&self.upstream))?;
        write!(out, "{} - ", self.cluster)?;
        write!(
            out,
            "{} {} - - {} ",
            Bare(&self.local),
            Bare(&self.remote),
            self.kind
        )?;
        write!(out, "{}", Quoted(dash(self.peer)))
    }
}

impl Display for Cluster<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("-"),
            Self::Passthrough => f.write_str("PassthroughCluster"),
            Self::Tunnel(identity) => write!(f, "outbound_tunnel_clus_{}", dash(identity)),
            Self::VirtualInbound => f.write_str("virtual_inbound"),
        }
    }
}

/// A value between quotes.
struct Text<'a>(&'a Value<'a>);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Absent => f.write_str("\"-\""),
            Value::Address(address) => write!(f, "\"{address}\""),
            Value::Bare(value) => Quoted(&value.to_string()).fmt(f),
            Value::Text(text) => Quoted(text).fmt(f),
            // No address of a connection is any of these.
            Value::Flag(_)
            | Value::Milliseconds(_)
            | Value::Number(_)
            | Value::Rendered(_)
            | Value::Span(_) => f.write_str("\"-\""),
        }
    }
}

/// The same without quotes if it is an address, as Envoy has its own addresses.
struct Bare<'a>(&'a Value<'a>);

impl Display for Bare<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Absent => f.write_str("-"),
            Value::Address(address) => write!(f, "{address}"),
            _ => Text(self.0).fmt(f),
        }
    }
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

#[cfg(test)]
mod tests;
