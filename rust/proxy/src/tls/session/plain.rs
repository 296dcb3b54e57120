//! The handshake, always; and the records behind it, where rustls' own are asked for.
//!
//! Drives `engine`. Its counterpart is `record`, which takes over when a handshake is over.

use std::mem;
use std::sync::Arc;

use mesh::identity::Identity;
use rustls::CommonState;
use rustls_pki_types::CertificateDer;

use super::engine::{Engine, Job, Step};
use super::{ALERT_RECORD_OVERFLOW, Agreed, Facts, plain_alert};
use crate::tls::error::TlsError;
use crate::tls::record::{Converted, RECORD_HEADER, RECORD_TRAILER, Received, Tap};
use crate::tls::trust::spiffe_name;

pub(super) struct Plain {
    engine: Engine,
    /// A copy of what lies with the caller, only while that is a handshake message in part; see [`Plain::write`].
    unfinished: Vec<u8>,
    /// What it takes to go on without rustls; only where that is the plan.
    tap: Option<Arc<Tap>>,
}

/// A client's hello with a post-quantum key share has 1.8 KiB; until it is read we owe the peer nothing
/// (spec/reliability.md T01).
pub(super) const MAX_HELLO: usize = 8 * 1024;
/// rustls' own bound for a handshake message (spec/reliability.md T03), and for what its buffered API holds.
pub(super) const MAX_REST: usize = 64 * 1024;

impl Plain {
    pub(super) fn new(engine: Engine, tap: Option<Arc<Tap>>) -> Self {
        Self {
            engine,
            unfinished: Vec::new(),
            tap,
        }
    }

    fn common(&self) -> &CommonState {
        self.engine.common()
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// Reads to the end of what is there.
    pub(super) fn read(
        &mut self,
        incoming: &mut [u8],
        outgoing: &mut Vec<u8>,
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<Received, TlsError> {
        let mut received = Received::default();
        loop {
            let rest = &mut incoming[received.consumed..];
            let (done, step) = self.engine.step(rest, Job::Read, outgoing, plaintext);
            received.consumed += done;
            match step? {
                Step::Again => {}
                Step::PeerClosed => received.closed = true,
                Step::Rest => return Ok(received),
            }
        }
    }

    /// Reads to the end of the handshake and no further: rustls is shown one record more at a time, and so has never
    /// seen one that belongs to its successor. `kept` is what it was shown before.
    pub(super) fn shake_hands(
        &mut self,
        incoming: &mut [u8],
        kept: usize,
        outgoing: &mut Vec<u8>,
    ) -> Result<Received, TlsError> {
        let mut shown = 0;
        while shown < kept {
            shown = record_end(incoming, shown);
        }
        let mut consumed = 0;
        while !self.is_over() {
            let nothing =
                &mut |_: &[u8]| debug_assert!(false, "data before the end of a handshake");
            let rest = &mut incoming[consumed..shown];
            let (done, step) = self.engine.step(rest, Job::Read, outgoing, nothing);
            consumed += done;
            if let Step::Rest = step? {
                if shown == incoming.len() {
                    break;
                }
                shown = record_end(incoming, shown);
            }
        }
        let closed = false;
        Ok(Received { consumed, closed })
    }

    /// The handshake is over, and all of it has been written.
    fn is_over(&self) -> bool {
        !self.common().is_handshaking() && !self.common().wants_write()
    }

    /// Who the peer is and what was agreed, once the handshake is over.
    pub(super) fn result(&self) -> Result<(Identity, Agreed), TlsError> {
        let common = self.common();
        let leaf = common.peer_certificates().and_then(<[_]>::first);
        let leaf = leaf.ok_or_else(|| TlsError::Internal("peer without certificate".into()))?;
        let agreed = Agreed {
            alpn: common.alpn_protocol().map(Into::into),
            facts: self.facts(),
        };
        Ok((spiffe_name(leaf)?, agreed))
    }

    /// What the peer has shown, the leaf first.
    pub(super) fn peer_chain(&self) -> &[CertificateDer<'static>] {
        self.common().peer_certificates().unwrap_or_default()
    }

    fn facts(&self) -> Option<Facts> {
        let common = self.common();
        Some(Facts {
            version: common.protocol_version()?.as_str()?,
            suite: common.negotiated_cipher_suite()?.suite().as_str()?,
            group: common.negotiated_key_exchange_group()?.name().as_str()?,
        })
    }

    /// Gives the connection up for its keys.
    pub(super) fn convert(self) -> Result<Converted, TlsError> {
        let tap = self.tap;
        let tap = tap.ok_or_else(|| TlsError::Internal("nobody took the secrets down".into()))?;
        match self.engine {
            Engine::Client(connection) => Converted::client(*connection, tap),
            Engine::Server(connection) => Converted::server(*connection, tap),
        }
    }

    /// Bounds what the caller must keep: rustls bounds a message, not the records it comes in.
    pub(super) fn check_size(&self, rest: usize, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        let hello = self.common().protocol_version().is_none();
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
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.unfinished.clear();
        // A whole record that was not consumed is a part of a handshake message; anything else would have been.
        let whole = rest.get(3..5).is_some_and(|length| {
            rest.len() >= RECORD_HEADER + usize::from(u16::from_be_bytes([length[0], length[1]]))
        });
        if whole && !self.is_handshaking() {
            self.unfinished.extend_from_slice(rest);
        }
    }

    /// Writes without reading. rustls gives the writer only out of a look at the input, and while a handshake
    /// message has arrived in part it must be shown that part again (it panics otherwise): hence the copy, which
    /// is empty but for peers that cut their tickets and key updates in pieces.
    pub(super) fn write(&mut self, job: Job<'_>, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
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
        written
    }

    /// As `write`, for a record that lies where it shall be; rustls cannot but copy.
    pub(super) fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError> {
        let payload = &record[RECORD_HEADER..record.len() - RECORD_TRAILER];
        let mut sealed = Vec::new();
        self.write(Job::Encrypt(payload), &mut sealed)?;
        let (update, sealed) = sealed.split_at(sealed.len() - record.len());
        ahead.extend_from_slice(update);
        record.copy_from_slice(sealed);
        Ok(())
    }

    pub(super) fn drain_alerts(&mut self, outgoing: &mut Vec<u8>) {
        self.engine.drain_alerts(outgoing);
    }
}

/// Where the record that begins at `start` ends, as far as it is there.
fn record_end(bytes: &[u8], start: usize) -> usize {
    let Some(&[_, _, _, high, low]) = bytes[start..].first_chunk() else {
        return bytes.len();
    };
    let end = start + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    end.min(bytes.len())
}
