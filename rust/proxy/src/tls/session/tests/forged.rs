//! Records that no sane peer sends, made with the keys of a real handshake.

use rustls::ContentType;

use super::plain::MAX_REST;
use super::*;

/// One that has shaken hands with `end` and can now send any record.
pub(super) struct Forger {
    pub(super) end: End,
    pub(super) own: End,
}

impl Forger {
    /// The end is a server.
    pub(super) fn new() -> Self {
        Self::against(false)
    }

    /// The end is a client, or a server, on the path in use; the forger is on ours.
    pub(super) fn against(client: bool) -> Self {
        let mut forger = Self::before_the_handshake(client);
        carry_whole(&mut forger.end, &mut forger.own);
        let (end, own) = (&forger.end.session, &forger.own.session);
        assert!(!end.is_handshaking() && !own.is_handshaking());
        forger
    }

    fn before_the_handshake(client: bool) -> Self {
        let root = Authority::root("root");
        let (ours, plan) = (RecordPlan::default(), plan());
        use_plan(if client { plan } else { ours });
        let one = End::client(root.certificate(CLIENT).client(&[identity(SERVER)]));
        use_plan(if client { ours } else { plan });
        let other = End::server(root.certificate(SERVER).server());
        use_plan(plan);
        let (end, own) = if client { (one, other) } else { (other, one) };
        Self { end, own }
    }

    fn records(&mut self) -> &mut Records {
        match &mut self.own.session.path {
            Path::InPlace(records) => records,
            Path::Plain(_) | Path::Gone => panic!("the forger's records are ours"),
        }
    }

    pub(super) fn make(&mut self, typ: ContentType, payload: &[u8], padding: usize) -> Vec<u8> {
        let mut inner = payload.to_vec();
        inner.push(u8::from(typ));
        inner.resize(inner.len() + padding, 0);
        self.records().forge(&inner)
    }

    /// A record with nothing in it but padding.
    pub(super) fn blank(&mut self, padding: usize) -> Vec<u8> {
        self.records().forge(&vec![0; padding])
    }

    fn send(&mut self, typ: ContentType, payload: &[u8]) {
        let record = self.make(typ, payload, 0);
        self.end.take(&record);
    }

    pub(super) fn update_key(&mut self) {
        self.records().update_key();
    }

    /// Lets the end's words through to the forger; says how it took them.
    fn listen(&mut self) -> &'static str {
        self.own.take(&std::mem::take(&mut self.end.outbox));
        self.own.reason()
    }
}

/// `key_update` with `update_not_requested` (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];
const KEY_UPDATE_REQUEST: [u8; 5] = [24, 0, 0, 1, 1];

#[test]
fn empty_records_carry_nothing_and_a_flood_of_them_ends_the_connection() {
    on_each_path(|| {
        let mut forger = Forger::new();
        for _ in 0..32 {
            forger.send(ContentType::ApplicationData, b"");
        }
        forger.send(ContentType::ApplicationData, b"text");
        assert_eq!(
            (forger.end.reason(), &forger.end.heard[..]),
            ("none", &b"text"[..])
        );
        for _ in 0..33 {
            forger.send(ContentType::ApplicationData, b"");
        }
        assert_eq!(forger.end.reason(), "protocol");
    });
}

#[test]
fn padding_is_taken_off() {
    on_each_path(|| {
        let mut forger = Forger::new();
        for (text, padding) in [
            (&b"a\0\0"[..], 1),
            (b"", 5),
            (b"b", 300),
            (b"c", 16_383),
            (b"\0", 16_383),
            (b"", 16_384),
        ] {
            let record = forger.make(ContentType::ApplicationData, text, padding);
            forger.end.take(&record);
        }
        let record = forger.make(ContentType::Handshake, &KEY_UPDATE, 100);
        forger.end.take(&record);
        forger.update_key();
        let record = forger.make(ContentType::Alert, &[1, 0], 100);
        forger.end.take(&record);
        assert_eq!(
            (forger.end.reason(), &forger.end.heard[..]),
            ("none", &b"a\0\0bc\0"[..])
        );
        assert!(forger.end.session.peer_closed());
    });
}

#[test]
fn a_record_larger_than_allowed_is_refused_as_such() {
    on_each_path(|| {
        for (len, padding) in [(16_384, 1), (16_385, 0), (1, 16_384), (16_384, 239)] {
            let mut forger = Forger::new();
            let record = forger.make(ContentType::ApplicationData, &pattern(len), padding);
            forger.end.take(&record);
            assert_eq!(forger.end.reason(), "protocol", "{len} {padding}");
            assert!(forger.end.heard.is_empty());
            assert_eq!(forger.listen(), "peer_alert:record_overflow");
        }
        let mut forger = Forger::new();
        let record = forger.make(ContentType::ApplicationData, &pattern(16_384), 0);
        forger.end.take(&record);
        assert!(forger.end.heard == pattern(16_384));
    });
}

#[test]
fn a_record_without_a_type_is_refused() {
    on_each_path(|| {
        for padding in [0, 1, 500] {
            let mut forger = Forger::new();
            let record = forger.blank(padding);
            forger.end.take(&record);
            assert_eq!(forger.end.reason(), "protocol");
        }
    });
}

#[test]
fn a_record_that_is_repeated_left_out_or_exchanged_is_refused_and_what_follows_is_not_read() {
    on_each_path(|| {
        for order in [[0, 0, 1], [0, 2, 1], [1, 0, 2]] {
            let mut forger = Forger::new();
            let records: Vec<_> = (b'a'..=b'c')
                .map(|text| forger.make(ContentType::ApplicationData, &[text], 0))
                .collect();
            forger.end.take(&order.map(|at| &records[at][..]).concat());
            let passed: &[u8] = if order[0] == 0 { b"a" } else { b"" };
            assert_eq!(
                (forger.end.reason(), &forger.end.heard[..]),
                ("protocol", passed)
            );
            assert_eq!(forger.listen(), "peer_alert:bad_record_mac");
        }
    });
}

#[test]
fn half_a_handshake_message_does_not_stop_us_from_writing() {
    on_each_path(|| {
        let mut forger = Forger::new();
        forger.send(ContentType::Handshake, &KEY_UPDATE[..3]);
        forger.end.say(b"still writing");
        assert_eq!(forger.end.outbox.len(), encrypted_len(13));
        forger.send(ContentType::Handshake, &KEY_UPDATE[3..4]);
        forger.end.say(b"still writing");
        forger.end.session.close(&mut forger.end.outbox);
        assert_eq!(
            forger.end.outbox.len(),
            2 * encrypted_len(13) + ALERT_RECORD
        );
        forger.send(ContentType::Handshake, &KEY_UPDATE[4..]);
        forger.update_key();
        forger.send(ContentType::ApplicationData, b"with the next key");
        assert_eq!(
            (forger.end.reason(), &forger.end.heard[..]),
            ("none", &b"with the next key"[..])
        );
    });
}

#[test]
fn data_inside_a_handshake_message_ends_the_connection() {
    on_each_path(|| {
        for (typ, payload) in [
            (ContentType::ApplicationData, &b"text"[..]),
            (ContentType::ApplicationData, b""),
            (ContentType::Alert, &[1, 0]),
        ] {
            let mut forger = Forger::new();
            forger.send(ContentType::Handshake, &KEY_UPDATE[..3]);
            forger.send(typ, payload);
            assert_eq!(
                (forger.end.reason(), &forger.end.heard[..]),
                ("protocol", &b""[..])
            );
            assert!(!forger.end.session.peer_closed());
        }
    });
}

#[test]
fn a_handshake_message_in_a_thousand_pieces_is_bounded() {
    on_each_path(|| {
        for (client, head) in [(false, [24, 0, 0xff, 0xff]), (true, [4, 0, 0xff, 0xff])] {
            let mut forger = Forger::against(client);
            forger.send(ContentType::Handshake, &head);
            let mut sent = 0;
            while forger.end.error.is_none() {
                forger.send(ContentType::Handshake, b"x");
                sent += 1;
                assert!(sent < MAX_REST, "no bound");
            }
            // rustls waits for it until that is too much; our records refuse such a key update at once, and count
            // the pieces of a ticket.
            let reason = forger.end.reason();
            assert!(matches!(reason, "too_large" | "protocol"), "{reason}");
            assert!(forger.end.most_kept <= MAX_REST);
        }
    });
}

#[test]
fn alerts_are_told_by_their_names() {
    on_each_path(|| {
        for (code, reason) in [
            (10, "peer_alert:unexpected_message"),
            (48, "peer_alert:unknown_ca"),
            (80, "peer_alert:internal_error"),
            (90, "peer_alert:user_canceled"),
            (200, "peer_alert:other"),
        ] {
            let mut forger = Forger::new();
            forger.send(ContentType::Alert, &[2, code]);
            assert_eq!(forger.end.reason(), reason);
            assert!(forger.end.outbox.is_empty(), "an answer to {reason}");
        }
        for level in [1, 2] {
            let mut forger = Forger::new();
            forger.send(ContentType::Alert, &[level, 0]);
            assert!(forger.end.session.peer_closed());
        }
    });
}

#[test]
fn a_warning_is_the_end_unless_it_says_that_the_user_gave_up() {
    on_each_path(|| {
        let mut forger = Forger::new();
        for _ in 0..4 {
            forger.send(ContentType::Alert, &[1, 90]);
            forger.send(ContentType::ApplicationData, b".");
        }
        assert_eq!(
            (forger.end.reason(), &forger.end.heard[..]),
            ("none", &b"...."[..])
        );
        // The fifth is one too many, whatever it says.
        forger.send(ContentType::Alert, &[1, 112]);
        assert_eq!(forger.end.reason(), "protocol");

        let mut forger = Forger::new();
        forger.send(ContentType::Alert, &[1, 112]);
        assert_eq!(forger.end.reason(), "peer_alert:unrecognized_name");
        assert_eq!(forger.listen(), "peer_alert:decode_error");
        let mut forger = Forger::new();
        forger.send(ContentType::Alert, &[3, 40]);
        assert_eq!(forger.end.reason(), "peer_alert:handshake_failure");
        assert_eq!(forger.listen(), "peer_alert:illegal_parameter");
    });
}

#[test]
fn messages_out_of_place_end_the_connection_with_an_alert() {
    on_each_path(|| {
        const TWO_UPDATES: [u8; 10] = [24, 0, 0, 1, 0, 24, 0, 0, 1, 0];
        for (client, typ, payload, alert) in [
            (
                false,
                ContentType::Handshake,
                &[1, 0, 0, 0][..],
                "unexpected_message",
            ), // renegotiation
            (
                false,
                ContentType::Handshake,
                &[4, 0, 0, 0],
                "unexpected_message",
            ), // a client's ticket
            (
                true,
                ContentType::Handshake,
                &[13, 0, 0, 0],
                "unexpected_message",
            ), // CertificateRequest
            (
                true,
                ContentType::Handshake,
                &[0, 0, 0, 0],
                "unexpected_message",
            ), // HelloRequest
            (
                false,
                ContentType::Handshake,
                &[99, 0, 0, 0],
                "unexpected_message",
            ),
            (
                false,
                ContentType::Handshake,
                &[24, 0, 0, 1, 9],
                "illegal_parameter",
            ),
            (
                false,
                ContentType::Handshake,
                &TWO_UPDATES,
                "unexpected_message",
            ),
            (
                false,
                ContentType::Handshake,
                &TWO_UPDATES[..6],
                "unexpected_message",
            ),
            (
                false,
                ContentType::ChangeCipherSpec,
                &[1],
                "unexpected_message",
            ),
            (false, ContentType::Unknown(77), b"?", "unexpected_message"),
            (false, ContentType::Alert, &[2], "decode_error"),
            (
                true,
                ContentType::Handshake,
                &[4, 0, 0, 1, 0],
                "decode_error",
            ), // a ticket of one byte
        ] {
            let mut forger = Forger::against(client);
            forger.send(typ, payload);
            assert_eq!(forger.end.reason(), "protocol", "{typ:?} {payload:?}");
            assert_eq!(forger.end.outbox.len(), ALERT_RECORD, "{typ:?} {payload:?}");
            let heard = forger.listen();
            if plan().layer == RecordLayer::InPlace {
                assert_eq!(heard, format!("peer_alert:{alert}"), "{typ:?} {payload:?}");
            }
        }
    });
}

#[test]
fn records_in_the_clear_end_the_connection() {
    on_each_path(|| {
        for record in [
            &[20, 3, 3, 0, 1, 1][..], // change_cipher_spec, which the handshake allows
            &[21, 3, 3, 0, 2, 1, 0],  // a close_notify that anybody could have written
            &[22, 3, 3, 0, 5, 24, 0, 0, 1, 0],
            &[23, 3, 3, 0, 4, b't', b'e', b'x', b't'],
        ] {
            let mut forger = Forger::new();
            forger.end.take(record);
            assert_eq!(forger.end.reason(), "protocol", "{record:?}");
            assert!(forger.end.heard.is_empty() && !forger.end.session.peer_closed());
        }
    });
}

#[test]
fn a_key_update_is_answered_once_and_in_front() {
    on_each_path(|| {
        let mut forger = Forger::new();
        for _ in 0..3 {
            forger.send(ContentType::Handshake, &KEY_UPDATE_REQUEST);
            forger.update_key();
        }
        forger.send(ContentType::Handshake, &KEY_UPDATE);
        forger.update_key();
        let mut record = vec![b'x'; RECORD_HEADER + 1 + RECORD_TRAILER];
        let mut ahead = Vec::new();
        forger.end.session.seal(&mut record, &mut ahead).unwrap();
        assert_eq!(ahead.len(), 5 + RECORD_OVERHEAD);
        forger.own.take(&ahead);
        forger.own.take(&record);
        forger.end.say(b"y");
        assert_eq!(forger.end.outbox.len(), encrypted_len(1));
        assert_eq!(forger.listen(), "none");
        assert_eq!(forger.own.heard, b"xy");
        forger.send(ContentType::ApplicationData, b"z");
        assert_eq!(forger.end.heard, b"z");
    });
}

#[test]
fn key_updates_right_behind_finished_are_not_lost() {
    on_each_path(|| {
        for cut in [1, 30, usize::MAX] {
            let mut forger = Forger::before_the_handshake(false);
            forger.end.take(&std::mem::take(&mut forger.own.outbox));
            forger.own.take(&std::mem::take(&mut forger.end.outbox));
            // The client is through, and nobody has heard it yet.
            let mut said = std::mem::take(&mut forger.own.outbox);
            for piece in KEY_UPDATE_REQUEST.chunks(2) {
                said.extend(forger.make(ContentType::Handshake, piece, 1));
            }
            forger.update_key();
            said.extend(forger.make(ContentType::ApplicationData, b"text", 0));
            for piece in said.chunks(cut) {
                forger.end.take(piece);
            }
            assert_eq!(
                (forger.end.reason(), &forger.end.heard[..]),
                ("none", &b"text"[..])
            );
            forger.end.say(b"answer");
            assert_eq!(forger.listen(), "none");
            assert_eq!(forger.own.heard, b"answer");
        }
    });
}

#[test]
fn a_flood_of_tickets_ends_the_connection() {
    // lifetime, age, nonce, ticket, no extensions (RFC 8446 §4.6.1)
    let body = [0, 0, 0, 9, 1, 2, 3, 4, 1, 7, 0, 2, 8, 9, 0, 0];
    let ticket = [&[4, 0, 0, body.len() as u8][..], &body].concat();
    let mut forger = Forger::against(true);
    for _ in 0..32 {
        forger.send(ContentType::Handshake, &ticket);
    }
    forger.send(ContentType::ApplicationData, b".");
    // Two in a record count twice.
    for _ in 0..16 {
        forger.send(ContentType::Handshake, &[&ticket[..], &ticket].concat());
    }
    assert_eq!(
        (forger.end.reason(), &forger.end.heard[..]),
        ("none", &b"."[..])
    );
    forger.send(ContentType::Handshake, &ticket);
    assert_eq!(forger.end.reason(), "protocol");
}
