//! The address a captured connection was meant for.
//!
//! A type of its own, so that it is not mistaken for the client, the tunnel's target or the peer we dial.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use crate::sys::{self, OriginalAddress};

/// Where the application wanted to go, in canonical form (never v4-mapped).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OriginalDestination(pub SocketAddr);

/// Connection tracking had no answer although the listener depends on it; the local address was taken.
/// One line for the log, with the kernel's reason for each family.
#[derive(Debug)]
pub struct Untracked {
    v4: io::Error,
    v6: io::Error,
}

impl OriginalDestination {
    /// Finds it for an accepted socket. On a `transparent` listener the local address is the expected source of
    /// the answer (TPROXY), so nothing is worth a warning there (spec/dataplane.md §1.2).
    pub fn of(socket: &impl AsFd, transparent: bool) -> io::Result<(Self, Option<Untracked>)> {
        let found = sys::original_destination(socket)?;
        let destination = Self(found.address());
        let warning = match found {
            OriginalAddress::Local { v4, v6, .. } if !transparent => Some(Untracked { v4, v6 }),
            OriginalAddress::Local { .. } | OriginalAddress::Tracked(_) => None,
        };
        Ok((destination, warning))
    }
}

impl fmt::Display for OriginalDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Untracked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "no original destination: IPv4: {}, IPv6: {}; the local address is used, is the redirection rule in place?",
            self.v4, self.v6
        )
    }
}

#[cfg(test)]
mod tests;
