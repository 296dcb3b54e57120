//! What every connection has in common: versions, suites, groups, ALPN (spec/dataplane.md §9.1).
//!
//! Builds rustls configurations out of a certificate and a verifier; `credentials` keeps them.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;

use super::record::{RecordPlan, Tap};
use super::trust::Trust;
use crate::settings::{Groups, RecordLayer};

/// One side's settings for the connections it opens; made by [`super::WorkloadCertificate::client`].
#[derive(Clone, Debug)]
pub struct ClientConfig {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) records: RecordPlan,
    pub(super) trust: Option<Arc<Trust>>,
}

/// One side's settings for the connections it accepts; made by [`super::WorkloadCertificate::server`].
#[derive(Clone, Debug)]
pub struct ServerConfig {
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) records: RecordPlan,
    /// Who may be asked about the peer later; tests have peers that believe anybody.
    pub(super) trust: Option<Arc<Trust>>,
}

impl ClientConfig {
    /// What one connection is made with. Where its records will be ours, that is a copy for it alone, which says its
    /// secrets to nobody else and goes with the handshake.
    pub(super) fn tapped(&self) -> (Arc<rustls::ClientConfig>, Option<Arc<Tap>>) {
        let mut tls = Arc::clone(&self.tls);
        let tap = (self.records.layer == RecordLayer::InPlace).then(Arc::<Tap>::default);
        if let Some(tap) = &tap {
            Arc::make_mut(&mut tls).key_log = Arc::clone(tap) as _;
        }
        (tls, tap)
    }
}

impl ServerConfig {
    /// As [`ClientConfig::tapped`].
    pub(super) fn tapped(&self) -> (Arc<rustls::ServerConfig>, Option<Arc<Tap>>) {
        let mut tls = Arc::clone(&self.tls);
        let tap = (self.records.layer == RecordLayer::InPlace).then(Arc::<Tap>::default);
        if let Some(tap) = &tap {
            Arc::make_mut(&mut tls).key_log = Arc::clone(tap) as _;
        }
        (tls, tap)
    }
}

/// The only protocol spoken inside (RFC 9113 §3.2).
const ALPN: &[u8] = b"h2";

/// The cryptography in use. Made once per certificate, shared by its connections.
pub(super) fn provider(groups: Groups) -> Arc<CryptoProvider> {
    let kx_groups = match groups {
        // The hybrid stands last: offered, but not sent as a key share of 1.2 KiB to those who cannot read it.
        Groups::All => vec![
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
            kx_group::X25519MLKEM768,
        ],
        Groups::Pqc => vec![kx_group::X25519MLKEM768],
    };
    Arc::new(CryptoProvider {
        // AES only: both ends have it in hardware, and this is what peers expect to be offered.
        cipher_suites: vec![
            cipher_suite::TLS13_AES_256_GCM_SHA384,
            cipher_suite::TLS13_AES_128_GCM_SHA256,
        ],
        kx_groups,
        ..default_provider()
    })
}

pub(super) fn server(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    certificate: Arc<SingleCertAndKey>,
) -> Result<rustls::ServerConfig, rustls::Error> {
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A tunnel lives for hours: tickets would cost every handshake and outlive the certificate.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    // For `record`, which needs the keys; asking for them takes the connection apart.
    config.enable_secret_extraction = true;
    Ok(config)
}

pub(super) fn client(
    provider: Arc<CryptoProvider>,
    verifier: Arc<dyn ServerCertVerifier>,
    certificate: Arc<SingleCertAndKey>,
) -> Result<rustls::ClientConfig, rustls::Error> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(certificate);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_secret_extraction = true;
    Ok(config)
}
