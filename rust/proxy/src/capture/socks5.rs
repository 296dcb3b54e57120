//! SOCKS5 as a conversation: the client's bytes in, our replies and the wanted target out (RFC 1928).
//!
//! Knows no socket, no clock and no mesh. The shell gives it what it read, writes what it is told to, dials,
//! and only then sends the final [`reply()`]; the deadline is the shell's as well. CONNECT without
//! authentication is all there is: BIND, UDP and passwords are refused.
//!
//! ```text
//! Greeting ──method 0x00 offered──▶ Request ──CONNECT──▶ Done
//!     │ version, methods                │ version, command, address
//!     └────────────▶ Refusal ◀──────────┘        (the conversation is over)
//! ```

mod address;
mod reply;

use std::fmt;

pub use address::Target;
pub use reply::{Outcome, reply};

/// One client's negotiation. At most one message is buffered: 262 bytes.
#[derive(Debug)]
pub struct Negotiation {
    stage: Stage,
    buffered: Vec<u8>,
}

/// What was taken from the input, and what to do now. Bytes behind `consumed` belong to the next call, or to
/// the application once the target is known.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    pub consumed: usize,
    pub step: Step,
}

/// What the shell does next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Read more.
    NeedMore,
    /// Write these bytes, then go on with the rest of the input.
    Reply(&'static [u8]),
    /// Dial this, then send [`reply()`]; `receive` must not be called again.
    Target(Target),
}

/// Why the negotiation ended. Write [`Refusal::reply`] (it may be empty), then close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Address type other than IPv4, name, IPv6.
    AddressType(u8),
    /// BIND, UDP ASSOCIATE or an unknown command.
    Command(u8),
    /// Port 0 cannot be dialled.
    NoPort,
    /// The client offers no method that we take (only "no authentication").
    NoUsableMethod,
    /// The name is empty, too long, not UTF-8 or has characters that no host name has.
    Name,
    /// The greeting is not SOCKS5: another protocol, to which no SOCKS5 answer would make sense.
    NotSocks5(u8),
    /// The request has another version than the greeting.
    RequestVersion(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Done,
    Greeting,
    Refused(Refusal),
    Request,
}

impl Negotiation {
    #[must_use]
    pub fn new() -> Self {
        Self {
            stage: Stage::Greeting,
            buffered: Vec::new(),
        }
    }

    /// Takes a prefix of `input`. After a refusal every call returns the same one.
    pub fn receive(&mut self, input: &[u8]) -> Result<Received, Refusal> {
        let mut consumed = 0;
        loop {
            let missing = match self.missing() {
                Ok(missing) => missing,
                Err(refusal) => {
                    self.stage = Stage::Refused(refusal);
                    return Err(refusal);
                }
            };
            if missing == 0 {
                let step = self.complete()?;
                return Ok(Received { consumed, step });
            }
            let rest = &input[consumed..];
            if rest.is_empty() || self.stage == Stage::Done {
                let step = Step::NeedMore;
                return Ok(Received { consumed, step });
            }
            let taken = missing.min(rest.len());
            self.buffered.extend_from_slice(&rest[..taken]);
            consumed += taken;
        }
    }

    /// How many bytes the message in the buffer still lacks as far as can be told; never past its end.
    fn missing(&self) -> Result<usize, Refusal> {
        let length = match self.stage {
            Stage::Done => return Ok(1),
            Stage::Greeting => greeting_length(&self.buffered)?,
            Stage::Refused(refusal) => return Err(refusal),
            Stage::Request => request_length(&self.buffered)?,
        };
        Ok(length - self.buffered.len())
    }

    fn complete(&mut self) -> Result<Step, Refusal> {
        let message = std::mem::take(&mut self.buffered);
        let result = match self.stage {
            Stage::Greeting => {
                self.stage = Stage::Request;
                choose_method(&message[2..])
            }
            _ => {
                self.stage = Stage::Done;
                address::parse(&message[3..]).map(Step::Target)
            }
        };
        if let Err(refusal) = result {
            self.stage = Stage::Refused(refusal);
        }
        result
    }
}

impl Default for Negotiation {
    fn default() -> Self {
        Self::new()
    }
}

impl Refusal {
    /// The last bytes for the client.
    #[must_use]
    pub fn reply(self) -> &'static [u8] {
        match self {
            Self::AddressType(_) => reply(Outcome::AddressTypeNotSupported),
            Self::Command(_) => reply(Outcome::CommandNotSupported),
            Self::Name | Self::NoPort | Self::RequestVersion(_) => reply(Outcome::GeneralFailure),
            Self::NoUsableMethod => &[VERSION, NO_ACCEPTABLE_METHOD],
            Self::NotSocks5(_) => &[],
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddressType(code) => write!(f, "unsupported SOCKS5 address type: {code}"),
            Self::Command(code) => write!(f, "unsupported SOCKS5 command: {code}; only CONNECT is"),
            Self::NoPort => f.write_str("SOCKS5 request for port 0"),
            Self::NoUsableMethod => f.write_str(
                "no usable SOCKS5 authentication method; only `no authentication` is accepted",
            ),
            Self::Name => f.write_str("malformed host name in SOCKS5 request"),
            Self::NotSocks5(version) => write!(f, "not SOCKS5: version {version}"),
            Self::RequestVersion(version) => {
                write!(f, "unsupported version in SOCKS5 request: {version}")
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// VER NMETHODS METHODS…, as far as its length is known.
fn greeting_length(message: &[u8]) -> Result<usize, Refusal> {
    match *message {
        [] => Ok(1),
        [VERSION] => Ok(2),
        [VERSION, count, ..] => Ok(2 + usize::from(count)),
        [version, ..] => Err(Refusal::NotSocks5(version)),
    }
}

fn choose_method(offered: &[u8]) -> Result<Step, Refusal> {
    if offered.contains(&NO_AUTHENTICATION) {
        Ok(Step::Reply(&[VERSION, NO_AUTHENTICATION]))
    } else {
        Err(Refusal::NoUsableMethod)
    }
}

/// VER CMD RSV ATYP ADDR PORT, as far as its length is known. RSV is not looked at, as upstream.
fn request_length(message: &[u8]) -> Result<usize, Refusal> {
    match *message {
        [] => Ok(1),
        [version, ..] if version != VERSION => Err(Refusal::RequestVersion(version)),
        [_] => Ok(2),
        [_, command, ..] if command != CONNECT => Err(Refusal::Command(command)),
        [_, _] | [_, _, _] => Ok(4),
        [_, _, _, ref address @ ..] => Ok(3 + address::length(address)?),
    }
}

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0x00;
const NO_ACCEPTABLE_METHOD: u8 = 0xFF;
const CONNECT: u8 = 1;

#[cfg(test)]
mod tests;
