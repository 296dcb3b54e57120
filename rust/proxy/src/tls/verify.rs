//! Is the peer who it must be: the chain first, then its one SPIFFE name (spec/dataplane.md §9.3, §9.4).
//!
//! A peer must present exactly one URI name, as SPIFFE X.509-SVID §2 says; upstream takes any of several and
//! then authorises another (spec/reliability.md U8). Who may do what comes later, in `mesh::authorize`.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use mesh::identity::{Identity, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, RevocationOptions};

use super::certificate::{Unreadable, Validity, rfc3339_of, uri_names};
use super::chains::{self, Use, VerifiedChains};
use super::revocation::{Revocations, Shown, Standing};

/// Longest chain that is looked at, leaf included (spec/reliability.md T03); the path search itself stops at
/// six intermediates and a budget of signatures.
pub(super) const MAX_CHAIN: usize = 10;
/// Largest certificate that is looked at (spec/reliability.md T03).
const MAX_CERTIFICATE: usize = 16 * 1024;

/// The signers we believe, and whom of theirs not. One per certificate in use, shared by every connection's verifier.
pub(super) struct Trust {
    anchors: Arc<Anchors>,
    verified: VerifiedChains,
    /// Set before the first handshake.
    revocations: OnceLock<Arc<Revocations>>,
}

/// Roots, and the signatures that are accepted below them. What a live connection keeps of a [`Trust`].
pub(super) struct Anchors {
    roots: Vec<TrustAnchor<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    digest: [u8; 32],
}

impl Trust {
    pub(super) fn new(
        roots: Vec<TrustAnchor<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self {
            anchors: Arc::new(Anchors::new(roots, algorithms)),
            verified: VerifiedChains::new(),
            revocations: OnceLock::new(),
        }
    }

    /// From now on peers are also held against this list.
    pub(super) fn heed(&self, revocations: Arc<Revocations>) {
        // A second one would be the same data plane's.
        let _ = self.revocations.set(revocations);
    }

    /// What a connection rests on whose peer has just been believed: the list has been given, so it may be revoked later.
    /// `None` where nobody will ask.
    ///
    /// # Errors
    /// [`VerifyError::Revoked`]: a list has come since the peer was checked.
    pub(super) fn standing(
        &self,
        chain: &[CertificateDer<'_>],
        usage: Use,
    ) -> Result<Option<Standing>, VerifyError> {
        let Some(revocations) = self.revocations.get().filter(|list| list.is_heeded()) else {
            return Ok(None);
        };
        let standing = Standing::of(&self.anchors, chain, usage);
        match standing {
            Some(standing) if standing.is_revoked_by(&revocations.current()) => {
                Err(VerifyError::Revoked)
            }
            standing => Ok(standing),
        }
    }

    /// Whom the chain names, if it leads to a root, now, for this use. One that has passed before is believed until
    /// the first of its certificates expires.
    pub(super) fn peer(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Use,
    ) -> Result<Identity, VerifyError> {
        check_size(leaf, intermediates)?;
        let shown = Shown {
            leaf,
            intermediates,
            usage,
        };
        let (chain, list) = (
            shown.fingerprint(),
            self.revocations.get().map(|lists| lists.current()),
        );
        let number = list.as_ref().map_or(0, |list| list.generation());
        if let Some(identity) = self.verified.find(&chain, now, number) {
            chains::note(leaf, &identity);
            return Ok(identity);
        }
        self.check_path(leaf, intermediates, now, key_usage(usage))?;
        if list.is_some_and(|list| list.revokes(&self.anchors, &shown, now)) {
            return Err(VerifyError::Revoked);
        }
        let identity = spiffe_name(leaf)?;
        // Of all that was shown, needed or not: an intermediate that nobody needs may be too odd to be read, or
        // expired already, and then the chain is checked each time.
        if let Ok(validity) = validity_of_all(leaf, intermediates)
            && validity.includes(now)
        {
            self.verified
                .remember(chain, identity.clone(), validity, number);
        }
        Ok(identity)
    }

    #[cfg(test)]
    pub(super) fn verified(&self) -> &VerifiedChains {
        &self.verified
    }

    /// Does the chain lead to a root, now, for this use?
    pub(super) fn check_path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<(), VerifyError> {
        check_size(leaf, intermediates)?;
        self.anchors
            .path(leaf, intermediates, now, usage)
            .map(drop)
            .map_err(VerifyError::of_path)
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.anchors.algorithms
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.anchors.roots.len())
    }
}

impl Anchors {
    pub(super) fn new(
        roots: Vec<TrustAnchor<'static>>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        let mut context = Context::new(&SHA256);
        for root in &roots {
            for part in [&root.subject, &root.subject_public_key_info] {
                context.update(&part.len().to_be_bytes());
                context.update(part);
            }
        }
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Self {
            roots,
            algorithms,
            digest,
        }
    }

    /// The same for the same roots in the same order.
    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// A way from a leaf to a root, or why there is none.
    pub(super) fn path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<Way<'_>, webpki::Error> {
        let leaf = EndEntityCert::try_from(leaf)?;
        let (algorithms, roots) = (self.algorithms.all, &self.roots);
        let path =
            leaf.verify_for_usage(algorithms, roots, intermediates, now, usage, None, None)?;
        let signers = path.intermediate_certificates();
        let root = roots.iter().find(|root| std::ptr::eq(*root, path.anchor()));
        Ok(Way {
            signers: signers.map(|signer| signer.der().into_owned()).collect(),
            root: root.expect("was looked for among these"),
        })
    }

    /// Whether a list, signed by its issuer, names a certificate of this way. Asked with nothing beside the way: of a search
    /// that fails webpki gives the reason of one dead end, and it is the peer who chooses these. A certificate of its
    /// issuer's name that has expired and that nobody has signed would be the reason, and a crowd of such ones a search
    /// that is given up.
    pub(super) fn is_revoked(
        &self,
        leaf: &CertificateDer<'_>,
        way: &Way<'_>,
        (at, usage): (UnixTime, Use),
        list: RevocationOptions<'_>,
    ) -> bool {
        let path = EndEntityCert::try_from(leaf).and_then(|leaf| {
            leaf.verify_for_usage(
                self.algorithms.all,
                std::slice::from_ref(way.root),
                &way.signers,
                at,
                key_usage(usage),
                Some(list),
                None,
            )
            .map(drop)
        });
        // The latter: signed by the issuer, whose certificate forgets to say that it may. The operator gave us the list.
        matches!(
            path,
            Err(webpki::Error::CertRevoked | webpki::Error::IssuerNotCrlSigner)
        )
    }
}

/// From a leaf to a root.
pub(super) struct Way<'a> {
    /// The leaf's first.
    pub(super) signers: Vec<CertificateDer<'static>>,
    root: &'a TrustAnchor<'static>,
}

pub(super) fn key_usage(usage: Use) -> KeyUsage {
    match usage {
        Use::Client => KeyUsage::client_auth(),
        Use::Server => KeyUsage::server_auth(),
    }
}

fn check_size(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<(), VerifyError> {
    let count = intermediates.len() + 1;
    if count > MAX_CHAIN {
        return Err(VerifyError::ChainTooLong(count));
    }
    let mut all = std::iter::once(leaf).chain(intermediates);
    if all.any(|certificate| certificate.len() > MAX_CERTIFICATE) {
        return Err(VerifyError::BadCertificate);
    }
    Ok(())
}

fn validity_of_all(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
) -> Result<Validity, Unreadable> {
    let leaf = Validity::of(leaf)?;
    intermediates
        .iter()
        .try_fold(leaf, |all, next| Ok(all.and(Validity::of(next)?)))
}

/// The one SPIFFE identity of a certificate.
pub(super) fn spiffe_name(leaf: &CertificateDer<'_>) -> Result<Identity, VerifyError> {
    if let Some(identity) = chains::recall(leaf) {
        return Ok(identity);
    }
    let identity = read_spiffe_name(leaf)?;
    chains::note(leaf, &identity);
    Ok(identity)
}

fn read_spiffe_name(leaf: &CertificateDer<'_>) -> Result<Identity, VerifyError> {
    let uris = uri_names(leaf).map_err(|_| VerifyError::BadCertificate)?;
    match uris.as_slice() {
        [uri] => Identity::parse(uri).map_err(|_| VerifyError::NoSpiffeName(Some(shortened(uri)))),
        [] => Err(VerifyError::NoSpiffeName(None)),
        _ => Err(VerifyError::MultipleNames(
            // A certificate of 16 KiB can hold a thousand names; the log line shall not.
            uris.iter().take(4).map(|uri| shortened(uri)).collect(),
        )),
    }
}

fn shortened(uri: &str) -> String {
    uri.chars()
        .take(128)
        .flat_map(char::escape_default)
        .collect()
}

/// What a client demands of the server it dials: to be one of `expected`.
#[derive(Debug)]
pub(super) struct ServerMustBe {
    trust: Arc<Trust>,
    expected: Arc<[Identity]>,
}

impl ServerMustBe {
    pub(super) fn new(trust: Arc<Trust>, expected: Arc<[Identity]>) -> Self {
        Self { trust, expected }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        let got = self.trust.peer(leaf, intermediates, now, Use::Server)?;
        if !self.expected.contains(&got) {
            return Err(VerifyError::WrongSan {
                want: Arc::clone(&self.expected),
                got,
            });
        }
        Ok(())
    }
}

impl ServerCertVerifier for ServerMustBe {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>, // a dummy: SPIFFE names are checked, never host names
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

/// What a server demands of its clients: a certificate, of its own trust domain.
#[derive(Debug)]
pub(super) struct ClientMustBeOf {
    trust: Arc<Trust>,
    domain: TrustDomain,
}

impl ClientMustBeOf {
    pub(super) fn new(trust: Arc<Trust>, domain: TrustDomain) -> Self {
        Self { trust, domain }
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), VerifyError> {
        let got = self.trust.peer(leaf, intermediates, now, Use::Client)?;
        if got.trust_domain != self.domain {
            return Err(VerifyError::WrongTrustDomain {
                want: self.domain.clone(),
                got,
            });
        }
        Ok(())
    }
}

impl ClientCertVerifier for ClientMustBeOf {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[] // peers hold one certificate; a hint could only make them withhold it
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(leaf, intermediates, now)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, self.trust.algorithms())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, self.trust.algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms().supported_schemes()
    }
}

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

    fn of_path(error: webpki::Error) -> Self {
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
    pub(super) fn of_rustls(error: &CertificateError) -> Self {
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

#[cfg(test)]
mod tests;
