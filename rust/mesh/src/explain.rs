//! The questions of `route` and `authorize`, with the reasons written down.
//!
//! The same code answers; this file only listens and puts what it heard into a form that can be printed.

use std::sync::Arc;

use serde::Serialize;

use crate::authorization::{Action, Authorization, Obstacle};
use crate::authorize::{self, ConnectionFacts, Verdict, Witness};
use crate::route::{self, Route, RouteFacts, Step};
use crate::snapshot::MeshSnapshot;
use crate::workload::Workload;

/// Where a connection goes, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteExplanation {
    /// Where it goes; nothing when it goes nowhere.
    pub route: Option<RouteSummary>,
    /// Why it goes nowhere.
    pub error: Option<String>,
    /// The steps that led there.
    pub steps: Vec<String>,
}

/// A [`Route`], with names instead of the things themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RouteSummary {
    /// `hbone`, `double-hbone`, `passthrough` or, before a name is resolved, `resolve`.
    pub kind: &'static str,
    /// Whom to dial: an address, or the name that leads to it.
    pub peer: String,
    /// What to ask the peer for, in a tunnel.
    pub authority: Option<String>,
    /// Whom the peer's certificate may name, in a tunnel.
    pub expected: Vec<String>,
    /// Uid of the workload at the other end.
    pub workload: Option<Arc<str>>,
    /// `namespace/hostname` of the service it was chosen for.
    pub service: Option<String>,
}

impl From<&Route> for RouteSummary {
    fn from(route: &Route) -> Self {
        match route {
            Route::Hbone {
                peer,
                authority,
                expected,
                workload,
                service,
            } => Self {
                kind: "hbone",
                peer: peer.to_string(),
                authority: Some(authority.to_string()),
                expected: expected.iter().map(ToString::to_string).collect(),
                workload: Some(Arc::clone(&workload.uid)),
                service: service.as_ref().map(|service| service.key().to_string()),
            },
            Route::DoubleHbone {
                peer,
                authority,
                expected,
                workload,
                service,
                ..
            } => Self {
                kind: "double-hbone",
                peer: peer.to_string(),
                authority: Some(authority.to_string()),
                expected: expected.iter().map(ToString::to_string).collect(),
                workload: Some(Arc::clone(&workload.uid)),
                service: Some(service.key().to_string()),
            },
            Route::Resolve(unresolved) => Self {
                kind: "resolve",
                peer: unresolved.hostname().to_owned(),
                authority: None,
                expected: Vec::new(),
                workload: None,
                service: None,
            },
            Route::Passthrough {
                destination,
                workload,
                service,
            } => Self {
                kind: "passthrough",
                peer: destination.to_string(),
                authority: None,
                expected: Vec::new(),
                workload: workload.as_ref().map(|workload| Arc::clone(&workload.uid)),
                service: service.as_ref().map(|service| service.key().to_string()),
            },
        }
    }
}

/// As [`route::route`], with the reasons.
#[must_use]
pub fn explain_route(
    mesh: &MeshSnapshot,
    facts: &RouteFacts<'_>,
    choose: &mut dyn FnMut(u64) -> u64,
) -> RouteExplanation {
    let mut steps = Vec::new();
    let answer = route::decide(mesh, facts, choose, &mut |step| match step {
        Step::LeftOut(left_out) => steps.extend(left_out.lines()),
        step => steps.push(step.to_string()),
    });
    RouteExplanation {
        route: answer.as_ref().ok().map(RouteSummary::from),
        error: answer.err().map(|error| error.to_string()),
        steps,
    }
}

/// Whether a connection may pass, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuthorizeExplanation {
    /// Whether it may pass.
    pub allowed: bool,
    /// Why it may not, or by which policy it may.
    pub reason: String,
    /// What is noted beside, in order.
    pub notes: Vec<String>,
    /// Every policy that was asked, in order; after the one that decided, none is.
    pub policies: Vec<PolicyExplanation>,
}

/// How one policy answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyExplanation {
    /// `namespace/name`.
    pub policy: Arc<str>,
    /// What it does to what it matches.
    pub action: Action,
    /// Whether it is only written down.
    pub dry_run: bool,
    /// Whether it matched.
    pub matched: bool,
    /// Each match object that did not match, with the first condition that did not hold.
    pub obstacles: Vec<String>,
}

/// As [`authorize::authorize`], with the reasons.
#[must_use]
pub fn explain_authorize(
    mesh: &MeshSnapshot,
    workload: &Workload,
    facts: &ConnectionFacts,
) -> AuthorizeExplanation {
    let mut record = Record::default();
    let decision = authorize::decide(mesh, workload, facts, &mut record);
    let with_policy = |note: &authorize::Note| match note.policy() {
        Some(key) => format!("{note}: {key}"),
        None => note.to_string(),
    };
    AuthorizeExplanation {
        allowed: decision.verdict == Verdict::Allow,
        reason: match (&decision.verdict, &decision.allowed_by) {
            (Verdict::Deny(reason), _) => reason.to_string(),
            (Verdict::Allow, Some(key)) => format!("allowed by: {key}"),
            (Verdict::Allow, None) => "no allow policies exist, and none denied".into(),
        },
        notes: decision.notes.iter().map(with_policy).collect(),
        policies: record.policies,
    }
}

#[derive(Default)]
struct Record {
    policies: Vec<PolicyExplanation>,
    obstacles: Vec<String>,
}

impl Witness for Record {
    const HEARS_ALL: bool = true;

    fn obstacle(&mut self, obstacle: Obstacle) {
        self.obstacles.push(obstacle.to_string());
    }

    fn asked(&mut self, key: &Arc<str>, policy: &Authorization, matched: bool) {
        self.policies.push(PolicyExplanation {
            policy: Arc::clone(key),
            action: policy.action,
            dry_run: policy.dry_run,
            matched,
            obstacles: std::mem::take(&mut self.obstacles),
        });
    }
}

#[cfg(test)]
mod tests;
