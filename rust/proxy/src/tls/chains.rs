//! Chains that have passed, so that a signer's signature over a peer's certificate is checked once and not in every
//! handshake.
//!
//! Remembers only what holds for every handshake alike: that these certificates lead to our roots for this use, until
//! when, and whom the leaf names. Whether the peer holds the key, and whether it is whom we expect, is asked each time
//! (`verify.rs`). Belongs to one set of roots: with another set, another memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};
use mesh::identity::Identity;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate::Validity;
use crate::recent::Recent;

/// Which side of a connection a certificate is shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Client,
    Server,
}

/// Chains that lead to one set of roots.
pub(super) struct VerifiedChains(Mutex<Recent<Fingerprint, Verified>>);

/// SHA-256 over the use and every certificate in order: another chain to the same leaf is another chain.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

#[derive(Clone)]
struct Verified {
    identity: Identity,
    /// When all of its certificates are valid.
    validity: Validity,
    /// The list of revoked certificates that it was held against.
    list: u64,
}

impl Fingerprint {
    pub(super) fn of(
        usage: Use,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[usage as u8]);
        for certificate in std::iter::once(leaf).chain(intermediates) {
            // With its length, so that no two chains have one text.
            context.update(&certificate.len().to_be_bytes());
            context.update(certificate);
        }
        let digest = context.finish();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl VerifiedChains {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Recent::new(GENERATION)))
    }

    /// Whom the chain names, if it has passed before, with the same list of revoked certificates, and is valid now.
    pub(super) fn find(&self, chain: &Fingerprint, now: UnixTime, list: u64) -> Option<Identity> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let verified = kept.get(&chain.0[..])?;
        if verified.list == list && verified.validity.includes(now) {
            return Some(verified.identity);
        }
        // Whatever is wrong with it now, the full check says it in its own words.
        kept.remove(&chain.0[..]);
        None
    }

    /// Remembers a chain that has passed just now.
    pub(super) fn remember(
        &self,
        chain: Fingerprint,
        identity: Identity,
        validity: Validity,
        list: u64,
    ) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let verified = Verified {
            identity,
            validity,
            list,
        };
        kept.insert(chain, verified);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.len()
    }

    /// As if nothing had passed yet.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Recent::new(GENERATION);
    }
}

impl std::borrow::Borrow<[u8]> for Fingerprint {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

thread_local! {
    /// The last leaves whose names were read, newest first.
    static READ: RefCell<VecDeque<(Box<[u8]>, Identity)>> = const { RefCell::new(VecDeque::new()) };
}

/// The name of a leaf that this thread has read lately. A handshake asks twice, when it checks the peer and when it
/// ends; what the bytes say does not change in between.
pub(super) fn recall(leaf: &CertificateDer<'_>) -> Option<Identity> {
    READ.with_borrow(|read| {
        let found = read.iter().find(|(known, _)| **known == **leaf);
        found.map(|(_, identity)| identity.clone())
    })
}

/// Notes a name that was read from the leaf.
pub(super) fn note(leaf: &CertificateDer<'_>, identity: &Identity) {
    READ.with_borrow_mut(|read| {
        if read.iter().any(|(known, _)| **known == **leaf) {
            return;
        }
        read.truncate(HANDSHAKES - 1);
        read.push_front((Box::from(leaf.as_ref()), identity.clone()));
    });
}

/// Of which there are two: leaves of a few thousand peers, some 200 bytes each.
const GENERATION: usize = 4096;
/// Handshakes that a thread may have between a peer's check and its end; those beyond read a name twice.
const HANDSHAKES: usize = 32;

#[cfg(test)]
mod tests;
