//! The address part of a SOCKS5 request: ATYP, address, port (RFC 1928 §5).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Refusal;

/// Where the client wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Canonical: never a v4-mapped address. A literal sent in the name field is an address, too.
    Address(SocketAddr),
    /// Lower case, without the final dot.
    Host { hostname: String, port: u16 },
}

/// The whole length of ATYP ADDR PORT, as far as it is known from a non-empty beginning.
pub(super) fn length(message: &[u8]) -> Result<usize, Refusal> {
    match *message {
        [IPV4, ..] => Ok(1 + 4 + 2),
        [IPV6, ..] => Ok(1 + 16 + 2),
        [NAME] => Ok(2),
        [NAME, 0, ..] => Err(Refusal::Name),
        [NAME, length, ..] => Ok(1 + 1 + usize::from(length) + 2),
        [kind, ..] => Err(Refusal::AddressType(kind)),
        [] => Ok(1),
    }
}

/// Reads a complete ATYP ADDR PORT, of the length that [`length`] said.
pub(super) fn parse(message: &[u8]) -> Result<Target, Refusal> {
    let Some((address, port)) = message.split_last_chunk::<2>() else {
        return Err(Refusal::Name);
    };
    let port = u16::from_be_bytes(*port);
    if port == 0 {
        return Err(Refusal::NoPort);
    }
    match *address {
        [IPV4, a, b, c, d] => Ok(at(Ipv4Addr::new(a, b, c, d).into(), port)),
        [NAME, _, ref name @ ..] => host(name, port),
        [IPV6, ref octets @ ..] => match <[u8; 16]>::try_from(octets) {
            Ok(octets) => Ok(at(Ipv6Addr::from(octets).into(), port)),
            Err(_) => Err(Refusal::AddressType(IPV6)),
        },
        [kind, ..] => Err(Refusal::AddressType(kind)),
        [] => Err(Refusal::Name),
    }
}

fn at(ip: IpAddr, port: u16) -> Target {
    Target::Address(SocketAddr::new(ip.to_canonical(), port))
}

fn host(name: &[u8], port: u16) -> Result<Target, Refusal> {
    let name = std::str::from_utf8(name).map_err(|_| Refusal::Name)?;
    // The final dot goes first: `10.0.0.1.` is an address too, and must not pass as a name.
    let name = name.strip_suffix('.').unwrap_or(name);
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(at(ip, port));
    }
    if !is_hostname(name) {
        return Err(Refusal::Name);
    }
    let hostname = name.to_ascii_lowercase();
    Ok(Target::Host { hostname, port })
}

/// Wide enough for every name a mesh can hold (underscores, names beyond ASCII as the client spelled them), too
/// narrow for what could be read as something else in a log, an authority or a resolver.
fn is_hostname(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.split('.').all(|label| !label.is_empty())
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// RFC 1035 §2.3.4 counts 255 with length bytes and root: 253 as written.
const MAX_NAME: usize = 253;
