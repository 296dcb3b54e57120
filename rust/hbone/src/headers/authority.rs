//! `:authority` of a CONNECT: where the tunnel should lead (spec/dataplane.md §3.3).
//!
//! Says what was asked for, not whether it is allowed: `mesh::inbound` checks both forms against the mesh.

use std::fmt;
use std::net::SocketAddr;

/// Longest DNS name in text form (RFC 1035 §2.3.4).
const MAX_HOST: usize = 253;

/// The target of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// `1.2.3.4:80` or `[::1]:80`, exactly as the peer meant it: an IPv4-mapped address stays one, and who
    /// compares it with an IPv4 address makes it canonical first.
    Address(SocketAddr),
    /// A name and a port. The name is for a lookup among the mesh's services, by exact spelling, and for
    /// nothing else: `010.0.0.1` and `127.1` are names here, which a resolver would take for addresses.
    Host {
        /// Letters, digits, `-`, `.`, `_` and `*`; at most 253 of them; case kept.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
}

impl Authority {
    /// Parses the text form.
    ///
    /// Stricter than the standard library and than upstream, so that one target has one spelling: no zone, no
    /// user, no sign or leading zero in the port, no port zero (spec/reliability.md §6 BI-H).
    ///
    /// # Errors
    /// Says which part is not as it must be.
    pub fn parse(text: &str) -> Result<Self, AuthorityError> {
        let (host, port) = text.rsplit_once(':').ok_or(AuthorityError::PortMissing)?;
        let port = parse_port(port)?;
        if host.is_empty() {
            return Err(AuthorityError::HostMissing);
        }
        if host.len() > MAX_HOST {
            return Err(AuthorityError::HostTooLong);
        }
        if host.contains('@') {
            return Err(AuthorityError::User);
        }
        // The standard library reads `[::1%1]:80`; an interface number of the peer means nothing to us.
        if host.contains('%') {
            return Err(AuthorityError::Zone);
        }
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        if !host.bytes().all(is_host_byte) {
            return Err(AuthorityError::Host);
        }
        let host = host.to_owned();
        Ok(Self::Host { host, port })
    }

    /// The port, which both forms have.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Host { port, .. } => *port,
        }
    }
}

impl fmt::Display for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

/// Why a text is not an authority. The text is not repeated: it is the peer's and of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// A character that no service's name has.
    #[error("authority has a character outside of letters, digits, `-`, `.`, `_` and `*`")]
    Host,
    /// Nothing before the port.
    #[error("authority has no host")]
    HostMissing,
    /// Above 253 bytes.
    #[error("authority has a host of more than {MAX_HOST} bytes")]
    HostTooLong,
    /// Not 1 to 65535 in plain decimal.
    #[error("authority has a port that is not a number from 1 to 65535")]
    Port,
    /// No colon at all.
    #[error("authority has no port")]
    PortMissing,
    /// `user@host`, which CONNECT has no use for (RFC 9113 §8.5).
    #[error("authority has a user part")]
    User,
    /// `%eth0`.
    #[error("authority has an address with a zone")]
    Zone,
}

fn parse_port(text: &str) -> Result<u16, AuthorityError> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    match text.parse() {
        Ok(port) if plain => Ok(port),
        _ => Err(AuthorityError::Port),
    }
}

const fn is_host_byte(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*')
}

#[cfg(test)]
mod tests;
