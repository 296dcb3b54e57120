//! Who may no longer be believed although its certificate is still valid: lists of revoked certificates, and what they
//! say about a chain (spec/control.md §7.7, spec/dataplane.md §9.5).
//!
//! A chain is revoked if a list that its own issuer has signed names one of its certificates, whatever the date of the
//! list; anything else that a list may be unfit for changes nothing, or a list of another authority of the same name would
//! cut a node off. Reads no file (the control side watches it) and cuts nothing (`tunnel/revocation.rs` does).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use mesh::identity::Identity;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{
    BorrowedCertRevocationList, CertRevocationList, EndEntityCert, ExpirationPolicy,
    RevocationCheckDepth, RevocationOptions, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::anchors::{Anchors, Way, key_usage};
use super::chains::{Fingerprint, Use};
use crate::recent::Recent;

/// Largest file that is read. Ten MiB in DER name some 250,000 certificates (spec/reliability.md F34), and PEM is a third
/// longer.
const MAX_FILE: usize = 16 * 1024 * 1024;

/// Verdicts on listed chains that are kept, twice this at most: each costs a look through a whole list.
const VERDICTS: usize = 1024;

/// The list in use. One for a data plane, read by every handshake.
#[derive(Default)]
pub struct Revocations {
    list: ArcSwap<RevocationList>,
    /// Somebody has given a list, be it an empty one: from then on it is remembered whose certificate a tunnel rests on.
    heeded: AtomicBool,
    generations: AtomicU64,
}

impl Revocations {
    /// Takes a list into use. Gives its number.
    pub fn replace(&self, mut list: RevocationList) -> u64 {
        list.generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let generation = list.generation;
        // First: whoever ends a handshake before the list is there must be tracked, or it could not be found by it.
        self.heeded.store(true, Ordering::SeqCst);
        self.list.store(Arc::new(list));
        generation
    }

    /// The list as it is now.
    pub fn current(&self) -> Arc<RevocationList> {
        self.list.load_full()
    }

    pub(super) fn is_heeded(&self) -> bool {
        self.heeded.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Revocations({:?})", self.list.load())
    }
}

/// Certificates that count no more.
#[derive(Default)]
pub struct RevocationList {
    lists: Vec<Listed>,
    /// By the name of the issuer, which several may share: places in `lists`.
    by_issuer: HashMap<Box<[u8]>, Vec<usize>>,
    hasher: RandomState,
    generation: u64,
    verdicts: Mutex<Verdicts>,
}

struct Verdicts(Recent<[u8; 32], bool>);

impl Default for Verdicts {
    fn default() -> Self {
        Self(Recent::new(VERDICTS))
    }
}

/// One CRL.
struct Listed {
    /// Parsed again for the few chains that it may concern: what a parser would keep is ten times as large.
    der: CertificateRevocationListDer<'static>,
    /// Hashes of the serial numbers, sorted: who is not here is not listed, and who is here is looked up in `der`.
    serials: Vec<u64>,
}

impl RevocationList {
    /// Reads a file's content: any number of CRLs in PEM, with other blocks between them, or one in DER. Nothing at all
    /// is an empty list.
    ///
    /// # Errors
    /// When there is one that cannot be used: half a list would let somebody in.
    pub fn read(content: &[u8]) -> Result<Self, CrlError> {
        if content.len() > MAX_FILE {
            return Err(CrlError::TooLarge(content.len()));
        }
        // A parser has panicked here before (RUSTSEC-2026-0104); the list in use must survive that.
        catch_unwind(AssertUnwindSafe(|| Self::parse(content))).unwrap_or(Err(CrlError::Library))
    }

    fn parse(content: &[u8]) -> Result<Self, CrlError> {
        let mut list = Self::default();
        for der in blocks(content)? {
            list.add(der)?;
        }
        Ok(list)
    }

    fn add(&mut self, der: CertificateRevocationListDer<'static>) -> Result<(), CrlError> {
        let number = self.lists.len() + 1;
        let unusable = |error: webpki::Error| CrlError::Unusable {
            number,
            why: format!("{error:?}"),
        };
        let parsed = BorrowedCertRevocationList::from_der(&der).map_err(unusable)?;
        let mut serials = Vec::new();
        for entry in &parsed {
            serials.push(self.hash(entry.map_err(unusable)?.serial_number));
        }
        serials.sort_unstable();
        serials.dedup();
        serials.shrink_to_fit();
        let issuer = CertRevocationList::from(parsed).issuer().into();
        self.by_issuer
            .entry(issuer)
            .or_default()
            .push(self.lists.len());
        self.lists.push(Listed { der, serials });
        Ok(())
    }

    /// How many serial numbers are listed.
    #[must_use]
    pub fn serials(&self) -> usize {
        self.lists.iter().map(|list| list.serials.len()).sum()
    }

    /// How many lists there are.
    #[must_use]
    pub fn lists(&self) -> usize {
        self.lists.len()
    }

    /// Which list this is; 0 before there was any.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether every way from a chain to a root goes over a revoked certificate, for whoever believes `anchors`. The chain
    /// has been found to be good at the time `at` otherwise.
    pub(super) fn revokes(&self, anchors: &Anchors, shown: &Shown<'_>, at: UnixTime) -> bool {
        if self.hits(shown).is_empty() {
            return false;
        }
        let mut left = shown.intermediates.to_vec();
        // Out of ways, or out of patience with those who show so much: none is good.
        while let Ok(way) = anchors.path(shown.leaf, &left, at, key_usage(shown.usage)) {
            if !self.names(anchors, &way, shown, at) {
                return false;
            }
            // Another way must do without this signer, or there is none.
            let Some(signer) = way.signers.first() else {
                return true;
            };
            left.retain(|other| other != signer);
        }
        true
    }

    /// Whether a certificate of this way is revoked. Remembered by what the way is made of: what else a peer shows is of its
    /// choice, and must not make us look through the lists again.
    fn names(&self, anchors: &Anchors, way: &Way<'_>, shown: &Shown<'_>, at: UnixTime) -> bool {
        let needed = Shown {
            intermediates: &way.signers,
            ..*shown
        };
        let hits = self.hits(&needed);
        if hits.is_empty() {
            return false;
        }
        let key = [anchors.digest(), needed.fingerprint().as_bytes()].concat();
        let mut verdict = [0; 32];
        verdict.copy_from_slice(digest(&SHA256, &key).as_ref());
        if let Some(known) = self.verdicts().0.get(&verdict) {
            return known;
        }
        // Each by itself, as issuers may share a name.
        let revoked = hits.iter().any(|&hit| {
            let parsed = BorrowedCertRevocationList::from_der(&self.lists[hit].der);
            parsed.is_ok_and(|list| {
                let list = CertRevocationList::from(list);
                let asked = (at, shown.usage);
                options(&[&list])
                    .is_some_and(|list| anchors.is_revoked(shown.leaf, way, asked, list))
            })
        });
        self.verdicts().0.insert(verdict, revoked);
        revoked
    }

    /// The lists that seem to name a certificate of the chain, by the names alone.
    fn hits(&self, shown: &Shown<'_>) -> Vec<usize> {
        let mut hits = Vec::new();
        if self.lists.is_empty() {
            return hits;
        }
        for der in std::iter::once(shown.leaf).chain(shown.intermediates) {
            // One that cannot be read has no part in a chain that was found to be good.
            let Ok(certificate) = EndEntityCert::try_from(der) else {
                continue;
            };
            let Some(lists) = self.by_issuer.get(certificate.issuer()) else {
                continue;
            };
            let serial = self.hash(certificate.serial());
            hits.extend(lists.iter().copied().filter(|&list| {
                let serials = &self.lists[list].serials;
                serials.binary_search(&serial).is_ok()
            }));
        }
        hits.sort_unstable();
        hits.dedup();
        hits
    }

    fn hash(&self, serial: &[u8]) -> u64 {
        // Written with more zeros in front by some.
        let significant = serial.iter().position(|byte| *byte != 0);
        self.hasher.hash_one(&serial[significant.unwrap_or(0)..])
    }

    fn verdicts(&self) -> std::sync::MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RevocationList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lists, serials) = (self.lists(), self.serials());
        write!(f, "RevocationList({lists} lists, {serials} serial numbers)")
    }
}

fn options<'a>(lists: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
    // None without a list, which is none to be asked.
    let builder = RevocationOptionsBuilder::new(lists).ok()?;
    Some(
        builder
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Allow)
            .with_expiration_policy(ExpirationPolicy::Ignore)
            .build(),
    )
}

fn blocks(content: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, CrlError> {
    /// The first byte of every CRL in DER: a SEQUENCE.
    const SEQUENCE: u8 = 0x30;
    const BEGIN: &[u8] = b"-----BEGIN ";
    if content.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    if content.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return CertificateRevocationListDer::pem_slice_iter(content)
            .collect::<Result<_, _>>()
            .map_err(|error| CrlError::Pem(error.to_string()));
    }
    if content[0] == SEQUENCE {
        return Ok(vec![content.to_vec().into()]);
    }
    Err(CrlError::Neither)
}

/// A chain as a peer has shown it, and on which side of a connection.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) leaf: &'a CertificateDer<'a>,
    pub(super) intermediates: &'a [CertificateDer<'a>],
    pub(super) usage: Use,
}

impl Shown<'_> {
    pub(super) fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.usage, self.leaf, self.intermediates)
    }
}

/// What a live connection rests on: the chain that its peer has shown, when, and to whom it led.
pub struct Standing {
    anchors: Arc<Anchors>,
    /// The leaf first.
    chain: Box<[CertificateDer<'static>]>,
    usage: Use,
    since: UnixTime,
}

impl Standing {
    /// Of a peer that has just been believed.
    pub(super) fn of(
        anchors: &Arc<Anchors>,
        chain: &[CertificateDer<'_>],
        usage: Use,
    ) -> Option<Self> {
        let chain: Box<[_]> = chain.iter().map(|der| der.clone().into_owned()).collect();
        (!chain.is_empty()).then(|| Self {
            anchors: Arc::clone(anchors),
            chain,
            usage,
            since: UnixTime::now(),
        })
    }

    /// Whether the list names one of its certificates. Judged as of the time when the connection was made, so that a
    /// chain that has expired meanwhile is still read.
    #[must_use]
    pub fn is_revoked_by(&self, list: &RevocationList) -> bool {
        let shown = Shown {
            leaf: &self.chain[0],
            intermediates: &self.chain[1..],
            usage: self.usage,
        };
        list.revokes(&self.anchors, &shown, self.since)
    }
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = super::trust::spiffe_name(&self.chain[0]);
        let name = name.as_ref().map(Identity::to_string).unwrap_or_default();
        write!(f, "Standing({name})")
    }
}

/// Why a file of revoked certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CrlError {
    /// The parser gave up in a way that it should not.
    #[error("the list of revoked certificates cannot be read: the parser failed")]
    Library,
    /// Not a certificate revocation list in any form.
    #[error("the list of revoked certificates is neither PEM (`-----BEGIN X509 CRL-----`) nor DER")]
    Neither,
    /// Damaged PEM.
    #[error("the list of revoked certificates is damaged; was it written in part? {0}")]
    Pem(String),
    /// More than any list in use.
    #[error("the list of revoked certificates is too large (limit {MAX_FILE} bytes): {0}")]
    TooLarge(usize),
    /// A CRL that cannot be read, or that says things which we would have to understand.
    #[error("list {number} of revoked certificates cannot be used: {why}")]
    Unusable {
        /// Counted from 1.
        number: usize,
        /// The library's word for it.
        why: String,
    },
}

#[cfg(test)]
mod tests;
