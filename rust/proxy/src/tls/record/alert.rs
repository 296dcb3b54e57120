//! Alerts: what a peer's means, and the bytes of ours.

use rustls::{AlertDescription, Error, InvalidMessage, PeerMisbehaved};

use super::Fault;
use super::budget::Budget;

pub(super) const CLOSE_NOTIFY: [u8; 2] = [WARNING, 0];

const WARNING: u8 = 1;
const FATAL: u8 = 2;

pub(super) fn fatal(alert: AlertDescription) -> [u8; 2] {
    [FATAL, u8::from(alert)]
}

/// Says whether it is the peer's `close_notify`. Only `user_canceled` is neither that nor the end (RFC 8446 §6.1).
pub(super) fn hear(payload: &[u8], budget: &mut Budget) -> Result<bool, Fault> {
    let &[level, code] = payload else {
        return Err(misshapen(payload));
    };
    let description = AlertDescription::from(code);
    let heard = Error::AlertReceived(description);
    if !matches!(level, WARNING | FATAL) {
        return Err(Fault::new(AlertDescription::IllegalParameter, heard));
    }
    match description {
        // Whatever its level (RFC 8446 §6).
        AlertDescription::CloseNotify => Ok(true),
        _ if level == WARNING => {
            budget.warning()?;
            match description {
                AlertDescription::UserCanceled => Ok(false),
                _ => Err(Fault::new(AlertDescription::DecodeError, heard)),
            }
        }
        // The peer has ended the connection; it hears nothing more.
        _ => Err(Fault {
            alert: None,
            error: heard.into(),
        }),
    }
}

fn misshapen(payload: &[u8]) -> Fault {
    if payload.is_empty() {
        // RFC 8446 §5.4
        return Fault::unexpected(PeerMisbehaved::TooManyEmptyFragments);
    }
    let error = InvalidMessage::MissingData("an alert of two bytes");
    Fault::new(AlertDescription::DecodeError, error)
}
