//! Handshake messages after the handshake: key updates, and tickets for clients.
//!
//! Everything else is refused at its first byte, so that nobody's memory is spent on it. `record` joins what
//! arrives in pieces.

use rustls::{AlertDescription, Error, HandshakeType, InvalidMessage, Side};

use super::Fault;

/// `update_not_requested` (RFC 8446 §4.6.3).
pub(super) const KEY_UPDATE: [u8; HEADER + 1] = [TYPE_KEY_UPDATE, 0, 0, 1, 0];

const HEADER: usize = 4;
const TYPE_NEW_SESSION_TICKET: u8 = 4;
const TYPE_KEY_UPDATE: u8 = 24;

/// As much as rustls takes; a ticket that holds a client's whole chain is a tenth of this.
const MAX_TICKET: usize = 0xffff;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message<'a> {
    KeyUpdate {
        /// The peer wants one from us too.
        answer: bool,
    },
    /// The body of a `NewSessionTicket`.
    Ticket(&'a [u8]),
}

/// The message that `bytes` begin with, and its length; none if it has not arrived whole.
pub(super) fn split(bytes: &[u8], side: Side) -> Result<Option<(Message<'_>, usize)>, Fault> {
    let Some(&kind) = bytes.first() else {
        return Ok(None);
    };
    let ticket = match (kind, side) {
        (TYPE_KEY_UPDATE, _) => false,
        (TYPE_NEW_SESSION_TICKET, Side::Client) => true,
        _ => return Err(out_of_place(kind, side)),
    };
    let Some(&[_, a, b, c]) = bytes.first_chunk() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if ticket && length > MAX_TICKET {
        return Err(malformed(InvalidMessage::HandshakePayloadTooLarge));
    }
    if !ticket && length != 1 {
        return Err(malformed(InvalidMessage::InvalidKeyUpdate));
    }
    let Some(body) = bytes[HEADER..].get(..length) else {
        return Ok(None);
    };
    let message = match body {
        body if ticket => Message::Ticket(body),
        [0] => Message::KeyUpdate { answer: false },
        [1] => Message::KeyUpdate { answer: true },
        _ => {
            return Err(Fault::new(
                AlertDescription::IllegalParameter,
                InvalidMessage::InvalidKeyUpdate,
            ));
        }
    };
    Ok(Some((message, HEADER + length)))
}

fn malformed(error: InvalidMessage) -> Fault {
    Fault::new(AlertDescription::DecodeError, error)
}

fn out_of_place(kind: u8, side: Side) -> Fault {
    let mut expect_types = vec![HandshakeType::KeyUpdate];
    if side == Side::Client {
        expect_types.push(HandshakeType::NewSessionTicket);
    }
    Fault::unexpected(Error::InappropriateHandshakeMessage {
        expect_types,
        got_type: HandshakeType::from(kind),
    })
}
