//! One direction's key with its nonces, and where the next one comes from.
//!
//! rustls hands over the first keys and the numbers of their next records, and is gone; `schedule` makes the keys
//! after them. What a key does to bytes is `aead`'s.

use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{ConnectionTrafficSecrets, ExtractedSecrets, Side};
use zeroize::Zeroizing;

use super::TlsError;
use super::aead::{Aead, Algorithm, Library, NONCE};
use super::schedule::{Tap, TrafficSecret};

/// A key and the number of its next record. No number is given out twice, and after the last there is none.
pub(super) struct TrafficKey {
    aead: Aead,
    iv: Zeroizing<[u8; NONCE]>,
    next: Option<u64>,
}

impl TrafficKey {
    fn new(library: Library, secret: &TrafficSecret, next: u64) -> Result<Self, TlsError> {
        Ok(Self {
            aead: Aead::new(library, secret.algorithm(), &secret.key()?)?,
            iv: secret.iv()?,
            next: Some(next),
        })
    }

    #[cfg(test)]
    pub(super) fn of_parts(aead: Aead, iv: [u8; NONCE], next: u64) -> Self {
        Self {
            aead,
            iv: Zeroizing::new(iv),
            next: Some(next),
        }
    }

    /// The key, with a nonce that was never used with it (RFC 8446 §5.3).
    #[inline]
    pub(super) fn once(&mut self) -> Result<(&Aead, [u8; NONCE]), TlsError> {
        let number = self
            .next
            .ok_or_else(|| TlsError::Internal("no record numbers left".into()))?;
        // Before the use, so that no failure can bring the number back.
        self.next = number.checked_add(1);
        let mut nonce = *self.iv;
        for (byte, number) in nonce[NONCE - 8..].iter_mut().zip(number.to_be_bytes()) {
            *byte ^= number;
        }
        Ok((&self.aead, nonce))
    }

    /// How many records it has sealed or opened.
    pub(super) fn used(&self) -> u64 {
        self.next.unwrap_or(u64::MAX)
    }
}

/// What rustls leaves behind when a handshake is over.
pub(in crate::tls) struct Converted {
    side: Side,
    keys: ExtractedSecrets,
    tap: Arc<Tap>,
}

impl Converted {
    /// Takes a connection apart; it must be through with its handshake and have nothing to send.
    pub(in crate::tls) fn client(
        connection: UnbufferedClientConnection,
        tap: Arc<Tap>,
    ) -> Result<Self, TlsError> {
        let side = Side::Client;
        let (keys, _) = connection.dangerous_into_kernel_connection()?;
        Ok(Self { side, keys, tap })
    }

    pub(in crate::tls) fn server(
        connection: UnbufferedServerConnection,
        tap: Arc<Tap>,
    ) -> Result<Self, TlsError> {
        let side = Side::Server;
        let (keys, _) = connection.dangerous_into_kernel_connection()?;
        Ok(Self { side, keys, tap })
    }

    /// The source of keys, the one to write with and the one to read with.
    pub(super) fn ready(
        self,
        library: Library,
    ) -> Result<(KeySource, TrafficKey, TrafficKey), TlsError> {
        let Self { side, keys, tap } = self;
        let (write_next, write_key) = keys.tx;
        let (read_next, read_key) = keys.rx;
        let secrets = tap.take(side, algorithm(&write_key)?);
        let (write, read) =
            secrets.ok_or_else(|| TlsError::Internal("no traffic secrets".into()))?;
        check(&write, &write_key)?;
        check(&read, &read_key)?;
        let write_key = TrafficKey::new(library, &write, write_next)?;
        let read_key = TrafficKey::new(library, &read, read_next)?;
        let source = KeySource {
            side,
            library,
            write,
            read,
        };
        Ok((source, write_key, read_key))
    }
}

fn algorithm(key: &ConnectionTrafficSecrets) -> Result<Algorithm, TlsError> {
    match key {
        ConnectionTrafficSecrets::Aes128Gcm { .. } => Ok(Algorithm::Aes128Gcm),
        ConnectionTrafficSecrets::Aes256Gcm { .. } => Ok(Algorithm::Aes256Gcm),
        _ => Err(TlsError::Internal("not a suite that we offer".into())),
    }
}

/// The secret that was taken down is the one that rustls has used.
fn check(secret: &TrafficSecret, used: &ConnectionTrafficSecrets) -> Result<(), TlsError> {
    let (ConnectionTrafficSecrets::Aes128Gcm { key, iv }
    | ConnectionTrafficSecrets::Aes256Gcm { key, iv }) = used
    else {
        return Err(TlsError::Internal("not a suite that we offer".into()));
    };
    // Not secret: that it fails says that the library and this folder have grown apart.
    if **secret.key()? == *key.as_ref() && *secret.iv()? == *iv.as_ref() {
        Ok(())
    } else {
        Err(TlsError::Internal("traffic secrets of another key".into()))
    }
}

/// Makes the next key of either direction.
pub(super) struct KeySource {
    side: Side,
    library: Library,
    write: TrafficSecret,
    read: TrafficSecret,
}

impl KeySource {
    pub(super) fn side(&self) -> Side {
        self.side
    }

    pub(super) fn next_write(&mut self) -> Result<TrafficKey, TlsError> {
        self.write.advance()?;
        TrafficKey::new(self.library, &self.write, 0)
    }

    pub(super) fn next_read(&mut self) -> Result<TrafficKey, TlsError> {
        self.read.advance()?;
        TrafficKey::new(self.library, &self.read, 0)
    }
}
