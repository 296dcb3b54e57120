//! What went wrong with a connection: at which stage, on whose side, in one sentence.
//!
//! Not a list of every failure in the crate: a failure is described where it is seen and carried here. The stage
//! alone decides the response flag (spec/dataplane.md §14); the sentence is what access log and operator read.

use std::fmt;

use crate::telemetry::ResponseFlag;
use crate::telemetry::access_log::Ending;

/// A step in a connection's life, named as in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// SOCKS negotiation.
    Negotiation,
    /// Finding the workload, the service, the route.
    Lookup,
    /// Having a certificate of our own.
    Identity,
    /// Making a TLS session of it.
    TlsConfig,
    /// Authorization, at the start or after a change.
    Policy,
    /// The TCP connection to the next hop.
    Dial,
    /// The same, but nobody answered: usually a network policy that blocks port 15008.
    DialTimeout,
    /// TLS with the peer.
    Handshake,
    /// HTTP/2 with the peer.
    Tunnel,
    /// The peer's answer to CONNECT.
    Connect,
    /// Bytes in both directions.
    Relay,
    /// Ended as the peer's certificate was revoked while the tunnel was up.
    Revocation,
    /// Ended by our own shutdown.
    Drain,
}

/// Which neighbour a failure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Who opened the connection to us.
    Downstream,
    /// Whom we connect to.
    Upstream,
    /// Ourselves.
    Local,
}

/// A connection's failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Error {
    /// Where in the connection's life.
    pub(crate) stage: Stage,
    /// On whose side.
    pub(crate) side: Side,
    /// Short stable name for metrics, `[a-z_]+`.
    pub(crate) reason: &'static str,
    text: String,
}

impl Error {
    /// Describes a failure.
    pub(crate) fn new(
        stage: Stage,
        side: Side,
        reason: &'static str,
        text: impl Into<String>,
    ) -> Self {
        Self {
            stage,
            side,
            reason,
            text: text.into(),
        }
    }

    /// The sentence.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The label that operators filter by (spec/dataplane.md §14).
    #[must_use]
    pub(crate) fn flag(&self) -> ResponseFlag {
        match self.stage {
            Stage::Policy => ResponseFlag::Deny,
            Stage::Identity => ResponseFlag::IdentityError,
            Stage::TlsConfig => ResponseFlag::TlsFailure,
            Stage::DialTimeout => ResponseFlag::NetworkPolicy,
            Stage::Tunnel => ResponseFlag::H2HandshakeFailure,
            Stage::Revocation => ResponseFlag::CertRevoked,
            Stage::Drain => ResponseFlag::None,
            Stage::Negotiation
            | Stage::Lookup
            | Stage::Dial
            | Stage::Handshake
            | Stage::Connect
            | Stage::Relay => ResponseFlag::Connect,
        }
    }

    /// The same in Envoy's words, for lines in its format; its `%RESPONSE_FLAGS%` tell more ways to end than ours.
    pub(crate) fn ending(&self) -> Ending {
        let flags = match (self.stage, self.side) {
            (Stage::Negotiation, _) => "DPE",
            (Stage::Lookup, _) => "NR",
            // It has none for a policy of its own, nor for a certificate that counts no more; this one says that somebody
            // did not authorize it.
            (Stage::Policy | Stage::Revocation, _) => "UAEX",
            (
                Stage::Identity
                | Stage::TlsConfig
                | Stage::Dial
                | Stage::DialTimeout
                | Stage::Handshake
                | Stage::Connect,
                _,
            ) => "UF",
            (Stage::Tunnel, _) => "UPE",
            (Stage::Relay, Side::Downstream) => "DC",
            (Stage::Relay, _) => "UC",
            (Stage::Drain, _) => "LR",
        };
        Ending {
            flags,
            established: matches!(self.stage, Stage::Relay | Stage::Drain | Stage::Revocation)
                || self.reason == POLICY_CHANGE,
        }
    }

    /// The connection outlived the drain's deadline.
    pub(crate) fn drained() -> Self {
        Self::new(
            Stage::Drain,
            Side::Local,
            "drain",
            "connection closed due to connection drain",
        )
    }

    /// The same for a request that came through a tunnel, which is what was to end.
    pub(crate) fn drained_in_tunnel() -> Self {
        Self::new(
            Stage::Drain,
            Side::Local,
            "drain",
            "connection failed to drain within the timeout",
        )
    }

    /// The tunnel of a running connection was ended: its peer's certificate counts no more.
    pub(crate) fn peer_revoked(side: Side) -> Self {
        Self::new(
            Stage::Revocation,
            side,
            "revoked",
            "connection closed: peer certificate revoked by CRL",
        )
    }

    /// A change of policy ended a running connection.
    pub(crate) fn policy_changed() -> Self {
        Self::new(
            Stage::Policy,
            Side::Local,
            POLICY_CHANGE,
            "connection closed due to policy change",
        )
    }
}

/// The reason of a change that came when the connection was up.
const POLICY_CHANGE: &str = "policy_change";

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
