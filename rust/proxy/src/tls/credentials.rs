//! One workload's key, chain and roots, checked to belong together and made ready for handshakes.
//!
//! Everything a handshake needs is built here, once per certificate (upstream builds it per connection,
//! spec/dataplane.md §20.4). When to renew is the control side's business; which one is in use, `store`'s.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use mesh::identity::Identity;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::Serialize;
use webpki::KeyUsage;

use super::certificate::{CertificateInfo, Reading, from_pem};
use super::config::{self, ClientConfig, ServerConfig};
use super::keys::PrivateKey;
use super::record::RecordPlan;
use super::revocation::Revocations;
use super::trust::{MAX_CHAIN, Trust, spiffe_name};
use super::verify::{ClientMustBeOf, ServerMustBe, VerifyError};
use crate::recent::Recent;
use crate::settings::Groups;

/// Largest PEM text that is read: the biggest public root bundles are a quarter of this.
const MAX_PEM: usize = 1024 * 1024;

/// Client configurations kept per certificate, twice this at most. One is some hundred bytes and takes microseconds to
/// make; the bound keeps a node that dials the whole mesh from holding one for each service for ever.
const CLIENTS: usize = 256;

/// A certificate in use: who we are, how we prove it and whom we believe.
pub struct WorkloadCertificate {
    identity: Identity,
    chain: Vec<Reading>,
    roots: Vec<CertificateInfo>,
    warnings: Vec<String>,
    provider: Arc<CryptoProvider>,
    certified: Arc<SingleCertAndKey>,
    trust: Arc<Trust>,
    server: Arc<ServerConfig>,
    clients: Mutex<Recent<Arc<[Identity]>, Arc<ClientConfig>>>,
}

impl WorkloadCertificate {
    /// Joins a key with what the CA answered: `chain` is the leaf and its intermediates, `roots` the bundle,
    /// both PEM (spec/dataplane.md §9.2).
    ///
    /// The path is checked as of the time when all of the chain was first valid, so that a clock that is off
    /// cannot refuse a good certificate; expiry is judged at each handshake.
    ///
    /// # Errors
    /// When a part cannot be read, or they do not belong together; says which.
    pub fn new(
        identity: Identity,
        key: &PrivateKey,
        chain_pem: &[u8],
        roots_pem: &[u8],
    ) -> Result<Self, CredentialError> {
        let chain = read_chain(chain_pem)?;
        let readings = chain
            .iter()
            .map(|der| Reading::of(der).map_err(|_| CredentialError::Chain("not X.509".into())))
            .collect::<Result<Vec<_>, _>>()?;
        let Roots {
            anchors,
            infos,
            warnings,
        } = read_roots(roots_pem)?;
        let provider = config::provider(Groups::All);
        let trust = Arc::new(Trust::new(
            anchors,
            provider.signature_verification_algorithms,
        ));

        check_leaf(&identity, &chain[0])?;
        check_path(&trust, &chain, &readings)?;
        let certified = CertifiedKey::new(chain, key.signing_key());
        certified
            .keys_match()
            .map_err(|_| CredentialError::OtherKey)?;
        let certified = Arc::new(SingleCertAndKey::from(certified));

        let server = server(&identity, &provider, &trust, &certified)
            .map_err(|error| CredentialError::Library(error.to_string()))?;
        Ok(Self {
            identity,
            chain: readings,
            roots: infos,
            warnings,
            provider,
            certified,
            server: Arc::new(ServerConfig {
                tls: Arc::new(server),
                records: RecordPlan::default(),
                trust: Some(Arc::clone(&trust)),
            }),
            trust,
            clients: Mutex::new(Recent::new(CLIENTS)),
        })
    }

    /// Whom the certificate proves.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    #[cfg(test)]
    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Start of the leaf's validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        system_time(self.chain[0].not_before)
    }

    /// End of the leaf's validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        system_time(self.chain[0].not_after)
    }

    /// What was skipped in the CA's answer, for one log line each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// For connections that we accept: a client certificate of our trust domain is demanded.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// For connections that we open to a peer that must be one of `expected`; with none, every peer is refused.
    #[must_use]
    pub fn client(&self, expected: &[Identity]) -> Arc<ClientConfig> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = clients.get(expected) {
            return config;
        }
        let expected: Arc<[Identity]> = expected.into();
        let config = Arc::new(self.build_client(Arc::clone(&expected)));
        clients.insert(expected, Arc::clone(&config));
        config
    }

    fn build_client(&self, expected: Arc<[Identity]>) -> ClientConfig {
        let verifier: Arc<dyn ServerCertVerifier> =
            Arc::new(ServerMustBe::new(Arc::clone(&self.trust), expected));
        let tls = config::client(
            Arc::clone(&self.provider),
            verifier,
            Arc::clone(&self.certified),
        )
        .expect("the same provider and version already made the server's configuration");
        ClientConfig {
            tls: Arc::new(tls),
            records: self.server.records,
            trust: Some(Arc::clone(&self.trust)),
        }
    }

    /// Its peers are held against this list from now on.
    pub(super) fn heed(&self, revocations: &Arc<Revocations>) {
        self.trust.heed(Arc::clone(revocations));
    }

    /// Its connections agree on keys by these groups.
    pub(super) fn with_groups(mut self, groups: Groups) -> Self {
        self.provider = config::provider(groups);
        let tls = server(&self.identity, &self.provider, &self.trust, &self.certified)
            .expect("only the groups differ from what made its first configuration");
        self.server = Arc::new(ServerConfig {
            tls: Arc::new(tls),
            records: self.server.records,
            trust: Some(Arc::clone(&self.trust)),
        });
        self.clients = Mutex::new(Recent::new(CLIENTS));
        self
    }

    /// Its connections make their records so.
    pub(super) fn with_records(mut self, records: RecordPlan) -> Self {
        let tls = Arc::clone(&self.server.tls);
        let trust = Some(Arc::clone(&self.trust));
        self.server = Arc::new(ServerConfig {
            tls,
            records,
            trust,
        });
        self.clients = Mutex::new(Recent::new(CLIENTS));
        self
    }

    /// What `/config_dump` shows (spec/control.md §11).
    #[must_use]
    pub fn dump(&self) -> CertificateDump {
        CertificateDump {
            identity: self.identity.to_string(),
            state: "Available",
            cert_chain: self
                .chain
                .iter()
                .map(|reading| reading.info.clone())
                .collect(),
            root_certs: self.roots.clone(),
        }
    }
}

impl fmt::Debug for WorkloadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkloadCertificate")
            .field("identity", &self.identity.to_string())
            .field("serial", &self.chain[0].info.serial_number)
            .field("expires", &self.chain[0].info.expiration_time)
            .finish_non_exhaustive()
    }
}

/// One entry of `certificates` in `/config_dump` (spec/control.md §11).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateDump {
    /// `spiffe://…`
    pub identity: String,
    /// Always `Available`: the other states are the control side's.
    pub state: &'static str,
    /// Leaf, then intermediates.
    pub cert_chain: Vec<CertificateInfo>,
    /// The bundle.
    pub root_certs: Vec<CertificateInfo>,
}

/// When the leaf of a chain (PEM) counts, seconds since 1970: for whoever plans its renewal.
///
/// # Errors
/// When there is no leaf or it cannot be read. Whether it is any good is [`WorkloadCertificate::new`]'s question.
pub fn validity_of(chain_pem: &[u8]) -> Result<(i64, i64), CredentialError> {
    let chain = read_chain(chain_pem)?;
    let leaf =
        Reading::of(&chain[0]).map_err(|_| CredentialError::Chain("not X.509".to_owned()))?;
    Ok((leaf.not_before, leaf.not_after))
}

fn server(
    identity: &Identity,
    provider: &Arc<CryptoProvider>,
    trust: &Arc<Trust>,
    certified: &Arc<SingleCertAndKey>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let verifier = ClientMustBeOf::new(Arc::clone(trust), identity.trust_domain.clone());
    config::server(
        Arc::clone(provider),
        Arc::new(verifier),
        Arc::clone(certified),
    )
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CredentialError> {
    if pem.len() > MAX_PEM {
        return Err(CredentialError::TooLarge(pem.len()));
    }
    let mut chain = Vec::new();
    for certificate in from_pem(pem) {
        chain.push(certificate.map_err(|error| CredentialError::Chain(error.to_string()))?);
        if chain.len() > MAX_CHAIN {
            return Err(CredentialError::Chain(format!(
                "more than {MAX_CHAIN} certificates"
            )));
        }
    }
    if chain.is_empty() {
        return Err(CredentialError::EmptyChain);
    }
    Ok(chain)
}

struct Roots {
    anchors: Vec<TrustAnchor<'static>>,
    infos: Vec<CertificateInfo>,
    warnings: Vec<String>,
}

/// Keeps the roots that can be used; an unusable one must not cost the others (spec/dataplane.md §9.2).
fn read_roots(pem: &[u8]) -> Result<Roots, CredentialError> {
    if pem.len() > MAX_PEM {
        return Err(CredentialError::TooLarge(pem.len()));
    }
    let mut roots = Roots {
        anchors: Vec::new(),
        infos: Vec::new(),
        warnings: Vec::new(),
    };
    for (index, block) in from_pem(pem).enumerate() {
        let read = block.map_err(|error| error.to_string()).and_then(|der| {
            let anchor = webpki::anchor_from_trusted_cert(&der)
                .map_err(|error| error.to_string())?
                .to_owned();
            let reading = Reading::of(&der).map_err(|_| "not X.509".to_owned())?;
            Ok((anchor, reading.info))
        });
        match read {
            Ok((anchor, info)) => {
                roots.anchors.push(anchor);
                roots.infos.push(info);
            }
            Err(why) => roots.warnings.push(format!(
                "root certificate {} of the bundle is skipped: {why}",
                index + 1
            )),
        }
    }
    if roots.anchors.is_empty() {
        return Err(CredentialError::NoRoot);
    }
    Ok(roots)
}

fn check_leaf(identity: &Identity, leaf: &CertificateDer<'_>) -> Result<(), CredentialError> {
    match spiffe_name(leaf) {
        Ok(got) if got == *identity => Ok(()),
        Ok(got) => Err(CredentialError::OtherIdentity {
            want: identity.clone(),
            got: got.to_string(),
        }),
        Err(VerifyError::MultipleNames(got)) => Err(CredentialError::OtherIdentity {
            want: identity.clone(),
            got: got.join(","),
        }),
        Err(VerifyError::NoSpiffeName(got)) => Err(CredentialError::OtherIdentity {
            want: identity.clone(),
            got: got.unwrap_or_else(|| "none".into()),
        }),
        Err(error) => Err(CredentialError::Path(error)),
    }
}

/// A leaf serves both sides of connections, so both uses must hold.
fn check_path(
    trust: &Trust,
    chain: &[CertificateDer<'_>],
    readings: &[Reading],
) -> Result<(), CredentialError> {
    let all_valid = readings.iter().map(|reading| reading.not_before).max();
    let seconds = u64::try_from(all_valid.unwrap_or(0)).unwrap_or(0);
    let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let (leaf, intermediates) = (&chain[0], &chain[1..]);
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        trust
            .check_path(leaf, intermediates, then, usage)
            .map_err(CredentialError::Path)?;
    }
    Ok(())
}

/// The path check has refused leaves from before 1970.
fn system_time(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Why a key, a chain and roots cannot be used together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The chain cannot be read.
    #[error("invalid certificate chain: {0}")]
    Chain(String),
    /// The chain holds no certificate.
    #[error("chain returned from CA is empty")]
    EmptyChain,
    /// The TLS library refused a configuration made of them.
    #[error("cannot use the certificate: {0}")]
    Library(String),
    /// Not one usable root (upstream's text, spec/dataplane.md §9.2).
    #[error("invalid root certificate: no root certificate present")]
    NoRoot,
    /// The leaf is somebody else's.
    #[error("did not find expected SAN: {want}, got {got}")]
    OtherIdentity {
        /// Whose it should be.
        want: Identity,
        /// Whose it is.
        got: String,
    },
    /// The leaf's public key is not the key's.
    #[error("the certificate was issued for another key")]
    OtherKey,
    /// The chain does not lead to one of the roots, or not for both sides of a connection.
    #[error("the chain does not lead to a root of the bundle: {}", .0.reason())]
    Path(VerifyError),
    /// More text than any real bundle has.
    #[error("PEM text is too large (limit {MAX_PEM} bytes): {0}")]
    TooLarge(usize),
}

#[cfg(test)]
mod tests;
