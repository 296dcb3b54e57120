//! Where a redirected connection wanted to go, as the kernel's connection tracking remembers it.
//!
//! What to make of a missing answer is decided in `capture/original_dst.rs`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use socket2::{SockAddr, SockRef};

use super::address::canonical;

/// The kernel's answer.
#[derive(Debug)]
pub enum OriginalAddress {
    /// Nothing was rewritten, or nothing is tracked: the socket's own address, which is the right one under
    /// TPROXY. The errors of both questions are kept for the warning.
    Local {
        address: SocketAddr,
        v4: io::Error,
        v6: io::Error,
    },
    /// The address before redirection.
    Tracked(SocketAddr),
}

impl OriginalAddress {
    /// The address, however it was found, in canonical form.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Local { address, .. } | Self::Tracked(address) => *address,
        }
    }
}

/// Asks SO_ORIGINAL_DST, then IP6T_SO_ORIGINAL_DST, then the socket itself (spec/dataplane.md §1.2).
pub fn original_destination(socket: &impl AsFd) -> io::Result<OriginalAddress> {
    let socket = SockRef::from(socket);
    let v4 = match socket.original_dst_v4().and_then(endpoint) {
        Ok(address) => return Ok(OriginalAddress::Tracked(address)),
        Err(error) => error,
    };
    let v6 = match socket.original_dst_v6().and_then(endpoint) {
        Ok(address) => return Ok(OriginalAddress::Tracked(address)),
        Err(error) => error,
    };
    let address = socket.local_addr().and_then(endpoint)?;
    Ok(OriginalAddress::Local { address, v4, v6 })
}

fn endpoint(address: SockAddr) -> io::Result<SocketAddr> {
    address
        .as_socket()
        .map(canonical)
        .ok_or_else(|| io::Error::other("not an internet address"))
}

#[cfg(test)]
mod tests;
