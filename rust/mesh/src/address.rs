//! Where things are: addresses qualified by network, hostnames qualified by namespace, CIDR blocks, localities.
//!
//! An IPv4 address written as IPv4-mapped IPv6 becomes IPv4 at the door (spec/dataplane.md §1), so that one
//! address has one spelling in every index and every match.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

/// An IP address and the network in which it means something; the empty network is a name like any other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkAddress {
    /// The network's name, often empty.
    pub network: Arc<str>,
    /// The address, in its canonical form.
    pub address: IpAddr,
}

impl FromStr for NetworkAddress {
    type Err = AddressError;

    /// Reads `network/ip`; `/1.2.3.4` names the empty network.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (network, address) = text
            .split_once('/')
            .ok_or_else(|| AddressError::NetworkAddress(excerpt(text)))?;
        Ok(Self {
            network: network.into(),
            address: parse_ip(address)?,
        })
    }
}

impl fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.address)
    }
}

/// A service's name: its hostname and the namespace that owns it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedHostname {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The hostname, compared byte by byte (spec/dataplane.md §3.3).
    pub hostname: Arc<str>,
}

impl FromStr for NamespacedHostname {
    type Err = AddressError;

    /// Reads `namespace/hostname`, split at the first slash; both parts must be there.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::split(text).map(|(namespace, hostname)| Self {
            namespace: namespace.into(),
            hostname: hostname.into(),
        })
    }
}

impl NamespacedHostname {
    /// The parts of a name, which stay where they are.
    pub(crate) fn split(text: &str) -> Result<(&str, &str), AddressError> {
        let parts = text.split_once('/');
        let whole = |(namespace, hostname): &(&str, &str)| {
            !namespace.is_empty() && !hostname.is_empty() && !hostname.contains('/')
        };
        (parts.filter(whole)).ok_or_else(|| AddressError::NamespacedHostname(excerpt(text)))
    }
}

impl fmt::Display for NamespacedHostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// Where a workload runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Locality {
    /// The cloud's region.
    pub region: Arc<str>,
    /// The zone in the region.
    pub zone: Arc<str>,
    /// A part of the zone, for example a rack.
    pub subzone: Arc<str>,
}

/// A block of addresses; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The block of `prefix` leading bits around `address`; host bits are cleared.
    ///
    /// # Errors
    /// [`AddressError::Prefix`] when the prefix is longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, AddressError> {
        let width = width(address);
        if prefix > width {
            return Err(AddressError::Prefix { prefix, width });
        }
        // ::ffff:10.0.0.0/104 is 10.0.0.0/8; shorter prefixes really mean IPv6.
        Ok(match address.to_canonical() {
            v4 @ IpAddr::V4(_) if address.is_ipv6() && prefix >= 96 => {
                Self::masked(v4, prefix - 96)
            }
            _ => Self::masked(address, prefix),
        })
    }

    /// Whether `address` lies in the block. IPv4 and IPv6 never meet, mapped addresses count as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.network.is_ipv4()
            && Self::masked(address, self.prefix).network == self.network
    }

    /// How many leading bits are fixed.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The block of `prefix` bits around `address`, which the caller knows to be wide enough.
    pub(crate) fn masked(address: IpAddr, prefix: u8) -> Self {
        let host_bits = u32::from(width(address).saturating_sub(prefix));
        let network = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V4((v4.to_bits() & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
                IpAddr::V6((v6.to_bits() & mask).into())
            }
        };
        Self { network, prefix }
    }
}

impl FromStr for Cidr {
    type Err = AddressError;

    /// Reads `address/prefix`. The prefix must be there: a forgotten one is more often a typing mistake than a host.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (address, prefix) = text
            .split_once('/')
            .ok_or_else(|| AddressError::Cidr(excerpt(text)))?;
        let digits =
            !prefix.is_empty() && prefix.len() <= 3 && prefix.bytes().all(|b| b.is_ascii_digit());
        let address: IpAddr = address
            .parse()
            .map_err(|_| AddressError::Ip(excerpt(address)))?;
        match prefix.parse() {
            Ok(prefix) if digits => Self::new(address, prefix),
            _ => Err(AddressError::Cidr(excerpt(text))),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not `address/prefix`.
    #[error("invalid CIDR block (address/prefix, for example 10.0.0.0/8): `{0}`")]
    Cidr(String),
    /// Not an IP address.
    #[error("invalid IP address: `{0}`")]
    Ip(String),
    /// Not `namespace/hostname`.
    #[error("invalid service name (namespace/hostname): `{0}`")]
    NamespacedHostname(String),
    /// Not `network/ip`.
    #[error("invalid network address (network/ip, the network may be empty): `{0}`")]
    NetworkAddress(String),
    /// The prefix is longer than the address.
    #[error("prefix length is more than the {width} bits of the address: {prefix}")]
    Prefix {
        /// As given.
        prefix: u8,
        /// Bits of the address family.
        width: u8,
    },
}

/// Reads an IP address and brings it into its canonical form.
pub(crate) fn parse_ip(text: &str) -> Result<IpAddr, AddressError> {
    text.parse::<IpAddr>()
        .map(|ip| ip.to_canonical())
        .map_err(|_| AddressError::Ip(excerpt(text)))
}

/// The beginning of a text that came from outside: an error message must not grow with its cause,
/// nor start a new line in a log.
pub(crate) fn excerpt(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().take(128).map(harmless).collect()
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

macro_rules! serialize_as_text {
    ($($type:ty),+) => {$(
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )+};
}
pub(crate) use serialize_as_text;
serialize_as_text!(Cidr, NamespacedHostname, NetworkAddress);

#[cfg(test)]
mod tests;
