//! `baggage`: who the sender is, for metrics and logs (spec/dataplane.md §6.1).
//!
//! A peer's own words: nothing that decides about access may read them. Identities come from certificates.

use std::str::FromStr;

/// Bytes of all `baggage` headers together, and members in them (W3C Baggage §3.3.2).
const MAX_BYTES: usize = 8192;
const MAX_MEMBERS: usize = 180;

/// What one side tells of its workload; what is empty or unknown is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Baggage {
    /// `k8s.cluster.name`.
    pub cluster: Option<String>,
    /// `k8s.namespace.name`.
    pub namespace: Option<String>,
    /// Says under which of four keys [`Baggage::workload`] travels; a deployment when not set.
    pub workload_type: Option<WorkloadType>,
    /// `k8s.deployment.name` or one of its siblings.
    pub workload: Option<String>,
    /// `service.name`.
    pub canonical_service: Option<String>,
    /// `service.version`.
    pub canonical_revision: Option<String>,
    /// `cloud.region`.
    pub region: Option<String>,
    /// `cloud.availability_zone`.
    pub zone: Option<String>,
}

impl Baggage {
    /// The header's value, possibly empty; it is sent even then.
    ///
    /// There is no escaping in this dialect: a value that could not be read back, as it holds `,`, `=` or
    /// something that is not printable ASCII, is left out. So is one with a space at either end, which would
    /// make the whole message malformed if it came last (RFC 9113 §8.2.1).
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let workload = self.workload_type.unwrap_or_default().key();
        for (key, value) in [
            (CLUSTER, &self.cluster),
            (NAMESPACE, &self.namespace),
            (workload, &self.workload),
            (SERVICE, &self.canonical_service),
            (REVISION, &self.canonical_revision),
            (REGION, &self.region),
            (ZONE, &self.zone),
        ] {
            let Some(value) = value.as_deref().filter(|value| is_value(value)) else {
                continue;
            };
            if !text.is_empty() {
                text.push(',');
            }
            text.extend([key, "=", value]);
        }
        text
    }

    /// Reads all `baggage` headers of a message, as upstream does: a later member wins, an empty one unsets,
    /// spaces count, what follows a second `=` does not, and unknown members are passed over.
    ///
    /// # Errors
    /// All of it is refused when a byte is not ASCII text, or when there is more than the W3C asks anybody to
    /// carry; the sender's labels are unknown then.
    pub fn parse<'a>(headers: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, BaggageError> {
        let mut baggage = Self::default();
        let (mut bytes, mut members) = (0, 0);
        for header in headers {
            bytes += header.len();
            if bytes > MAX_BYTES {
                return Err(BaggageError::TooLong);
            }
            for member in ascii(header)?.split(',') {
                members += 1;
                if members > MAX_MEMBERS {
                    return Err(BaggageError::TooManyMembers);
                }
                baggage.take(member);
            }
        }
        Ok(baggage)
    }

    fn take(&mut self, member: &str) {
        let mut parts = member.split('=');
        let (Some(key), Some(value)) = (parts.next(), parts.next()) else {
            return;
        };
        let field = match key {
            CLUSTER => &mut self.cluster,
            NAMESPACE => &mut self.namespace,
            SERVICE => &mut self.canonical_service,
            REVISION => &mut self.canonical_revision,
            REGION => &mut self.region,
            ZONE => &mut self.zone,
            _ => {
                let Some(kind) = WorkloadType::of_key(key) else {
                    return;
                };
                self.workload_type = (!value.is_empty()).then_some(kind);
                &mut self.workload
            }
        };
        *field = (!value.is_empty()).then(|| value.to_owned());
    }
}

/// The kinds of workload that have a key in `baggage`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkloadType {
    /// `cronjob`
    CronJob,
    /// `deployment`
    #[default]
    Deployment,
    /// `job`
    Job,
    /// `pod`
    Pod,
}

impl WorkloadType {
    const ALL: [Self; 4] = [Self::CronJob, Self::Deployment, Self::Job, Self::Pod];

    /// The name in lower case, as logs and metrics have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CronJob => "cronjob",
            Self::Deployment => "deployment",
            Self::Job => "job",
            Self::Pod => "pod",
        }
    }

    const fn key(self) -> &'static str {
        match self {
            Self::CronJob => "k8s.cronjob.name",
            Self::Deployment => "k8s.deployment.name",
            Self::Job => "k8s.job.name",
            Self::Pod => "k8s.pod.name",
        }
    }

    fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

impl FromStr for WorkloadType {
    type Err = ();

    /// Reads [`WorkloadType::as_str`], in any case: objects spell it in capitals.
    fn from_str(text: &str) -> Result<Self, ()> {
        let same = |kind: &Self| kind.as_str().eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or(())
    }
}

/// Why baggage is refused as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaggageError {
    /// A byte that is neither printable ASCII nor a tab.
    #[error("baggage is not ASCII text")]
    NotText,
    /// Above 8192 bytes over all headers.
    #[error("baggage has more than {MAX_BYTES} bytes")]
    TooLong,
    /// Above 180 members over all headers.
    #[error("baggage has more than {MAX_MEMBERS} members")]
    TooManyMembers,
}

fn ascii(header: &[u8]) -> Result<&str, BaggageError> {
    match std::str::from_utf8(header) {
        Ok(text) if text.bytes().all(|b| matches!(b, b' '..=b'~' | b'\t')) => Ok(text),
        _ => Err(BaggageError::NotText),
    }
}

fn is_value(value: &str) -> bool {
    let plain = |b| matches!(b, b' '..=b'~') && !matches!(b, b',' | b'=');
    !value.is_empty() && value.trim() == value && value.bytes().all(plain)
}

const CLUSTER: &str = "k8s.cluster.name";
const NAMESPACE: &str = "k8s.namespace.name";
const SERVICE: &str = "service.name";
const REVISION: &str = "service.version";
const REGION: &str = "cloud.region";
const ZONE: &str = "cloud.availability_zone";

#[cfg(test)]
mod tests;
