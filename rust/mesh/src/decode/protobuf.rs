//! Resources as istiod sends them: Istio's protobuf messages (`proto/`, spec/control.md §6).
//!
//! Unknown fields are passed over, as every reader of protobuf must; what is known is checked as in the local file, with
//! the message's own field names in the paths. What upstream cuts to size (a port above 65535) or drops (an address block
//! that cannot be, a pattern of no kind) is a mistake here (spec/dataplane.md §20.2 item 9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use prost::Message;
use prost::bytes::Bytes;

use super::Decoded;
use super::place::Place;
use crate::address::Cidr;
use crate::authorization::Authorization;
use crate::workload::WorkloadParts;

mod authorization;
mod messages;
mod objects;

/// Kubernetes stores no object of more than 1.5 MiB, and what istiod makes of one is not larger.
const MAX_MESSAGE: usize = 2 << 20;

/// A workload or a service.
pub(super) fn address<W>(
    value: &[u8],
    place: &Place<'_>,
    build: impl FnOnce(WorkloadParts<'_>) -> W,
) -> Option<Decoded<W>> {
    match whole::<messages::Address>(value, place)?.kind {
        Some(messages::Type::Workload(m)) => {
            let parts = objects::workload(&m, &place.field("workload"));
            parts.map(|parts| Decoded::Workload(build(parts)))
        }
        Some(messages::Type::Service(m)) => {
            objects::service(&m, &place.field("service")).map(Decoded::Service)
        }
        None => place.fault("is neither a workload nor a service"),
    }
}

/// A policy.
pub(super) fn authorization(value: &[u8], place: &Place<'_>) -> Option<Authorization> {
    authorization::authorization(&whole(value, place)?, place)
}

/// One copy of the resource, of which every text is a piece.
fn whole<M: Message + Default>(value: &[u8], place: &Place<'_>) -> Option<M> {
    if value.len() > MAX_MESSAGE {
        return place.fault(format_args!(
            "larger than {MAX_MESSAGE} bytes: {}",
            value.len()
        ));
    }
    part(&Bytes::copy_from_slice(value), place)
}

/// A message in a message.
fn part<M: Message + Default>(value: &Bytes, place: &Place<'_>) -> Option<M> {
    // The words before the cause are upstream's (spec/control.md §4.6).
    M::decode(value.clone()).map_or_else(|cause| place.fault(format_args!("decode: {cause}")), Some)
}

/// A text that is what `check` says.
fn text<'m, T>(
    check: impl Fn(&'m str, &Place<'_>) -> Option<T>,
) -> impl Fn(&'m Bytes, &Place<'_>) -> Option<T> {
    move |bytes, place| match std::str::from_utf8(bytes) {
        Ok(text) => check(text, place),
        Err(cause) => place.fault(format_args!("not UTF-8 from byte {}", cause.valid_up_to())),
    }
}

/// The entries of a list that could be read.
fn list<'m, M, T>(
    entries: &'m [M],
    place: &Place<'_>,
    read: impl Fn(&'m M, &Place<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    if !place.admit(entries.len()) {
        return None;
    }
    let numbered = entries.iter().enumerate();
    Some(
        numbered
            .filter_map(|(index, entry)| read(entry, &place.index(index)))
            .collect(),
    )
}

/// What the number of an enumeration means, by (number, name, meaning).
fn choice<T: Copy>(number: i32, place: &Place<'_>, known: &[(i32, &str, T)]) -> Option<T> {
    let found = known.iter().find(|(known, ..)| *known == number);
    found.map(|(.., meaning)| *meaning).or_else(|| {
        let names: Vec<String> = known
            .iter()
            .map(|(number, name, _)| format!("{name} ({number})"))
            .collect();
        place.fault(format_args!(
            "expected one of {}, found {number}",
            names.join(", ")
        ))
    })
}

fn port(number: u32, lowest: u16, place: &Place<'_>) -> Option<u16> {
    match u16::try_from(number) {
        Ok(port) if port >= lowest => Some(port),
        _ => place.fault(format_args!(
            "expected a port from {lowest} to {}, found {number}",
            u16::MAX
        )),
    }
}

/// An address as it is written; [`IpAddr::to_canonical`] is the caller's, for a block's length counts bits of this one.
fn ip(bytes: &[u8], place: &Place<'_>) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(four).into());
    }
    if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        return Some(Ipv6Addr::from(sixteen).into());
    }
    place.fault(format_args!(
        "expected 4 or 16 bytes, found {}",
        bytes.len()
    ))
}

fn block(address: IpAddr, length: u32, place: &Place<'_>) -> Option<Cidr> {
    let prefix = u8::try_from(length).ok();
    let block = prefix.and_then(|prefix| Cidr::new(address, prefix).ok());
    block.or_else(|| {
        let width = if address.is_ipv4() { 32 } else { 128 };
        place.fault(format_args!(
            "prefix length is more than the {width} bits of the address: {length}"
        ))
    })
}

#[cfg(test)]
mod tests;
