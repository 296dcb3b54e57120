//! Why a TLS connection ended badly: one sentence for the operator, one stable word for the metric.
//!
//! `verify` says why a certificate was not believed; the rest is here.

use std::fmt;

use rustls::{AlertDescription, Error, PeerIncompatible};

use super::verify::VerifyError;

/// Why a connection ended, or could not begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsError {
    /// TCP ended during the handshake.
    EndedInHandshake,
    /// Not ended by a handshake in time; said by the caller, who has the clock.
    HandshakeTimeout,
    /// No suite, group or signature scheme in common.
    Incompatible(String),
    /// The library or its randomness failed: our fault, not the peer's.
    Internal(String),
    /// This call cannot be made now: our fault, not the peer's.
    Misuse(&'static str),
    /// The peer offers other protocols than `h2`.
    NoApplicationProtocol,
    /// The peer does not speak TLS; holds the beginning of what it said.
    NotTls(String),
    /// The peer ended the connection, saying why.
    PeerAlert(AlertDescription),
    /// The peer broke the protocol, or someone changed its bytes.
    Protocol(String),
    /// A handshake message larger than any real one.
    TooLarge(usize),
    /// TCP ended without `close_notify`: bytes may be missing (RFC 8446 §6.1).
    Truncated,
    /// The peer does not offer TLS 1.3.
    UnsupportedVersion,
    /// We do not believe the peer's certificate.
    Verify(VerifyError),
}

impl TlsError {
    /// A stable word for metrics and tests.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::EndedInHandshake => "ended_in_handshake",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Incompatible(_) => "incompatible",
            Self::Internal(_) => "internal",
            Self::Misuse(_) => "misuse",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::NotTls(_) => "not_tls",
            Self::PeerAlert(alert) => alert_reason(*alert),
            Self::Protocol(_) => "protocol",
            Self::TooLarge(_) => "too_large",
            Self::Truncated => "truncated",
            Self::UnsupportedVersion => "unsupported_version",
            Self::Verify(error) => error.reason(),
        }
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        match error {
            Error::AlertReceived(alert) => Self::PeerAlert(alert),
            Error::InvalidCertificate(error) => Self::Verify(VerifyError::of_rustls(&error)),
            Error::NoCertificatesPresented => Self::Verify(VerifyError::NoCertificate),
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                // Came with TLS 1.2 and must be there in 1.3: its absence tells an older hello.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => Self::UnsupportedVersion,
            Error::PeerIncompatible(what) => Self::Incompatible(format!("{what:?}")),
            error @ (Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::EncryptError) => Self::Internal(error.to_string()),
            error @ Error::HandshakeNotComplete => Self::Internal(error.to_string()),
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl From<VerifyError> for TlsError {
    fn from(error: VerifyError) -> Self {
        Self::Verify(error)
    }
}

impl std::error::Error for TlsError {}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndedInHandshake => {
                f.write_str("tls handshake error: peer closed the connection before the end of it")
            }
            Self::HandshakeTimeout => f.write_str("tls handshake error: not finished in time"),
            Self::Incompatible(what) => write!(
                f,
                "tls handshake error: no suite, group or signature scheme in common: {what}"
            ),
            Self::Internal(what) => write!(f, "tls error on our side: {what}"),
            Self::Misuse(what) => write!(f, "tls session used wrongly: {what}"),
            Self::NoApplicationProtocol => {
                f.write_str("tls handshake error: peer does not offer application protocol `h2`")
            }
            Self::NotTls(got) => write!(
                f,
                "tls handshake error: peer does not speak TLS, it began with `{got}`; is this plain text, or the wrong port?"
            ),
            Self::PeerAlert(alert) => {
                let name = alert_reason(*alert).trim_start_matches("peer_alert:");
                write!(f, "tls error: peer ended the connection with alert {name}")
            }
            Self::Protocol(what) => write!(f, "tls error: peer broke the protocol: {what}"),
            Self::TooLarge(size) => write!(
                f,
                "tls handshake error: message larger than any real one, bytes waiting: {size}"
            ),
            Self::Truncated => f.write_str(
                "tls error: connection ended without close_notify; bytes may be missing",
            ),
            Self::UnsupportedVersion => {
                f.write_str("tls handshake error: peer does not offer TLS 1.3")
            }
            Self::Verify(error) => write!(f, "tls handshake error: {error}"),
        }
    }
}

/// Names of RFC 8446 §6, behind one prefix: a metric label must come from a closed set.
fn alert_reason(alert: AlertDescription) -> &'static str {
    use AlertDescription as Alert;
    match alert {
        Alert::AccessDenied => "peer_alert:access_denied",
        Alert::BadCertificate => "peer_alert:bad_certificate",
        Alert::BadRecordMac => "peer_alert:bad_record_mac",
        Alert::CertificateExpired => "peer_alert:certificate_expired",
        Alert::CertificateRequired => "peer_alert:certificate_required",
        Alert::CertificateRevoked => "peer_alert:certificate_revoked",
        Alert::CertificateUnknown => "peer_alert:certificate_unknown",
        Alert::CloseNotify => "peer_alert:close_notify", // before the end of the handshake
        Alert::DecodeError => "peer_alert:decode_error",
        Alert::DecryptError => "peer_alert:decrypt_error",
        Alert::HandshakeFailure => "peer_alert:handshake_failure",
        Alert::IllegalParameter => "peer_alert:illegal_parameter",
        Alert::InsufficientSecurity => "peer_alert:insufficient_security",
        Alert::InternalError => "peer_alert:internal_error",
        Alert::MissingExtension => "peer_alert:missing_extension",
        Alert::NoApplicationProtocol => "peer_alert:no_application_protocol",
        Alert::ProtocolVersion => "peer_alert:protocol_version",
        Alert::RecordOverflow => "peer_alert:record_overflow",
        Alert::UnexpectedMessage => "peer_alert:unexpected_message",
        Alert::UnknownCA => "peer_alert:unknown_ca",
        Alert::UnrecognisedName => "peer_alert:unrecognized_name",
        Alert::UnsupportedCertificate => "peer_alert:unsupported_certificate",
        Alert::UnsupportedExtension => "peer_alert:unsupported_extension",
        Alert::UserCanceled => "peer_alert:user_canceled",
        _ => "peer_alert:other",
    }
}
