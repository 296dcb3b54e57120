//! One TLS connection as bytes in, bytes out: no socket, no task, no buffer of its own.
//!
//! Begins as rustls' connection (`plain`), which does the handshake, and goes on with our own records (`record`),
//! or with rustls' to the end if the plan says so: the same calls, and the same answers. Either way what arrives is
//! decrypted where it lies and the worker's scratch is all the memory there is. `tunnel` owns the socket, the clock
//! and the buffers.

use std::mem;
use std::sync::Arc;

use mesh::identity::Identity;
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls_pki_types::{IpAddr, Ipv4Addr, ServerName};

use super::chains::Use;
use super::config::{ClientConfig, ServerConfig};
use super::error::TlsError;
use super::record::{RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER, Received, RecordPlan, Records};
use super::revocation::Standing;
use super::trust::Trust;
use crate::settings::RecordLayer;
use engine::{Engine, Job};
use plain::Plain;

mod engine;
mod plain;

/// One connection, either side, from its first byte to its last.
///
/// A client starts with `receive(&mut [], …)`, which writes its hello.
pub struct Session {
    path: Path,
    plan: RecordPlan,
    /// The peer has said enough to look like TLS.
    heard: bool,
    /// What the last `receive` left with the caller, in bytes.
    kept: usize,
    peer: Option<Identity>,
    /// Who has judged the peer, and as what; until the handshake is over.
    judge: Option<(Arc<Trust>, Use)>,
    /// Boxed: there is none unless certificates may be revoked.
    standing: Option<Box<Standing>>,
    agreed: Option<Agreed>,
    peer_closed: bool,
    closed: bool,
    failed: Option<TlsError>,
}

/// Who reads and writes the records.
enum Path {
    /// Neither: changing over has failed, and `failed` says why.
    Gone,
    InPlace(Box<Records>),
    Plain(Plain),
}

/// What is still asked about a handshake when it is over.
struct Agreed {
    alpn: Option<Box<[u8]>>,
    facts: Option<Facts>,
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
        let (tls, tap) = config.tapped();
        let connection = UnbufferedClientConnection::new(tls, nobody)?;
        let engine = Engine::Client(Box::new(connection));
        let judge = config.trust.clone().map(|trust| (trust, Use::Server));
        Ok(Self::new(Plain::new(engine, tap), config.records, judge))
    }

    /// The side that accepts.
    ///
    /// # Errors
    /// [`TlsError::Internal`] when the library cannot start.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        let (tls, tap) = config.tapped();
        let connection = UnbufferedServerConnection::new(tls)?;
        let engine = Engine::Server(Box::new(connection));
        let judge = config.trust.clone().map(|trust| (trust, Use::Client));
        Ok(Self::new(Plain::new(engine, tap), config.records, judge))
    }

    fn new(plain: Plain, plan: RecordPlan, judge: Option<(Arc<Trust>, Use)>) -> Self {
        Self {
            path: Path::Plain(plain),
            plan,
            heard: false,
            kept: 0,
            peer: None,
            judge,
            standing: None,
            agreed: None,
            peer_closed: false,
            closed: false,
            failed: None,
        }
    }

    /// Takes what arrived: decrypts in place, gives each record's plaintext to `plaintext` in order, appends
    /// what must be sent to `outgoing`, and returns how many bytes of `incoming` it is done with.
    ///
    /// The caller keeps the rest, unchanged (it may be decrypted in part), and puts it in front of what arrives
    /// next. That is less than one record (16.3 KiB) once the handshake is over; during it, at most 64 KiB, and
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
                let rest = &incoming[consumed..];
                self.kept = rest.len();
                if let Path::Plain(plain) = &mut self.path {
                    plain.keep(rest);
                }
                Ok(consumed)
            }
            Err(error) => {
                if let (Path::Plain(plain), false) = (&mut self.path, self.closed) {
                    plain.drain_alerts(outgoing); // behind close_notify nothing may follow
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
        self.check_writable()?;
        if plaintext.is_empty() {
            return Ok(());
        }
        let written = match &mut self.path {
            Path::InPlace(records) => records.encrypt(plaintext, outgoing),
            Path::Plain(plain) => plain.write(Job::Encrypt(plaintext), outgoing),
            Path::Gone => Err(TlsError::Misuse("encrypt without a connection")),
        };
        written.inspect_err(|error| self.failed = Some(error.clone()))
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
        self.check_writable()?;
        let written = match &mut self.path {
            Path::InPlace(records) => records.seal(record, ahead),
            Path::Plain(plain) => plain.seal(record, ahead),
            Path::Gone => Err(TlsError::Misuse("seal without a connection")),
        };
        written.inspect_err(|error| self.failed = Some(error.clone()))
    }

    /// Appends `close_notify`: nothing of ours follows. What the peer sends is still received.
    ///
    /// Does nothing during the handshake, where the end of TCP says as much, or the second time.
    pub fn close(&mut self, outgoing: &mut Vec<u8>) {
        if self.closed || self.is_handshaking() || self.failed.is_some() {
            return;
        }
        let written = match &mut self.path {
            Path::InPlace(records) => records.close(outgoing),
            Path::Plain(plain) => plain.write(Job::Close, outgoing),
            Path::Gone => Ok(()),
        };
        // Fails only where there is nobody left to tell.
        self.failed = written.err();
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
        match &self.path {
            Path::Plain(plain) => plain.is_handshaking(),
            Path::Gone | Path::InPlace(_) => false,
        }
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

    /// What the connection rests on, if certificates may be revoked: to be asked again with each new list. None before the
    /// end of the handshake.
    #[must_use]
    pub fn standing(&self) -> Option<&Standing> {
        self.standing.as_deref()
    }

    /// The agreed application protocol, if the peer offered any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.agreed.as_ref()?.alpn.as_deref()
    }

    /// Version, suite and group, once the handshake is over.
    #[must_use]
    pub fn facts(&self) -> Option<Facts> {
        self.agreed.as_ref()?.facts
    }

    fn check_alive(&self) -> Result<(), TlsError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn check_writable(&self) -> Result<(), TlsError> {
        if self.is_handshaking() {
            return Err(TlsError::Misuse("encrypt during the handshake"));
        }
        if self.closed {
            return Err(TlsError::Misuse("encrypt after close"));
        }
        self.check_alive()
    }

    fn advance(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<usize, TlsError> {
        if self.peer_closed {
            return Ok(incoming.len());
        }
        self.listen(incoming, outgoing)?;
        let mut received = Received::default();
        if let Path::Plain(plain) = &mut self.path {
            received = match self.plan.layer {
                RecordLayer::InPlace => plain.shake_hands(incoming, self.kept, outgoing)?,
                RecordLayer::Rustls => plain.read(incoming, outgoing, plaintext)?,
            };
            self.meet()?;
        }
        if let Path::InPlace(records) = &mut self.path {
            let rest = &mut incoming[received.consumed..];
            let said = (!self.closed).then_some(outgoing);
            let more = records.receive(rest, plaintext);
            let more = more.map_err(|fault| fault.tell(records, said))?;
            received.consumed += more.consumed;
            received.closed = more.closed;
        } else if let Path::Plain(plain) = &self.path
            && !received.closed
        {
            plain.check_size(incoming.len() - received.consumed, outgoing)?;
        }
        if received.closed {
            // What follows the closure alert is not the peer's word (RFC 8446 §6.1).
            self.peer_closed = true;
            received.consumed = incoming.len();
        }
        Ok(received.consumed)
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

    /// When the handshake has just ended: notes what came of it, and changes over to our own records.
    fn meet(&mut self) -> Result<(), TlsError> {
        let Path::Plain(plain) = &self.path else {
            return Ok(());
        };
        if self.peer.is_some() || plain.is_handshaking() {
            return Ok(());
        }
        let (peer, agreed) = plain.result()?;
        if let Some((judge, usage)) = self.judge.take() {
            let standing = judge.standing(plain.peer_chain(), usage)?;
            self.standing = standing.map(Box::new);
        }
        self.peer = Some(peer);
        self.agreed = Some(agreed);
        if self.plan.layer == RecordLayer::InPlace
            && let Path::Plain(plain) = mem::replace(&mut self.path, Path::Gone)
        {
            let records = Records::new(self.plan, plain.convert()?)?;
            self.path = Path::InPlace(Box::new(records));
        }
        Ok(())
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
