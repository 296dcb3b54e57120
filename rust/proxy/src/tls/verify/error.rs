//! Why a certificate was not believed, and how that travels through rustls to the peer and back to us.

use std::fmt;
use std::sync::Arc;

use mesh::identity::{Identity, TrustDomain};
use rustls::{CertificateError, OtherError};
use rustls_pki_types::UnixTime;

use crate::tls::certificate::rfc3339_of;
use crate::tls::trust::MAX_CHAIN;

/// Why a certificate was not believed. Texts of the names' checks are upstream's (spec/dataplane.md §9.3, §9.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifyError {
    /// Not X.509, or X.509 that breaks its own rules.
    BadCertificate,
    /// The peer does not hold the key of its certificate.
    BadSignature,
    /// More certificates than a chain may have.
    ChainTooLong(usize),
    /// Past `notAfter` (seconds since 1970; now, then the limit).
    Expired(u64, u64),
    /// Several URI names where SPIFFE demands one.
    MultipleNames(Vec<String>),
    /// The peer sent none.
    NoCertificate,
    /// The chain holds, but no name of it is a SPIFFE ID.
    NoSpiffeName(Option<String>),
    /// Before `notBefore` (seconds since 1970; now, then the limit).
    NotYetValid(u64, u64),
    /// A list of revoked certificates names one of the chain.
    Revoked,
    /// No chain to a root that we hold.
    UnknownRoot,
    /// An extended key usage that does not include this side of a connection.
    WrongPurpose,
    /// Not one of those we would talk to.
    WrongSan {
        /// Whom we would talk to.
        want: Arc<[Identity]>,
        /// Who it is.
        got: Identity,
    },
    /// A client of another trust domain.
    WrongTrustDomain {
        /// Ours.
        want: TrustDomain,
        /// Who it is.
        got: Identity,
    },
}

impl VerifyError {
    /// A stable word for metrics and tests.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::BadCertificate => "bad_certificate",
            Self::BadSignature => "bad_signature",
            Self::ChainTooLong(_) => "chain_too_long",
            Self::Expired(..) => "expired",
            Self::MultipleNames(_) => "multiple_names",
            Self::NoCertificate => "no_certificate",
            Self::NoSpiffeName(_) => "no_spiffe_name",
            Self::NotYetValid(..) => "not_yet_valid",
            Self::Revoked => "revoked",
            Self::UnknownRoot => "unknown_root",
            Self::WrongPurpose => "wrong_purpose",
            Self::WrongSan { .. } => "wrong_san",
            Self::WrongTrustDomain { .. } => "wrong_trust_domain",
        }
    }

    pub(in crate::tls) fn of_path(error: webpki::Error) -> Self {
        use webpki::Error as Path;
        match error {
            Path::CertExpired { time, not_after } => {
                Self::Expired(time.as_secs(), not_after.as_secs())
            }
            Path::CertNotValidYet { time, not_before } => {
                Self::NotYetValid(time.as_secs(), not_before.as_secs())
            }
            // Another CA of the same name: as unknown to us as one of another name.
            Path::UnknownIssuer | Path::InvalidSignatureForPublicKey => Self::UnknownRoot,
            Path::RequiredEkuNotFoundContext(_) => Self::WrongPurpose,
            Path::MaximumPathDepthExceeded => Self::ChainTooLong(MAX_CHAIN),
            _ => Self::BadCertificate,
        }
    }

    /// The reason that travelled through rustls as its own kind of error.
    pub(in crate::tls) fn of_rustls(error: &CertificateError) -> Self {
        match error {
            CertificateError::ExpiredContext { time, not_after } => {
                Self::Expired(time.as_secs(), not_after.as_secs())
            }
            CertificateError::NotValidYetContext { time, not_before } => {
                Self::NotYetValid(time.as_secs(), not_before.as_secs())
            }
            CertificateError::Revoked => Self::Revoked,
            CertificateError::UnknownIssuer => Self::UnknownRoot,
            CertificateError::InvalidPurpose => Self::WrongPurpose,
            CertificateError::BadSignature => Self::BadSignature,
            CertificateError::Other(OtherError(inner)) => inner
                .downcast_ref::<Self>()
                .map_or(Self::BadCertificate, Clone::clone),
            _ => Self::BadCertificate,
        }
    }
}

/// rustls chooses the alert by its own variants, and only `Other` can carry ours: whatever has an alert of its
/// own (RFC 8446 §6.2) goes as that, the rest as `certificate_unknown` (spec/dataplane.md §23).
impl From<VerifyError> for rustls::Error {
    fn from(error: VerifyError) -> Self {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        Self::InvalidCertificate(match error {
            VerifyError::BadCertificate => CertificateError::BadEncoding,
            VerifyError::BadSignature => CertificateError::BadSignature,
            VerifyError::Expired(now, limit) => CertificateError::ExpiredContext {
                time: at(now),
                not_after: at(limit),
            },
            VerifyError::NotYetValid(now, limit) => CertificateError::NotValidYetContext {
                time: at(now),
                not_before: at(limit),
            },
            VerifyError::Revoked => CertificateError::Revoked,
            VerifyError::UnknownRoot => CertificateError::UnknownIssuer,
            VerifyError::WrongPurpose => CertificateError::InvalidPurpose,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

impl std::error::Error for VerifyError {}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rfc3339 = |seconds: &u64| rfc3339_of(i64::try_from(*seconds).unwrap_or(i64::MAX));
        f.write_str("identity verification error: ")?;
        match self {
            Self::BadCertificate => f.write_str("peer's certificate cannot be used: malformed"),
            Self::BadSignature => f.write_str("peer does not hold the key of its certificate"),
            Self::ChainTooLong(count) => {
                write!(f, "peer's chain is too long (limit {MAX_CHAIN}): {count}")
            }
            Self::Expired(now, limit) => write!(
                f,
                "peer's certificate expired at {}; now it is {}",
                rfc3339(limit),
                rfc3339(now)
            ),
            Self::MultipleNames(got) => write!(
                f,
                "peer's certificate has several URI names, SPIFFE allows one, got {}",
                got.join(",")
            ),
            Self::NoCertificate => f.write_str("peer sent no certificate"),
            Self::NoSpiffeName(None) => f.write_str("peer's certificate has no SPIFFE name"),
            Self::NoSpiffeName(Some(got)) => {
                write!(f, "peer's certificate has no SPIFFE name, got {got}")
            }
            Self::NotYetValid(now, limit) => write!(
                f,
                "peer's certificate is not valid before {}; now it is {}, are the clocks right?",
                rfc3339(limit),
                rfc3339(now)
            ),
            Self::Revoked => {
                f.write_str("peer's certificate, or that of its signer, is revoked by CRL")
            }
            Self::UnknownRoot => f.write_str(
                "peer's certificate is not signed by a root we hold; do both sides have the same roots?",
            ),
            Self::WrongPurpose => f.write_str(
                "peer's certificate does not allow this side of a connection (extended key usage)",
            ),
            Self::WrongSan { want, got } => {
                let want: Vec<_> = want.iter().map(Identity::to_string).collect();
                write!(
                    f,
                    "peer did not present the expected SAN ({}), got {got}",
                    want.join(",")
                )
            }
            Self::WrongTrustDomain { want, got } => write!(
                f,
                "peer did not present the expected trustdomain ({want}), got {got}"
            ),
        }
    }
}
