//! The PROXY protocol's header, version 2: what an application behind the mesh is told of a connection before its bytes.
//!
//! Bytes only (spec/dataplane.md §3.8); who gets one is `mesh::route`'s to say, and `deliver.rs` writes it. We never read
//! one: whoever sends us a header wants to be taken for us.

use std::net::{IpAddr, SocketAddr};

/// Who speaks to whom, for an application that would otherwise see only us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader<'a> {
    /// The peer at the other end of the tunnel.
    pub source: SocketAddr,
    /// Where the tunnel was asked to lead.
    pub destination: SocketAddr,
    /// Whom the peer's certificate names, as a SPIFFE URI.
    pub identity: Option<&'a str>,
}

/// An identity that does not fit into the header. It is never cut short, which would make it somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("identity is too long for a PROXY header: {0} bytes")]
pub struct IdentityTooLong(pub usize);

impl ProxyHeader<'_> {
    /// The header's bytes. Addresses of two families cannot be told, so none is then; the identity still is.
    ///
    /// # Errors
    /// The identity has more than 65,496 bytes; one that a certificate may have has 2,048 at most.
    pub fn encode(&self) -> Result<Vec<u8>, IdentityTooLong> {
        let mut header = Vec::with_capacity(TYPICAL);
        header.extend_from_slice(&SIGNATURE);
        header.push(VERSION_AND_COMMAND);
        let (source, destination) = (
            self.source.ip().to_canonical(),
            self.destination.ip().to_canonical(),
        );
        let ports = [self.source.port(), self.destination.port()];
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                begin(&mut header, TCP_OVER_IPV4);
                put(&mut header, [source.octets(), destination.octets()], ports);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                begin(&mut header, TCP_OVER_IPV6);
                put(&mut header, [source.octets(), destination.octets()], ports);
            }
            _ => begin(&mut header, STREAM_WITHOUT_ADDRESSES),
        }
        if let Some(identity) = self.identity {
            let length = u16::try_from(identity.len());
            let length = length.map_err(|_| IdentityTooLong(identity.len()))?;
            header.push(IDENTITY);
            header.extend_from_slice(&length.to_be_bytes());
            header.extend_from_slice(identity.as_bytes());
        }
        // Counted, not summed up from what should be there: a length that says less than follows it would make the rest
        // of the header the first bytes of the application's conversation (CVE-2026-47692).
        let length = u16::try_from(header.len() - FIXED)
            .map_err(|_| IdentityTooLong(self.identity.map_or(0, str::len)))?;
        header[LENGTH..FIXED].copy_from_slice(&length.to_be_bytes());
        Ok(header)
    }
}

/// The family, and room for the length.
fn begin(header: &mut Vec<u8>, family: u8) {
    header.extend_from_slice(&[family, 0, 0]);
}

fn put<const N: usize>(header: &mut Vec<u8>, addresses: [[u8; N]; 2], ports: [u16; 2]) {
    for address in addresses {
        header.extend_from_slice(&address);
    }
    for port in ports {
        header.extend_from_slice(&port.to_be_bytes());
    }
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, PROXY: on behalf of somebody else, unlike LOCAL.
const VERSION_AND_COMMAND: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// AF_UNSPEC, STREAM.
const STREAM_WITHOUT_ADDRESSES: u8 = 0x01;
/// The mesh's own TLV, from the range for private use: a SPIFFE URI. 0xD1 is reserved for a service's name and not sent.
const IDENTITY: u8 = 0xD0;

/// Where the length stands, and where what it counts begins.
const LENGTH: usize = 14;
const FIXED: usize = 16;
/// An IPv4 pair and a SPIFFE URI of ordinary length.
const TYPICAL: usize = 128;

#[cfg(test)]
mod tests;
