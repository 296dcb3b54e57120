//! The key schedule behind a handshake: a traffic secret, its key, and the secret after it (RFC 8446 §7.2, §7.3).
//!
//! rustls could go on making keys (its kernel interface), but only by keeping the peer's certificates and its own
//! state for as long: 1.4 KiB and the chain's length for each connection, beside 1.9 KiB for all the rest. So a [`Tap`]
//! takes down the two secrets that everything later follows from. `keys` checks them against the keys that rustls
//! hands over.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hkdf::{HKDF_SHA256, HKDF_SHA384, KeyType, Prk};
use rustls::{KeyLog, Side};
use zeroize::Zeroizing;

use super::TlsError;
use super::aead::{Algorithm, NONCE};

/// Of SHA-384, the longer of the two.
const MAX_SECRET: usize = 48;

/// One direction's secret. Wiped when it is dropped, as are the keys made of it.
pub(super) struct TrafficSecret {
    algorithm: Algorithm,
    bytes: Zeroizing<[u8; MAX_SECRET]>,
}

impl TrafficSecret {
    /// None if that is not the size of this suite's hash.
    pub(super) fn new(algorithm: Algorithm, secret: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MAX_SECRET]);
        bytes
            .get_mut(..secret.len())
            .filter(|_| secret.len() == algorithm.hash_len())?
            .copy_from_slice(secret);
        Some(Self { algorithm, bytes })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn key(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let mut key = Zeroizing::new(vec![0; self.algorithm.key_len()]);
        self.expand(b"key", &mut key)?;
        Ok(key)
    }

    pub(super) fn iv(&self) -> Result<Zeroizing<[u8; NONCE]>, TlsError> {
        let mut iv = Zeroizing::new([0; NONCE]);
        self.expand(b"iv", &mut *iv)?;
        Ok(iv)
    }

    /// The secret after this one, as a key update says.
    pub(super) fn advance(&mut self) -> Result<(), TlsError> {
        let mut next = Zeroizing::new([0; MAX_SECRET]);
        let len = self.algorithm.hash_len();
        self.expand(b"traffic upd", &mut next[..len])?;
        self.bytes = next;
        Ok(())
    }

    /// `HKDF-Expand-Label` without a context (RFC 8446 §7.1).
    fn expand(&self, label: &[u8], out: &mut [u8]) -> Result<(), TlsError> {
        const PREFIX: &[u8] = b"tls13 ";
        let hash = match self.algorithm {
            Algorithm::Aes128Gcm => HKDF_SHA256,
            Algorithm::Aes256Gcm => HKDF_SHA384,
        };
        let secret = Prk::new_less_safe(hash, &self.bytes[..self.algorithm.hash_len()]);
        let [.., high, low] = out.len().to_be_bytes();
        let label_len = (PREFIX.len() + label.len()) as u8;
        let info = [&[high, low, label_len][..], PREFIX, label, &[0]];
        secret
            .expand(&info, Length(out.len()))
            .and_then(|key| key.fill(out))
            .map_err(|_| TlsError::Internal("a traffic key cannot be derived".into()))
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Takes down one connection's traffic secrets; rustls takes it for a key log. Nothing leaves it but to `keys`.
#[derive(Default)]
pub(in crate::tls) struct Tap(Mutex<Secrets>);

#[derive(Default)]
struct Secrets {
    client: Zeroizing<Vec<u8>>,
    server: Zeroizing<Vec<u8>>,
}

impl Tap {
    /// What this side writes with, and what it reads with; once.
    pub(super) fn take(
        &self,
        side: Side,
        algorithm: Algorithm,
    ) -> Option<(TrafficSecret, TrafficSecret)> {
        let secrets = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let client = TrafficSecret::new(algorithm, &secrets.client)?;
        let server = TrafficSecret::new(algorithm, &secrets.server)?;
        Some(match side {
            Side::Client => (client, server),
            Side::Server => (server, client),
        })
    }
}

impl KeyLog for Tap {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        let mut secrets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match label {
            CLIENT_SECRET => &mut secrets.client,
            SERVER_SECRET => &mut secrets.server,
            _ => return,
        };
        *place = Zeroizing::new(secret.to_vec());
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT_SECRET | SERVER_SECRET)
    }
}

const CLIENT_SECRET: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER_SECRET: &str = "SERVER_TRAFFIC_SECRET_0";

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap(redacted)")
    }
}
