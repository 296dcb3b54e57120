//! One TLS connection as bytes in, bytes out: no socket, no task, no buffer of its own.
//!
//! Rides on rustls' unbuffered API (`engine`), so what arrives is decrypted where it lies and the worker's
//! scratch is all the memory there is. `tunnel` owns the socket, the clock and the buffers.

use std::mem;
use std::sync::Arc;

use mesh::identity::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls_pki_types::{IpAddr, Ipv4Addr, ServerName};

use super::config::{ClientConfig, ServerConfig};
use super::error::TlsError;
use super::record::{RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER};
use super::verify::spiffe_name;
use engine::{Engine, Job, Step};

mod engine;

/// One connection, either side, from its first byte to its last.
///
/// A client starts with `receive(&mut [], …)`, which writes its hello.
pub struct Session {
    engine: Engine,
    /// The peer has said enough to look like TLS.
    heard: bool,
    /// What the last `receive` left with the caller, in bytes.
    kept: usize,
    /// A copy of that, only while a handshake message lies there in part; see [`Session::write`].
    unfinished: Vec<u8>,
    peer: Option<Identity>,
    peer_closed: bool,
    closed: bool,
    failed: Option<TlsError>,
}

/// What was agreed, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `TLSv1_3`
    pub version: &'static str,
    /// For example `TLS13_AES_256_GCM_SHA384`.
    pub suite: &'static str,
    /// Key exchange group, for example `X25519`.
    pub group: &'static str,
}

impl Session {
    /// The side that dials.
    ///
    /// # Errors
    /// [`TlsError::Internal`] when the library cannot start, for example without randomness.
    pub fn client(config: Arc<ClientConfig>) -> Result<Self, TlsError> {
        // A name must be given; SNI is off and the verifier looks at SPIFFE names only (spec/dataplane.md §9.1).
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
        let connection = UnbufferedClientConnection::new(config, nobody)?;
        Ok(Self::new(Engine::Client(Box::new(connection))))
    }

    /// The side that accepts.
    ///
    /// # Errors
    /// [`TlsError::Internal`] when the library cannot start.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let connection = UnbufferedServerConnection::new(config)?;
        Ok(Self::new(Engine::Server(Box::new(connection))))
    }

    fn new(engine: Engine) -> Self {
        Self {
            engine,
            heard: false,
            kept: 0,
            unfinished: Vec::new(),
            peer: None,
            peer_closed: false,
            closed: false,
            failed: None,
        }
    }

    /// Takes what arrived: decrypts in place, gives each record's plaintext to `plaintext` in order, appends
    /// what must be sent to `outgoing`, and returns how many bytes of `incoming` it is done with.
    ///
    /// The caller keeps the rest, unchanged (it may be decrypted in part), and puts it in front of what arrives
    /// next. That is less than one record (16.7 KiB) once the handshake is over; during it, at most 64 KiB, and
    /// 8 KiB before a server has read the client's hello.
    ///
    /// Each plaintext lies inside `incoming`, behind the one before: decrypted where it arrived.
    ///
    /// Plaintext can come in the very call that ends the handshake: by then the peer is verified.
    ///
    /// # Errors
    /// The connection is over. `outgoing` holds the alert for the peer, if one is due: send it, then close.
    /// Every later call returns the same error.
    pub fn receive(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        self.check_alive()?;
        if incoming.len() < self.kept {
            return Err(TlsError::Misuse("unconsumed bytes were not given again"));
        }
        match self.advance(incoming, outgoing, plaintext) {
            Ok(consumed) => {
                self.keep(&incoming[consumed..]);
                Ok(consumed)
            }
            Err(error) => {
                if !self.closed {
                    self.engine.drain_alerts(outgoing); // behind close_notify nothing may follow
                }
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Appends `plaintext` to `outgoing` as records of at most 16 KiB payload each, and nothing if it is empty.
    ///
    /// A key update that the peer asked for, or that the record count demands, goes in front.
    ///
    /// # Errors
    /// [`TlsError::Misuse`] during the handshake and after [`Session::close`].
    pub fn encrypt(&mut self, plaintext: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.is_handshaking() {
            return Err(TlsError::Misuse("encrypt during the handshake"));
        }
        if self.closed {
            return Err(TlsError::Misuse("encrypt after close"));
        }
        if plaintext.is_empty() {
            return self.check_alive();
        }
        self.write(Job::Encrypt(plaintext), outgoing)
    }

    /// Seals one record of application data where it lies: `record` is [`RECORD_HEADER`] free bytes, 1 to
    /// [`RECORD_PAYLOAD`] bytes of payload, and [`RECORD_TRAILER`] free bytes.
    ///
    /// What is appended to `ahead`, a key update, must go to the peer in front of this record and behind those
    /// that were sealed earlier.
    ///
    /// # Errors
    /// [`TlsError::Misuse`] during the handshake, after [`Session::close`], and when `record` has another size.
    pub fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError> {
        let payload = record.len().saturating_sub(RECORD_HEADER + RECORD_TRAILER);
        if !(1..=RECORD_PAYLOAD).contains(&payload) {
            return Err(TlsError::Misuse("not the size of a record"));
        }
        let mut sealed = Vec::new();
        self.encrypt(&record[RECORD_HEADER..][..payload], &mut sealed)?;
        let (update, sealed) = sealed.split_at(sealed.len() - record.len());
        ahead.extend_from_slice(update);
        record.copy_from_slice(sealed);
        Ok(())
    }

    /// Appends `close_notify`: nothing of ours follows. What the peer sends is still received.
    ///
    /// Does nothing during the handshake, where the end of TCP says as much, or the second time.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) {
        if self.closed || self.is_handshaking() || self.failed.is_some() {
            return;
        }
        // Fails only where there is nobody left to tell.
        let _ = self.write(Job::Close, outgoing);
        self.closed = true;
    }

    /// To be asked when TCP has ended: was that all?
    ///
    /// # Errors
    /// [`TlsError::Truncated`] without `close_notify`, [`TlsError::EndedInHandshake`] before the end of it.
    pub fn end_of_input(&self) -> Result<(), TlsError> {
        self.check_alive()?;
        match (self.peer_closed, self.is_handshaking()) {
            (true, _) => Ok(()),
            (false, true) => Err(TlsError::EndedInHandshake),
            (false, false) => Err(TlsError::Truncated),
        }
    }

    /// Not yet ready for application data.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.engine.common().is_handshaking()
    }

    /// The peer has said `close_notify`: nothing of its follows, and nothing is missing.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Who is on the other end: the one name of its certificate, which has passed the check. None before the
    /// end of the handshake.
    #[must_use]
    pub fn peer(&self) -> Option<&Identity> {
        self.peer.as_ref()
    }

    /// The agreed application protocol, if the peer offered any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.engine.common().alpn_protocol()
    }

    /// Version, suite and group, once agreed.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        let common = self.engine.common();
        Some(Facts {
            version: common.protocol_version()?.as_str()?,
            suite: common.negotiated_cipher_suite()?.suite().as_str()?,
            group: common.negotiated_key_exchange_group()?.name().as_str()?,
        })
    }

    fn check_alive(&self) -> Result<(), TlsError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn advance(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        self.listen(incoming, outgoing)?;
        let mut consumed = 0;
        loop {
            let rest = &mut incoming[consumed..];
            let (done, step) = self.engine.step(rest, Job::Read, outgoing, plaintext);
            consumed += done;
            match step? {
                Step::Again => {}
                Step::PeerClosed => self.peer_closed = true,
                Step::Rest => break,
            }
        }
        self.meet()?;
        if self.peer_closed {
            // What follows the closure alert is not the peer's word (RFC 8446 §6.1).
            return Ok(incoming.len());
        }
        self.check_size(incoming.len() - consumed, outgoing)?;
        Ok(consumed)
    }

    /// The first bytes already tell TLS from anything else, long before a whole record is there.
    fn listen(&mut self, incoming: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.heard {
            return Ok(());
        }
        // change_cipher_spec … application_data, then the major version 3 (RFC 8446 §5.1).
        let like_tls = match incoming {
            [] => return Ok(()),
            [kind] => (20..=23).contains(kind),
            [kind, major, ..] => (20..=23).contains(kind) && *major == 3,
        };
        if !like_tls {
            outgoing.extend_from_slice(&plain_alert(ALERT_DECODE_ERROR));
            return Err(TlsError::NotTls(excerpt(incoming)));
        }
        self.heard = incoming.len() > 1;
        Ok(())
    }

    /// Notes who the peer is, when the handshake has just ended.
    fn meet(&mut self) -> Result<(), TlsError> {
        if self.peer.is_none() && !self.is_handshaking() {
            let chain = self.engine.common().peer_certificates();
            let leaf = chain.and_then(<[_]>::first);
            let leaf = leaf.ok_or_else(|| TlsError::Internal("peer without certificate".into()))?;
            self.peer = Some(spiffe_name(leaf)?);
        }
        Ok(())
    }

    /// Bounds what the caller must keep: rustls bounds a message, not the records it comes in.
    fn check_size(&self, rest: usize, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let hello = self.engine.common().protocol_version().is_none();
        let limit = if hello { MAX_HELLO } else { MAX_REST };
        if rest <= limit {
            return Ok(());
        }
        if hello {
            outgoing.extend_from_slice(&plain_alert(ALERT_RECORD_OVERFLOW));
        }
        Err(TlsError::TooLarge(rest))
    }

    /// Remembers what the caller keeps, as far as `write` needs it.
    fn keep(&mut self, rest: &[u8]) {
        self.kept = rest.len();
        self.unfinished.clear();
        // A whole record that was not consumed is a part of a handshake message; anything else would have been.
        let whole = rest.get(3..5).is_some_and(|length| {
            rest.len() >= 5 + usize::from(u16::from_be_bytes([length[0], length[1]]))
        });
        if whole && !self.is_handshaking() {
            self.unfinished.extend_from_slice(rest);
        }
    }

    /// Writes without reading. rustls gives the writer only out of a look at the input, and while a handshake
    /// message has arrived in part it must be shown that part again (it panics otherwise): hence the copy, which
    /// is empty but for peers that cut their tickets and key updates in pieces.
    fn write(&mut self, job: Job<'_>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.check_alive()?;
        let mut shown = mem::take(&mut self.unfinished);
        let written = loop {
            let nothing = &mut |_: &[u8]| debug_assert!(false, "plaintext left from receive");
            match self.engine.step(&mut shown, job, outgoing, nothing).1 {
                Ok(Step::Rest) => break Ok(()),
                Ok(Step::Again | Step::PeerClosed) => {}
                Err(error) => break Err(error),
            }
        };
        self.unfinished = shown;
        written.inspect_err(|error| self.failed = Some(error.clone()))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("handshaking", &self.is_handshaking())
            .field("peer", &self.peer.as_ref().map(Identity::to_string))
            .field("peer_closed", &self.peer_closed)
            .field("closed", &self.closed)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// A client's hello with a post-quantum key share has 1.8 KiB; until it is read we owe the peer nothing
/// (spec/reliability.md T01).
const MAX_HELLO: usize = 8 * 1024;
/// rustls' own bound for a handshake message (spec/reliability.md T03), and for what its buffered API holds.
const MAX_REST: usize = 64 * 1024;

const ALERT_RECORD_OVERFLOW: u8 = 22;
const ALERT_DECODE_ERROR: u8 = 50;

/// A fatal alert before there are keys (RFC 8446 §6), for what is refused before rustls sees it.
fn plain_alert(description: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, description]
}

/// The beginning of what a peer said, safe to log.
fn excerpt(bytes: &[u8]) -> String {
    let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).next();
    let line = line.unwrap_or_default();
    line[..line.len().min(32)].escape_ascii().to_string()
}

#[cfg(test)]
mod tests;
