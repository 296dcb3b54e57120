use proptest::prelude::*;

use super::*;

#[test]
fn client_and_host_are_written_as_upstream_writes_them() {
    for (client, host, text) in [
        ("10.0.0.1:80", None, r#"for="10.0.0.1:80""#),
        ("[::1]:80", None, r#"for="[::1]:80""#),
        ("[::ffff:10.0.0.1]:80", None, r#"for="10.0.0.1:80""#),
        ("[fe80::1%3]:80", None, r#"for="[fe80::1]:80""#),
        (
            "10.0.0.1:80",
            Some("web.default.svc.cluster.local"),
            r#"for="10.0.0.1:80";host=web.default.svc.cluster.local"#,
        ),
        ("10.0.0.1:80", Some(""), r#"for="10.0.0.1:80""#),
        ("10.0.0.1:80", Some("a\";for=\"b"), r#"for="10.0.0.1:80""#),
        ("10.0.0.1:80", Some("a\r\nb"), r#"for="10.0.0.1:80""#),
    ] {
        assert_eq!(Forwarded::encode(client.parse().unwrap(), host), text);
    }
}

#[test]
fn the_first_host_is_read() {
    for (header, host) in [
        ("for=a;host=web", Some("web")),
        ("host=web", Some("web")),
        ("for=\"[::1]:80\"; host=\"web.ns\" ;proto=x", Some("web.ns")),
        ("host=one;host=two", Some("one")),
        ("host=\"[::1]:80\"", Some("[::1]:80")),
        ("host=web:80", Some("web:80")),
        // Unbalanced quotes: one on either side is dropped.
        ("host=\"web", Some("web")),
        ("host=web\"", Some("web")),
        ("host=\"\"web\"", None),
        ("", None),
        ("host", None),
        ("host=", None),
        ("host=\"", None),
        ("host=\"\"", None),
        ("host=;host=web", None),
        ("Host=web", None),
        ("HOST=web", None),
        ("xhost=web", None),
        ("host =web", None),
        ("for=host=web", None),
        // Two elements: the mesh has one hop, so this is nobody we know.
        ("for=a;host=one, for=b;host=two", None),
        ("host=we b", None),
        ("host=we\0b", None),
        ("host=wéb", None),
        ("for=ä;host=web", None),
    ] {
        let expected = host.map(str::to_owned);
        assert_eq!(Forwarded::host(header.as_bytes()), expected, "{header:?}");
    }
    assert_eq!(Forwarded::host(b"host=\xff"), None);
}

#[test]
fn a_long_host_is_none() {
    let long = |bytes| format!("host={}", "a".repeat(bytes)).into_bytes();
    assert!(Forwarded::host(&long(259)).is_some());
    assert!(Forwarded::host(&long(260)).is_none());
    assert!(Forwarded::host(&long(65_536)).is_none());
}

proptest! {
    #[test]
    fn a_host_that_was_written_is_read(client in any::<SocketAddr>(), host in "[a-zA-Z0-9._:*-]{1,259}") {
        let header = Forwarded::encode(client, Some(&host));
        prop_assert_eq!(Forwarded::host(header.as_bytes()), Some(host));
    }

    #[test]
    fn any_bytes_are_a_host_or_none(header in any::<Vec<u8>>()) {
        let _ = Forwarded::host(&[b"host=", &header[..]].concat());
    }
}
