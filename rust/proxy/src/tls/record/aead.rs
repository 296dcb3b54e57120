//! AES-GCM behind one door, from either of two libraries.
//!
//! AWS-LC's is there for the handshakes anyway; ring's is linked for records alone. Both are given the same keys and
//! must give the same bytes. Nothing here knows what a record is; `choice` says which library is used.

use std::fmt;
use std::hint::black_box;

use super::TAG;
use crate::tls::error::TlsError;

pub(super) const NONCE: usize = 12;

/// Whose AES-GCM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    AwsLc,
    Ring,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Aes128Gcm,
    Aes256Gcm,
}

impl Algorithm {
    pub(super) fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Of the hash that TLS 1.3 pairs with it (RFC 8446 §B.4).
    pub(super) fn hash_len(self) -> usize {
        match self {
            Self::Aes128Gcm => 32,
            Self::Aes256Gcm => 48,
        }
    }
}

/// A key, ready for use. Wiped when it is dropped: by AWS-LC itself (`OPENSSL_free` clears what it frees), and for
/// ring, which does not, by [`RingKey`].
pub(super) enum Aead {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(RingKey),
}

/// The tag is not that of these bytes; or, when sealing, they are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused;

impl Aead {
    pub(super) fn new(
        library: Library,
        algorithm: Algorithm,
        key: &[u8],
    ) -> Result<Self, TlsError> {
        match library {
            Library::AwsLc => {
                let algorithm = match algorithm {
                    Algorithm::Aes128Gcm => &aws_lc_rs::aead::AES_128_GCM,
                    Algorithm::Aes256Gcm => &aws_lc_rs::aead::AES_256_GCM,
                };
                aws_lc_rs::aead::UnboundKey::new(algorithm, key)
                    .map(|key| Self::AwsLc(aws_lc_rs::aead::LessSafeKey::new(key)))
                    .ok()
            }
            Library::Ring => RingKey::new(algorithm, key).map(Self::Ring),
        }
        .ok_or_else(|| TlsError::Internal("a traffic key of the wrong size".into()))
    }

    /// Encrypts `text` where it lies.
    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        text: &mut [u8],
    ) -> Result<[u8; TAG], Refused> {
        let mut tag = [0; TAG];
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
                    .map_err(|_| Refused)?;
                tag.copy_from_slice(sealed.as_ref());
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let sealed = key
                    .0
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
                    .map_err(|_| Refused)?;
                tag.copy_from_slice(sealed.as_ref());
            }
        }
        Ok(tag)
    }

    /// Decrypts `sealed`, a ciphertext and its tag, where it lies. When it is refused the bytes mean nothing.
    #[inline]
    pub(super) fn open<'a>(
        &self,
        nonce: [u8; NONCE],
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], Refused> {
        match self {
            Self::AwsLc(key) => {
                use aws_lc_rs::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, Aad::from(aad), sealed)
                    .map_err(|_| Refused)
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.0
                    .open_in_place(nonce, Aad::from(aad), sealed)
                    .map_err(|_| Refused)
            }
        }
    }
}

/// Boxed, so that the key is moved nowhere from where it is wiped.
pub(super) struct RingKey(Box<ring::aead::LessSafeKey>);

impl RingKey {
    fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        let algorithm = match algorithm {
            Algorithm::Aes128Gcm => &ring::aead::AES_128_GCM,
            Algorithm::Aes256Gcm => &ring::aead::AES_256_GCM,
        };
        let key = ring::aead::UnboundKey::new(algorithm, key).ok()?;
        Some(Self(Box::new(ring::aead::LessSafeKey::new(key))))
    }
}

impl Drop for RingKey {
    /// ring has no way to wipe a key, but a key that is no secret can take its place.
    fn drop(&mut self) {
        let zeros = [0; 32];
        let algorithm = self.0.algorithm();
        if let Ok(blank) = ring::aead::UnboundKey::new(algorithm, &zeros[..algorithm.key_len()]) {
            *self.0 = ring::aead::LessSafeKey::new(blank);
        }
        // Looked at, as far as the compiler can know: the write before it stays.
        black_box(&*self.0);
    }
}

impl fmt::Display for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AwsLc => "aws-lc",
            Self::Ring => "ring",
        })
    }
}

#[cfg(test)]
mod tests;
