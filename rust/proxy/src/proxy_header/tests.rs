use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

const WHO: &str = "spiffe://cluster.local/ns/default/sa/client";

fn encoded(source: &str, destination: &str, identity: Option<&str>) -> Vec<u8> {
    let header = ProxyHeader {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        identity,
    };
    header.encode().unwrap()
}

fn bytes(hex: &str, text: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let mut bytes: Vec<u8> = digits.chunks(2).map(byte).collect();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

#[test]
fn every_kind_of_header_has_exactly_these_bytes() {
    let signature = "0d0a0d0a000d0a515549540a";
    for (source, destination, identity, rest) in [
        (
            "10.0.0.1:1234",
            "10.0.0.2:8080",
            None,
            "21 11 000c 0a000001 0a000002 04d2 1f90",
        ),
        (
            "10.0.0.1:1234",
            "10.0.0.2:8080",
            Some(WHO),
            "21 11 003a 0a000001 0a000002 04d2 1f90 d0 002b",
        ),
        (
            "[2001:db8::1]:65535",
            "[::1]:80",
            None,
            "21 21 0024 20010db8000000000000000000000001 00000000000000000000000000000001 ffff 0050",
        ),
        (
            "[2001:db8::1]:65535",
            "[::1]:80",
            Some(WHO),
            "21 21 0052 20010db8000000000000000000000001 00000000000000000000000000000001 ffff 0050 d0 002b",
        ),
        ("10.0.0.1:1234", "[::1]:80", None, "21 01 0000"),
        ("10.0.0.1:1234", "[::1]:80", Some(WHO), "21 01 002e d0 002b"),
        ("[2001:db8::1]:1", "10.0.0.2:80", None, "21 01 0000"),
        // One address, whichever way it is spelled.
        (
            "[::ffff:10.0.0.1]:1234",
            "10.0.0.2:8080",
            None,
            "21 11 000c 0a000001 0a000002 04d2 1f90",
        ),
        (
            "10.0.0.1:1234",
            "10.0.0.2:8080",
            Some(""),
            "21 11 000f 0a000001 0a000002 04d2 1f90 d0 0000",
        ),
    ] {
        let expected = bytes(&format!("{signature}{rest}"), identity.unwrap_or_default());
        let header = encoded(source, destination, identity);
        assert_eq!(header, expected, "{source} {destination} {identity:?}");
    }
}

#[test]
fn an_identity_that_does_not_fit_is_refused_and_not_cut_short() {
    let address: SocketAddr = "[::1]:80".parse().unwrap();
    let encode = |length: usize| {
        let identity = "a".repeat(length);
        let header = ProxyHeader {
            source: address,
            destination: address,
            identity: Some(&identity),
        };
        header.encode()
    };
    // 65,535 less two addresses with their ports, and what stands before the identity.
    let most = 65_535 - 36 - 3;
    assert_eq!(decode(&encode(most).unwrap()).identity.unwrap().len(), most);
    for length in [most + 1, 65_535, 65_536, 1 << 20] {
        assert_eq!(encode(length), Err(IdentityTooLong(length)));
    }
}

/// What a header says, read by the protocol's text alone.
#[derive(Debug, PartialEq)]
struct Decoded {
    addresses: Option<(SocketAddr, SocketAddr)>,
    identity: Option<String>,
}

/// Every byte must be accounted for: what is left over would be taken for the application's.
fn decode(header: &[u8]) -> Decoded {
    assert_eq!(
        &header[..12],
        b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A"
    );
    assert_eq!(header[12], 0x21);
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    let body = &header[16..];
    assert_eq!(body.len(), length);
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let (addresses, mut rest) = match header[13] {
        0x11 => {
            let ip = |at: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&body[at..at + 4]).unwrap());
            let pair = ((ip(0), port(8)).into(), (ip(4), port(10)).into());
            (Some(pair), &body[12..])
        }
        0x21 => {
            let ip = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&body[at..at + 16]).unwrap());
            let pair = ((ip(0), port(32)).into(), (ip(16), port(34)).into());
            (Some(pair), &body[36..])
        }
        0x01 => (None, body),
        other => panic!("family {other:#x}"),
    };
    let mut identity = None;
    while let [kind, high, low, value @ ..] = rest {
        assert_eq!(*kind, 0xD0);
        assert!(identity.is_none(), "told twice");
        let (value, behind) = value.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        identity = Some(String::from_utf8(value.to_vec()).unwrap());
        rest = behind;
    }
    assert!(rest.is_empty(), "{} bytes left over", rest.len());
    Decoded {
        addresses,
        identity,
    }
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|v4| IpAddr::from(Ipv4Addr::from(v4).to_ipv6_mapped())),
    ];
    (ip, any::<u16>()).prop_map(SocketAddr::from)
}

proptest! {
    #[test]
    fn whatever_is_told_is_read_back_the_same(
        source in any_address(),
        destination in any_address(),
        identity in proptest::option::of("[ -~]{0,600}|\\PC{0,40}"),
    ) {
        let header = ProxyHeader { source, destination, identity: identity.as_deref() };
        let canonical = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let (source, destination) = (canonical(source), canonical(destination));
        let tellable = source.is_ipv4() == destination.is_ipv4();
        let expected = Decoded { addresses: tellable.then_some((source, destination)), identity: identity.clone() };
        prop_assert_eq!(decode(&header.encode().unwrap()), expected);
    }
}
