//! What is counted of the control plane's stream: answers, their bytes, how streams ended, and how old what we know is.
//!
//! Names and labels are upstream's (spec/control.md §12), the age is ours (spec/reliability.md F30). The control side says
//! what happened; one lock for all of it, for a busy stream brings a thousand answers a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::exposition::{Exposition, Kind};
use super::labels::OVERFLOW;

#[derive(Debug, Default)]
pub(super) struct Xds(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// Answers and bytes of their payloads by type.
    answers: BTreeMap<Box<str>, (u64, u64)>,
    ends: [u64; StreamEnd::ALL.len()],
    /// When the last answer came.
    last: Option<Instant>,
}

/// How a stream to the control plane ended (spec/control.md §4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// The server ended it well.
    Complete,
    /// There was none: it could not be established.
    ConnectionError,
    /// The server ended it with a status that means trouble.
    Error,
    /// It was cut in a way that is routine.
    Reconnect,
}

impl StreamEnd {
    const ALL: [Self; 4] = [
        Self::Complete,
        Self::ConnectionError,
        Self::Error,
        Self::Reconnect,
    ];

    /// As the label has it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "Complete",
            Self::ConnectionError => "ConnectionError",
            Self::Error => "Error",
            Self::Reconnect => "Reconnect",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|end| end.as_str() == name)
    }
}

impl Xds {
    /// One more answer of a type, with so many bytes of payload.
    pub(super) fn answered(&self, type_url: &str, bytes: usize, now: Instant) {
        let mut counted = self.lock();
        counted.last = Some(now);
        let answers = &mut counted.answers;
        let known = answers.contains_key(type_url);
        let label = if known || (answers.len() < MAX_TYPES && is_plain(type_url)) {
            type_url
        } else {
            OVERFLOW
        };
        let (messages, total) = answers.entry(label.into()).or_default();
        *messages += 1;
        *total += bytes as u64;
    }

    pub(super) fn ended(&self, end: StreamEnd) {
        self.lock().ends[end as usize] += 1;
    }

    /// The number of the stream that there is, or of the next one: they begin and end one after the other.
    pub(super) fn stream(&self) -> u64 {
        1 + self.lock().ends.iter().sum::<u64>()
    }

    /// Upstream's families.
    pub(super) fn show(&self, text: &mut Exposition) {
        let counted = self.lock();
        let ends = StreamEnd::ALL.map(|end| (end.as_str(), counted.ends[end as usize]));
        let ends = ends.into_iter().filter(|(_, count)| *count > 0);
        family(text, &TERMINATIONS, ends);
        let messages = counted
            .answers
            .iter()
            .map(|(url, (count, _))| (&**url, *count));
        family(text, &MESSAGES, messages);
        let bytes = counted
            .answers
            .iter()
            .map(|(url, (_, bytes))| (&**url, *bytes));
        family(text, &BYTES, bytes);
    }

    /// Ours.
    pub(super) fn show_age(&self, text: &mut Exposition, now: Instant) {
        let Some(last) = self.lock().last else { return };
        let name = "ztunnel_xds_last_update_age_seconds";
        let help = "Seconds since the control plane's last answer (unstable).";
        text.family(name, help, Kind::Gauge);
        text.unit(name, "seconds");
        let age = now.saturating_duration_since(last).as_secs_f64();
        text.written(name, &[], &format!("{age:.3}"));
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counter with one label.
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<&'static str>,
    label: &'static str,
}

/// A family without samples is not shown at all, as upstream.
fn family<'a>(
    text: &mut Exposition,
    of: &Family,
    samples: impl IntoIterator<Item = (&'a str, u64)>,
) {
    let mut samples = samples.into_iter().peekable();
    if samples.peek().is_none() {
        return;
    }
    text.family(of.name, of.help, Kind::Counter);
    if let Some(unit) = of.unit {
        text.unit(of.name, unit);
    }
    let name = format!("{}_total", of.name);
    for (value, count) in samples {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        text.sample(&name, &[(of.label, value)], count);
    }
}

/// Nothing in it needs escaping, and it is no longer than a label should be.
fn is_plain(type_url: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    type_url.len() <= 256 && type_url.bytes().all(plain)
}

const TERMINATIONS: Family = Family {
    name: "istio_xds_connection_terminations",
    help: "The total number of completed connections to xds server (unstable).",
    unit: None,
    label: "reason",
};

const MESSAGES: Family = Family {
    name: "istio_xds_message",
    help: "Total number of messages received (unstable).",
    unit: None,
    label: "url",
};

const BYTES: Family = Family {
    name: "istio_xds_message_bytes",
    help: "Total number of bytes received (unstable).",
    unit: Some("bytes"),
    label: "url",
};

/// Two are asked for. A server that sends others, which it should not, shall not fill the page.
const MAX_TYPES: usize = 16;

#[cfg(test)]
mod tests;
