//! May a connection pass: the policies of a workload, asked in their order.
//!
//! Spec/dataplane.md §8.3. What a single policy matches is `authorization`'s; live connections are asked about again by
//! `proxy` when [`crate::store::Changes::concern_policy_of`] it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::authorization::{Action, Authorization, Obstacle, Subject};
use crate::identity::Identity;
use crate::snapshot::{Kind, MeshSnapshot};
use crate::workload::Workload;

/// What is known of a connection before it may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionFacts {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it would go: the workload's address and final port.
    pub destination: SocketAddr,
    /// Who opened it, if a certificate says so.
    pub identity: Option<Identity>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Allow,
    /// It may not.
    Deny(Reason),
}

/// Why a connection may not pass; logs put `connection closed due to policy rejection: ` in front.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A DENY policy matches; its key.
    #[error("explicitly denied by: {0}")]
    DeniedBy(Arc<str>),
    /// There are ALLOW policies, and none of them matches.
    #[error("allow policies exist, but none allowed")]
    NotAllowed,
}

/// The answer and what is to be noted about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub verdict: Verdict,
    /// The key of the ALLOW policy by which it may, if one was needed.
    pub allowed_by: Option<Arc<str>>,
    /// For the log, in order. Never part of the answer.
    pub notes: Vec<Note>,
}

/// Something to log about a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A dry-run ALLOW policy matches; its key.
    DryRunAllow(Arc<str>),
    /// A dry-run DENY policy matches; its key.
    DryRunDeny(Arc<str>),
    /// Were the dry-run ALLOW policies enforced, none of them would let it pass.
    DryRunNotAllowed,
    /// The workload names a policy that nobody knows; its key.
    UnknownPolicy(Arc<str>),
}

impl Note {
    /// The key of the policy it is about, for the log's `policy` field.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        match self {
            Self::DryRunAllow(key) | Self::DryRunDeny(key) => Some(key),
            Self::DryRunNotAllowed | Self::UnknownPolicy(_) => None,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRunAllow(_) => f.write_str("dry-run: allow policy match"),
            Self::DryRunDeny(_) => f.write_str("dry-run: deny policy match"),
            Self::DryRunNotAllowed => f.write_str("dry-run: no allow policies match"),
            Self::UnknownPolicy(key) => write!(f, "skipping unknown policy {key}"),
        }
    }
}

/// Decides whether a connection to `workload` may pass.
#[must_use]
pub fn authorize(mesh: &MeshSnapshot, workload: &Workload, facts: &ConnectionFacts) -> Decision {
    decide(mesh, workload, facts, &mut Silent)
}

/// Hears how each policy was asked; `explain` listens, the path does not.
pub(crate) trait Witness {
    /// Whether it wants to hear of all policies: also of those of which something is known that keeps them from matching.
    const HEARS_ALL: bool;
    /// A match object of the policy being asked did not match.
    fn obstacle(&mut self, obstacle: Obstacle);
    /// The policy was asked to its end.
    fn asked(&mut self, key: &Arc<str>, policy: &Authorization, matched: bool);
}

struct Silent;

impl Witness for Silent {
    const HEARS_ALL: bool = false;
    fn obstacle(&mut self, _: Obstacle) {}
    fn asked(&mut self, _: &Arc<str>, _: &Authorization, _: bool) {}
}

pub(crate) fn decide<W: Witness>(
    mesh: &MeshSnapshot,
    workload: &Workload,
    facts: &ConnectionFacts,
    witness: &mut W,
) -> Decision {
    let principal = facts.identity.as_ref().map(Identity::principal);
    let subject = Subject {
        source_ip: facts.source.ip().to_canonical(),
        destination_ip: facts.destination.ip().to_canonical(),
        destination_port: facts.destination.port(),
        account: facts
            .identity
            .as_ref()
            .map(|id| (&*id.namespace, &*id.service_account)),
        principal: principal.as_deref(),
    };
    let mut ask = |(key, policy): &(Arc<str>, Arc<Authorization>)| {
        let matched = policy.matches(&subject, &mut |obstacle| witness.obstacle(obstacle));
        witness.asked(key, policy, matched);
        matched
    };
    let policies = mesh.policies.of(workload);
    let sought = (!W::HEARS_ALL).then_some(&subject);
    let of_kind = |kind| policies.of_kind(kind, sought).into_iter();
    let unknown = policies.unknown();
    let mut notes: Vec<Note> = unknown
        .map(|key| Note::UnknownPolicy(Arc::clone(key)))
        .collect();
    let answer = |verdict, allowed_by, notes| Decision {
        verdict,
        allowed_by,
        notes,
    };

    for held in of_kind(DRY_RUN_DENY).filter(|held| ask(held)) {
        notes.push(Note::DryRunDeny(Arc::clone(&held.0)));
    }
    if let Some((key, _)) = of_kind(DENY).find(|held| ask(held)) {
        let reason = Reason::DeniedBy(Arc::clone(key));
        return answer(Verdict::Deny(reason), None, notes);
    }
    let before = notes.len();
    for held in of_kind(DRY_RUN_ALLOW).filter(|held| ask(held)) {
        notes.push(Note::DryRunAllow(Arc::clone(&held.0)));
    }
    if !policies.has_kind(ALLOW) {
        if notes.len() == before && policies.has_kind(DRY_RUN_ALLOW) {
            notes.push(Note::DryRunNotAllowed);
        }
        return answer(Verdict::Allow, None, notes);
    }
    match of_kind(ALLOW).find(|held| ask(held)) {
        Some((key, _)) => answer(Verdict::Allow, Some(Arc::clone(key)), notes),
        None => answer(Verdict::Deny(Reason::NotAllowed), None, notes),
    }
}

const ALLOW: Kind = Kind {
    action: Action::Allow,
    dry_run: false,
};
const DENY: Kind = Kind {
    action: Action::Deny,
    dry_run: false,
};
const DRY_RUN_ALLOW: Kind = Kind {
    action: Action::Allow,
    dry_run: true,
};
const DRY_RUN_DENY: Kind = Kind {
    action: Action::Deny,
    dry_run: true,
};

#[cfg(test)]
mod tests;
