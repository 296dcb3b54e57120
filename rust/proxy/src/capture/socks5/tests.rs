use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

const GREETING: &[u8] = &[5, 1, 0];

/// What a client would see and we would dial: all replies, the end, and the bytes left for the application.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    replies: Vec<u8>,
    end: Option<Result<Target, Refusal>>,
    left: Vec<u8>,
}

/// Plays input given in pieces, as a shell would: what was not consumed is given again with the next piece.
fn play(pieces: &[&[u8]]) -> Played {
    let mut negotiation = Negotiation::new();
    let mut played = Played {
        replies: Vec::new(),
        end: None,
        left: Vec::new(),
    };
    for piece in pieces {
        played.left.extend_from_slice(piece);
        while played.end.is_none() {
            match negotiation.receive(&played.left) {
                Ok(Received { consumed, step }) => {
                    played.left.drain(..consumed);
                    match step {
                        Step::NeedMore => break,
                        Step::Reply(bytes) => played.replies.extend_from_slice(bytes),
                        Step::Target(target) => played.end = Some(Ok(target)),
                    }
                }
                Err(refusal) => {
                    assert_eq!(negotiation.receive(b"more"), Err(refusal));
                    played.end = Some(Err(refusal));
                }
            }
        }
    }
    if matches!(played.end, Some(Err(_))) {
        played.left.clear(); // whatever it was, nobody will read it
    }
    played
}

fn after_greeting(request: &[u8]) -> Option<Result<Target, Refusal>> {
    let played = play(&[GREETING, request]);
    assert_eq!(played.replies, [5, 0]);
    played.end
}

fn named(name: &[u8], port: u16) -> Vec<u8> {
    let mut request = vec![5, 1, 0, 3, u8::try_from(name.len()).unwrap()];
    request.extend_from_slice(name);
    request.extend_from_slice(&port.to_be_bytes());
    request
}

fn address(text: &str) -> Target {
    Target::Address(text.parse::<SocketAddr>().unwrap())
}

fn host(hostname: &str, port: u16) -> Target {
    let hostname = hostname.to_owned();
    Target::Host { hostname, port }
}

#[test]
fn greetings_are_answered_or_refused() {
    let all_methods: Vec<u8> = [5, 255].into_iter().chain(0..255).collect();
    let all_but_ours: Vec<u8> = [5, 255].into_iter().chain(1..=255).collect();
    type Reply = Result<&'static [u8], Refusal>;
    let table: &[(&str, &[u8], Reply)] = &[
        ("no authentication", &[5, 1, 0], Ok(&[5, 0])),
        ("among others", &[5, 3, 2, 1, 0], Ok(&[5, 0])),
        ("255 methods", &all_methods, Ok(&[5, 0])),
        ("no methods", &[5, 0], Err(Refusal::NoUsableMethod)),
        ("password only", &[5, 1, 2], Err(Refusal::NoUsableMethod)),
        ("255 others", &all_but_ours, Err(Refusal::NoUsableMethod)),
        ("version 4", &[4, 1, 0, 80], Err(Refusal::NotSocks5(4))),
        ("version 0", &[0], Err(Refusal::NotSocks5(0))),
        ("HTTP", b"GET / HTTP/1.1", Err(Refusal::NotSocks5(b'G'))),
        ("TLS", &[0x16, 3, 1], Err(Refusal::NotSocks5(0x16))),
    ];
    for (name, greeting, expected) in table {
        let played = play(&[greeting]);
        match expected {
            Ok(reply) => {
                assert_eq!(played.replies, *reply, "{name}");
                assert_eq!(played.end, None, "{name}");
            }
            Err(refusal) => assert_eq!(played.end, Some(Err(*refusal)), "{name}"),
        }
    }
}

#[test]
fn requests_name_a_target_or_are_refused() {
    let long = [b'a'; 255];
    let table: Vec<(&str, Vec<u8>, Result<Target, Refusal>)> = vec![
        (
            "IPv4",
            vec![5, 1, 0, 1, 10, 0, 0, 7, 0x1F, 0x90],
            Ok(address("10.0.0.7:8080")),
        ),
        (
            "IPv6",
            [
                &[5, 1, 0, 4][..],
                &[0x20, 1, 0xd, 0xb8],
                &[0; 11],
                &[1, 0, 80],
            ]
            .concat(),
            Ok(address("[2001:db8::1]:80")),
        ),
        (
            "v4-mapped IPv6",
            [
                &[5, 1, 0, 4][..],
                &[0; 10],
                &[0xFF, 0xFF, 10, 0, 0, 7, 0, 80],
            ]
            .concat(),
            Ok(address("10.0.0.7:80")),
        ),
        (
            "reserved byte is ignored",
            vec![5, 1, 9, 1, 10, 0, 0, 7, 0, 80],
            Ok(address("10.0.0.7:80")),
        ),
        ("name", named(b"web.shop", 80), Ok(host("web.shop", 80))),
        (
            "name in its one spelling",
            named(b"Web_1.Shop.", 80),
            Ok(host("web_1.shop", 80)),
        ),
        (
            "IPv4 in the name field",
            named(b"10.0.0.7", 80),
            Ok(address("10.0.0.7:80")),
        ),
        (
            "IPv6 in the name field",
            named(b"::ffff:10.0.0.7", 80),
            Ok(address("10.0.0.7:80")),
        ),
        ("name of no bytes", named(b"", 80), Err(Refusal::Name)),
        ("name of a dot", named(b".", 80), Err(Refusal::Name)),
        ("empty label", named(b"a..b", 80), Err(Refusal::Name)),
        ("name of 255 bytes", named(&long, 80), Err(Refusal::Name)),
        (
            "name of 253 bytes",
            named(&long[..253], 80),
            Ok(host(&"a".repeat(253), 80)),
        ),
        ("not UTF-8", named(&[0xFF, 0xFE], 80), Err(Refusal::Name)),
        ("embedded NUL", named(b"a\0b", 80), Err(Refusal::Name)),
        ("line break", named(b"a\r\nb", 80), Err(Refusal::Name)),
        ("space", named(b"a b", 80), Err(Refusal::Name)),
        ("port in the name", named(b"a:80", 80), Err(Refusal::Name)),
        ("port 0", named(b"web", 0), Err(Refusal::NoPort)),
        (
            "port 0 of an address",
            vec![5, 1, 0, 1, 10, 0, 0, 7, 0, 0],
            Err(Refusal::NoPort),
        ),
        ("BIND", vec![5, 2, 0, 1], Err(Refusal::Command(2))),
        ("UDP", vec![5, 3, 0, 1], Err(Refusal::Command(3))),
        ("command 0", vec![5, 0], Err(Refusal::Command(0))),
        (
            "address type 0",
            vec![5, 1, 0, 0],
            Err(Refusal::AddressType(0)),
        ),
        (
            "address type 2",
            vec![5, 1, 0, 2],
            Err(Refusal::AddressType(2)),
        ),
        (
            "address type 255",
            vec![5, 1, 0, 255],
            Err(Refusal::AddressType(255)),
        ),
        ("version 4", vec![4], Err(Refusal::RequestVersion(4))),
    ];
    for (name, request, expected) in table {
        assert_eq!(after_greeting(&request), Some(expected), "{name}");
    }
}

#[test]
fn every_refusal_has_its_reply() {
    let table: &[(Refusal, &[u8])] = &[
        (Refusal::AddressType(2), &[5, 8, 0, 1, 0, 0, 0, 0, 0, 0]),
        (Refusal::Command(2), &[5, 7, 0, 1, 0, 0, 0, 0, 0, 0]),
        (Refusal::Name, &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
        (Refusal::NoPort, &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
        (Refusal::NoUsableMethod, &[5, 0xFF]),
        (Refusal::NotSocks5(4), &[]),
        (Refusal::RequestVersion(4), &[5, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
    ];
    for (refusal, bytes) in table {
        assert_eq!(refusal.reply(), *bytes, "{refusal}");
    }
}

#[test]
fn outcomes_are_numbered_as_in_the_rfc() {
    let outcomes = [
        Outcome::Succeeded,
        Outcome::GeneralFailure,
        Outcome::NotAllowed,
        Outcome::NetworkUnreachable,
        Outcome::HostUnreachable,
        Outcome::ConnectionRefused,
        Outcome::TimedOut,
        Outcome::CommandNotSupported,
        Outcome::AddressTypeNotSupported,
    ];
    for (code, outcome) in (0_u8..).zip(outcomes) {
        assert_eq!(reply(outcome), [5, code, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}

#[test]
fn a_failed_dial_is_told_as_precisely_as_the_protocol_can() {
    let table = [
        (libc::ECONNREFUSED, Outcome::ConnectionRefused),
        (libc::EHOSTUNREACH, Outcome::HostUnreachable),
        (libc::ENETUNREACH, Outcome::NetworkUnreachable),
        (libc::ETIMEDOUT, Outcome::TimedOut),
        (libc::EPERM, Outcome::NotAllowed),
        (libc::EADDRNOTAVAIL, Outcome::GeneralFailure),
    ];
    for (errno, expected) in table {
        let error = std::io::Error::from_raw_os_error(errno);
        assert_eq!(Outcome::of_dial(&error), expected, "{error}");
    }
}

#[test]
fn data_behind_the_request_is_left_for_the_application() {
    let mut input = GREETING.to_vec();
    input.extend(named(b"web", 80));
    input.extend_from_slice(b"GET / HTTP/1.1\r\n");
    let played = play(&[&input]);
    assert_eq!(played.replies, [5, 0]);
    assert_eq!(played.end, Some(Ok(host("web", 80))));
    assert_eq!(played.left, b"GET / HTTP/1.1\r\n");
}

#[test]
fn silence_and_beginnings_need_more() {
    let mut whole = GREETING.to_vec();
    whole.extend(named(b"web.default.svc.cluster.local", 80));
    for end in 0..whole.len() {
        assert_eq!(play(&[&whole[..end]]).end, None, "{end} bytes");
    }
}

#[test]
fn no_input_makes_the_buffer_grow_past_one_message() {
    let mut negotiation = Negotiation::new();
    let mut input = vec![5, 255];
    input.extend([0; 65_536]);
    let Received { consumed, step } = negotiation.receive(&input).unwrap();
    assert_eq!((consumed, step), (257, Step::Reply(&[5, 0])));
    let mut input = vec![5, 1, 0, 3, 255];
    input.extend([b'a'; 256]);
    let Received { consumed, step } = negotiation.receive(&input).unwrap();
    assert_eq!((consumed, step), (261, Step::NeedMore));
    assert_eq!(negotiation.buffered.len(), 261);
}

/// Bytes that get far: often a greeting and a request with one thing changed.
fn inputs() -> impl Strategy<Value = Vec<u8>> {
    let request = prop_oneof![
        "[a-zA-Z0-9._-]{0,40}".prop_map(|name| named(name.as_bytes(), 80)),
        any::<[u8; 4]>().prop_map(|ip| [&[5, 1, 0, 1][..], &ip, &[0, 80]].concat()),
        any::<[u8; 16]>().prop_map(|ip| [&[5, 1, 0, 4][..], &ip, &[0, 80]].concat()),
    ];
    let likely = (request, any::<(prop::sample::Index, u8, bool)>()).prop_map(
        |(request, (at, byte, change))| {
            let mut input = [GREETING, &request, b"data"].concat();
            if change {
                let at = at.index(input.len());
                input[at] = byte;
            }
            input
        },
    );
    prop_oneof![likely, prop::collection::vec(any::<u8>(), 0..600)]
}

proptest! {
    /// Pieces do not matter: any split of the same bytes gives the same replies, end and rest.
    #[test]
    fn any_split_equals_the_whole(input in inputs(), cut in any::<prop::sample::Index>()) {
        let whole = play(&[&input]);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&play(&bytes), &whole);
        let cut = cut.index(input.len() + 1);
        prop_assert_eq!(&play(&[&input[..cut], &input[cut..]]), &whole);
    }
}

#[test]
fn an_address_with_a_final_dot_is_no_name() {
    let input = [GREETING, &named(b"10.0.0.1.", 80)].concat();
    let target = Target::Address("10.0.0.1:80".parse().unwrap());
    assert_eq!(play(&[&input]).end, Some(Ok(target)));
}
