//! How a connection ended, as a metric label (spec/dataplane.md §14).

/// The `response_flags` label.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// Success, or the connection was still open when we drained.
    #[default]
    None,
    /// Policy refused it, at the start or later.
    Deny,
    /// Whatever failed and has no flag of its own.
    Connect,
    /// A TLS configuration of ours.
    TlsFailure,
    /// HTTP/2: its handshake, or anything before the 200.
    H2HandshakeFailure,
    /// The HBONE dial timed out.
    NetworkPolicy,
    /// No certificate of our own.
    IdentityError,
    /// The peer's certificate was revoked while the tunnel was up.
    CertRevoked,
}

impl ResponseFlag {
    /// All, in the order of the specification.
    pub const ALL: [Self; 8] = [
        Self::None,
        Self::Deny,
        Self::Connect,
        Self::TlsFailure,
        Self::H2HandshakeFailure,
        Self::NetworkPolicy,
        Self::IdentityError,
        Self::CertRevoked,
    ];

    /// The label's text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "-",
            Self::Deny => "DENY",
            Self::Connect => "CONNECT",
            Self::TlsFailure => "TLS_FAILURE",
            Self::H2HandshakeFailure => "H2_HANDSHAKE_FAILURE",
            Self::NetworkPolicy => "NETWORK_POLICY",
            Self::IdentityError => "IDENTITY_ERROR",
            Self::CertRevoked => "CERT_REVOKED",
        }
    }

    /// Whether the connection counts as failed.
    #[must_use]
    pub fn is_failure(self) -> bool {
        self != Self::None
    }
}
