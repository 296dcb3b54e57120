use proptest::prelude::*;

use super::*;

fn parse(header: &str) -> Result<Baggage, BaggageError> {
    Baggage::parse([header.as_bytes()])
}

fn full() -> Baggage {
    let some = |text: &str| Some(text.to_owned());
    Baggage {
        cluster: some("Kubernetes"),
        namespace: some("default"),
        workload_type: Some(WorkloadType::Deployment),
        workload: some("web-api"),
        canonical_service: some("web"),
        canonical_revision: some("v1"),
        region: some("eu"),
        zone: some("eu-1"),
    }
}

#[test]
fn members_are_written_in_upstreams_order() {
    assert_eq!(
        full().encode(),
        "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=web-api,\
         service.name=web,service.version=v1,cloud.region=eu,cloud.availability_zone=eu-1"
    );
    assert_eq!(parse(&full().encode()), Ok(full()));
}

#[test]
fn nothing_known_is_an_empty_value() {
    assert_eq!(Baggage::default().encode(), "");
    assert_eq!(parse(""), Ok(Baggage::default()));
    assert_eq!(Baggage::parse([]), Ok(Baggage::default()));
}

#[test]
fn each_kind_of_workload_has_its_key() {
    for kind in WorkloadType::ALL {
        let baggage = Baggage {
            workload_type: Some(kind),
            workload: Some("w".to_owned()),
            ..Baggage::default()
        };
        let text = format!("k8s.{}.name=w", kind.as_str());
        assert_eq!(baggage.encode(), text);
        assert_eq!(parse(&text), Ok(baggage));
        assert_eq!(kind.as_str().to_uppercase().parse(), Ok(kind));
    }
    assert_eq!("daemonset".parse::<WorkloadType>(), Err(()));
}

#[test]
fn a_value_that_would_not_read_back_is_left_out() {
    for value in [
        "",
        "a,service.name=b",
        "a=b",
        "a\r\nx: y",
        "a\tb",
        "ä",
        "\0",
    ] {
        let baggage = Baggage {
            namespace: Some(value.to_owned()),
            region: Some("eu".to_owned()),
            ..Baggage::default()
        };
        assert_eq!(baggage.encode(), "cloud.region=eu", "{value:?}");
    }
}

#[test]
fn odd_members_are_read_as_upstream_reads_them() {
    let region = |text: &str| Baggage {
        region: Some(text.to_owned()),
        ..Baggage::default()
    };
    for (header, expected) in [
        ("cloud.region=eu", region("eu")),
        ("x=y,cloud.region=eu,unknown", region("eu")),
        (",,,cloud.region=eu,,", region("eu")),
        ("cloud.region=eu,cloud.region=us", region("us")),
        ("cloud.region=eu=us", region("eu")),
        ("cloud.region=eu;ttl=1", region("eu;ttl")),
        ("cloud.region=%20%zz", region("%20%zz")),
        ("cloud.region= eu\t", region(" eu\t")),
        (" cloud.region=eu", Baggage::default()),
        ("Cloud.Region=eu", Baggage::default()),
        ("cloud.region=eu,cloud.region=", Baggage::default()),
        ("cloud.region=", Baggage::default()),
        ("cloud.region", Baggage::default()),
        ("=eu", Baggage::default()),
        ("===", Baggage::default()),
        ("k8s.pod.name=a,k8s.job.name=", Baggage::default()),
    ] {
        assert_eq!(parse(header), Ok(expected), "{header:?}");
    }
}

#[test]
fn members_come_from_all_headers_and_the_last_wins() {
    let headers = ["cloud.region=eu,service.name=web", "", "cloud.region=us"];
    let baggage = Baggage::parse(headers.map(str::as_bytes)).unwrap();
    assert_eq!(baggage.region.as_deref(), Some("us"));
    assert_eq!(baggage.canonical_service.as_deref(), Some("web"));
}

#[test]
fn a_byte_that_is_no_text_spoils_all() {
    for bad in ["ä=b", "a=\u{7f}", "a=\0", "a=\n"] {
        assert_eq!(
            parse(&format!("cloud.region=eu,{bad}")),
            Err(BaggageError::NotText)
        );
    }
    assert_eq!(Baggage::parse([&b"a=\xff"[..]]), Err(BaggageError::NotText));
}

#[test]
fn more_than_the_standard_asks_to_carry_is_refused() {
    let long = |bytes: usize| "x".repeat(bytes);
    assert_eq!(parse(&long(8192)), Ok(Baggage::default()));
    assert_eq!(parse(&long(8193)), Err(BaggageError::TooLong));
    let halves = [long(5000), long(5000)];
    let halves = halves.iter().map(|half| half.as_bytes());
    assert_eq!(Baggage::parse(halves), Err(BaggageError::TooLong));
    assert_eq!(parse(&vec!["a=b"; 180].join(",")), Ok(Baggage::default()));
    assert_eq!(
        parse(&vec!["a=b"; 181].join(",")),
        Err(BaggageError::TooManyMembers)
    );
    // An empty header is a member too: else a list of a million of them would be free.
    assert_eq!(
        Baggage::parse([&b""[..]; 181]),
        Err(BaggageError::TooManyMembers)
    );
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        words in prop::array::uniform7(prop::option::of("[!-~&&[^,=]]([ -~&&[^,=]]{0,40}[!-~&&[^,=]])?")),
        kind in prop::sample::select(WorkloadType::ALL.to_vec()),
    ) {
        let [cluster, namespace, workload, canonical_service, canonical_revision, region, zone] = words;
        let workload_type = workload.is_some().then_some(kind);
        let baggage = Baggage {
            cluster, namespace, workload_type, workload, canonical_service, canonical_revision, region, zone,
        };
        prop_assert_eq!(parse(&baggage.encode()), Ok(baggage));
    }

    #[test]
    fn any_bytes_are_refused_or_read(headers in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
        let _ = Baggage::parse(headers.iter().map(Vec::as_slice));
    }
}
