//! What is not TLS, is an older TLS, or is nothing at all (spec/reliability.md BI-T).

use super::plain::MAX_HELLO;
use super::*;

fn server() -> End {
    End::server(Authority::root("root").certificate(SERVER).server())
}

fn client() -> End {
    End::client(
        Authority::root("root")
            .certificate(CLIENT)
            .client(&[identity(SERVER)]),
    )
}

/// A hello without extensions, as TLS 1.0 to 1.2 clients may send it (RFC 5246 §7.4.1.2).
fn old_hello(minor: u8, extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, minor];
    body.extend_from_slice(&[7; 32]); // random
    body.push(0); // session
    body.extend_from_slice(&[0, 4, 0xc0, 0x2b, 0xc0, 0x2f]); // suites
    body.extend_from_slice(&[1, 0]); // no compression
    if !extensions.is_empty() {
        body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
        body.extend_from_slice(extensions);
    }
    record(22, &message(1, &body))
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend_from_slice(body);
    message
}

fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 3, 1];
    record.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    record.extend_from_slice(payload);
    record
}

#[test]
fn what_is_not_tls_is_told_so_at_once_and_in_words() {
    on_each_path(|| {
        for (said, shown) in [
            (&b"GET / HTTP/1.1\r\nHost: x\r\n"[..], "GET / HTTP/1.1"),
            (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-OpenSSH_9.2"),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0"),
            (
                b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
                "PROXY TCP4 10.0.0.1 10.0.0.2 1 2",
            ),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", ""),
            (b"\x80\x2e\x01\x00\x02", r"\x80.\x01\x00\x02"), // SSLv2
            (b"\x16\x02\x00\x00\x05hello", r"\x16\x02\x00\x00\x05hello"),
            (b"G", "G"),
            (b"\0", r"\x00"),
        ] {
            for end in [&mut server(), &mut client()] {
                end.outbox.clear();
                end.take(said);
                assert_eq!(end.reason(), "not_tls", "{shown}");
                let text = end.error.as_ref().unwrap().to_string();
                assert!(text.contains(&format!("it began with `{shown}`")), "{text}");
                assert_eq!(end.outbox, plain_alert(ALERT_DECODE_ERROR));
            }
        }
    });
}

#[test]
fn older_versions_are_refused_as_such() {
    on_each_path(|| {
        const HANDSHAKE_FAILURE: u8 = 40;
        const PROTOCOL_VERSION: u8 = 70;
        // supported_groups, signature_algorithms: what a hello of 1.2 has; and supported_versions with 1.2 alone.
        let common = [0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3];
        let only_12 = [&common[..], &[0, 43, 0, 3, 2, 3, 3]].concat();
        for (minor, extensions) in [
            (1, &[][..]),
            (2, &[]),
            (3, &[]),
            (3, &common),
            (3, &only_12),
        ] {
            let mut end = server();
            end.take(&old_hello(minor, extensions));
            assert_eq!(
                end.reason(),
                "unsupported_version",
                "{minor} {extensions:?}"
            );
            let alert = if extensions.is_empty() {
                HANDSHAKE_FAILURE
            } else {
                PROTOCOL_VERSION
            };
            assert_eq!(end.outbox, plain_alert(alert));
        }
    });
}

#[test]
fn a_server_of_an_older_version_is_refused_as_such() {
    on_each_path(|| {
        let mut end = client();
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0x13, 0x02, 0]);
        end.take(&record(22, &message(2, &body)));
        assert_eq!(end.reason(), "unsupported_version");
    });
}

#[test]
fn a_hello_that_never_ends_is_cut_off() {
    on_each_path(|| {
        let mut end = server();
        let piece = record(22, &[0; 200]);
        end.take(&record(22, &[1, 0, 0xff, 0xff]));
        let mut sent = 0;
        while end.error.is_none() {
            end.take(&piece);
            sent += piece.len();
            assert!(sent < 2 * MAX_HELLO, "no bound");
        }
        assert_eq!(end.reason(), "too_large");
        assert!(end.most_kept <= MAX_HELLO);
        assert_eq!(end.outbox, plain_alert(ALERT_RECORD_OVERFLOW));
    });
}

#[test]
fn a_hello_in_tiny_records_is_understood() {
    on_each_path(|| {
        let mut dialer = client();
        let hello = std::mem::take(&mut dialer.outbox);
        let mut end = server();
        for piece in hello[5..].chunks(3) {
            end.take(&record(22, piece));
        }
        assert_eq!(end.reason(), "none");
        assert!(!end.outbox.is_empty());
    });
}

#[test]
fn broken_beginnings_are_refused_with_an_alert() {
    on_each_path(|| {
        let too_long = [22, 3, 3, 0x48, 0x01];
        for (case, bytes) in [
            ("record too long", too_long.to_vec()),
            ("empty handshake record", record(22, b"")),
            ("data before hello", record(23, b"data")),
            ("change_cipher_spec before hello", record(20, &[1])),
            ("finished before hello", record(22, &message(20, &[0; 32]))),
            ("hello of nothing", record(22, &message(1, b""))),
        ] {
            let mut end = server();
            end.take(&bytes);
            assert_eq!(end.reason(), "protocol", "{case}");
            assert_eq!(end.outbox.len(), 7, "{case}");
        }
    });
}

#[test]
fn a_peer_that_gives_up_in_the_handshake_is_heard() {
    on_each_path(|| {
        let mut end = server();
        end.take(&record(21, &[2, 40]));
        assert_eq!(end.reason(), "peer_alert:handshake_failure");
        let mut end = server();
        end.take(&record(21, &[1, 0]));
        assert_ne!(end.session.end_of_input(), Ok(()));
        assert!(!end.session.peer_closed());
    });
}

#[test]
fn a_client_that_is_refused_late_hears_why() {
    on_each_path(|| {
        let root = Authority::root("root");
        let key = PrivateKey::generate().unwrap();
        let stranger = "spiffe://elsewhere/ns/a/sa/b";
        let chain = root.sign(&Leaf::named(stranger), &key);
        let mut client = End::client(lax_client(chain, &key));
        let mut server = End::server(root.certificate(SERVER).server());
        server.take(&std::mem::take(&mut client.outbox));
        client.take(&std::mem::take(&mut server.outbox));
        // In TLS 1.3 the client is done before the server has looked (spec/dataplane.md §23).
        assert!(!client.session.is_handshaking());
        client.say(b"CONNECT");
        carry_whole(&mut client, &mut server);
        assert_eq!(server.reason(), "wrong_trust_domain");
        assert_eq!(server.heard, b"");
        assert_eq!(client.reason(), "peer_alert:certificate_unknown");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_end_a_session_and_nothing_else(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        like_tls in any::<bool>(),
        cut in 1usize..300,
        plan in any_plan(),
    ) {
        use_plan(plan);
        for end in [&mut server(), &mut client()] {
            let bytes = if like_tls { record(22, &bytes) } else { bytes.clone() };
            for piece in bytes.chunks(cut) {
                end.take(piece);
            }
            prop_assert!(end.session.is_handshaking());
            prop_assert!(end.heard.is_empty());
        }
    }

    #[test]
    fn changed_bytes_never_pass(
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
        in_handshake in any::<bool>(),
        cut in 1usize..3000,
        plan in any_plan(),
    ) {
        use_plan(plan);
        let (mut client, mut server) = if in_handshake {
            ends(&Authority::root("root"))
        } else {
            tunnel()
        };
        if !in_handshake {
            client.say(b"some text to be changed on its way");
        }
        let at = at.index(client.outbox.len());
        // A record's version is nobody's business any more (RFC 8446 §5.1), and once records are encrypted nor
        // is their outer type: rustls looks at neither, while our records hold both to their tag. All else counts.
        let ours = plan.layer == RecordLayer::InPlace && !in_handshake;
        prop_assume!(at > 2 || (in_handshake && at == 0) || ours);
        client.outbox[at] ^= flip;
        carry(&mut client, &mut server, || cut);
        // A changed hello may still be a hello, but then the transcripts differ.
        prop_assert!(server.heard.is_empty());
        prop_assert!(!in_handshake || server.session.is_handshaking());
    }
}
