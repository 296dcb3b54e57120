//! A workload's private key, and the certificate request made with it.
//!
//! The key stays inside the cryptographic library: nothing here can write it out, and the library wipes it
//! when it is dropped. What leaves is a request (`csr`) and signatures. `credentials` joins the key with
//! the certificate that comes back.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use mesh::identity::Identity;
use rcgen::{CertificateParams, DistinguishedName, SanType};
use rustls::SignatureScheme;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// An ECDSA P-256 private key: what istiod and the built-in CA sign (spec/control.md §7.2).
#[derive(Clone)]
pub struct PrivateKey {
    signing: Arc<dyn SigningKey>,
    /// Uncompressed point, as `SubjectPublicKeyInfo` carries it (RFC 5480 §2.2).
    public: Arc<[u8]>,
}

impl PrivateKey {
    /// Makes a fresh key from the system's randomness.
    ///
    /// # Errors
    /// [`KeyError::Generate`] when the cryptographic library cannot make one.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING)
            .map_err(|_| KeyError::Generate)?;
        // The document wipes its bytes on drop, and the loader only borrows them.
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(document.as_ref()));
        let signing = rustls::crypto::aws_lc_rs::sign::any_ecdsa_type(&der)
            .map_err(|_| KeyError::Generate)?;
        Ok(Self {
            signing,
            public: pair.public_key().as_ref().into(),
        })
    }

    /// A PEM `CERTIFICATE REQUEST`: empty subject, one critical SAN with the identity's URI (spec/control.md §7.2).
    ///
    /// # Errors
    /// [`KeyError::Request`] when the request cannot be encoded or signed.
    pub fn csr(&self, identity: &Identity) -> Result<Vec<u8>, KeyError> {
        let failed = |error: rcgen::Error| KeyError::Request(error.to_string());
        let uri = identity.to_string().try_into().map_err(failed)?;
        let mut params = CertificateParams::default();
        // An empty subject is also what makes the name critical (RFC 5280 §4.2.1.6).
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri)];
        let request = params.serialize_request(self).map_err(failed)?;
        Ok(request.pem().map_err(failed)?.into_bytes())
    }

    pub(super) fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(redacted)")
    }
}

impl rcgen::PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signing
            .choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256])
            .and_then(|signer| signer.sign(message).ok())
            .ok_or(rcgen::Error::RemoteKeyError)
    }
}

/// Why a key or a request could not be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The cryptographic library failed.
    #[error("cannot generate a P-256 key: the cryptographic library or its random source failed")]
    Generate,
    /// The request could not be encoded or signed.
    #[error("cannot make a certificate request: {0}")]
    Request(String),
}

#[cfg(test)]
mod tests;
