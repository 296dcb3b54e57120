//! What is refused, with the words in which it is, and what is enforced of a policy nevertheless.

use super::*;

#[test]
fn a_mistake_in_a_workload_names_the_field_and_the_cause() {
    let with = |change: fn(&mut messages::Workload)| {
        let mut m = pod();
        change(&mut m);
        m
    };
    let services = |key: &'static str, service_port, target_port| messages::Workload {
        services: vec![ServicesEntry {
            key: key.into(),
            value: Some(PortList {
                ports: vec![Port {
                    service_port,
                    target_port,
                }],
            }),
        }],
        ..pod()
    };
    let cases = [
        (with(|m| m.uid = "".into()), "uid: must not be empty"),
        (
            with(|m| m.namespace = "".into()),
            "namespace: not a SPIFFE path segment (letters, digits, `.`, `-`, `_`): ``",
        ),
        (
            with(|m| m.service_account = "a/b".into()),
            "service_account: not a SPIFFE path segment (letters, digits, `.`, `-`, `_`): `a/b`",
        ),
        (
            with(|m| m.trust_domain = "TD".into()),
            "trust_domain: not a SPIFFE trust domain (lower-case letters, digits, `.`, `-`, `_`): `TD`",
        ),
        (
            with(|m| m.name = Bytes::from_static(b"ab\xff")),
            "name: not UTF-8 from byte 2",
        ),
        (
            with(|m| m.node = "n".repeat(2049).into()),
            "node: longer than 2048 bytes: 2049",
        ),
        (
            with(|m| m.addresses = vec!["1234".into(), "12345".into()]),
            "addresses[1]: expected 4 or 16 bytes, found 5",
        ),
        (
            with(|m| m.tunnel_protocol = 2),
            "tunnel_protocol: expected one of NONE (0), HBONE (1), found 2",
        ),
        (
            with(|m| m.network_mode = 2),
            "network_mode: expected one of STANDARD (0), HOST_NETWORK (1), found 2",
        ),
        (
            with(|m| m.status = -1),
            "status: expected one of HEALTHY (0), UNHEALTHY (1), found -1",
        ),
        (
            with(|m| m.waypoint = Some(at(None))),
            "waypoint: has no destination",
        ),
        (
            with(|m| m.network_gateway = Some(at(None))),
            "network_gateway: has no destination",
        ),
        (
            with(|m| {
                m.waypoint = Some(at(Some(Destination::Address(network_address("", b"123")))))
            }),
            "waypoint.address.address: expected 4 or 16 bytes, found 3",
        ),
        (
            with(|m| {
                m.waypoint = Some(at(Some(Destination::Address(network_address(
                    "a/b", b"1234",
                )))))
            }),
            "waypoint.address.network: must not contain a slash",
        ),
        (
            with(|m| {
                m.waypoint = Some(at(Some(Destination::Hostname(
                    NamespacedHostname::default(),
                ))))
            }),
            "waypoint.hostname.namespace: must not be empty",
        ),
        (
            with(|m| {
                let destination = Destination::Hostname(NamespacedHostname {
                    namespace: "a".into(),
                    hostname: "b/c".into(),
                });
                m.waypoint = Some(GatewayAddress {
                    destination: Some(destination),
                    hbone_mtls_port: 65_536,
                });
            }),
            "waypoint.hostname.hostname: must not contain a slash",
        ),
        (
            with(|m| {
                m.application_tunnel = Some(ApplicationTunnel {
                    protocol: 2,
                    port: 0,
                })
            }),
            "application_tunnel.protocol: expected one of NONE (0), PROXY (1), found 2",
        ),
        (
            with(|m| {
                m.application_tunnel = Some(ApplicationTunnel {
                    protocol: 1,
                    port: 65_616,
                })
            }),
            "application_tunnel.port: expected a port from 0 to 65535, found 65616",
        ),
        (
            with(|m| {
                m.locality = Some(Locality {
                    zone: Bytes::from_static(b"\xff"),
                    ..Default::default()
                })
            }),
            "locality.zone: not UTF-8 from byte 0",
        ),
        (
            with(|m| m.authorization_policies = vec!["".into()]),
            "authorization_policies[0]: must not be empty",
        ),
        (
            services("web", 80, 80),
            "services[\"web\"]: invalid service name (namespace/hostname): `web`",
        ),
        (
            services("/web", 80, 80),
            "services[\"/web\"]: invalid service name (namespace/hostname): `/web`",
        ),
        (
            services("ns/web", 0, 80),
            "services[\"ns/web\"].ports[0].service_port: expected a port from 1 to 65535, found 0",
        ),
        (
            services("ns/web", 65_616, 80),
            "services[\"ns/web\"].ports[0].service_port: expected a port from 1 to 65535, found 65616",
        ),
        (
            services("ns/web", 80, 65_616),
            "services[\"ns/web\"].ports[0].target_port: expected a port from 0 to 65535, found 65616",
        ),
    ];
    for (m, expected) in cases {
        let found = read_workload(m).unwrap_err();
        assert_eq!(found[0], format!("workload.{expected}"));
    }
}

#[test]
fn a_mistake_in_a_service_names_the_field_and_the_cause() {
    let addresses = |address: &'static [u8], length| messages::Service {
        addresses: vec![NetworkAddress {
            length,
            ..network_address("", address)
        }],
        ..web()
    };
    let balanced = |routing_preference: Vec<i32>, mode, health_policy| messages::Service {
        load_balancing: Some(LoadBalancing {
            routing_preference,
            mode,
            health_policy,
        }),
        ..web()
    };
    let cases = [
        (
            messages::Service {
                namespace: "".into(),
                ..web()
            },
            "namespace: must not be empty",
        ),
        (
            messages::Service {
                hostname: "a/b".into(),
                ..web()
            },
            "hostname: must not contain a slash",
        ),
        (
            addresses(b"", None),
            "addresses[0].address: expected 4 or 16 bytes, found 0",
        ),
        (
            addresses(b"12345678901234567", Some(8)),
            "addresses[0].address: expected 4 or 16 bytes, found 17",
        ),
        (
            addresses(b"1234", Some(33)),
            "addresses[0].length: prefix length is more than the 32 bits of the address: 33",
        ),
        (
            addresses(b"1234567890123456", Some(300)),
            "addresses[0].length: prefix length is more than the 128 bits of the address: 300",
        ),
        (
            messages::Service {
                ports: vec![Port {
                    service_port: 70_000,
                    target_port: 1,
                }],
                ..web()
            },
            "ports[0].service_port: expected a port from 1 to 65535, found 70000",
        ),
        (
            messages::Service {
                waypoint: Some(at(None)),
                ..web()
            },
            "waypoint: has no destination",
        ),
        (
            messages::Service {
                weighted_waypoints: vec![WeightedWaypoint {
                    destination: None,
                    weight: 1,
                }],
                ..web()
            },
            "weighted_waypoints[0].destination: is missing",
        ),
        (
            messages::Service {
                weighted_waypoints: vec![WeightedWaypoint {
                    destination: Some(at(None)),
                    weight: 1,
                }],
                ..web()
            },
            "weighted_waypoints[0].destination: has no destination",
        ),
        (
            messages::Service {
                subject_alt_names: vec![Bytes::from_static(b"a\xc3")],
                ..web()
            },
            "subject_alt_names[0]: not UTF-8 from byte 1",
        ),
        (
            messages::Service {
                ip_families: 4,
                ..web()
            },
            "ip_families: expected one of AUTOMATIC (0), IPV4_ONLY (1), IPV6_ONLY (2), DUAL (3), found 4",
        ),
        (
            balanced(vec![1, 0], 0, 0),
            "load_balancing.routing_preference[1]: expected one of REGION (1), ZONE (2), SUBZONE (3), NODE (4), CLUSTER (5), NETWORK (6), found 0",
        ),
        (
            balanced(vec![7], 0, 0),
            "load_balancing.routing_preference[0]: expected one of REGION (1), ZONE (2), SUBZONE (3), NODE (4), CLUSTER (5), NETWORK (6), found 7",
        ),
        (
            balanced(vec![], 4, 0),
            "load_balancing.mode: expected one of UNSPECIFIED_MODE (0), STRICT (1), FAILOVER (2), PASSTHROUGH (3), found 4",
        ),
        (
            balanced(vec![], 0, 2),
            "load_balancing.health_policy: expected one of ONLY_HEALTHY (0), ALLOW_ALL (1), found 2",
        ),
    ];
    for (m, expected) in cases {
        let found = read_service(m).unwrap_err();
        assert_eq!(found, [format!("service.{expected}")]);
    }
}

#[test]
fn a_mistake_in_a_policy_names_the_field_and_the_cause() {
    let block = |address: &'static [u8], length| Match {
        source_ips: vec![Block {
            address: Bytes::from_static(address),
            length,
        }],
        ..Default::default()
    };
    let rule = |found| policy(0, vec![matching(found)]);
    let broken = |rules: &'static [u8]| Authorization {
        rules: vec![Bytes::from_static(rules)],
        ..policy(0, vec![])
    };
    let at = "rules[0].clauses[0].matches[0]";
    let account = ServiceAccountMatch {
        namespace: "a".into(),
        ..Default::default()
    };
    let cases = [
        (
            Authorization {
                name: "".into(),
                ..policy(0, vec![])
            },
            "name: must not be empty".to_owned(),
        ),
        (
            Authorization {
                name: "a/b".into(),
                ..policy(0, vec![])
            },
            "name: must not contain a slash".to_owned(),
        ),
        (
            Authorization {
                namespace: "".into(),
                ..policy(0, vec![])
            },
            "namespace: must not be empty".to_owned(),
        ),
        (
            Authorization {
                scope: 3,
                ..policy(0, vec![])
            },
            "scope: expected one of GLOBAL (0), NAMESPACE (1), WORKLOAD_SELECTOR (2), found 3"
                .to_owned(),
        ),
        (
            policy(2, vec![]),
            "action: expected one of ALLOW (0), DENY (1), found 2".to_owned(),
        ),
        (
            broken(b"\x0a\x05"),
            "rules[0]: decode: failed to decode Protobuf message: Rule.clauses: buffer underflow"
                .to_owned(),
        ),
        (
            broken(b"\x0a\x01\x12"),
            "rules[0].clauses[0]: decode: failed to decode Protobuf message: Clause.matches: invalid varint"
                .to_owned(),
        ),
        (
            broken(b"\x0a\x04\x12\x02\x08\x01"),
            format!(
                "{at}: decode: failed to decode Protobuf message: Match.namespaces: invalid wire type: Varint (expected LengthDelimited)"
            ),
        ),
        (
            rule(block(b"1234", 33)),
            format!(
                "{at}.source_ips[0].length: prefix length is more than the 32 bits of the address: 33"
            ),
        ),
        (
            rule(block(b"12345", 8)),
            format!("{at}.source_ips[0].address: expected 4 or 16 bytes, found 5"),
        ),
        (
            rule(Match {
                principals: vec![StringMatch::default()],
                ..Default::default()
            }),
            format!("{at}.principals[0]: is none of exact, prefix, suffix, presence"),
        ),
        (
            rule(Match {
                not_namespaces: vec![string(MatchType::Suffix(Bytes::from_static(b"\xff")))],
                ..Default::default()
            }),
            format!("{at}.not_namespaces[0].suffix: not UTF-8 from byte 0"),
        ),
        (
            rule(Match {
                destination_ports: vec![80, 65_616],
                ..Default::default()
            }),
            format!("{at}.destination_ports[1]: expected a port from 0 to 65535, found 65616"),
        ),
        (
            rule(Match {
                not_service_accounts: vec![account],
                ..Default::default()
            }),
            format!("{at}.not_service_accounts[0].serviceAccount: must not be empty"),
        ),
    ];
    for (m, expected) in cases {
        assert_eq!(read_policy(&m).unwrap_err().reasons, [expected]);
    }
}

#[test]
fn what_a_policy_does_not_say_legibly_never_lets_anything_through() {
    let bad = Block {
        address: "12345".into(),
        length: 8,
    };
    let good = || string(MatchType::Exact("a".into()));
    let enforced = |m: &Authorization| read_policy(m).unwrap_err().fail_closed.unwrap();

    // A positive list with a bad entry is no condition, a negative one is the rest of it; the match says so.
    let found = Match {
        principals: vec![good()],
        source_ips: vec![
            Block {
                address: "1234".into(),
                length: 8,
            },
            bad.clone(),
        ],
        not_source_ips: vec![
            Block {
                address: "1234".into(),
                length: 8,
            },
            bad,
        ],
        ..Default::default()
    };
    for action in [0, 1] {
        let closed = enforced(&policy(action, vec![matching(found.clone())]));
        assert!(closed.unreadable);
        let found = &closed.rules[0].0[0].0[0];
        assert!(found.unreadable);
        assert_eq!(
            [
                found.source_ips.len(),
                found.not_source_ips.len(),
                found.principals.len()
            ],
            [0, 1, 1]
        );
    }

    // A broken rule, clause or match stands for itself only.
    let mut m = policy(1, vec![matching(Match::default())]);
    m.rules.push(Bytes::from_static(b"\x0a\x05"));
    let closed = enforced(&m);
    assert_eq!(closed.rules.len(), 2);
    assert!(!closed.rules[0].0[0].0[0].unreadable);
    assert!(closed.rules[1].0[0].0[0].unreadable);

    // What may narrow a whole ALLOW ends it; a DENY goes on as far as it can be read.
    for (action, rules) in [(0, 0), (1, 1)] {
        let named = Authorization {
            name: "".into(),
            ..policy(action, vec![matching(Match::default())])
        };
        assert_eq!(enforced(&named).rules.len(), rules);
    }

    // Without its scope or action nobody knows what to enforce.
    for m in [
        Authorization {
            scope: 9,
            ..policy(1, vec![])
        },
        policy(9, vec![]),
    ] {
        assert_eq!(read_policy(&m).unwrap_err().fail_closed, None);
    }
}

#[test]
fn every_mistake_of_a_resource_is_told() {
    let m = messages::Workload {
        uid: "".into(),
        status: 7,
        addresses: vec!["1".into(), "1234".into(), "123".into()],
        ..pod()
    };
    assert_eq!(
        read_workload(m).unwrap_err(),
        [
            "workload.uid: must not be empty",
            "workload.addresses[0]: expected 4 or 16 bytes, found 1",
            "workload.addresses[2]: expected 4 or 16 bytes, found 3",
            "workload.status: expected one of HEALTHY (0), UNHEALTHY (1), found 7",
        ]
    );
}
