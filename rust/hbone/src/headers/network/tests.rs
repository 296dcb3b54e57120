use super::*;

#[test]
fn a_request_comes_from_another_network_only_if_it_says_so_in_text() {
    for (header, ours, another) in [
        (None, "", false),
        (None, "west", false),
        (Some(&b""[..]), "", false),
        (Some(b""), "west", true),
        (Some(b"east"), "", true),
        (Some(b"east"), "west", true),
        (Some(b"west"), "west", false),
        (Some(b"WEST"), "west", false),
        (Some(b"west"), "West", false),
        // No trimming, as upstream.
        (Some(b"west "), "west", true),
        (Some(b"west\t"), "west", true),
        (Some("öst".as_bytes()), "west", false),
        (Some(b"east\xff"), "west", false),
        (Some(b"east\0"), "west", false),
        (Some(b"\x7f"), "west", false),
        // Not ours, though in capitals of another alphabet it would be.
        (Some(b"ost"), "öst", true),
    ] {
        let said = ForwardedNetwork::is_another(header, ours);
        assert_eq!(said, another, "{header:?} {ours}");
    }
}
