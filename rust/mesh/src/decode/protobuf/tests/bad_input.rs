//! The list BI-X of spec/reliability.md §6, line by line, and its last paragraph: no panic, no unbounded allocation, a
//! reason. What the list says of whole responses (nonces, type URLs, order) is the client's.

use super::*;
use crate::decode::TYPE_ISTIO_ADDRESS as ADDRESS;

fn refusal(value: &[u8]) -> String {
    read(ADDRESS, value).unwrap_err().reasons[0].clone()
}

/// `Address{workload{…}}` around the given bytes.
fn in_workload(inner: &[u8]) -> Vec<u8> {
    let mut value = vec![0x0a];
    prost::encode_length_delimiter(inner.len(), &mut value).unwrap();
    value.extend(inner);
    value
}

fn pod_and(more: &[u8]) -> Vec<u8> {
    in_workload(&[&pod().encode_to_vec(), more].concat())
}

#[test]
fn bytes_that_are_no_message_are_refused_by_name() {
    let cases: [(&str, Vec<u8>, &str); 9] = [
        ("nothing", vec![], "is neither a workload nor a service"),
        (
            "unknown kind of address",
            vec![0x1a, 0],
            "is neither a workload nor a service",
        ),
        (
            "truncated varint",
            vec![0x0a, 0x80],
            "decode: failed to decode Protobuf message: Address.kind: invalid varint",
        ),
        (
            "varint of eleven bytes",
            vec![0xff; 11],
            "decode: failed to decode Protobuf message: invalid varint",
        ),
        (
            "length beyond the end",
            vec![0x0a, 0x7f, 0],
            "decode: failed to decode Protobuf message: Address.kind: buffer underflow",
        ),
        (
            "wrong wire type",
            vec![0x08, 1],
            "decode: failed to decode Protobuf message: Address.kind: invalid wire type: Varint (expected LengthDelimited)",
        ),
        (
            "wrong wire type within",
            in_workload(&[0x08, 1]),
            "decode: failed to decode Protobuf message: Workload.name: Address.kind: invalid wire type: Varint (expected LengthDelimited)",
        ),
        (
            "field number 0",
            vec![0x02, 0],
            "decode: failed to decode Protobuf message: invalid tag value: 0",
        ),
        (
            "group that does not end",
            vec![0x1b, 0x08, 1],
            "decode: failed to decode Protobuf message: invalid varint",
        ),
    ];
    let found = cases
        .each_ref()
        .map(|(name, value, _)| (*name, refusal(value)));
    let expected = cases.map(|(name, _, reason)| (name, reason.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn unknown_fields_of_every_wire_type_are_passed_over() {
    let unknown: [&[u8]; 6] = [
        &[0xa0, 0x06, 0x96, 0x01],             // 100: varint
        &[0xa1, 0x06, 1, 2, 3, 4, 5, 6, 7, 8], // 100: 64 bits
        &[0xa2, 0x06, 2, 0xff, 0xfe],          // 100: bytes
        &[0xa3, 0x06, 0x08, 1, 0xa4, 0x06],    // 100: group
        &[0xa5, 0x06, 1, 2, 3, 4],             // 100: 32 bits
        &[0xd2, 0x01, 2, 0x0a, 0],             // 26: an extension
    ];
    for field in unknown {
        assert!(read(ADDRESS, &pod_and(field)).is_ok(), "{field:02x?}");
    }
}

#[test]
fn groups_nested_a_hundred_deep_are_refused() {
    let deep = [0xa3, 0x06].repeat(101);
    assert_eq!(
        refusal(&pod_and(&deep)),
        "decode: failed to decode Protobuf message: Address.kind: recursion limit reached"
    );
}

#[test]
fn every_prefix_and_every_flipped_byte_of_a_resource_ends_in_an_answer() {
    let gateway = at(Some(Destination::Address(network_address("n", b"1234"))));
    let m = messages::Workload {
        addresses: vec!["1234".into(), "1234567890123456".into()],
        waypoint: Some(gateway),
        services: vec![ServicesEntry {
            key: "ns/h".into(),
            value: Some(PortList {
                ports: vec![Port {
                    service_port: 80,
                    target_port: 8080,
                }],
            }),
        }],
        capacity: Some(3),
        ..pod()
    };
    let value = in_workload(&m.encode_to_vec());
    for end in 0..value.len() {
        assert!(read(ADDRESS, &value[..end]).is_err());
    }
    for at in 0..value.len() {
        for bit in 0..8 {
            let mut value = value.clone();
            value[at] ^= 1 << bit;
            let mut store = MeshStore::new();
            let resource = Resource {
                type_url: ADDRESS,
                name: "n",
                value: &value,
            };
            let applied = store.apply(&[resource], &[]);
            assert_eq!(applied.rejections.is_empty(), !applied.changes.is_empty());
        }
    }
}

#[test]
fn a_million_repeated_entries_are_refused_by_their_number() {
    let million = |field: u8| [field, 0].repeat(1_000_000);
    let entries = "more than 131072 entries in all lists";
    let cases = [
        (million(0x1a), format!("workload.addresses: {entries}")),
        (
            [0x82, 0x01, 0].repeat(600_000),
            format!("workload.authorization_policies: {entries}"),
        ),
        (
            [0xb2, 0x01, 0].repeat(600_000),
            format!("workload.services: {entries}"),
        ),
    ];
    for (inner, expected) in cases {
        assert_eq!(refusal(&pod_and(&inner)), expected);
    }
    let services = |inner: &[u8]| {
        let mut value = in_workload(&[&web().encode_to_vec(), inner].concat());
        value[0] = 0x12;
        refusal(&value)
    };
    for (field, expected) in [
        (0x22, "addresses"),
        (0x2a, "ports"),
        (0x32, "subject_alt_names"),
        (0x6a, "weighted_waypoints"),
    ] {
        assert_eq!(
            services(&million(field)),
            format!("service.{expected}: {entries}")
        );
    }
    let rules = |rules: Vec<u8>| {
        let value = [policy(1, vec![]).encode_to_vec(), rules].concat();
        let refused = read(TYPE_ISTIO_AUTHORIZATION, &value).unwrap_err();
        assert!(refused.fail_closed.unwrap().rules[0].0[0].0[0].unreadable);
        refused.reasons[0].clone()
    };
    assert_eq!(rules(million(0x2a)), format!("rules: {entries}"));
    let clauses = Rule {
        clauses: vec![Bytes::new(); 1_000_000],
    };
    let one = Authorization {
        rules: vec![bytes(&clauses)],
        ..Default::default()
    };
    assert_eq!(
        rules(one.encode_to_vec()),
        format!("rules[0].clauses: {entries}")
    );
    let matches = Clause {
        matches: vec![Bytes::new(); 900_000],
    };
    let clauses = Rule {
        clauses: vec![bytes(&matches)],
    };
    let one = Authorization {
        rules: vec![bytes(&clauses)],
        ..Default::default()
    };
    assert_eq!(
        rules(one.encode_to_vec()),
        format!("rules[0].clauses[0].matches: {entries}")
    );
}

#[test]
fn a_resource_of_more_than_two_mebibytes_is_refused_unread() {
    assert_eq!(
        refusal(&vec![0; (2 << 20) + 1]),
        "larger than 2097152 bytes: 2097153"
    );
    let value = vec![0; 200 << 20];
    let refused = read(TYPE_ISTIO_AUTHORIZATION, &value).unwrap_err();
    assert_eq!(refused.reasons, ["larger than 2097152 bytes: 209715200"]);
}

#[test]
fn workloads_that_are_odd_but_legal_are_taken() {
    let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x01\x02\x03";
    let m = messages::Workload {
        // NONE with a waypoint, an IPv4-mapped address and the same again, capacity 0, a blank locality and trust domain.
        addresses: vec![
            Bytes::from_static(mapped),
            Bytes::from_static(b"\x0a\x01\x02\x03"),
        ],
        waypoint: Some(at(Some(Destination::Address(network_address("", mapped))))),
        capacity: Some(0),
        locality: Some(Locality::default()),
        ..pod()
    };
    let workload = read_workload(m).unwrap();
    let four: std::net::IpAddr = "10.1.2.3".parse().unwrap();
    assert_eq!(workload.addresses, [four, four]);
    assert_eq!(
        workload.waypoint.unwrap().destination.to_string(),
        "/10.1.2.3"
    );
    assert!(read_workload(pod()).unwrap().addresses.is_empty());
}

#[test]
fn services_that_are_odd_but_legal_are_taken() {
    let block = |length| NetworkAddress {
        length: Some(length),
        ..network_address("", b"\x0a\0\0\0")
    };
    let itself = at(Some(Destination::Hostname(NamespacedHostname {
        namespace: "ns".into(),
        hostname: "h".into(),
    })));
    let m = messages::Service {
        // No address of its own, overlapping blocks, /0, ports that map to 0, itself as its waypoint.
        addresses: vec![block(8), block(16), block(0)],
        ports: vec![Port {
            service_port: 80,
            target_port: 0,
        }],
        waypoint: Some(itself.clone()),
        weighted_waypoints: vec![WeightedWaypoint {
            destination: Some(itself),
            weight: 0,
        }],
        ..web()
    };
    let service = read_service(m).unwrap();
    assert_eq!(
        (
            service.vips.len(),
            service.cidr_vips.len(),
            service.ports[&80]
        ),
        (0, 3, 0)
    );
}

#[test]
fn policies_that_are_odd_but_legal_are_taken() {
    let empty_clause = Rule {
        clauses: vec![Bytes::new()],
    };
    let prefix = Match {
        principals: vec![
            string(MatchType::Prefix("".into())),
            string(MatchType::Presence(())),
        ],
        ..Default::default()
    };
    let m = Authorization {
        dry_run: true,
        ..policy(1, vec![Rule::default(), empty_clause, matching(prefix)])
    };
    let found = read_policy(&m).unwrap();
    assert_eq!(found.rules.len(), 3);
    assert!(found.dry_run && !found.unreadable);
    assert!(read_policy(&policy(0, vec![])).unwrap().rules.is_empty());

    let ports = |n: u32| {
        matching(Match {
            destination_ports: vec![n],
            ..Default::default()
        })
    };
    let many = policy(1, (0..10_000).map(ports).collect());
    assert_eq!(read_policy(&many).unwrap().rules.len(), 10_000);
}

#[test]
fn the_second_of_a_name_in_one_batch_is_refused() {
    let value = in_workload(&pod().encode_to_vec());
    let resource = Resource {
        type_url: ADDRESS,
        name: "u",
        value: &value,
    };
    let applied = MeshStore::new().apply(&[resource, resource], &[]);
    let told: Vec<_> = applied.rejections.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["addresses \"u\": is given twice in one batch"]);
}
