//! What a peer may send that is allowed and costs us work, but brings nothing: so much between payload and payload.
//!
//! Each piece of payload fills it up again, for then the peer is at work; `user_canceled` alone is counted for life.

use rustls::{AlertDescription, PeerMisbehaved};

use super::{Fault, TlsError};

#[derive(Debug)]
pub(super) struct Budget {
    empty: u16,
    key_updates: u16,
    tickets: u16,
    barren: u16,
    warnings: u16,
}

/// As BoringSSL and rustls: some peers send a few to hide lengths.
const EMPTY_RECORDS: u16 = 32;
/// As BoringSSL and rustls: each one costs two key derivations.
const KEY_UPDATES: u16 = 32;
/// A server sends two or four when the handshake is over, and hardly ever one later.
const TICKETS: u16 = 32;
/// Handshake and alert records of any kind: enough for the largest ticket in the smallest fragments that a peer may
/// ask its own library for (64 KiB in 64 bytes, RFC 8449 §4).
const BARREN_RECORDS: u16 = 1024;
/// As BoringSSL and rustls: one says something, the next ones do not.
const WARNINGS: u16 = 4;

impl Default for Budget {
    fn default() -> Self {
        Self {
            empty: EMPTY_RECORDS,
            key_updates: KEY_UPDATES,
            tickets: TICKETS,
            barren: BARREN_RECORDS,
            warnings: WARNINGS,
        }
    }
}

impl Budget {
    #[inline]
    pub(super) fn refill(&mut self) {
        let warnings = self.warnings;
        *self = Self {
            warnings,
            ..Self::default()
        };
    }

    pub(super) fn empty(&mut self) -> Result<(), Fault> {
        let over = PeerMisbehaved::TooManyEmptyFragments;
        spend(&mut self.empty, || Fault::unexpected(over))
    }

    pub(super) fn key_update(&mut self) -> Result<(), Fault> {
        let over = PeerMisbehaved::TooManyKeyUpdateRequests;
        spend(&mut self.key_updates, || Fault::unexpected(over))
    }

    pub(super) fn warning(&mut self) -> Result<(), Fault> {
        let over = PeerMisbehaved::TooManyWarningAlertsReceived;
        spend(&mut self.warnings, || Fault::unexpected(over))
    }

    pub(super) fn ticket(&mut self) -> Result<(), Fault> {
        spend(&mut self.tickets, || too_many(TICKETS, "tickets"))
    }

    pub(super) fn barren(&mut self) -> Result<(), Fault> {
        spend(&mut self.barren, || too_many(BARREN_RECORDS, "records"))
    }
}

fn spend(left: &mut u16, over: impl FnOnce() -> Fault) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or_else(over)?;
    Ok(())
}

fn too_many(limit: u16, what: &str) -> Fault {
    Fault {
        alert: Some(AlertDescription::UnexpectedMessage),
        error: TlsError::Protocol(format!("more than {limit} {what} and no data")),
    }
}
