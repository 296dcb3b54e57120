use std::net::IpAddr;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_block_contains_the_addresses_of_its_family_that_share_its_prefix() {
    for (block, address, expected) in [
        ("10.0.0.0/8", "10.255.0.1", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.1.2.3/8", "10.9.9.9", true),
        ("10.0.0.1/32", "10.0.0.1", true),
        ("10.0.0.1/32", "10.0.0.2", false),
        ("10.0.0.128/25", "10.0.0.127", false),
        ("10.0.0.128/25", "10.0.0.128", true),
        ("0.0.0.0/0", "255.255.255.255", true),
        ("0.0.0.0/0", "::1", false),
        ("::/0", "1.2.3.4", false),
        ("::/0", "::ffff:1.2.3.4", false),
        ("::/0", "ff06::c3", true),
        ("2001:db8::/32", "2001:db8:ffff::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
        ("2001:db8::1/128", "2001:db8::1", true),
        ("2001:db8::1/128", "2001:db8::2", false),
        ("2001:db8::/33", "2001:db8:8000::", false),
        ("10.0.0.0/8", "::ffff:10.1.1.1", true),
        ("::ffff:10.0.0.0/104", "10.1.1.1", true),
        ("::ffff:0.0.0.0/96", "9.9.9.9", true),
        ("::ffff:0.0.0.0/95", "9.9.9.9", false),
    ] {
        let cidr: Cidr = block.parse().unwrap();
        assert_eq!(cidr.contains(ip(address)), expected, "{address} in {block}");
    }
}

#[test]
fn a_block_is_written_without_host_bits() {
    for (text, expected) in [
        ("10.1.2.3/8", "10.0.0.0/8"),
        ("1.2.3.4/0", "0.0.0.0/0"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("::1/0", "::/0"),
        ("::ffff:10.1.2.3/120", "10.1.2.0/24"),
    ] {
        assert_eq!(text.parse::<Cidr>().unwrap().to_string(), expected);
    }
}

#[test]
fn what_is_not_a_block_is_refused() {
    for (text, expected) in [
        (
            "10.0.0.0/33",
            "prefix length is more than the 32 bits of the address: 33",
        ),
        (
            "::/129",
            "prefix length is more than the 128 bits of the address: 129",
        ),
        (
            "10.0.0.0",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0`",
        ),
        (
            "10.0.0.0/",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0/`",
        ),
        (
            "10.0.0.0/+8",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0/+8`",
        ),
        (
            "10.0.0.0/-1",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0/-1`",
        ),
        (
            "10.0.0.0/8/8",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0/8/8`",
        ),
        (
            "10.0.0.0/999",
            "invalid CIDR block (address/prefix, for example 10.0.0.0/8): `10.0.0.0/999`",
        ),
        ("10.0.0/8", "invalid IP address: `10.0.0`"),
        ("010.0.0.1/8", "invalid IP address: `010.0.0.1`"),
        ("/8", "invalid IP address: ``"),
    ] {
        assert_eq!(text.parse::<Cidr>().unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_mapped_address_is_an_ipv4_address() {
    let mapped: NetworkAddress = "net/::ffff:1.2.3.4".parse().unwrap();
    assert_eq!(mapped, "net/1.2.3.4".parse().unwrap());
    assert_eq!(mapped.to_string(), "net/1.2.3.4");
}

#[test]
fn a_network_address_may_have_an_empty_network_but_needs_the_slash() {
    assert_eq!(
        "/::1".parse::<NetworkAddress>().unwrap().to_string(),
        "/::1"
    );
    for text in [
        "1.2.3.4",
        "",
        "net/",
        "a/b/1.2.3.4",
        "net/1.2.3.4/32",
        "net/host",
    ] {
        assert!(
            text.parse::<NetworkAddress>().is_err(),
            "{text:?} was accepted"
        );
    }
}

#[test]
fn a_service_name_has_two_parts() {
    let name: NamespacedHostname = "ns/web.ns.svc".parse().unwrap();
    assert_eq!((&*name.namespace, &*name.hostname), ("ns", "web.ns.svc"));
    for text in ["", "web", "/web", "ns/", "ns/a/b"] {
        assert!(
            text.parse::<NamespacedHostname>().is_err(),
            "{text:?} was accepted"
        );
    }
}

#[test]
fn an_excerpt_is_short_and_on_one_line() {
    assert_eq!(excerpt(&"ä".repeat(1000)).chars().count(), 128);
    assert_eq!(excerpt("a\nb\x1b[31m"), "a\u{fffd}b\u{fffd}[31m");
}
