//! The questions of `route`, at both ends, and of `authorize`, with the reasons written down.
//!
//! The same code answers; this file only listens and puts what it heard into a form that can be printed.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::authorization::{Action, Authorization, Obstacle};
use crate::authorize::{self, ConnectionFacts, Verdict, Witness};
use crate::identity::Identity;
use crate::route::{
    self, InboundFacts, InboundRefusal, InboundRoute, InboundStep, Route, RouteFacts, Step,
    guess_service,
};
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
#[serde(rename_all = "camelCase")]
pub struct RouteSummary {
    /// `hbone`, `double-hbone`, `passthrough` or, before a name is resolved, `resolve`.
    pub kind: &'static str,
    /// Whom to dial: an address, or the name that leads to it.
    pub peer: String,
    /// What to ask the peer for, in a tunnel.
    pub authority: Option<String>,
    /// Whom the peer's certificate may name, in a tunnel.
    pub expected: Vec<String>,
    /// Whom the inner peer's certificate may name, in a tunnel through a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inner_expected: Option<Vec<String>>,
    /// Uid of the workload at the other end.
    pub workload: Option<Arc<str>>,
    /// `namespace/hostname` of the service it was chosen for.
    pub service: Option<String>,
}

impl From<&Route> for RouteSummary {
    fn from(route: &Route) -> Self {
        let names = |identities: &[Identity]| identities.iter().map(ToString::to_string).collect();
        let (kind, peer, workload, service) = match route {
            Route::Hbone {
                peer,
                workload,
                service,
                ..
            } => ("hbone", peer.to_string(), Some(workload), service.as_ref()),
            Route::DoubleHbone {
                peer,
                workload,
                service,
                ..
            } => (
                "double-hbone",
                peer.to_string(),
                Some(workload),
                Some(service),
            ),
            Route::Resolve(unresolved) => (
                "resolve",
                unresolved.hostname().to_owned(),
                Some(unresolved.workload()),
                unresolved.service(),
            ),
            Route::Passthrough {
                destination,
                workload,
                service,
            } => (
                "passthrough",
                destination.to_string(),
                workload.as_ref(),
                service.as_ref(),
            ),
        };
        let (authority, expected, inner_expected) = match route {
            Route::Hbone {
                authority,
                expected,
                ..
            } => (Some(authority), names(expected), None),
            Route::DoubleHbone {
                authority,
                expected,
                inner_expected,
                ..
            } => (
                Some(authority),
                names(expected),
                Some(names(inner_expected)),
            ),
            Route::Resolve(_) | Route::Passthrough { .. } => (None, Vec::new(), None),
        };
        Self {
            kind,
            peer,
            authority: authority.map(ToString::to_string),
            expected,
            inner_expected,
            workload: workload.map(|workload| Arc::clone(&workload.uid)),
            service: service.map(|service| service.key().to_string()),
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

/// Where a request or a plain connection goes at its destination, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundExplanation {
    /// Where it goes; nothing when it goes nowhere.
    pub route: Option<InboundSummary>,
    /// Why it goes nowhere.
    pub error: Option<String>,
    /// The HTTP status of that answer; a plain connection has none.
    pub status: Option<u16>,
    /// The steps that led there.
    pub steps: Vec<String>,
}

/// An [`InboundRoute`], with names instead of the things themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundSummary {
    /// What is dialled; also what policy is asked about.
    pub destination: SocketAddr,
    /// The destination in the PROXY header in front of the bytes, if there is one.
    pub header: Option<SocketAddr>,
    /// `namespace/hostname` of the service that metrics count it for.
    pub service: Option<String>,
}

/// As [`route::inbound`], with the reasons; `for_host` is what the client said about the service it meant.
#[must_use]
pub fn explain_inbound(
    mesh: &MeshSnapshot,
    facts: &InboundFacts<'_>,
    for_host: Option<&str>,
) -> InboundExplanation {
    let mut steps = Vec::new();
    let mut listener = |step: &InboundStep<'_>| steps.push(step.to_string());
    let answer = route::decide_inbound(mesh, facts, &mut listener);
    let status = answer.as_ref().err().map(InboundRefusal::status);
    told(&answer, status, for_host, steps)
}

/// As [`route::plaintext`], with the reasons.
#[must_use]
pub fn explain_plaintext(
    mesh: &MeshSnapshot,
    local: &Workload,
    destination: SocketAddr,
) -> InboundExplanation {
    let mut steps = Vec::new();
    let mut listener = |step: &InboundStep<'_>| steps.push(step.to_string());
    let answer = route::decide_plaintext(mesh, local, destination, &mut listener);
    told(&answer, None, None, steps)
}

fn told(
    answer: &Result<InboundRoute, InboundRefusal>,
    status: Option<u16>,
    for_host: Option<&str>,
    steps: Vec<String>,
) -> InboundExplanation {
    let summary = |route: &InboundRoute| InboundSummary {
        destination: route.destination,
        header: route.header,
        service: guess_service(&route.candidates, for_host, route.destination.port())
            .map(|service| service.key().to_string()),
    };
    InboundExplanation {
        route: answer.as_ref().ok().map(summary),
        error: answer.as_ref().err().map(ToString::to_string),
        status,
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
