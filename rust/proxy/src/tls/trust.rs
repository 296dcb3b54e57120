//! Whom a chain names, if we may believe it: its size, its way to a root, the lists of revoked certificates, then its one
//! SPIFFE name (spec/dataplane.md §9.3, §9.4).
//!
//! A peer must present exactly one URI name, as SPIFFE X.509-SVID §2 says; upstream takes any of several and
//! then authorises another (spec/reliability.md U8). Whether it is the right name is asked in `verify`.

use std::fmt;
use std::sync::{Arc, OnceLock};

use mesh::identity::Identity;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::ExtendedKeyUsageValidator;

use super::anchors::{Anchors, key_usage};
use super::certificate::{Unreadable, Validity, uri_names};
use super::chains::{self, Use, VerifiedChains};
use super::revocation::{Revocations, Shown, Standing};
use super::verify::VerifyError;

/// Longest chain that is looked at, leaf included (spec/reliability.md T03); the path search itself stops at
/// six intermediates and a budget of signatures.
pub(super) const MAX_CHAIN: usize = 10;
/// Largest certificate that is looked at (spec/reliability.md T03).
pub(super) const MAX_CERTIFICATE: usize = 16 * 1024;

/// The signers we believe, and whom of theirs not. One per certificate in use, shared by every connection's verifier.
pub(super) struct Trust {
    anchors: Arc<Anchors>,
    verified: VerifiedChains,
    /// Set before the first handshake.
    revocations: OnceLock<Arc<Revocations>>,
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

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.anchors.algorithms
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} roots)", self.anchors.roots.len())
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
