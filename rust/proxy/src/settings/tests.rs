use std::time::Duration;

use super::{AeadWish, Groups, RecordLayer, RecordSettings, Settings};

const WORKLOAD: &str = r#""workload":{"name":"a","namespace":"b","serviceAccount":"c"}"#;

#[test]
fn only_the_workload_must_be_named() {
    let settings = Settings::parse(format!("{{{WORKLOAD}}}").as_bytes()).unwrap();
    assert_eq!(settings.workers, 2);
    assert_eq!(settings.hbone_port, 15008);
    assert_eq!(settings.deadlines.handshake, Duration::from_secs(10));
    assert!(settings.listeners.inbound.is_none());
    assert!(settings.splice);
}

#[test]
fn records_are_ours_and_measured_unless_said_otherwise() {
    let read = |extra: &str| {
        Settings::parse(format!("{{{WORKLOAD}{extra}}}").as_bytes())
            .unwrap()
            .tls
    };
    assert_eq!(read(""), RecordSettings::default());
    assert_eq!(
        RecordSettings::default(),
        RecordSettings {
            groups: Groups::All,
            records: RecordLayer::InPlace,
            aead: AeadWish::Auto,
            key_update_after: None,
        }
    );
    assert_eq!(
        read(r#","tls":{"records":"rustls","aead":"aws-lc","keyUpdateAfter":4194304}"#),
        RecordSettings {
            groups: Groups::All,
            records: RecordLayer::Rustls,
            aead: AeadWish::AwsLc,
            key_update_after: Some(4 << 20),
        }
    );
    let set = read(r#","tls":{"records":"in_place","aead":"ring"}"#);
    assert_eq!(
        (set.records, set.aead),
        (RecordLayer::InPlace, AeadWish::Ring)
    );
    assert_eq!(read(r#","tls":{"groups":"pqc"}"#).groups, Groups::Pqc);
}

#[test]
fn listeners_have_the_names_of_the_document() {
    let listeners = r#""listeners":{"inboundPlaintext":"[::]:15006"}"#;
    let settings = Settings::parse(format!("{{{WORKLOAD},{listeners}}}").as_bytes()).unwrap();
    let address = settings.listeners.inbound_plaintext.unwrap();
    assert_eq!(address.to_string(), "[::]:15006");
}

#[test]
fn the_user_timeout_is_off_unless_asked_for() {
    let read = |extra: &str| {
        let settings = Settings::parse(format!("{{{WORKLOAD}{extra}}}").as_bytes()).unwrap();
        settings.keepalive.of_sockets()
    };
    assert!(!read("").unwrap().user_timeout);
    let asked = read(r#","keepalive":{"userTimeout":true,"time":60,"retries":3}"#).unwrap();
    assert!(asked.user_timeout);
    assert_eq!(asked.time, Duration::from_secs(60));
    assert!(read(r#","keepalive":{"enabled":false,"userTimeout":true}"#).is_none());
}

#[test]
fn names_are_resolved_as_the_system_does_unless_told_otherwise() {
    let read = |extra: &str| {
        Settings::parse(format!("{{{WORKLOAD}{extra}}}").as_bytes())
            .unwrap()
            .resolver
    };
    let usual = read("");
    assert_eq!(usual.config.to_str(), Some("/etc/resolv.conf"));
    assert!(usual.servers.is_empty());
    let told = read(r#","resolver":{"servers":["127.0.0.1:5353"]}"#);
    assert_eq!(told.servers, ["127.0.0.1:5353".parse().unwrap()]);
}

#[test]
fn a_wrong_setting_is_named() {
    for (extra, part) in [
        (r#""worker":1"#, "unknown field `worker`"),
        (r#""workers":0"#, "workers: must be between 1 and 256: 0"),
        (r#""workers":"two""#, "invalid type: string \"two\""),
        (
            r#""deadlines":{"dial":0}"#,
            "a duration must be more than 0",
        ),
        (
            r#""deadlines":{"dial":1e300}"#,
            "a duration must be more than 0",
        ),
        (
            r#""listeners":{"socks5":"localhost"}"#,
            "invalid socket address",
        ),
        (
            r#""http2":{"streamWindow":0}"#,
            "http2: need 0 < streamWindow",
        ),
        (r#""http2":{"frameSize":1}"#, "http2.frameSize"),
        (r#""pool":{"maxStreams":0}"#, "pool.maxStreams"),
        (r#""tls":{"records":"ours"}"#, "unknown variant `ours`"),
        (
            r#""tls":{"keyUpdateAfter":65535}"#,
            "tls.keyUpdateAfter: must be at least 65536: 65535",
        ),
    ] {
        let error = Settings::parse(format!("{{{WORKLOAD},{extra}}}").as_bytes()).unwrap_err();
        assert!(error.to_string().contains(part), "{extra}: {error}");
    }
    assert!(
        Settings::parse(b"{}")
            .unwrap_err()
            .to_string()
            .contains("workload")
    );
}
