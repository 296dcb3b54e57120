//! The labels of the TCP metrics: who talked to whom, in the order that dashboards and peers know.
//!
//! Borrowed strings in, one owned key out; nothing here knows the mesh. `traffic.rs` counts under the key.

use std::fmt;

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};

use super::flag::ResponseFlag;

/// Everything but the response flag. Empty strings become `unknown`.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    pub reporter: Reporter,
    pub source: SideLabels<'a>,
    pub destination: SideLabels<'a>,
    pub service: ServiceLabels<'a>,
    pub security_policy: SecurityPolicy,
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
    /// Everything that tells this label set from another, in one string: the values of [`NAMES`].
    pub(super) fn key(&self) -> String {
        let mut key = String::with_capacity(512);
        key.push_str(self.reporter.as_str());
        push_workload(&mut key, &self.source);
        for value in [
            self.service.hostname,
            self.service.namespace,
            self.service.name,
        ] {
            push(&mut key, value, MAX_VALUE);
        }
        push_workload(&mut key, &self.destination);
        push(&mut key, self.security_policy.as_str(), MAX_VALUE);
        for side in [&self.source, &self.destination] {
            push(&mut key, side.region, MAX_VALUE);
            push(&mut key, side.zone, MAX_VALUE);
        }
        key
    }

    /// The set that takes the place of all those for which there is no room.
    pub(super) fn overflow(reporter: Reporter, security_policy: SecurityPolicy) -> Labels<'static> {
        let side = SideLabels {
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
        Labels {
            reporter,
            source: side,
            destination: side,
            service: ServiceLabels {
                hostname: OVERFLOW,
                namespace: OVERFLOW,
                name: OVERFLOW,
            },
            security_policy,
        }
    }
}

fn push_workload(key: &mut String, side: &SideLabels<'_>) {
    push(key, side.workload, MAX_VALUE);
    push(key, side.canonical_service, MAX_VALUE);
    push(key, side.canonical_revision, MAX_VALUE);
    push(key, side.namespace, MAX_VALUE);
    push(key, side.principal, MAX_PRINCIPAL);
    push(key, side.app, MAX_VALUE);
    push(key, side.version, MAX_VALUE);
    push(key, side.cluster, MAX_VALUE);
}

/// Control characters have no business in a label; one of them is our separator.
fn push(key: &mut String, value: &str, longest: usize) {
    key.push(SEPARATOR);
    if value.is_empty() {
        key.push_str("unknown");
        return;
    }
    let value = &value[..floor_char_boundary(value, longest)];
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        key.extend(value.chars().map(|c| {
            if c.is_ascii_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        }));
    } else {
        key.push_str(value);
    }
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

/// A key with its flag, as a label set of the exposition.
pub(super) struct Rendered<'a> {
    pub(super) key: &'a str,
    pub(super) flag: ResponseFlag,
}

impl EncodeLabelSet for Rendered<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        for (name, value) in NAMES.iter().zip(self.key.split(SEPARATOR)) {
            if *name == FLAG_STANDS_BEFORE {
                ("request_protocol", "tcp").encode(encoder.encode_label())?;
                ("response_flags", self.flag.as_str()).encode(encoder.encode_label())?;
            }
            (*name, value).encode(encoder.encode_label())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Rendered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.key, self.flag.as_str())
    }
}

/// Names of the values in a key, in order (spec/dataplane.md §16).
const NAMES: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    FLAG_STANDS_BEFORE,
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];
const FLAG_STANDS_BEFORE: &str = "connection_security_policy";

/// ASCII unit separator.
const SEPARATOR: char = '\u{1f}';

const OVERFLOW: &str = "overflow";

/// A DNS name has 253 characters, all other honest values have less. Longer ones come from a peer that means
/// harm; cut, they still tell which peer (spec/reliability.md U9).
const MAX_VALUE: usize = 256;
/// Trust domain, namespace and service account at their longest: 255 + 63 + 253, and the words between.
const MAX_PRINCIPAL: usize = 600;

#[cfg(test)]
mod tests;
