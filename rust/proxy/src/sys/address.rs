//! One spelling per address: a v4-mapped IPv6 address is the IPv4 address it stands for.
//!
//! Dual-stack listeners report IPv4 peers as `::ffff:a.b.c.d`; every lookup and comparison is made on the
//! plain form (spec/dataplane.md §1).

use std::net::SocketAddr;

/// The same endpoint with a v4-mapped IPv6 address written as IPv4.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
