//! Asks the local workload's policies, and writes down what they said (spec/dataplane.md §8.3).
//!
//! What they say is `mesh::authorize`'s. Live connections are asked about again in `connections/recheck.rs`.

use std::sync::Arc;

use mesh::authorize::{ConnectionFacts, Decision, Note, Reason, Verdict, authorize};
use mesh::workload::Workload;

use crate::error::{Error, Side, Stage};
use crate::shared::Shared;
use crate::telemetry::log::{Level, Logger};
use crate::telemetry::metrics::Metrics;

const TARGET: &str = "rbac";

/// Whether a connection to `workload` may pass, by the policies that it has now: a connection may have waited for seconds
/// since it found the workload, and was not guarded before it came here.
///
/// # Errors
/// Its policies say no; the text is for the access log.
pub(crate) fn permit(
    shared: &Shared,
    workload: &Workload,
    facts: &ConnectionFacts,
) -> Result<(), Error> {
    let mesh = shared.snapshot();
    let now = mesh.workload_by_uid(&workload.uid);
    let decision = authorize(&mesh, now.map_or(workload, Arc::as_ref), facts);
    let level = if shared.settings.authz_info_logging {
        Level::Info
    } else {
        Level::Debug
    };
    write_down(&shared.log, &shared.metrics, level, &decision);
    match decision.verdict {
        Verdict::Allow => Ok(()),
        Verdict::Deny(reason) => {
            let text = format!("connection closed due to policy rejection: {reason}");
            Err(Error::new(Stage::Policy, Side::Local, "policy", text))
        }
    }
}

fn write_down(log: &Logger, metrics: &Metrics, level: Level, decision: &Decision) {
    let wanted = log.enabled(level, TARGET);
    for note in &decision.notes {
        match note {
            Note::UnknownPolicy(key) => {
                let text = note.to_string();
                // Skipped is not enforced: it may be a moment's matter at the start, and it may be a hole.
                metrics.unknown_policy();
                let policy = [("policy", Some(&**key).into())];
                log.repeating(Level::Warn, "unknown_policy", TARGET, &text, &policy);
            }
            _ if wanted => {
                let policy = [("policy", note.policy().into())];
                log.log(level, TARGET, &note.to_string(), &policy);
            }
            _ => {}
        }
    }
    if wanted {
        let (text, policy) = verdict(decision);
        log.log(level, TARGET, text, &[("policy", policy.into())]);
    }
}

/// What decided, in the words of the dry runs, and the policy's key if it was one.
fn verdict(decision: &Decision) -> (&'static str, Option<&str>) {
    match (&decision.verdict, &decision.allowed_by) {
        (Verdict::Deny(Reason::DeniedBy(key)), _) => ("deny policy match", Some(key)),
        (Verdict::Deny(Reason::NotAllowed), _) => ("no allow policies match", None),
        (Verdict::Allow, Some(key)) => ("allow policy match", Some(key)),
        (Verdict::Allow, None) => ("no allow policies exist", None),
    }
}

#[cfg(test)]
mod tests;
