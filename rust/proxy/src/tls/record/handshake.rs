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

const EARLY_DATA: u16 = 42;

/// One is defined, and peers add a few that mean nothing, to keep others honest (RFC 8701); all may be looked at for
/// each.
const MAX_EXTENSIONS: usize = 32;

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

/// Is this the body of a ticket (RFC 8446 §4.6.1)?
pub(super) fn check_ticket(mut body: &[u8]) -> Result<(), Fault> {
    ticket_extensions(&mut body)
        .filter(|_| body.is_empty())
        .and_then(check_extensions)
        .ok_or_else(|| malformed(InvalidMessage::MissingData("a ticket")))
}

fn ticket_extensions<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    body.split_off(..8)?; // lifetime and age
    let [nonce] = take(body)?;
    body.split_off(..usize::from(nonce))?;
    let ticket = take(body).map(u16::from_be_bytes)?;
    body.split_off(..usize::from(ticket))
        .filter(|ticket| !ticket.is_empty())?;
    let extensions = take(body).map(u16::from_be_bytes)?;
    body.split_off(..usize::from(extensions))
}

fn check_extensions(mut extensions: &[u8]) -> Option<()> {
    let mut seen = Vec::new();
    while !extensions.is_empty() {
        let kind = take(&mut extensions).map(u16::from_be_bytes)?;
        let length = take(&mut extensions).map(u16::from_be_bytes)?;
        let body = extensions.split_off(..usize::from(length))?;
        let early_data = kind == EARLY_DATA;
        if seen.len() >= MAX_EXTENSIONS || seen.contains(&kind) || (early_data && body.len() != 4) {
            return None;
        }
        seen.push(kind);
    }
    Some(())
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    bytes.split_off(..N)?.try_into().ok()
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
