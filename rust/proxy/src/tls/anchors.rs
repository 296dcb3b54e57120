//! The roots that we hold, and the ways from a leaf to one of them: webpki's path search, asked twice.
//!
//! Once for any way at all, and once more whether a list of revoked certificates names somebody on it. Knows neither
//! SPIFFE names nor what has been believed before; `trust` does.

use aws_lc_rs::digest::{Context, SHA256};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage, RevocationOptions};

use super::chains::Use;

/// Roots, and the signatures that are accepted below them. What a live connection keeps of a [`Trust`](super::trust::Trust).
pub(super) struct Anchors {
    pub(super) roots: Vec<TrustAnchor<'static>>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
    digest: [u8; 32],
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
