//! Which certificates are in use now, and waiting for one that is on its way.
//!
//! A lookup takes no lock. Installing is rare and copies a map of pointers; connections that run keep the
//! certificate they began with (spec/dataplane.md §9.2).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh::identity::Identity;
use tokio::sync::watch;

use super::credentials::WorkloadCertificate;
use super::record::RecordPlan;
use super::revocation::Revocations;
use crate::settings::Groups;

type Certificates = HashMap<Identity, Arc<WorkloadCertificate>>;

/// All certificates in use, by identity. Shared by every worker.
pub struct CredentialStore {
    certificates: ArcSwap<Certificates>,
    /// Why there is none, of those that were asked for in vain.
    failures: ArcSwap<HashMap<Identity, Arc<str>>>,
    /// Wakes those who wait, who look for themselves; who is told why there will be none need not look.
    news: watch::Sender<Option<(Identity, Arc<str>)>>,
    records: RecordPlan,
    groups: Groups,
    revocations: Arc<Revocations>,
}

impl CredentialStore {
    /// An empty store; connections of what is installed make their records as `records` says.
    #[must_use]
    pub fn new(records: RecordPlan) -> Self {
        Self {
            certificates: ArcSwap::default(),
            failures: ArcSwap::default(),
            news: watch::Sender::new(None),
            records,
            groups: Groups::default(),
            revocations: Arc::default(),
        }
    }

    /// The same, whose connections agree on keys by these groups.
    #[must_use]
    pub fn with_groups(mut self, groups: Groups) -> Self {
        self.groups = groups;
        self
    }

    /// Whom nobody believes any more, whatever certificate of ours it speaks to.
    #[must_use]
    pub fn revocations(&self) -> &Arc<Revocations> {
        &self.revocations
    }

    /// Takes a certificate into use; new handshakes of its identity use it from now on.
    pub fn install(&self, certificate: WorkloadCertificate) {
        let certificate = match self.groups {
            Groups::All => certificate, // as it was made
            groups @ Groups::Pqc => certificate.with_groups(groups),
        };
        certificate.heed(&self.revocations);
        let certificate = Arc::new(certificate.with_records(self.records));
        self.change(|certificates| {
            certificates.insert(certificate.identity().clone(), Arc::clone(&certificate));
        });
        self.excuse(certificate.identity());
        self.news.send_replace(None);
    }

    /// Nobody signs for this identity now: those who wait for its certificate, and those who come, need not wait until
    /// one is installed or it is forgotten (spec/control.md §7.4).
    pub fn fail(&self, identity: &Identity, why: &str) {
        let why: Arc<str> = why.into();
        self.failures.rcu(|now| {
            let mut next = HashMap::clone(now);
            next.insert(identity.clone(), Arc::clone(&why));
            next
        });
        self.news.send_replace(Some((identity.clone(), why)));
    }

    /// Drops the certificate of a workload that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.change(|certificates| {
            certificates.remove(identity);
        });
        self.excuse(identity);
    }

    fn excuse(&self, identity: &Identity) {
        if self.failures.load().contains_key(identity) {
            self.failures.rcu(|now| {
                let mut next = HashMap::clone(now);
                next.remove(identity);
                next
            });
        }
    }

    /// The certificate of `identity`, if there is one now.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Arc<WorkloadCertificate>> {
        self.certificates.load().get(identity).cloned()
    }

    /// Waits until there is one, at most `limit`, and not once it is known that there is none to be had.
    ///
    /// # Errors
    /// [`NoCredential`] when the time is over, or with the reason.
    pub async fn wait_for(
        &self,
        identity: &Identity,
        limit: Duration,
    ) -> Result<Arc<WorkloadCertificate>, NoCredential> {
        // Before the first look, so that an install in between is not missed.
        let mut news = self.news.subscribe();
        let arrival = async {
            loop {
                if let Some(certificate) = self.get(identity) {
                    return Ok(certificate);
                }
                if let Some(why) = self.failures.load().get(identity) {
                    return Err(Arc::clone(why));
                }
                // Cannot fail: the sender lives in `self`.
                let _ = news.changed().await;
                if let Some((whose, why)) = &*news.borrow_and_update()
                    && whose == identity
                {
                    return Err(Arc::clone(why));
                }
            }
        };
        let outcome = tokio::time::timeout(limit, arrival).await;
        outcome
            .unwrap_or_else(|_| {
                Err(format!("none came within {limit:?}; can the CA be reached?").into())
            })
            .map_err(|why| NoCredential {
                identity: identity.clone(),
                why,
            })
    }

    /// Whose certificates are in use, sorted.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity> {
        let mut identities: Vec<_> = self.certificates.load().keys().cloned().collect();
        identities.sort_unstable();
        identities
    }

    fn change(&self, change: impl Fn(&mut Certificates)) {
        self.certificates.rcu(|now| {
            let mut next = Certificates::clone(now);
            change(&mut next);
            next
        });
    }
}

impl fmt::Debug for CredentialStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.certificates.load().values())
            .finish()
    }
}

/// There is no certificate to be had now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate for {identity}: {why}")]
pub struct NoCredential {
    /// Whose was wanted.
    pub identity: Identity,
    /// In the words of whoever asked for it, or that nothing was heard.
    pub why: Arc<str>,
}

#[cfg(test)]
mod tests;
