use std::io::{Read as _, Write as _};

use proptest::prelude::*;
use rustls::{ClientConnection, ServerConnection};

use super::engine::{ALERT_RECORD, RECORD_OVERHEAD, encrypted_len};
use super::*;
use crate::tls::testing::{
    Authority, CLIENT, End, Leaf, SERVER, carry, carry_whole, identity, lax_client, lax_server,
    on_each_path, plan, tunnel, use_plan,
};
use crate::tls::{PrivateKey, WorkloadCertificate};

mod conversations;
mod forged;
mod hostile;
mod interop;
mod openssl;

fn any_plan() -> impl Strategy<Value = RecordPlan> {
    prop::sample::select(&RecordPlan::EACH[..])
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn ends(root: &Authority) -> (End, End) {
    let (client, server) = (root.certificate(CLIENT), root.certificate(SERVER));
    (
        End::client(client.client(&[identity(SERVER)])),
        End::server(server.server()),
    )
}

#[test]
fn both_ends_agree_on_who_how_and_what() {
    on_each_path(|| {
        let (client, server) = tunnel();
        assert_eq!(client.session.peer(), Some(&identity(SERVER)));
        assert_eq!(server.session.peer(), Some(&identity(CLIENT)));
        for end in [&client, &server] {
            assert_eq!(end.session.alpn(), Some(&b"h2"[..]));
            let facts = Facts {
                version: "TLSv1_3",
                suite: "TLS13_AES_256_GCM_SHA384",
                group: "X25519",
            };
            assert_eq!(end.session.facts(), Some(facts));
        }
    });
}

#[test]
fn nothing_is_known_of_the_peer_before_the_end_of_the_handshake() {
    on_each_path(|| {
        let (mut client, mut server) = ends(&Authority::root("root"));
        server.take(&std::mem::take(&mut client.outbox));
        assert!(server.session.is_handshaking());
        assert_eq!(server.session.peer(), None);
        let mut sent = Vec::new();
        assert_eq!(
            server
                .session
                .encrypt(b"early", &mut sent)
                .unwrap_err()
                .reason(),
            "misuse"
        );
        assert!(sent.is_empty());
    });
}

#[test]
fn the_handshake_holds_byte_by_byte() {
    on_each_path(|| {
        let (mut client, mut server) = ends(&Authority::root("root"));
        carry(&mut client, &mut server, || 1);
        assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
        client.say(b"ping");
        server.say(b"pong");
        carry(&mut client, &mut server, || 1);
        assert_eq!(
            (&server.heard[..], &client.heard[..]),
            (&b"ping"[..], &b"pong"[..])
        );
    });
}

#[test]
fn ten_mebibytes_arrive_as_they_left() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        let text = pattern(10 << 20);
        client.say(&text);
        server.say(&text);
        carry(&mut client, &mut server, || 60_000);
        assert!(server.heard == text && client.heard == text);
        assert!(client.most_kept <= 5 + 16_384 + 17, "{}", client.most_kept);
    });
}

#[test]
fn records_are_full_and_nothing_is_reserved_in_vain() {
    on_each_path(|| {
        let (mut client, _) = tunnel();
        for (len, records) in [(1, 1), (16_384, 1), (16_385, 2), (100_000, 7)] {
            client.outbox.clear();
            client.say(&pattern(len));
            assert_eq!(client.outbox.len(), len + records * RECORD_OVERHEAD);
            assert_eq!(client.outbox.len(), encrypted_len(len));
        }
        client.outbox.clear();
        client.say(b"");
        assert!(client.outbox.is_empty());
    });
}

#[test]
fn a_record_sealed_where_it_lies_is_the_same_to_the_peer() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        let mut heard = Vec::new();
        for len in [1, 9, 16_384] {
            let text = pattern(len);
            let mut record = vec![0; RECORD_HEADER + len + RECORD_TRAILER];
            record[RECORD_HEADER..][..len].copy_from_slice(&text);
            let mut ahead = Vec::new();
            client.session.seal(&mut record, &mut ahead).unwrap();
            assert!(ahead.is_empty());
            server.take(&record);
            client.say(b"and so on");
            carry_whole(&mut client, &mut server);
            heard.extend_from_slice(&text);
            heard.extend_from_slice(b"and so on");
        }
        assert!(server.heard == heard);
        for len in [0, 22, 22 + 16_385] {
            let wrong = client.session.seal(&mut vec![0; len], &mut Vec::new());
            assert_eq!(wrong.unwrap_err().reason(), "misuse", "{len}");
        }
    });
}

#[test]
fn plaintext_lies_where_its_record_arrived() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        for len in [1, 100, 40_000] {
            client.say(&pattern(len));
        }
        let mut bytes = std::mem::take(&mut client.outbox);
        let start = bytes.as_ptr() as usize;
        let mut places = Vec::new();
        let mut note = |text: &[u8]| places.push((text.as_ptr() as usize - start, text.to_vec()));
        let done = server
            .session
            .receive(&mut bytes, &mut Vec::new(), &mut note)
            .unwrap();
        assert_eq!(done, bytes.len());
        let (mut end, mut heard) = (0, 0);
        for (at, text) in places {
            assert!(at >= end + RECORD_HEADER);
            assert!(bytes[at..][..text.len()] == text);
            end = at + text.len() + RECORD_TRAILER;
            heard += text.len();
        }
        assert_eq!((end, heard), (done, 40_101));
    });
}

#[test]
fn what_is_already_to_be_sent_stays_in_front() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.say(b"first ");
        client.say(b"second");
        carry_whole(&mut client, &mut server);
        assert_eq!(server.heard, b"first second");
    });
}

#[test]
fn data_right_behind_finished_is_read_in_the_same_call() {
    on_each_path(|| {
        let (mut client, mut server) = ends(&Authority::root("root"));
        server.take(&std::mem::take(&mut client.outbox));
        client.take(&std::mem::take(&mut server.outbox));
        client.say(b"hello");
        client.session.close(&mut client.outbox);
        server.take(&std::mem::take(&mut client.outbox));
        assert_eq!(server.heard, b"hello");
        assert!(server.session.peer_closed());
        assert_eq!(server.session.peer(), Some(&identity(CLIENT)));
    });
}

#[test]
fn one_direction_can_close_while_the_other_goes_on() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.say(b"question");
        client.session.close(&mut client.outbox);
        carry_whole(&mut client, &mut server);
        assert!(server.session.peer_closed() && !client.session.peer_closed());
        assert_eq!(server.session.end_of_input(), Ok(()));
        assert_eq!(
            client
                .session
                .encrypt(b"x", &mut Vec::new())
                .unwrap_err()
                .reason(),
            "misuse"
        );

        server.say(b"answer");
        server.session.close(&mut server.outbox);
        carry_whole(&mut client, &mut server);
        assert_eq!(
            (&server.heard[..], &client.heard[..]),
            (&b"question"[..], &b"answer"[..])
        );
        assert!(client.session.peer_closed());
        assert_eq!(client.session.end_of_input(), Ok(()));
    });
}

#[test]
fn closing_twice_says_it_once() {
    on_each_path(|| {
        let (mut client, _) = tunnel();
        client.session.close(&mut client.outbox);
        let said = client.outbox.len();
        assert_eq!(said, ALERT_RECORD);
        client.session.close(&mut client.outbox);
        assert_eq!(client.outbox.len(), said);
    });
}

#[test]
fn what_follows_the_end_is_not_read() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.session.close(&mut client.outbox);
        client.outbox.extend_from_slice(b"GET / HTTP/1.1\r\n");
        carry_whole(&mut client, &mut server);
        assert_eq!((server.reason(), &server.heard[..]), ("none", &b""[..]));
        server.take(b"more");
        assert_eq!(server.reason(), "none");
        assert_eq!(
            server
                .session
                .receive(&mut [0; 9], &mut Vec::new(), &mut |_| {}),
            Ok(9)
        );
    });
}

#[test]
fn an_end_without_close_notify_is_told_from_a_whole_one() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.say(b"half of it");
        carry_whole(&mut client, &mut server);
        assert!(!server.session.peer_closed());
        assert_eq!(server.session.end_of_input(), Err(TlsError::Truncated));

        let (mut client, mut server) = ends(&Authority::root("root"));
        server.take(&std::mem::take(&mut client.outbox));
        assert_eq!(
            server.session.end_of_input(),
            Err(TlsError::EndedInHandshake)
        );
    });
}

#[test]
fn an_error_is_told_again_and_nothing_more_is_said() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.say(b"text");
        let last = client.outbox.len() - 1;
        client.outbox[last] ^= 1;
        carry_whole(&mut client, &mut server);
        assert_eq!(server.reason(), "protocol");
        assert_eq!(client.reason(), "peer_alert:bad_record_mac");
        let mut sent = Vec::new();
        let again = server.session.receive(&mut [], &mut sent, &mut |_| {});
        assert_eq!(again.err(), server.error);
        assert_eq!(server.session.encrypt(b"x", &mut sent).err(), server.error);
        assert_eq!(server.session.end_of_input().err(), server.error);
        server.session.close(&mut sent);
        assert!(sent.is_empty());
    });
}

#[test]
fn forgetting_what_was_not_consumed_is_noticed() {
    on_each_path(|| {
        let (mut client, mut server) = tunnel();
        client.say(b"text");
        server.take(&client.outbox[..9]);
        let wrong = server
            .session
            .receive(&mut [0; 8], &mut Vec::new(), &mut |_| {});
        assert_eq!(wrong.unwrap_err().reason(), "misuse");
    });
}

#[test]
fn a_session_says_what_it_is() {
    on_each_path(|| {
        let (client, _) = tunnel();
        let text = format!("{:?}", client.session);
        assert!(
            text.contains(SERVER) && text.contains("handshaking: false"),
            "{text}"
        );
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_split_gives_the_same_bytes(
        cuts in prop::collection::vec(1usize..20_000, 1..40),
        sizes in prop::collection::vec(0usize..50_000, 1..6),
        plan in any_plan(),
    ) {
        use_plan(plan);
        let (mut client, mut server) = ends(&Authority::root("root"));
        let mut cuts = cuts.into_iter().cycle();
        let mut cut = || cuts.next().unwrap();
        carry(&mut client, &mut server, &mut cut);
        let text = pattern(sizes.iter().sum());
        let mut rest = text.as_slice();
        for size in sizes {
            let (now, later) = rest.split_at(size);
            client.say(now);
            server.say(now);
            rest = later;
            carry(&mut client, &mut server, &mut cut);
        }
        client.session.close(&mut client.outbox);
        carry(&mut client, &mut server, &mut cut);
        prop_assert!(server.heard == text && client.heard == text);
        prop_assert!(server.session.peer_closed() && !client.session.peer_closed());
    }
}
