//! The labels of the TCP metrics: who talked to whom, in the order that dashboards and peers know.
//!
//! Borrowed strings in, one text out, as the exposition shows it: written once for each label set, copied by every
//! scrape. Nothing here knows the mesh; `traffic.rs` counts under the text.

use std::sync::Arc;

/// Everything but the response flag. Empty strings become `unknown`.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    pub reporter: Reporter,
    pub source: SideLabels<'a>,
    pub destination: SideLabels<'a>,
    pub service: ServiceLabels<'a>,
    pub security_policy: SecurityPolicy,
    /// Some of it is a peer's own word (`baggage`) and none of the mesh's: such sets may not fill all the room.
    pub claimed: bool,
}

/// One end of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct SideLabels<'a> {
    /// The deployment's name, not the pod's.
    pub workload: &'a str,
    pub canonical_service: &'a str,
    pub canonical_revision: &'a str,
    pub namespace: &'a str,
    pub principal: &'a str,
    pub app: &'a str,
    pub version: &'a str,
    pub cluster: &'a str,
    pub region: &'a str,
    pub zone: &'a str,
}

/// The service that was meant, if any.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceLabels<'a> {
    pub hostname: &'a str,
    pub namespace: &'a str,
    pub name: &'a str,
}

/// Which end of the tunnel counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reporter {
    Destination,
    Source,
}

/// Whether the connection was mutual TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityPolicy {
    MutualTls,
    Unknown,
}

impl Reporter {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Destination => "destination",
            Self::Source => "source",
        }
    }
}

impl SecurityPolicy {
    fn as_str(self) -> &'static str {
        match self {
            Self::MutualTls => "mutual_tls",
            Self::Unknown => "unknown",
        }
    }
}

impl Labels<'_> {
    /// What stands between the braces of a sample, but for the flag. It also tells this label set from any other:
    /// values are escaped, so no two sets have one text.
    pub(super) fn text(&self) -> LabelText {
        let mut text = String::with_capacity(TYPICAL_TEXT);
        push(&mut text, "reporter", self.reporter.as_str(), MAX_VALUE);
        push_workload(&mut text, &SOURCE, &self.source);
        let service = [
            self.service.hostname,
            self.service.namespace,
            self.service.name,
        ];
        for (name, value) in SERVICE.iter().zip(service) {
            push(&mut text, name, value, MAX_VALUE);
        }
        push_workload(&mut text, &DESTINATION, &self.destination);
        push(&mut text, "request_protocol", "tcp", MAX_VALUE);
        text.push_str(",response_flags=\"");
        let flag_at = text.len();
        text.push('"');
        let policy = self.security_policy.as_str();
        push(&mut text, "connection_security_policy", policy, MAX_VALUE);
        push(&mut text, "source_region", self.source.region, MAX_VALUE);
        push(&mut text, "source_zone", self.source.zone, MAX_VALUE);
        let destination = &self.destination;
        push(
            &mut text,
            "destination_region",
            destination.region,
            MAX_VALUE,
        );
        push(&mut text, "destination_zone", destination.zone, MAX_VALUE);
        LabelText {
            text: text.into(),
            flag_at,
        }
    }

    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn nobody() -> Labels<'static> {
        Labels {
            reporter: Reporter::Source,
            source: SideLabels::default(),
            destination: SideLabels::default(),
            service: ServiceLabels::default(),
            security_policy: SecurityPolicy::Unknown,
            claimed: false,
        }
    }

    /// The set that takes the place of all those for which there is no room.
    pub(super) fn overflow(reporter: Reporter, security_policy: SecurityPolicy) -> Labels<'static> {
        Labels {
            reporter,
            source: OVERFLOWING,
            destination: OVERFLOWING,
            service: ServiceLabels {
                hostname: OVERFLOW,
                namespace: OVERFLOW,
                name: OVERFLOW,
            },
            security_policy,
            claimed: false,
        }
    }
}

/// Those of a name that was resolved for a workload.
pub(super) fn of_resolution(source: &SideLabels<'_>, hostname: &str) -> String {
    let mut text = String::with_capacity(TYPICAL_TEXT);
    push_workload(&mut text, &SOURCE, source);
    push(&mut text, "hostname", hostname, MAX_VALUE);
    text
}

/// Rendered labels with a gap where the flag belongs.
#[derive(Clone, Debug)]
pub(super) struct LabelText {
    text: Arc<str>,
    flag_at: usize,
}

impl LabelText {
    pub(super) fn as_str(&self) -> &Arc<str> {
        &self.text
    }

    /// What stands before and behind the flag.
    pub(super) fn around_flag(&self) -> (&str, &str) {
        self.text.split_at(self.flag_at)
    }
}

fn push_workload(text: &mut String, names: &[&str; 8], side: &SideLabels<'_>) {
    let values = [
        (side.workload, MAX_VALUE),
        (side.canonical_service, MAX_VALUE),
        (side.canonical_revision, MAX_VALUE),
        (side.namespace, MAX_VALUE),
        (side.principal, MAX_PRINCIPAL),
        (side.app, MAX_VALUE),
        (side.version, MAX_VALUE),
        (side.cluster, MAX_VALUE),
    ];
    for (name, (value, longest)) in names.iter().zip(values) {
        push(text, name, value, longest);
    }
}

/// Appends one label. Control characters have no business in a value; quotes and backslashes are escaped.
fn push(text: &mut String, name: &str, value: &str, longest: usize) {
    if !text.is_empty() {
        text.push(',');
    }
    text.push_str(name);
    text.push_str("=\"");
    let value = if value.is_empty() { UNKNOWN } else { value };
    let value = &value[..floor_char_boundary(value, longest)];
    let special = |byte: u8| byte.is_ascii_control() || matches!(byte, b'"' | b'\\');
    if value.bytes().any(special) {
        for c in value.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                _ if c.is_ascii_control() => text.push(char::REPLACEMENT_CHARACTER),
                _ => text.push(c),
            }
        }
    } else {
        text.push_str(value);
    }
    text.push('"');
}

/// `str::floor_char_boundary` is newer than our oldest compiler.
fn floor_char_boundary(text: &str, index: usize) -> usize {
    if index >= text.len() {
        return text.len();
    }
    (0..=index)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0)
}

// Names in the order of the exposition (spec/dataplane.md §16).
const SOURCE: [&str; 8] = [
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
];
const SERVICE: [&str; 3] = [
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
];
const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
];

const UNKNOWN: &str = "unknown";
pub(super) const OVERFLOW: &str = "overflow";

/// Anybody for whom there is no room.
pub(super) const OVERFLOWING: SideLabels<'static> = SideLabels {
    workload: OVERFLOW,
    canonical_service: OVERFLOW,
    canonical_revision: OVERFLOW,
    namespace: OVERFLOW,
    principal: OVERFLOW,
    app: OVERFLOW,
    version: OVERFLOW,
    cluster: OVERFLOW,
    region: OVERFLOW,
    zone: OVERFLOW,
};

/// A DNS name has 253 characters, all other honest values have less. Longer ones come from a peer that means
/// harm; cut, they still tell which peer (spec/reliability.md U9).
const MAX_VALUE: usize = 256;
/// Trust domain, namespace and service account at their longest: 255 + 63 + 253, and the words between.
const MAX_PRINCIPAL: usize = 600;
/// Names alone have 570 bytes, the values of the recorded mesh 300.
const TYPICAL_TEXT: usize = 1024;

#[cfg(test)]
mod tests;
