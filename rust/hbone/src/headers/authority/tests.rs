use proptest::prelude::*;

use super::*;

fn host(host: &str, port: u16) -> Authority {
    let host = host.to_owned();
    Authority::Host { host, port }
}

#[test]
fn a_socket_address_is_an_address_as_written() {
    for text in [
        "1.2.3.4:80",
        "0.0.0.0:1",
        "[::1]:65535",
        "[::ffff:127.0.0.1]:15000",
        "[2001:db8::7]:8080",
    ] {
        let authority = Authority::parse(text).unwrap();
        assert_eq!(authority, Authority::Address(text.parse().unwrap()));
        assert_eq!(authority.to_string(), text);
    }
}

#[test]
fn a_mapped_address_is_not_made_canonical() {
    let Ok(Authority::Address(address)) = Authority::parse("[::ffff:127.0.0.1]:15000") else {
        panic!("not an address");
    };
    assert!(address.is_ipv6());
}

#[test]
fn everything_else_with_a_port_is_a_name() {
    for (text, name) in [
        (
            "web.default.svc.cluster.local:80",
            "web.default.svc.cluster.local",
        ),
        ("Web:80", "Web"),
        ("web.:80", "web."),
        ("*.example.com:80", "*.example.com"),
        ("xn--bcher-kva.example:80", "xn--bcher-kva.example"),
        // What other parsers take for IPv4 addresses.
        ("010.0.0.1:80", "010.0.0.1"),
        ("127.1:80", "127.1"),
        ("0x7f.0.0.1:80", "0x7f.0.0.1"),
        ("2130706433:80", "2130706433"),
        ("1.2.3.4.:80", "1.2.3.4."),
        ("256.0.0.1:80", "256.0.0.1"),
    ] {
        assert_eq!(Authority::parse(text), Ok(host(name, 80)), "{text:?}");
    }
}

#[test]
fn a_name_has_at_most_253_bytes() {
    let longest = "a".repeat(253);
    assert_eq!(
        Authority::parse(&format!("{longest}:1")),
        Ok(host(&longest, 1))
    );
    assert_eq!(
        Authority::parse(&format!("{longest}a:1")),
        Err(AuthorityError::HostTooLong)
    );
    assert_eq!(
        Authority::parse(&format!("{}:1", "a".repeat(65_536))),
        Err(AuthorityError::HostTooLong)
    );
}

#[test]
fn other_spellings_are_refused() {
    use AuthorityError::*;
    for (text, error) in [
        ("", PortMissing),
        ("web", PortMissing),
        ("1.2.3.4", PortMissing),
        ("[::1]", Port),
        (":80", HostMissing),
        ("web:", Port),
        ("web:0", Port),
        ("1.2.3.4:0", Port),
        ("[::1]:0", Port),
        ("web:65536", Port),
        ("1.2.3.4:65536", Port),
        ("web:+80", Port),
        ("web:-1", Port),
        ("web:080", Port),
        ("1.2.3.4:080", Port),
        ("web: 80", Port),
        ("web:80 ", Port),
        ("web:80\0", Port),
        ("web:8_0", Port),
        ("web:٨٠", Port),
        ("web:99999999999999999999", Port),
        (" web:80", Host),
        ("we b:80", Host),
        ("we\0b:80", Host),
        ("web\r\nx:80", Host),
        ("wéb:80", Host),
        ("web/x:80", Host),
        ("web?x:80", Host),
        ("web#x:80", Host),
        ("web\\x:80", Host),
        ("http://web:80", Host),
        ("::1:80", Host),
        ("web:80:80", Host),
        ("[::1:80", Host),
        ("::1]:80", Host),
        ("[web]:80", Host),
        ("[1.2.3.4]:80", Host),
        ("[]:80", Host),
        ("user@web:80", User),
        ("user:password@1.2.3.4:80", User),
        ("[::1%eth0]:80", Zone),
        ("[fe80::1%1]:80", Zone),
        ("web%00:80", Zone),
    ] {
        assert_eq!(Authority::parse(text), Err(error), "{text:?}");
        assert!(error.to_string().starts_with("authority has "));
    }
}

proptest! {
    #[test]
    fn what_was_read_is_written_and_read_again(text in "[a-z0-9.:\\[\\]%@*-]{0,20}(:[0-9]{1,5})?") {
        if let Ok(authority) = Authority::parse(&text) {
            prop_assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
        }
    }

    #[test]
    fn any_address_reads_back(address in any::<std::net::IpAddr>(), port in 1u16..) {
        let address = SocketAddr::new(address, port);
        let authority = Authority::Address(address);
        prop_assert_eq!(authority.port(), port);
        prop_assert_eq!(Authority::parse(&authority.to_string()), Ok(authority));
    }

    #[test]
    fn any_text_is_refused_or_read(text in any::<String>()) {
        let _ = Authority::parse(&text);
    }
}
