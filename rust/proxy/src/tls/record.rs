//! TLS 1.3 records after the handshake, sealed and opened where they lie.
//!
//! Sans-io, like all of `tls`: bytes in, bytes out, no clock. rustls hands over its keys when the handshake is over
//! and is gone; `session` decides when. rustls' own record layer is the counterpart: the fallback, and the oracle in
//! the tests of both.
//!
//! | File | What it knows |
//! |---|---|
//! | `aead` | AES-GCM, from either of two libraries |
//! | `choice` | which of the two is the faster one here |
//! | `keys` | one direction's key, and where the next one comes from |
//! | `schedule` | how the next one is made |
//! | `seal`, `open` | one record |
//! | `handshake`, `alert` | what records carry that is not data |
//! | `budget` | how much of that a peer may send |

use std::mem;

use rustls::{AlertDescription, PeerMisbehaved};

use super::error::TlsError;
use crate::settings::RecordLayer;
use aead::Library;
use budget::Budget;
use handshake::Message;
use keys::KeySource;
use open::Opener;
use seal::Sealer;

mod aead;
mod alert;
mod budget;
mod choice;
mod handshake;
mod keys;
mod open;
mod schedule;
mod seal;

pub use choice::{RecordChoice, choose_records};
pub(super) use keys::Converted;
pub(super) use schedule::Tap;

/// Free bytes in front of a payload: content type, version, length (RFC 8446 §5.2).
pub const RECORD_HEADER: usize = 5;
/// Free bytes behind a payload: its real content type and the tag of AES-GCM.
pub const RECORD_TRAILER: usize = 1 + TAG;
/// Largest payload of a record (RFC 8446 §5.1).
pub const RECORD_PAYLOAD: usize = 16_384;

const TAG: usize = 16;

// Content types (RFC 8446 §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// How the records of a connection are made once its handshake is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordPlan {
    pub(super) layer: RecordLayer,
    aead: Library,
    key_update_after: Option<u64>,
}

impl Default for RecordPlan {
    /// Ours, with the library that does the handshakes.
    fn default() -> Self {
        Self {
            layer: RecordLayer::InPlace,
            aead: Library::AwsLc,
            key_update_after: None,
        }
    }
}

#[cfg(test)]
impl RecordPlan {
    /// Every way there is: ours with either library, and rustls' own.
    pub(super) const EACH: [Self; 3] = [
        Self::of(RecordLayer::InPlace, Library::AwsLc),
        Self::of(RecordLayer::InPlace, Library::Ring),
        Self::of(RecordLayer::Rustls, Library::AwsLc),
    ];

    const fn of(layer: RecordLayer, aead: Library) -> Self {
        Self {
            layer,
            aead,
            key_update_after: None,
        }
    }

    pub(super) fn updating_after(self, bytes: u64) -> Self {
        Self {
            key_update_after: Some(bytes),
            ..self
        }
    }
}

/// Both directions of one connection.
pub(super) struct Records {
    keys: KeySource,
    sealer: Sealer,
    opener: Opener,
    budget: Budget,
    /// The beginning of a handshake message whose rest is in a later record.
    unfinished: Vec<u8>,
    /// The peer has asked for a new key of ours: it goes in front of what we say next, once however often it asked.
    update_owed: bool,
}

/// What [`Records::receive`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) consumed: usize,
    /// By `close_notify`; what follows was not looked at.
    pub(super) closed: bool,
}

/// Why a connection is over, and what the peer is told about it.
#[derive(Debug)]
pub(super) struct Fault {
    alert: Option<AlertDescription>,
    error: TlsError,
}

impl Records {
    pub(super) fn new(plan: RecordPlan, converted: Converted) -> Result<Self, TlsError> {
        let (keys, write, read) = converted.ready(plan.aead)?;
        Ok(Self {
            keys,
            sealer: Sealer::new(write, plan.key_update_after),
            opener: Opener::new(read),
            budget: Budget::default(),
            unfinished: Vec::new(),
            update_owed: false,
        })
    }

    /// Opens every whole record of `incoming` and gives its data away, each before the next is looked at. Less than
    /// one record is left unconsumed, and unchanged.
    pub(super) fn receive(
        &mut self,
        incoming: &mut [u8],
        plaintext: &mut impl FnMut(&[u8]),
    ) -> Result<Received, Fault> {
        let mut consumed = 0;
        while let Some(size) = open::size(&incoming[consumed..])? {
            let (kind, payload) = self.opener.open(&mut incoming[consumed..][..size])?;
            consumed += size;
            if kind != HANDSHAKE && !self.unfinished.is_empty() {
                return Err(Fault::unexpected(
                    PeerMisbehaved::MessageInterleavedWithHandshakeMessage,
                ));
            }
            match kind {
                APPLICATION_DATA if payload.is_empty() => self.budget.empty()?,
                APPLICATION_DATA => {
                    self.budget.refill();
                    plaintext(payload);
                }
                ALERT => {
                    self.budget.barren()?;
                    if alert::hear(payload, &mut self.budget)? {
                        let closed = true;
                        return Ok(Received { consumed, closed });
                    }
                }
                HANDSHAKE => {
                    self.budget.barren()?;
                    self.hear_handshake(payload)?;
                }
                kind => return Err(open::out_of_place(kind)),
            }
        }
        let closed = false;
        Ok(Received { consumed, closed })
    }

    /// Appends `text` to `outgoing` as records, each full but the last.
    pub(super) fn encrypt(&mut self, text: &[u8], outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        for payload in text.chunks(RECORD_PAYLOAD) {
            self.renew_key(outgoing)?;
            self.sealer.append(APPLICATION_DATA, payload, outgoing)?;
        }
        Ok(())
    }

    /// Seals one record of data where it lies; its size has been checked.
    pub(super) fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError> {
        self.renew_key(ahead)?;
        self.sealer.seal(APPLICATION_DATA, record)
    }

    /// Appends `close_notify`.
    pub(super) fn close(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        self.renew_key(outgoing)?;
        self.sealer.append(ALERT, &alert::CLOSE_NOTIFY, outgoing)
    }

    /// Puts a key update in front, if the peer waits for one or the key is worn.
    fn renew_key(&mut self, outgoing: &mut Vec<u8>) -> Result<(), TlsError> {
        if !self.update_owed && !self.sealer.is_worn() {
            return Ok(());
        }
        // The peer need not answer with one: it counts for itself what its key has sealed.
        self.sealer
            .append(HANDSHAKE, &handshake::KEY_UPDATE, outgoing)?;
        self.sealer.renew(self.keys.next_write()?);
        self.update_owed = false;
        Ok(())
    }

    fn hear_handshake(&mut self, payload: &[u8]) -> Result<(), Fault> {
        if payload.is_empty() {
            // RFC 8446 §5.4
            return Err(Fault::unexpected(PeerMisbehaved::TooManyEmptyFragments));
        }
        let mut joined = mem::take(&mut self.unfinished);
        let mut rest = payload;
        if !joined.is_empty() {
            joined.extend_from_slice(payload);
            rest = &joined;
        }
        while let Some((message, size)) = handshake::split(rest, self.keys.side())? {
            rest = &rest[size..];
            match message {
                // The record that follows has another key: nothing may begin under the old one (RFC 8446 §5.1).
                Message::KeyUpdate { .. } if !rest.is_empty() => {
                    return Err(Fault::unexpected(
                        PeerMisbehaved::KeyEpochWithPendingFragment,
                    ));
                }
                Message::KeyUpdate { answer } => {
                    self.budget.key_update()?;
                    self.opener.renew(self.keys.next_read()?);
                    self.update_owed |= answer;
                }
                Message::Ticket(ticket) => {
                    // Nothing is resumed, so it is only read: one that is none ends the connection.
                    self.budget.ticket()?;
                    handshake::check_ticket(ticket)?;
                }
            }
        }
        self.unfinished = if rest.len() == joined.len() {
            joined
        } else {
            rest.to_vec()
        };
        Ok(())
    }
}

#[cfg(test)]
impl Records {
    /// See [`Sealer::forge`].
    pub(super) fn forge(&mut self, inner: &[u8]) -> Vec<u8> {
        self.sealer.forge(inner)
    }

    /// Seals with the next key from now on, and says nothing of it.
    pub(super) fn update_key(&mut self) {
        self.sealer.renew(self.keys.next_write().unwrap());
    }
}

impl Fault {
    fn new(alert: AlertDescription, error: impl Into<rustls::Error>) -> Self {
        Self {
            alert: Some(alert),
            error: error.into().into(),
        }
    }

    /// Appends the alert that is due, unless there is nowhere to append it. What is left is the error.
    pub(super) fn tell(self, records: &mut Records, outgoing: Option<&mut Vec<u8>>) -> TlsError {
        if let (Some(alert), Some(outgoing)) = (self.alert, outgoing) {
            let alert = alert::fatal(alert);
            // Fails only where no record can be made any more.
            let _ = records.sealer.append(ALERT, &alert, outgoing);
        }
        self.error
    }

    fn unexpected(error: impl Into<rustls::Error>) -> Self {
        Self::new(AlertDescription::UnexpectedMessage, error)
    }
}

/// Our own fault; the peer is told as much.
impl From<TlsError> for Fault {
    fn from(error: TlsError) -> Self {
        Self {
            alert: Some(AlertDescription::InternalError),
            error,
        }
    }
}

#[cfg(test)]
mod tests;
