//! Is the peer who it must be: what each side demands of the other, as rustls asks for it.
//!
//! `trust` says whom a chain names; here that name is compared (spec/dataplane.md §9.3, §9.4). Who may do what comes later,
//! in `mesh::authorize`.

use std::sync::Arc;

use mesh::identity::{Identity, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::chains::Use;
use super::trust::Trust;

mod error;

pub use error::VerifyError;

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

#[cfg(test)]
mod tests;
