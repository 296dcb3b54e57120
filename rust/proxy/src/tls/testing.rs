//! What the tests of this folder share: signers, certificates of every kind, and two ends joined by memory.

use std::cell::Cell;
use std::sync::Arc;

use mesh::identity::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, DistinguishedName as Subject, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};

use super::config;
use super::record::RecordPlan;
use super::{ClientConfig, PrivateKey, ServerConfig, Session, TlsError, WorkloadCertificate};
use crate::settings::Groups;

pub(crate) const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";
pub(crate) const SERVER: &str = "spiffe://cluster.local/ns/shop/sa/server";

pub(crate) fn identity(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

impl From<rustls::ClientConfig> for ClientConfig {
    fn from(tls: rustls::ClientConfig) -> Self {
        Self {
            tls: Arc::new(tls),
            records: RecordPlan::default(),
            trust: None,
        }
    }
}

impl From<rustls::ServerConfig> for ServerConfig {
    fn from(tls: rustls::ServerConfig) -> Self {
        Self {
            tls: Arc::new(tls),
            records: RecordPlan::default(),
            trust: None,
        }
    }
}

impl From<Arc<Self>> for ClientConfig {
    fn from(shared: Arc<Self>) -> Self {
        Self::clone(&shared)
    }
}

impl From<Arc<Self>> for ServerConfig {
    fn from(shared: Arc<Self>) -> Self {
        Self::clone(&shared)
    }
}

/// Signs certificates: a root, or an intermediate under one.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// Itself and those above it, without the root.
    above: Vec<CertificateDer<'static>>,
    root_pem: String,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_of(authority(name))
    }

    pub(super) fn root_until(name: &str, year: i32) -> Self {
        let mut params = authority(name);
        params.not_after = date_time_ymd(year, 1, 1);
        Self::root_of(params)
    }

    fn root_of(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        Self {
            root_pem: issuer.pem(),
            above: Vec::new(),
            issuer,
        }
    }

    pub(super) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_of(authority(name))
    }

    pub(super) fn intermediate_until(&self, name: &str, year: i32) -> Self {
        let mut params = authority(name);
        params.not_after = date_time_ymd(year, 1, 1);
        self.intermediate_of(params)
    }

    fn intermediate_of(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::signed_by(params, key, &self.issuer).unwrap();
        let mut above = vec![issuer.der().clone()];
        above.extend(self.above.iter().cloned());
        Self {
            root_pem: self.root_pem.clone(),
            above,
            issuer,
        }
    }

    /// A certificate for the name and the key of another, of this one's signing.
    pub(super) fn cross(&self, other: &Self, name: &str) -> CertificateDer<'static> {
        let certificate = authority(name).signed_by(other.issuer.key(), &self.issuer);
        certificate.unwrap().der().clone()
    }

    /// Itself as somebody to trust.
    pub(super) fn anchor(&self) -> TrustAnchor<'static> {
        webpki::anchor_from_trusted_cert(self.issuer.der())
            .unwrap()
            .to_owned()
    }

    pub(super) fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// Itself, as an intermediate shows itself.
    pub(super) fn der(&self) -> &CertificateDer<'static> {
        self.issuer.der()
    }

    /// A list of revoked certificates, of its own signing and long out of date.
    pub(crate) fn crl(&self, revoked: &[SerialNumber]) -> rcgen::CertificateRevocationList {
        let entry = |serial_number: &SerialNumber| RevokedCertParams {
            serial_number: serial_number.clone(),
            revocation_time: date_time_ymd(2019, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(2020, 2, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap()
    }

    /// Leaf and intermediates.
    pub(super) fn sign(
        &self,
        leaf: &Leaf,
        key: &impl rcgen::PublicKeyData,
    ) -> Vec<CertificateDer<'static>> {
        let certificate = leaf.0.signed_by(key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.above.iter().cloned());
        chain
    }

    /// What the CA would answer, and what is made of it.
    pub(crate) fn certificate(&self, name: &str) -> WorkloadCertificate {
        self.certificate_of(name, &Leaf::named(name), self.root_pem())
    }

    pub(super) fn certificate_of(
        &self,
        name: &str,
        leaf: &Leaf,
        roots: &str,
    ) -> WorkloadCertificate {
        let key = PrivateKey::generate().unwrap();
        let chain = pem(&self.sign(leaf, &key));
        WorkloadCertificate::new(identity(name), &key, chain.as_bytes(), roots.as_bytes()).unwrap()
    }
}

/// The serial number of a certificate.
pub(crate) fn serial(der: &[u8]) -> SerialNumber {
    let der = CertificateDer::from(der);
    let certificate = webpki::EndEntityCert::try_from(&der).unwrap();
    SerialNumber::from_slice(certificate.serial())
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

pub(super) fn pem(chain: &[CertificateDer<'_>]) -> String {
    let reading = |der| super::certificate::Reading::of(der).unwrap().info.pem;
    chain.iter().map(reading).collect()
}

/// A leaf to be signed: valid for long and for both sides, unless said otherwise.
pub(super) struct Leaf(CertificateParams);

impl Leaf {
    pub(super) fn nameless() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        Self(params)
    }

    pub(super) fn named(uri: &str) -> Self {
        Self::nameless().and(SanType::URI(uri.try_into().unwrap()))
    }

    pub(super) fn and(mut self, name: SanType) -> Self {
        self.0.subject_alt_names.push(name);
        self
    }

    pub(super) fn since_year(mut self, year: i32) -> Self {
        self.0.not_before = date_time_ymd(year, 1, 1);
        self
    }

    pub(super) fn until_year(mut self, year: i32) -> Self {
        self.0.not_after = date_time_ymd(year, 1, 1);
        self
    }

    pub(super) fn only_for(mut self, uses: &[ExtendedKeyUsagePurpose]) -> Self {
        self.0.extended_key_usages = uses.to_vec();
        self
    }
}

/// A peer that shows any chain and believes anybody: what an attacker would run.
pub(super) fn lax_client(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> rustls::ClientConfig {
    config::client(
        config::provider(Groups::All),
        Arc::new(Anybody),
        shown(chain, key),
    )
    .unwrap()
}

/// As [`lax_client`], for the other side.
pub(super) fn lax_server(
    chain: Vec<CertificateDer<'static>>,
    key: &PrivateKey,
) -> rustls::ServerConfig {
    config::server(
        config::provider(Groups::All),
        Arc::new(Anybody),
        shown(chain, key),
    )
    .unwrap()
}

fn shown(chain: Vec<CertificateDer<'static>>, key: &PrivateKey) -> Arc<SingleCertAndKey> {
    Arc::new(CertifiedKey::new(chain, key.signing_key()).into())
}

#[derive(Debug)]
struct Anybody;

fn algorithms() -> WebPkiSupportedAlgorithms {
    config::provider(Groups::All).signature_verification_algorithms
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[Subject] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        unreachable!("TLS 1.3 only")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &algorithms())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        algorithms().supported_schemes()
    }
}

thread_local! {
    static PLAN: Cell<RecordPlan> = Cell::new(RecordPlan::default());
}

/// How the [`End`]s that this thread makes from now on treat their records.
pub(super) fn use_plan(plan: RecordPlan) {
    PLAN.set(plan);
}

pub(super) fn plan() -> RecordPlan {
    PLAN.get()
}

/// Tells a story over every record path; a failure says over which one.
pub(super) fn on_each_path(story: impl Fn()) {
    for plan in RecordPlan::EACH {
        println!("{plan:?}");
        use_plan(plan);
        story();
    }
    use_plan(RecordPlan::default());
}

/// A session with the buffers that its connection would have.
pub(super) struct End {
    pub(super) session: Session,
    /// Arrived and not yet consumed.
    inbox: Vec<u8>,
    /// To be sent.
    pub(super) outbox: Vec<u8>,
    /// Plaintext received.
    pub(super) heard: Vec<u8>,
    pub(super) error: Option<TlsError>,
    /// Most bytes that had to be kept between two calls.
    pub(super) most_kept: usize,
}

impl End {
    pub(super) fn client(config: impl Into<ClientConfig>) -> Self {
        let mut config = config.into();
        config.records = PLAN.get();
        let mut end = Self::new(Session::client(config.into()).unwrap());
        end.take(&[]); // writes the hello
        end
    }

    pub(super) fn server(config: impl Into<ServerConfig>) -> Self {
        let mut config = config.into();
        config.records = PLAN.get();
        Self::new(Session::server(config.into()).unwrap())
    }

    fn new(session: Session) -> Self {
        Self {
            session,
            inbox: Vec::new(),
            outbox: Vec::new(),
            heard: Vec::new(),
            error: None,
            most_kept: 0,
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        self.inbox.extend_from_slice(bytes);
        let heard = &mut self.heard;
        let mut note = |text: &[u8]| heard.extend_from_slice(text);
        match self
            .session
            .receive(&mut self.inbox, &mut self.outbox, &mut note)
        {
            Ok(consumed) => {
                self.inbox.drain(..consumed);
                self.most_kept = self.most_kept.max(self.inbox.len());
            }
            Err(error) => self.error = Some(error),
        }
    }

    pub(super) fn say(&mut self, text: &[u8]) {
        self.session.encrypt(text, &mut self.outbox).unwrap();
    }

    pub(super) fn reason(&self) -> &'static str {
        self.error.as_ref().map_or("none", TlsError::reason)
    }
}

/// Carries bytes both ways until neither end has more to send; `cut` says how many go at a time.
pub(super) fn carry(a: &mut End, b: &mut End, mut cut: impl FnMut() -> usize) {
    while !a.outbox.is_empty() || !b.outbox.is_empty() {
        deliver(a, b, &mut cut);
        deliver(b, a, &mut cut);
    }
}

fn deliver(from: &mut End, to: &mut End, cut: &mut impl FnMut() -> usize) {
    let sent = std::mem::take(&mut from.outbox);
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cut().clamp(1, rest.len()));
        to.take(now);
        rest = later;
    }
}

/// As [`carry`], everything at once.
pub(super) fn carry_whole(a: &mut End, b: &mut End) {
    carry(a, b, || usize::MAX);
}

/// Two good ends of one mesh, handshake done.
pub(super) fn tunnel() -> (End, End) {
    let authority = Authority::root("mesh root");
    let (client, server) = (authority.certificate(CLIENT), authority.certificate(SERVER));
    let mut client = End::client(client.client(&[identity(SERVER)]));
    let mut server = End::server(server.server());
    carry_whole(&mut client, &mut server);
    assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
    (client, server)
}
