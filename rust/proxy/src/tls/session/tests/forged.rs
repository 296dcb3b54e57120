//! Records that no sane peer sends, made with the keys of a real handshake.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};

use super::plain::MAX_REST;
use super::*;

/// A client that has shaken hands with `end` and can now send any record.
struct Forger {
    end: End,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    fn new() -> Self {
        let root = Authority::root("root");
        let key = PrivateKey::generate().unwrap();
        let mut config = lax_client(root.sign(&Leaf::named(CLIENT), &key), &key);
        config.enable_secret_extraction = true;
        let name = ServerName::try_from("0.0.0.0").unwrap();
        let mut client = ClientConnection::new(config.into(), name).unwrap();
        let mut end = End::server(root.certificate(SERVER).server());
        while client.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            end.take(&bytes);
            let answer = std::mem::take(&mut end.outbox);
            let mut answer = answer.as_slice();
            while !answer.is_empty() {
                client.read_tls(&mut answer).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        assert!(!end.session.is_handshaking());
        let Some(SupportedCipherSuite::Tls13(suite)) = client.negotiated_cipher_suite() else {
            panic!("TLS 1.3")
        };
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes256Gcm { key, iv } = secrets else {
            panic!("AES-256-GCM")
        };
        Self {
            end,
            encrypter: suite.aead_alg.encrypter(key, iv),
            sequence,
        }
    }

    fn send(&mut self, typ: ContentType, payload: &[u8]) {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        self.end.take(&record.encode());
    }
}

/// `key_update` with `update_not_requested` (RFC 8446 §4.6.3).
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

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
        assert_eq!(forger.end.reason(), "none");
    });
}

#[test]
fn data_inside_a_handshake_message_ends_the_connection() {
    on_each_path(|| {
        let mut forger = Forger::new();
        forger.send(ContentType::Handshake, &KEY_UPDATE[..3]);
        forger.send(ContentType::ApplicationData, b"text");
        assert_eq!(
            (forger.end.reason(), &forger.end.heard[..]),
            ("protocol", &b""[..])
        );
    });
}

#[test]
fn a_handshake_message_in_a_thousand_pieces_is_bounded() {
    on_each_path(|| {
        let mut forger = Forger::new();
        forger.send(ContentType::Handshake, &[24, 0, 0xff, 0xff]);
        let mut sent = 0;
        while forger.end.error.is_none() {
            forger.send(ContentType::Handshake, b"x");
            sent += 1;
            assert!(sent < MAX_REST, "no bound");
        }
        // rustls waits for all of it; our records refuse a key update of that size at its fourth byte.
        let reason = forger.end.reason();
        assert!(matches!(reason, "too_large" | "protocol"), "{reason}");
        assert!(forger.end.most_kept <= MAX_REST);
    });
}

#[test]
fn alerts_are_told_by_their_names() {
    on_each_path(|| {
        for (code, reason) in [
            (10, "peer_alert:unexpected_message"),
            (48, "peer_alert:unknown_ca"),
            (80, "peer_alert:internal_error"),
            (200, "peer_alert:other"),
        ] {
            let mut forger = Forger::new();
            forger.send(ContentType::Alert, &[2, code]);
            assert_eq!(forger.end.reason(), reason);
        }
        let mut forger = Forger::new();
        forger.send(ContentType::Alert, &[1, 0]);
        assert!(forger.end.session.peer_closed());
    });
}

#[test]
fn messages_out_of_place_end_the_connection_with_an_alert() {
    on_each_path(|| {
        for (typ, payload) in [
            (ContentType::Handshake, &[1, 0, 0, 0][..]), // a second hello: renegotiation
            (ContentType::Handshake, &[99, 0, 0, 0]),
            (ContentType::Handshake, &[24, 0, 0, 1, 9]),
            (ContentType::Handshake, &[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]), // two key updates in one record
            (ContentType::ChangeCipherSpec, &[1]),
            (ContentType::Unknown(77), b"?"),
            (ContentType::Alert, &[2]),
        ] {
            let mut forger = Forger::new();
            forger.send(typ, payload);
            assert_eq!(forger.end.reason(), "protocol", "{typ:?} {payload:?}");
            assert_eq!(forger.end.outbox.len(), ALERT_RECORD, "{typ:?} {payload:?}");
        }
    });
}
