//! Sealing and opening by the bytes of RFC 8448; whole connections are in `session/tests`.

use super::aead::{Aead, Algorithm};
use super::keys::TrafficKey;
use super::schedule::TrafficSecret;
use super::*;

const EACH: [Library; 2] = [Library::AwsLc, Library::Ring];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: String = hex.split_whitespace().collect();
    (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect()
}

fn key(library: Library, key: &str, iv: &str, next: u64) -> TrafficKey {
    let aead = Aead::new(library, Algorithm::Aes128Gcm, &bytes(key)).unwrap();
    TrafficKey::of_parts(aead, bytes(iv).try_into().unwrap(), next)
}

/// RFC 8448 §3, `{client} derive write traffic keys for application data`.
fn client_key(library: Library, next: u64) -> TrafficKey {
    let (secret, iv) = (
        "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51",
        "5b 78 92 3d ee 08 57 90 33 e5 23 d9",
    );
    key(library, secret, iv, next)
}

/// RFC 8448 §3, `{server} derive write traffic keys for application data`.
fn server_key(library: Library, next: u64) -> TrafficKey {
    let (secret, iv) = (
        "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56",
        "cf 78 2b 88 dd 83 54 9a ad f1 e9 84",
    );
    key(library, secret, iv, next)
}

const CLIENT_DATA: &str = "17 03 03 00 43 a2 3f 70 54 b6 2c 94 d0 af fa fe 82 28 ba 55 cb ef ac ea 42
    f9 14 aa 66 bc ab 3f 2b 98 19 a8 a5 b4 6b 39 5b d5 4a 9a 20 44 1e 2b 62 97 4e 1f 5a 62 92 a2 97 70 14
    bd 1e 3d ea e6 3a ee bb 21 69 49 15 e4";
const CLIENT_CLOSE: &str =
    "17 03 03 00 13 c9 87 27 60 65 56 66 b7 4d 7f f1 15 3e fd 6d b6 d0 b0 e3";
const SERVER_DATA: &str = "17 03 03 00 43 2e 93 7e 11 ef 4a c7 40 e5 38 ad 36 00 5f c4 a4 69 32 fc 32
    25 d0 5f 82 aa 1b 36 e3 0e fa f9 7d 90 e6 df fc 60 2d cb 50 1a 59 a8 fc c4 9c 4b f2 e5 f0 a2 1c 00 47
    c2 ab f3 32 54 0d d0 32 e1 67 c2 95 5d";
const SERVER_CLOSE: &str =
    "17 03 03 00 13 b5 8f d6 71 66 eb f5 99 d2 47 20 cf be 7e fa 7a 88 64 a9";

#[test]
fn records_are_those_of_the_example_in_rfc_8448() {
    let text: Vec<u8> = (0..50).collect();
    for library in EACH {
        let mut sealer = Sealer::new(client_key(library, 0), None);
        let mut said = Vec::new();
        sealer.append(APPLICATION_DATA, &text, &mut said).unwrap();
        sealer.append(ALERT, &[1, 0], &mut said).unwrap();
        assert_eq!(said, [bytes(CLIENT_DATA), bytes(CLIENT_CLOSE)].concat());

        // The server's first record was its ticket.
        let mut opener = Opener::new(server_key(library, 1));
        let mut record = bytes(SERVER_DATA);
        assert_eq!(open::size(&record).unwrap(), Some(record.len()));
        let (kind, payload) = opener.open(&mut record).unwrap();
        assert_eq!((kind, payload), (APPLICATION_DATA, &text[..]));
        let mut record = bytes(SERVER_CLOSE);
        let (kind, payload) = opener.open(&mut record).unwrap();
        assert_eq!((kind, payload), (ALERT, &[1, 0][..]));
    }
}

#[test]
fn a_record_is_opened_once_and_in_its_place() {
    for library in EACH {
        let mut opener = Opener::new(server_key(library, 2));
        assert!(opener.open(&mut bytes(SERVER_DATA)).is_err());
        let mut opener = Opener::new(server_key(library, 1));
        assert!(opener.open(&mut bytes(SERVER_DATA)).is_ok());
        assert!(opener.open(&mut bytes(SERVER_DATA)).is_err());
    }
}

#[test]
fn numbers_end_and_do_not_begin_again() {
    let mut sealer = Sealer::new(client_key(Library::AwsLc, u64::MAX - 1), None);
    assert!(sealer.is_worn());
    let mut said = Vec::new();
    sealer.append(ALERT, &[1, 0], &mut said).unwrap();
    sealer.append(ALERT, &[1, 0], &mut said).unwrap();
    let len = said.len();
    for _ in 0..2 {
        let wrong = sealer.append(ALERT, &[1, 0], &mut said).unwrap_err();
        assert_eq!(wrong.reason(), "internal");
        assert_eq!(said.len(), len);
    }
    let mut opener = Opener::new(server_key(Library::AwsLc, u64::MAX));
    assert!(opener.open(&mut bytes(SERVER_DATA)).is_err());
    let fault = opener.open(&mut bytes(SERVER_DATA)).unwrap_err();
    assert_eq!(fault.error.reason(), "internal");
}

#[test]
fn a_key_is_worn_before_its_last_record_or_after_its_bytes() {
    let last = (1 << 24) - 3;
    let mut sealer = Sealer::new(client_key(Library::AwsLc, last), None);
    assert!(!sealer.is_worn());
    sealer
        .append(APPLICATION_DATA, b"x", &mut Vec::new())
        .unwrap();
    assert!(sealer.is_worn());
    sealer.renew(client_key(Library::AwsLc, 0));
    assert!(!sealer.is_worn());

    let mut sealer = Sealer::new(client_key(Library::AwsLc, 0), Some(100));
    for (len, worn) in [(99, false), (1, true), (1, true)] {
        sealer
            .append(APPLICATION_DATA, &vec![0; len], &mut Vec::new())
            .unwrap();
        assert_eq!(sealer.is_worn(), worn);
    }
}

#[test]
fn a_record_is_measured_as_soon_as_its_header_is_there() {
    assert_eq!(open::size(&[23, 3, 3, 0]).unwrap(), None);
    assert_eq!(open::size(&[23, 3, 3, 0, 1]).unwrap(), None);
    assert_eq!(open::size(&[23, 3, 3, 0, 1, 9, 9]).unwrap(), Some(6));
    let [high, low] = (16_640_u16 + 1).to_be_bytes();
    for (header, alert) in [
        ([23, 3, 3, high, low], AlertDescription::RecordOverflow),
        ([20, 3, 3, 0, 1], AlertDescription::UnexpectedMessage),
        ([21, 3, 3, 0, 2], AlertDescription::UnexpectedMessage),
        ([22, 3, 3, 0, 9], AlertDescription::UnexpectedMessage),
        ([0, 0, 0, 0, 0], AlertDescription::UnexpectedMessage),
    ] {
        assert_eq!(open::size(&header).unwrap_err().alert, Some(alert));
    }
}

#[test]
fn only_what_may_come_after_a_handshake_is_understood() {
    use rustls::Side::{Client, Server};
    let ticket = [4, 0, 0, 2, 8, 9, 7];
    assert_eq!(
        handshake::split(&ticket, Client).unwrap(),
        Some((Message::Ticket(&[8, 9]), 6))
    );
    for (said, answer) in [(0, false), (1, true)] {
        assert_eq!(
            handshake::split(&[24, 0, 0, 1, said], Server).unwrap(),
            Some((Message::KeyUpdate { answer }, 5))
        );
    }
    for part in 0..5 {
        let update = &handshake::KEY_UPDATE[..part];
        assert_eq!(handshake::split(update, Client).unwrap(), None);
        assert_eq!(handshake::split(&ticket[..part], Client).unwrap(), None);
    }
    for (bytes, side, alert) in [
        (&[4][..], Server, AlertDescription::UnexpectedMessage),
        (&[13], Client, AlertDescription::UnexpectedMessage), // CertificateRequest
        (&[1], Server, AlertDescription::UnexpectedMessage),
        (&[4, 1, 0, 0], Client, AlertDescription::DecodeError),
        (&[24, 0, 0, 2], Client, AlertDescription::DecodeError),
        (&[24, 0, 0, 0], Client, AlertDescription::DecodeError),
        (
            &[24, 0, 0, 1, 2],
            Client,
            AlertDescription::IllegalParameter,
        ),
    ] {
        let fault = handshake::split(bytes, side).unwrap_err();
        assert_eq!(fault.alert, Some(alert), "{bytes:?}");
    }
}

#[test]
fn keys_and_the_ones_after_them_follow_from_a_secret() {
    // RFC 8448 §3: `c ap traffic` and `s ap traffic`, and what is derived from them.
    for (secret, key, iv) in [
        (
            "9e 40 64 6c e7 9a 7f 9d c0 5a f8 88 9b ce 65 52 87 5a fa 0b 06 df 00 87 f7 92 eb b7 c1 75 04 a5",
            "17 42 2d da 59 6e d5 d9 ac d8 90 e3 c6 3f 50 51",
            "5b 78 92 3d ee 08 57 90 33 e5 23 d9",
        ),
        (
            "a1 1a f9 f0 55 31 f8 56 ad 47 11 6b 45 a9 50 32 82 04 b4 f4 4b fb 6b 3a 4b 4f 1f 3f cb 63 16 43",
            "9f 02 28 3b 6c 9c 07 ef c2 6b b9 f2 ac 92 e3 56",
            "cf 78 2b 88 dd 83 54 9a ad f1 e9 84",
        ),
    ] {
        let mut secret = TrafficSecret::new(Algorithm::Aes128Gcm, &bytes(secret)).unwrap();
        assert_eq!(**secret.key().unwrap(), bytes(key));
        assert_eq!(&secret.iv().unwrap()[..], bytes(iv));
        secret.advance().unwrap();
        assert_ne!(**secret.key().unwrap(), bytes(key));
    }
    assert!(TrafficSecret::new(Algorithm::Aes256Gcm, &[7; 32]).is_none());
    assert!(TrafficSecret::new(Algorithm::Aes128Gcm, &[7; 49]).is_none());
}

#[test]
fn a_tap_keeps_two_secrets_and_gives_them_away_once() {
    use rustls::KeyLog as _;
    let tap = Tap::default();
    assert!(!tap.will_log("EXPORTER_SECRET") && tap.will_log("CLIENT_TRAFFIC_SECRET_0"));
    tap.log("CLIENT_HANDSHAKE_TRAFFIC_SECRET", &[], &[1; 48]);
    tap.log("CLIENT_TRAFFIC_SECRET_0", &[], &[2; 48]);
    assert!(
        tap.take(rustls::Side::Client, Algorithm::Aes256Gcm)
            .is_none()
    );
    tap.log("CLIENT_TRAFFIC_SECRET_0", &[], &[2; 48]);
    tap.log("SERVER_TRAFFIC_SECRET_0", &[], &[3; 48]);
    assert_eq!(format!("{tap:?}"), "Tap(redacted)");
    let (write, _) = tap
        .take(rustls::Side::Server, Algorithm::Aes256Gcm)
        .unwrap();
    let secret = TrafficSecret::new(Algorithm::Aes256Gcm, &[3; 48]).unwrap();
    assert_eq!(write.key().unwrap(), secret.key().unwrap());
    assert!(
        tap.take(rustls::Side::Server, Algorithm::Aes256Gcm)
            .is_none()
    );
}

#[test]
fn a_ticket_is_read_to_its_end() {
    let ticket = [0, 0, 0, 9, 1, 2, 3, 4, 1, 7, 0, 2, 8, 9];
    let whole = |extensions: &[u8]| [&ticket[..], extensions].concat();
    let early_data = [0, 42, 0, 4, 0, 0, 0, 9];
    for good in [
        whole(&[0, 0]),
        whole(&[&[0, 8][..], &early_data].concat()),
        whole(&[&[0, 12][..], &early_data, &[0x1a, 0x1a, 0, 0]].concat()),
    ] {
        assert!(handshake::check_ticket(&good).is_ok(), "{good:?}");
        for part in 0..good.len() {
            let fault = handshake::check_ticket(&good[..part]).unwrap_err();
            assert_eq!(fault.alert, Some(AlertDescription::DecodeError));
        }
    }
    let many = [
        &[0, 132][..],
        &(0..33).flat_map(|n| [9, n, 0, 0]).collect::<Vec<_>>(),
    ]
    .concat();
    for bad in [
        whole(&[0, 0, 0]),
        whole(&[0, 5, 0, 42, 0, 1, 9]),
        whole(&[&[0, 16][..], &early_data, &early_data].concat()),
        whole(&many),
        vec![0, 0, 0, 9, 1, 2, 3, 4, 1, 7, 0, 0, 0, 0], // an empty ticket
    ] {
        assert!(handshake::check_ticket(&bad).is_err(), "{bad:?}");
    }
}
