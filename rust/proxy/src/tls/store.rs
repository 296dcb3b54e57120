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
    /// Wakes those who wait; carries nothing, they look for themselves.
    installed: watch::Sender<()>,
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
            installed: watch::Sender::new(()),
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
        self.installed.send_replace(());
    }

    /// Drops the certificate of a workload that is gone.
    pub fn forget(&self, identity: &Identity) {
        self.change(|certificates| {
            certificates.remove(identity);
        });
    }

    /// The certificate of `identity`, if there is one now.
    #[must_use]
    pub fn get(&self, identity: &Identity) -> Option<Arc<WorkloadCertificate>> {
        self.certificates.load().get(identity).cloned()
    }

    /// Waits until there is one, at most `limit`.
    ///
    /// # Errors
    /// [`NoCredential`] when the time is over.
    pub async fn wait_for(
        &self,
        identity: &Identity,
        limit: Duration,
    ) -> Result<Arc<WorkloadCertificate>, NoCredential> {
        // Before the first look, so that an install in between is not missed.
        let mut installed = self.installed.subscribe();
        let arrival = async {
            loop {
                if let Some(certificate) = self.get(identity) {
                    return certificate;
                }
                // Cannot fail: the sender lives in `self`.
                let _ = installed.changed().await;
            }
        };
        tokio::time::timeout(limit, arrival)
            .await
            .map_err(|_| NoCredential {
                identity: identity.clone(),
                waited: limit,
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

/// No certificate came in time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no certificate for {identity} within {waited:?}; can the CA be reached?")]
pub struct NoCredential {
    /// Whose was wanted.
    pub identity: Identity,
    /// How long.
    pub waited: Duration,
}

#[cfg(test)]
mod tests;
