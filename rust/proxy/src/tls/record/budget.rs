//! What a peer may send that is allowed and costs us work, but brings nothing: so much between payload and payload.
//!
//! Each piece of payload fills it up again, for then the peer is at work; `user_canceled` alone is counted for life.

use rustls::{AlertDescription, PeerMisbehaved};

use super::{Fault, TlsError};

#[derive(Debug)]
pub(super) struct Budget {
    empty: u8,
    key_updates: u8,
    tickets: u8,
    barren: u16,
    warnings: u8,
}

/// As BoringSSL and rustls: some peers send a few to hide lengths.
const EMPTY_RECORDS: u8 = 32;
/// As BoringSSL and rustls: each one costs two key derivations.
const KEY_UPDATES: u8 = 32;
/// A server sends two or four when the handshake is over, and hardly ever one later.
const TICKETS: u8 = 32;
/// Handshake and alert records of any kind: enough for the largest ticket in the smallest fragments that a peer may
/// ask its own library for (64 KiB in 64 bytes, RFC 8449 §4).
const BARREN_RECORDS: u16 = 1024;
/// As BoringSSL and rustls: one says something, the next ones do not.
const WARNINGS: u8 = 4;

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
        spend(&mut self.empty, PeerMisbehaved::TooManyEmptyFragments)
    }

    pub(super) fn key_update(&mut self) -> Result<(), Fault> {
        spend(
            &mut self.key_updates,
            PeerMisbehaved::TooManyKeyUpdateRequests,
        )
    }

    pub(super) fn warning(&mut self) -> Result<(), Fault> {
        spend(
            &mut self.warnings,
            PeerMisbehaved::TooManyWarningAlertsReceived,
        )
    }

    pub(super) fn ticket(&mut self) -> Result<(), Fault> {
        self.tickets = self.tickets.checked_sub(1).ok_or_else(|| Fault {
            alert: Some(AlertDescription::UnexpectedMessage),
            error: TlsError::Protocol(format!("more than {TICKETS} tickets and no data")),
        })?;
        Ok(())
    }

    pub(super) fn barren(&mut self) -> Result<(), Fault> {
        self.barren = self.barren.checked_sub(1).ok_or_else(|| Fault {
            alert: Some(AlertDescription::UnexpectedMessage),
            error: TlsError::Protocol(format!("more than {BARREN_RECORDS} records and no data")),
        })?;
        Ok(())
    }
}

fn spend(left: &mut u8, over: PeerMisbehaved) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or_else(|| Fault::unexpected(over))?;
    Ok(())
}
