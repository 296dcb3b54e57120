//! One direction's key with its nonces, and where the next one comes from.
//!
//! rustls keeps the secrets of the key schedule and makes each key out of them (its kernel interface); after the
//! handshake nothing else of it is left. What a key does to bytes is `aead`'s.

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{AlertDescription, ConnectionTrafficSecrets, Error, ExtractedSecrets, Side};
use zeroize::Zeroizing;

use super::aead::{Aead, Algorithm, Library, NONCE};
use super::{Fault, TlsError};

/// A key and the number of its next record. No number is given out twice, and after the last there is none.
pub(super) struct TrafficKey {
    aead: Aead,
    iv: Zeroizing<[u8; NONCE]>,
    next: Option<u64>,
}

impl TrafficKey {
    fn new(
        library: Library,
        secrets: ConnectionTrafficSecrets,
        next: u64,
    ) -> Result<Self, TlsError> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (Algorithm::Aes128Gcm, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (Algorithm::Aes256Gcm, key, iv),
            _ => return Err(TlsError::Internal("not a suite that we offer".into())),
        };
        let iv = iv.as_ref().try_into();
        Ok(Self {
            aead: Aead::new(library, algorithm, key.as_ref())?,
            iv: Zeroizing::new(iv.map_err(|_| TlsError::Internal("a nonce too long".into()))?),
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

/// What rustls leaves behind when a handshake is over: its first keys, and itself as the maker of more.
pub(in crate::tls) struct Converted {
    secrets: ExtractedSecrets,
    kernel: Kernel,
}

impl Converted {
    /// Takes a connection apart; it must be through with its handshake and have nothing to send.
    pub(in crate::tls) fn client(connection: UnbufferedClientConnection) -> Result<Self, TlsError> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let kernel = Kernel::Client(kernel);
        Ok(Self { secrets, kernel })
    }

    pub(in crate::tls) fn server(connection: UnbufferedServerConnection) -> Result<Self, TlsError> {
        let (secrets, kernel) = connection.dangerous_into_kernel_connection()?;
        let kernel = Kernel::Server(kernel);
        Ok(Self { secrets, kernel })
    }

    /// The source of keys, the one to write with and the one to read with.
    pub(super) fn ready(
        self,
        library: Library,
    ) -> Result<(KeySource, TrafficKey, TrafficKey), TlsError> {
        let ExtractedSecrets { tx, rx } = self.secrets;
        let write = TrafficKey::new(library, tx.1, tx.0)?;
        let read = TrafficKey::new(library, rx.1, rx.0)?;
        let kernel = self.kernel;
        Ok((KeySource { kernel, library }, write, read))
    }
}

/// Makes the next key of either direction.
pub(super) struct KeySource {
    kernel: Kernel,
    library: Library,
}

enum Kernel {
    Client(KernelConnection<ClientConnectionData>),
    Server(KernelConnection<ServerConnectionData>),
}

impl KeySource {
    pub(super) fn side(&self) -> Side {
        match self.kernel {
            Kernel::Client(_) => Side::Client,
            Kernel::Server(_) => Side::Server,
        }
    }

    pub(super) fn next_write(&mut self) -> Result<TrafficKey, TlsError> {
        let (next, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_tx_secret(),
            Kernel::Server(kernel) => kernel.update_tx_secret(),
        }?;
        TrafficKey::new(self.library, secrets, next)
    }

    pub(super) fn next_read(&mut self) -> Result<TrafficKey, TlsError> {
        let (next, secrets) = match &mut self.kernel {
            Kernel::Client(kernel) => kernel.update_rx_secret(),
            Kernel::Server(kernel) => kernel.update_rx_secret(),
        }?;
        TrafficKey::new(self.library, secrets, next)
    }

    /// Nothing is resumed, so a ticket is only read: one that is none ends the connection.
    pub(super) fn take_ticket(&mut self, ticket: &[u8]) -> Result<(), Fault> {
        match &mut self.kernel {
            Kernel::Client(kernel) => kernel.handle_new_session_ticket(ticket),
            Kernel::Server(_) => Err(Error::General("a ticket for a server".into())),
        }
        .map_err(|error| match error {
            error @ Error::InvalidMessage(_) => Fault::new(AlertDescription::DecodeError, error),
            error @ Error::PeerMisbehaved(_) => {
                Fault::new(AlertDescription::IllegalParameter, error)
            }
            error => TlsError::from(error).into(),
        })
    }
}
