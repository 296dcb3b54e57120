use std::time::Duration;

use super::Settings;

const WORKLOAD: &str = r#""workload":{"name":"a","namespace":"b","serviceAccount":"c"}"#;

#[test]
fn only_the_workload_must_be_named() {
    let settings = Settings::parse(format!("{{{WORKLOAD}}}").as_bytes()).unwrap();
    assert_eq!(settings.workers, 2);
    assert_eq!(settings.hbone_port, 15008);
    assert_eq!(settings.deadlines.handshake, Duration::from_secs(10));
    assert!(settings.listeners.inbound.is_none());
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
