//! Who speaks to whom on a live connection: what policy is asked about, and what an operator is shown.
//!
//! Told once per connection, when it is decided where it goes. Labels and counters are `connection.rs`' business.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use mesh::authorize::ConnectionFacts;
use mesh::route::{Route, Target};
use serde::Serialize;

/// One connection's.
#[derive(Clone, Debug)]
pub(super) enum Story {
    Inbound(Guarded),
    Outbound(Dialled),
}

/// Whom an inbound connection reaches, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    /// The local workload's uid: policy is asked with the workload as it is then, not as it was.
    pub(crate) workload: Arc<str>,
    pub(crate) facts: ConnectionFacts,
    /// The service that the client says it asked for; its own words.
    pub(crate) host: Option<Box<str>>,
}

/// Where an application's connection goes.
#[derive(Clone, Debug)]
pub(crate) struct Dialled {
    /// The local workload's uid.
    pub(crate) workload: Arc<str>,
    pub(crate) source: SocketAddr,
    pub(crate) original: Target,
    pub(crate) actual: SocketAddr,
    pub(crate) protocol: Protocol,
}

/// How the bytes travel; spelled as upstream's dump has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) enum Protocol {
    #[serde(rename = "HBONE")]
    Hbone,
    #[serde(rename = "TCP")]
    Tcp,
    #[serde(rename = "DOUBLEHBONE")]
    DoubleHbone,
}

impl Dialled {
    /// `None` while a name has to be resolved first.
    pub(crate) fn of(
        workload: &Arc<str>,
        source: SocketAddr,
        original: &Target,
        route: &Route,
    ) -> Option<Self> {
        let (actual, protocol) = match route {
            Route::Hbone { peer, .. } => (*peer, Protocol::Hbone),
            Route::DoubleHbone { peer, .. } => (*peer, Protocol::DoubleHbone),
            Route::Passthrough { destination, .. } => (*destination, Protocol::Tcp),
            Route::Resolve(_) => return None,
        };
        Some(Self {
            workload: Arc::clone(workload),
            source,
            original: original.clone(),
            actual,
            protocol,
        })
    }
}

/// A connection as upstream's dump has it (spec/control.md §11 `workloadState`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    src: SocketAddr,
    original_dst: Option<Box<str>>,
    actual_dst: SocketAddr,
    protocol: Protocol,
}

impl Story {
    pub(super) fn workload(&self) -> &Arc<str> {
        match self {
            Self::Inbound(guarded) => &guarded.workload,
            Self::Outbound(dialled) => &dialled.workload,
        }
    }

    pub(super) fn shown(&self) -> Shown {
        match self {
            Self::Inbound(Guarded { facts, host, .. }) => Shown {
                src: facts.source,
                original_dst: host.clone(),
                actual_dst: facts.destination,
                // Upstream knows the one by the other.
                protocol: match facts.identity {
                    Some(_) => Protocol::Hbone,
                    None => Protocol::Tcp,
                },
            },
            Self::Outbound(dialled) => Shown {
                src: dialled.source,
                original_dst: Some(dialled.original.to_string().into()),
                actual_dst: dialled.actual,
                protocol: dialled.protocol,
            },
        }
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        match &facts.identity {
            Some(identity) => write!(f, "{}({identity})->{}", facts.source, facts.destination),
            None => write!(f, "{}->{}", facts.source, facts.destination),
        }
    }
}
