//! Which lines are wanted: a default level and levels for targets (spec/control.md §10.1).

use std::fmt;
use std::str::FromStr;

use super::Level;
use crate::telemetry::text::is_special;

/// `info`, `debug,access=off`, `proxy::inbound=trace`: the longest target that a line's target begins with
/// decides. Shows itself that way: longest first, the default last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// Longest first, as the first one that fits decides.
    targets: Vec<(String, Threshold)>,
    default: Threshold,
}

/// Every line looks at them one by one, and directives add up from request to request: more is no filter but a leak.
const MAX_TARGETS: usize = 256;

/// `None` is `off`.
type Threshold = Option<Level>;

/// The part that is neither a level nor `target=level`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(String);

impl Filter {
    /// What a log starts with and `reset` goes back to: upstream's prefix, which `/logging` shows, then `directives`.
    pub fn startup(directives: &str) -> Result<Self, FilterError> {
        Self::default().with(PREFIX)?.with(directives)
    }

    /// This filter with more directives laid over it; the last word on a target wins.
    pub fn with(&self, directives: &str) -> Result<Self, FilterError> {
        let mut filter = self.clone();
        for directive in directives.split(',') {
            filter.add(directive.trim())?;
        }
        if filter.targets.len() > MAX_TARGETS {
            return Err(FilterError(format!("more than {MAX_TARGETS} targets")));
        }
        // Upstream's order also among those of one length: the last of the alphabet first.
        filter
            .targets
            .sort_by(|(a, _), (b, _)| (b.len(), b).cmp(&(a.len(), a)));
        Ok(filter)
    }

    fn add(&mut self, directive: &str) -> Result<(), FilterError> {
        let error = || FilterError(directive.to_owned());
        let Some((target, level)) = split(directive) else {
            self.default = threshold(directive).ok_or_else(error)?;
            return Ok(());
        };
        let level = threshold(level).ok_or_else(error)?;
        if target.is_empty() {
            return Err(error());
        }
        self.targets.retain(|(known, _)| known != target);
        self.targets.push((target.to_owned(), level));
        Ok(())
    }

    /// Whether a line passes. Targets are known with and without the crate's name.
    pub(super) fn allows(&self, level: Level, target: &str) -> bool {
        let threshold = self
            .targets
            .iter()
            .find(|(prefix, _)| covers(prefix, target))
            .map_or(self.default, |(_, threshold)| *threshold);
        threshold.is_some_and(|threshold| level <= threshold)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            default: Some(Level::Info),
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(directives: &str) -> Result<Self, FilterError> {
        Self::default().with(directives)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |threshold: Threshold| threshold.map_or("off", Level::as_str);
        for (target, threshold) in &self.targets {
            write!(f, "{target}={},", name(*threshold))?;
        }
        f.write_str(name(self.default))
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a log level nor `target=level`: `{}`", self.0)
    }
}

impl std::error::Error for FilterError {}

/// `target=level`, or `target:level` as istioctl's help spells it; a `::` belongs to the target.
fn split(directive: &str) -> Option<(&str, &str)> {
    directive.rsplit_once('=').or_else(|| {
        directive
            .rsplit_once(':')
            .filter(|(target, _)| !target.ends_with(':'))
    })
}

fn threshold(level: &str) -> Option<Threshold> {
    const LEVELS: [(&str, Threshold); 6] = [
        ("off", None),
        ("error", Some(Level::Error)),
        ("warn", Some(Level::Warn)),
        ("info", Some(Level::Info)),
        ("debug", Some(Level::Debug)),
        ("trace", Some(Level::Trace)),
    ];
    LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(level))
        .map(|(_, threshold)| *threshold)
}

/// Access and DNS lines belong to no module, so the crate's name does not cover them.
fn covers(prefix: &str, target: &str) -> bool {
    match prefix.strip_prefix("ztunnel") {
        Some("" | "::") => !is_special(target),
        Some(rest) => target.starts_with(rest.strip_prefix("::").unwrap_or(prefix)),
        None => target.starts_with(prefix),
    }
}

/// Upstream silences its DNS library this way. There is none here; operators and their tools know the word.
const PREFIX: &str = "hickory_server::server=off";

#[cfg(test)]
mod tests;
