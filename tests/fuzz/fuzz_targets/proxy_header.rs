//! A PROXY header is read back as what was told, to its last byte: nothing is left over for the application to take for its own.

#![no_main]

use std::net::{IpAddr, SocketAddr};

use libfuzzer_sys::fuzz_target;
use proxy::proxy_header::ProxyHeader;

fuzz_target!(|input: &[u8]| {
    let Some((source, rest)) = address(input) else {
        return;
    };
    let Some((destination, rest)) = address(rest) else {
        return;
    };
    let Ok(identity) = std::str::from_utf8(rest) else {
        return;
    };
    for identity in [None, Some(identity)] {
        check(ProxyHeader {
            source,
            destination,
            identity,
        });
    }
});

/// One byte for the kind, the address, the port.
fn address(input: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let (kind, rest) = input.split_first()?;
    let (ip, rest): (IpAddr, _) = if kind % 2 == 0 {
        let (ip, rest) = rest.split_first_chunk::<4>()?;
        ((*ip).into(), rest)
    } else {
        let (ip, rest) = rest.split_first_chunk::<16>()?;
        ((*ip).into(), rest)
    };
    let (port, rest) = rest.split_first_chunk()?;
    Some((SocketAddr::new(ip, u16::from_be_bytes(*port)), rest))
}

/// By the protocol's text: 12 bytes of signature, version, family, length, then addresses, then TLVs.
fn check(header: ProxyHeader<'_>) {
    let identity = header.identity;
    let bytes = match header.encode() {
        Ok(bytes) => bytes,
        Err(error) => {
            assert_eq!(error.0, identity.map_or(0, str::len));
            assert!(error.0 > 65_535 - 36 - 3);
            return;
        }
    };
    let (fixed, body) = bytes.split_at(16);
    assert_eq!(&fixed[..13], b"\r\n\r\n\0\r\nQUIT\n\x21");
    assert_eq!(
        usize::from(u16::from_be_bytes([fixed[14], fixed[15]])),
        body.len()
    );
    let source = (header.source.ip().to_canonical(), header.source.port());
    let destination = (
        header.destination.ip().to_canonical(),
        header.destination.port(),
    );
    let mut expected = Vec::new();
    match (source.0, destination.0) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            assert_eq!(fixed[13], 0x11);
            expected.extend([source.octets(), destination.octets()].concat());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            assert_eq!(fixed[13], 0x21);
            expected.extend([source.octets(), destination.octets()].concat());
        }
        _ => assert_eq!(fixed[13], 0x01),
    }
    if !expected.is_empty() {
        expected.extend(source.1.to_be_bytes());
        expected.extend(destination.1.to_be_bytes());
    }
    let (addresses, tlvs) = body.split_at(expected.len());
    assert_eq!(addresses, expected);
    match identity {
        None => assert!(tlvs.is_empty()),
        Some(identity) => {
            assert_eq!(tlvs[0], 0xD0);
            assert_eq!(
                usize::from(u16::from_be_bytes([tlvs[1], tlvs[2]])),
                identity.len()
            );
            assert_eq!(&tlvs[3..], identity.as_bytes());
        }
    }
}
