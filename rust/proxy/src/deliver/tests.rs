use super::*;
use mesh::route::Candidates;

fn route(destination: &str, header: Option<&str>) -> InboundRoute {
    InboundRoute {
        destination: destination.parse().unwrap(),
        header: header.map(|header| header.parse().unwrap()),
        candidates: Candidates::default(),
    }
}

#[test]
fn only_who_takes_headers_is_reached_on_the_loopback_address() {
    let client: IpAddr = "10.0.0.9".parse().unwrap();
    let v6: IpAddr = "fd00::9".parse().unwrap();
    for (destination, header, kept, loopback, to, from) in [
        (
            "10.0.0.1:80",
            None,
            Some(client),
            true,
            "10.0.0.1:80",
            Some("10.0.0.9"),
        ),
        ("10.0.0.1:80", None, None, true, "10.0.0.1:80", None),
        (
            "10.0.0.1:15088",
            Some("10.9.9.9:80"),
            Some(client),
            true,
            "127.0.0.1:15088",
            Some("127.0.0.1"),
        ),
        (
            "10.0.0.1:15088",
            Some("10.9.9.9:80"),
            None,
            true,
            "127.0.0.1:15088",
            Some("127.0.0.1"),
        ),
        // The family is the workload's, not that of what was asked for.
        (
            "10.0.0.1:15088",
            Some("[fd00::5]:80"),
            Some(client),
            true,
            "127.0.0.1:15088",
            Some("127.0.0.1"),
        ),
        (
            "[fd00::1]:15088",
            Some("[fd00::5]:80"),
            Some(v6),
            true,
            "[::1]:15088",
            Some("::1"),
        ),
        // Switched off, it is delivered like everything else.
        (
            "10.0.0.1:15088",
            Some("10.9.9.9:80"),
            Some(client),
            false,
            "10.0.0.1:15088",
            Some("10.0.0.9"),
        ),
        (
            "10.0.0.1:15088",
            Some("10.9.9.9:80"),
            None,
            false,
            "10.0.0.1:15088",
            None,
        ),
    ] {
        let delivery = Delivery::of_request(&route(destination, header), kept, loopback);
        let expected = Delivery {
            to: to.parse().unwrap(),
            from: from.map(|from: &str| from.parse().unwrap()),
        };
        assert_eq!(
            delivery, expected,
            "{destination} {header:?} {kept:?} {loopback}"
        );
    }
}
