//! An authorization policy and what it matches.
//!
//! `Authorization::matches` is the one matcher (spec/dataplane.md §8.2): `authorize` asks it on the path, `explain`
//! asks the same function and listens to the obstacles it meets. Which policies apply is `authorize`'s business.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::address::Cidr;
use crate::workload::is_default;

mod terms;

pub(crate) use terms::{Term, terms};

/// A policy: who may, or may not, connect to the workloads in its scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Authorization {
    /// Its name.
    pub name: Arc<str>,
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Which workloads it is about.
    pub scope: Scope,
    /// What happens to a connection that it matches.
    pub action: Action,
    /// One is enough to match; none never matches.
    pub rules: Vec<Rule>,
    /// Only written down, never enforced.
    pub dry_run: bool,
    /// Part of it could not be read: what stands here lets nothing through that the text was meant to stop. Rejected,
    /// and enforced only where no good version is known.
    #[serde(skip_serializing_if = "is_default")]
    pub unreadable: bool,
}

impl Authorization {
    /// `namespace/name`, the key under which it is stored and by which logs call it.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether a rule matches. `obstacle` hears of every match object that did not, in order, up to the answer.
    pub(crate) fn matches(
        &self,
        connection: &Subject<'_>,
        obstacle: &mut impl FnMut(Obstacle),
    ) -> bool {
        self.rules.iter().enumerate().any(|(rule, r)| {
            r.0.iter().enumerate().all(|(clause, c)| {
                c.0.is_empty()
                    || c.0.iter().enumerate().any(|(index, m)| {
                        let found = m.obstacle(connection, self.action);
                        if let Some(cause) = found {
                            obstacle(Obstacle {
                                rule,
                                clause,
                                index,
                                cause,
                            });
                        }
                        found.is_none()
                    })
            })
        })
    }
}

/// All its clauses must match; without clauses it always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Rule(pub Vec<Clause>);

/// One of its match objects must match; without any it always does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Clause(pub Vec<Match>);

/// A set of conditions that must all hold. Each pair of lists is one condition: some positive entry hits (or there
/// is none) and no negative entry does. With no entry at all it never matches.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    missing_docs,
    reason = "the table of spec/dataplane.md §8.2 says what each list is compared with"
)]
pub struct Match {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_namespaces: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub service_accounts: Vec<ServiceAccountMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_service_accounts: Vec<ServiceAccountMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub principals: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_principals: Vec<StringMatch>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_ips: Vec<Cidr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_source_ips: Vec<Cidr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ips: Vec<Cidr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ips: Vec<Cidr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub destination_ports: Vec<u16>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_destination_ports: Vec<u16>,
    /// Part of it could not be read, so what it says is not known. It then errs to the safe side: an ALLOW does not
    /// match, a DENY matches whatever its readable part allows. `decode` empties a positive list with a bad entry
    /// and drops bad entries of a negative one, so that the readable part is never narrower than what was meant.
    #[serde(skip_serializing_if = "is_default")]
    pub unreadable: bool,
}

impl Match {
    /// The first condition that does not hold, if any.
    fn obstacle(&self, connection: &Subject<'_>, action: Action) -> Option<Cause> {
        if self.unreadable && action == Action::Allow {
            return Some(Cause::Unreadable);
        }
        if !self.unreadable && *self == Self::default() {
            return Some(Cause::NoConditions);
        }
        let c = connection;
        let account = |wanted: &ServiceAccountMatch| {
            c.account
                .is_some_and(|(ns, sa)| *wanted.namespace == *ns && *wanted.service_account == *sa)
        };
        let principal = |wanted: &StringMatch| c.principal.is_some_and(|p| wanted.hits(p));
        let namespace = |wanted: &StringMatch| wanted.hits(c.account.map_or("", |(ns, _)| ns));
        let to = |block: &Cidr| block.contains(c.destination_ip);
        let from = |block: &Cidr| block.contains(c.source_ip);
        let port = |port: &u16| *port == c.destination_port;

        pair(
            Attribute::DestinationIps,
            &self.destination_ips,
            &self.not_destination_ips,
            to,
        )
        .or_else(|| {
            pair(
                Attribute::SourceIps,
                &self.source_ips,
                &self.not_source_ips,
                from,
            )
        })
        .or_else(|| {
            let (yes, no) = (&self.destination_ports, &self.not_destination_ports);
            pair(Attribute::DestinationPorts, yes, no, port)
        })
        .or_else(|| {
            let (yes, no) = (&self.service_accounts, &self.not_service_accounts);
            pair(Attribute::ServiceAccounts, yes, no, account)
        })
        .or_else(|| {
            pair(
                Attribute::Principals,
                &self.principals,
                &self.not_principals,
                principal,
            )
        })
        .or_else(|| {
            pair(
                Attribute::Namespaces,
                &self.namespaces,
                &self.not_namespaces,
                namespace,
            )
        })
    }
}

fn pair<T>(
    attribute: Attribute,
    positive: &[T],
    negative: &[T],
    hits: impl Fn(&T) -> bool,
) -> Option<Cause> {
    if !positive.is_empty() && !positive.iter().any(&hits) {
        Some(Cause::NoneHits(attribute))
    } else if negative.iter().any(&hits) {
        Some(Cause::NegativeHits(attribute))
    } else {
        None
    }
}

/// A service account, in whatever trust domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub service_account: Arc<str>,
}

/// A pattern for a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StringMatch {
    /// The whole text.
    Exact(Arc<str>),
    /// Its beginning.
    Prefix(Arc<str>),
    /// Anything but the empty text; written as `{"Presence": []}`.
    #[serde(serialize_with = "empty_list")]
    Presence,
    /// Its end.
    Suffix(Arc<str>),
}

impl StringMatch {
    fn hits(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => **wanted == *text,
            Self::Prefix(wanted) => text.starts_with(&**wanted),
            Self::Presence => !text.is_empty(),
            Self::Suffix(wanted) => text.ends_with(&**wanted),
        }
    }
}

/// Which workloads a policy is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Scope {
    /// All.
    Global,
    /// Those of its namespace.
    Namespace,
    /// Those that name it.
    WorkloadSelector,
}

/// What happens to a connection that a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Action {
    /// It may pass, and what no ALLOW policy matches may not.
    Allow,
    /// It may not pass.
    Deny,
}

/// What the matcher looks at: one connection, taken apart once.
pub(crate) struct Subject<'a> {
    pub(crate) source_ip: IpAddr,
    pub(crate) destination_ip: IpAddr,
    pub(crate) destination_port: u16,
    /// Namespace and service account of the peer, if it has an identity.
    pub(crate) account: Option<(&'a str, &'a str)>,
    /// The identity without its scheme.
    pub(crate) principal: Option<&'a str>,
}

/// Why one match object did not match, and where it stands in its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) rule: usize,
    pub(crate) clause: usize,
    pub(crate) index: usize,
    pub(crate) cause: Cause,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            clause,
            index,
            cause,
        } = self;
        write!(f, "rules[{rule}][{clause}][{index}]: {cause}")
    }
}

/// Why one match object did not match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    NegativeHits(Attribute),
    NoConditions,
    NoneHits(Attribute),
    Unreadable,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeHits(attribute) => write!(f, "an entry of {} hits", attribute.negative()),
            Self::NoConditions => f.write_str("has no conditions, so it never matches"),
            Self::NoneHits(attribute) => write!(f, "no entry of {} hits", attribute.positive()),
            Self::Unreadable => f.write_str("could not be read, so an ALLOW does not match"),
        }
    }
}

/// A pair of lists of a match object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attribute {
    DestinationIps,
    DestinationPorts,
    Namespaces,
    Principals,
    ServiceAccounts,
    SourceIps,
}

impl Attribute {
    fn positive(self) -> &'static str {
        match self {
            Self::DestinationIps => "destinationIps",
            Self::DestinationPorts => "destinationPorts",
            Self::Namespaces => "namespaces",
            Self::Principals => "principals",
            Self::ServiceAccounts => "serviceAccounts",
            Self::SourceIps => "sourceIps",
        }
    }

    fn negative(self) -> &'static str {
        match self {
            Self::DestinationIps => "notDestinationIps",
            Self::DestinationPorts => "notDestinationPorts",
            Self::Namespaces => "notNamespaces",
            Self::Principals => "notPrincipals",
            Self::ServiceAccounts => "notServiceAccounts",
            Self::SourceIps => "notSourceIps",
        }
    }
}

fn empty_list<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(std::iter::empty::<()>())
}
