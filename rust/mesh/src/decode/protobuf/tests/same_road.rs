//! A resource in protobuf and the same one in JSON become the same value.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::decode::{TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};

fn word() -> impl Strategy<Value = Bytes> {
    "[a-z.é]{0,3}".prop_map(Bytes::from)
}

fn name() -> impl Strategy<Value = Bytes> {
    "[a-z]{1,3}".prop_map(Bytes::from)
}

fn ip() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(|ip| Bytes::copy_from_slice(&ip)),
        any::<[u8; 16]>().prop_map(|ip| Bytes::copy_from_slice(&ip)),
        any::<[u8; 4]>().prop_map(|ip| {
            let mapped = std::net::Ipv4Addr::from(ip).to_ipv6_mapped();
            Bytes::copy_from_slice(&mapped.octets())
        }),
    ]
}

fn gateway() -> impl Strategy<Value = GatewayAddress> {
    let hostname = (name(), name()).prop_map(|(namespace, hostname)| {
        Destination::Hostname(NamespacedHostname {
            namespace,
            hostname,
        })
    });
    let address = (word(), ip()).prop_map(|(network, address)| {
        Destination::Address(NetworkAddress {
            network,
            address,
            length: None,
        })
    });
    let destination = prop_oneof![hostname, address].prop_map(Some);
    (destination, 0..=65_535_u32).prop_map(|(destination, hbone_mtls_port)| GatewayAddress {
        destination,
        hbone_mtls_port,
    })
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let port = (1..=65_535_u32, 0..=65_535_u32).prop_map(|(service_port, target_port)| Port {
        service_port,
        target_port,
    });
    vec(port, 0..4)
}

fn workload() -> impl Strategy<Value = messages::Workload> {
    let texts = (
        name(),
        word(),
        name(),
        word(),
        word(),
        word(),
        word(),
        word(),
        word(),
        word(),
    );
    let numbers = (
        0..2_i32,
        0..2_i32,
        0..2_i32,
        0..4_i32,
        any::<bool>(),
        option::of(any::<u32>()),
    );
    let said = (
        option::of("[a-z]{1,3}"),
        option::of("[a-z]{1,3}"),
        option::of("[a-z]{1,3}"),
    );
    let service =
        (name(), name(), ports()).prop_map(|(namespace, hostname, ports)| ServicesEntry {
            key: [&namespace[..], b"/", &hostname[..]].concat().into(),
            value: Some(PortList { ports }),
        });
    let tunnel = (0..2_i32, 0..=65_535_u32)
        .prop_map(|(protocol, port)| ApplicationTunnel { protocol, port });
    let locality = (word(), word(), word()).prop_map(|(region, zone, subzone)| Locality {
        region,
        zone,
        subzone,
    });
    let parts = (
        vec(ip(), 0..3),
        option::of(gateway()),
        option::of(gateway()),
        option::of(tunnel),
        option::of(locality),
        vec(name(), 0..3),
        vec(service, 0..3),
    );
    (texts, numbers, said, parts).prop_map(|(texts, numbers, said, parts)| {
        let (
            uid,
            name,
            namespace,
            network,
            workload_name,
            canonical_name,
            canonical_revision,
            hostname,
            node,
            _,
        ) = texts;
        let (tunnel_protocol, network_mode, status, workload_type, native_tunnel, capacity) =
            numbers;
        let (trust_domain, service_account, cluster_id) = said;
        let (
            addresses,
            waypoint,
            network_gateway,
            application_tunnel,
            locality,
            authorization_policies,
            services,
        ) = parts;
        let or_nothing = |said: Option<String>| Bytes::from(said.unwrap_or_default());
        messages::Workload {
            uid,
            name,
            namespace,
            network,
            workload_name,
            canonical_name,
            canonical_revision,
            hostname,
            node,
            tunnel_protocol,
            network_mode,
            status,
            workload_type,
            native_tunnel,
            capacity,
            trust_domain: or_nothing(trust_domain),
            service_account: or_nothing(service_account),
            cluster_id: or_nothing(cluster_id),
            addresses,
            waypoint,
            network_gateway,
            application_tunnel,
            locality,
            authorization_policies,
            services,
        }
    })
}

fn service() -> impl Strategy<Value = messages::Service> {
    let address = (word(), ip(), option::of(0..=128_u32)).prop_map(|(network, address, length)| {
        let width = 8 * u32::try_from(address.len()).unwrap();
        NetworkAddress {
            network,
            address,
            length: length.map(|length| length.min(width)),
        }
    });
    let balancing = (vec(1..7_i32, 0..4), 0..4_i32, 0..2_i32).prop_map(
        |(routing_preference, mode, health_policy)| LoadBalancing {
            routing_preference,
            mode,
            health_policy,
        },
    );
    let weighted = (gateway(), any::<u32>()).prop_map(|(destination, weight)| WeightedWaypoint {
        destination: Some(destination),
        weight,
    });
    let san = prop_oneof![word(), Just(Bytes::from_static(b"spiffe://td/ns/a/sa/b"))];
    (
        word(),
        name(),
        name(),
        vec(address, 0..4),
        ports(),
        vec(san, 0..3),
        option::of(gateway()),
        option::of(balancing),
        0..4_i32,
        any::<bool>(),
        vec(weighted, 0..3),
        0..2_i32,
    )
        .prop_map(
            |(
                name,
                namespace,
                hostname,
                addresses,
                ports,
                subject_alt_names,
                waypoint,
                load_balancing,
                ip_families,
                canonical,
                weighted_waypoints,
                visibility,
            )| messages::Service {
                name,
                namespace,
                hostname,
                addresses,
                ports,
                subject_alt_names,
                waypoint,
                load_balancing,
                ip_families,
                canonical,
                weighted_waypoints,
                visibility,
            },
        )
}

fn found() -> impl Strategy<Value = Match> {
    let string = || {
        let string = prop_oneof![
            word().prop_map(MatchType::Exact),
            word().prop_map(MatchType::Prefix),
            word().prop_map(MatchType::Suffix),
            Just(MatchType::Presence(())),
        ];
        vec(string.prop_map(super::string), 0..3)
    };
    let block = || {
        let block = (ip(), 0..=128_u32).prop_map(|(address, length)| {
            let width = 8 * u32::try_from(address.len()).unwrap();
            Block {
                address,
                length: length.min(width),
            }
        });
        vec(block, 0..3)
    };
    let port = || vec(0..=65_535_u32, 0..3);
    let account = || {
        let account =
            (name(), name()).prop_map(|(namespace, service_account)| ServiceAccountMatch {
                namespace,
                service_account,
            });
        vec(account, 0..3)
    };
    let all = (
        string(),
        string(),
        string(),
        string(),
        block(),
        block(),
        block(),
        block(),
        port(),
        port(),
        account(),
        account(),
    );
    all.prop_map(
        |(
            namespaces,
            not_namespaces,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
            service_accounts,
            not_service_accounts,
        )| Match {
            namespaces,
            not_namespaces,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
            service_accounts,
            not_service_accounts,
        },
    )
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn ip_text(bytes: &Bytes) -> String {
    super::super::ip(bytes, &super::super::Place::root(&Default::default()))
        .map(|ip: IpAddr| ip.to_string())
        .unwrap()
}

fn texts(list: &[Bytes]) -> Vec<String> {
    list.iter().map(text).collect()
}

fn gateway_json(m: &GatewayAddress) -> Value {
    let destination = match m.destination.as_ref().unwrap() {
        Destination::Hostname(m) => format!("{}/{}", text(&m.namespace), text(&m.hostname)),
        Destination::Address(m) => format!("{}/{}", text(&m.network), ip_text(&m.address)),
    };
    json!({"destination": destination, "hboneMtlsPort": m.hbone_mtls_port})
}

fn ports_json(list: &[Port]) -> Value {
    let ports = list
        .iter()
        .map(|port| (port.service_port.to_string(), json!(port.target_port)));
    Value::Object(ports.collect::<Map<_, _>>())
}

fn workload_json(m: &messages::Workload) -> Value {
    let services = m.services.iter().map(|entry| {
        (
            text(&entry.key),
            ports_json(&entry.value.as_ref().unwrap().ports),
        )
    });
    json!({
        "uid": text(&m.uid), "name": text(&m.name), "namespace": text(&m.namespace), "network": text(&m.network),
        "workloadName": text(&m.workload_name), "canonicalName": text(&m.canonical_name),
        "canonicalRevision": text(&m.canonical_revision), "hostname": text(&m.hostname), "node": text(&m.node),
        "trustDomain": text(&m.trust_domain), "serviceAccount": text(&m.service_account), "clusterId": text(&m.cluster_id),
        "workloadIps": m.addresses.iter().map(ip_text).collect::<Vec<_>>(),
        "protocol": one_of(&["TCP", "HBONE"], m.tunnel_protocol),
        "networkMode": one_of(&["Standard", "HostNetwork"], m.network_mode),
        "status": one_of(&["Healthy", "Unhealthy"], m.status),
        "workloadType": one_of(&["deployment", "cronjob", "pod", "job"], m.workload_type),
        "nativeTunnel": m.native_tunnel, "capacity": m.capacity.unwrap_or(1),
        "waypoint": m.waypoint.as_ref().map(gateway_json), "networkGateway": m.network_gateway.as_ref().map(gateway_json),
        "applicationTunnel": m.application_tunnel.map(|m| json!({"protocol": one_of(&["NONE", "PROXY"], m.protocol), "port": m.port})),
        "locality": m.locality.as_ref().map(|m| json!({"region": text(&m.region), "zone": text(&m.zone), "subzone": text(&m.subzone)})),
        "authorizationPolicies": texts(&m.authorization_policies),
        "services": Value::Object(services.collect()),
    })
}

fn service_json(m: &messages::Service) -> Value {
    let (mut vips, mut blocks) = (Vec::new(), Vec::new());
    for m in &m.addresses {
        let (network, ip) = (text(&m.network), ip_text(&m.address));
        match m.length {
            Some(length) if usize::try_from(length).unwrap() != 8 * m.address.len() => {
                blocks.push(json!({"network": network, "cidr": format!("{ip}/{length}")}));
            }
            _ => vips.push(format!("{network}/{ip}")),
        }
    }
    let scopes = [
        "", "Region", "Zone", "Subzone", "Node", "Cluster", "Network",
    ];
    json!({
        "name": text(&m.name), "namespace": text(&m.namespace), "hostname": text(&m.hostname),
        "vips": vips, "cidrVips": blocks, "ports": ports_json(&m.ports), "subjectAltNames": texts(&m.subject_alt_names),
        "waypoint": m.waypoint.as_ref().map(gateway_json),
        "weightedWaypoints": m.weighted_waypoints.iter().map(|m| {
            json!({"destination": gateway_json(m.destination.as_ref().unwrap()), "weight": m.weight})
        }).collect::<Vec<_>>(),
        "loadBalancer": m.load_balancing.as_ref().map(|m| json!({
            "routingPreferences": m.routing_preference.iter().map(|n| one_of(&scopes, *n)).collect::<Vec<_>>(),
            "mode": one_of(&["Standard", "Strict", "Failover", "Passthrough"], m.mode),
            "healthPolicy": one_of(&["OnlyHealthy", "AllowAll"], m.health_policy),
        })),
        "ipFamilies": one_of(&[None, Some("IPv4"), Some("IPv6"), Some("Dual")], m.ip_families),
        "canonical": m.canonical, "visibility": one_of(&["Public", "Namespace"], m.visibility),
    })
}

fn match_json(m: &Match) -> Value {
    let strings = |list: &[StringMatch]| {
        let one = |m: &StringMatch| match m.match_type.as_ref().unwrap() {
            MatchType::Exact(bytes) => json!({"Exact": text(bytes)}),
            MatchType::Prefix(bytes) => json!({"Prefix": text(bytes)}),
            MatchType::Suffix(bytes) => json!({"Suffix": text(bytes)}),
            MatchType::Presence(()) => json!({"Presence": []}),
        };
        list.iter().map(one).collect::<Vec<_>>()
    };
    let blocks = |list: &[Block]| {
        list.iter()
            .map(|m| format!("{}/{}", ip_text(&m.address), m.length))
            .collect::<Vec<_>>()
    };
    let accounts = |list: &[ServiceAccountMatch]| {
        let one = |m: &ServiceAccountMatch| json!({"namespace": text(&m.namespace), "serviceAccount": text(&m.service_account)});
        list.iter().map(one).collect::<Vec<_>>()
    };
    json!({
        "namespaces": strings(&m.namespaces), "notNamespaces": strings(&m.not_namespaces),
        "principals": strings(&m.principals), "notPrincipals": strings(&m.not_principals),
        "sourceIps": blocks(&m.source_ips), "notSourceIps": blocks(&m.not_source_ips),
        "destinationIps": blocks(&m.destination_ips), "notDestinationIps": blocks(&m.not_destination_ips),
        "destinationPorts": m.destination_ports, "notDestinationPorts": m.not_destination_ports,
        "serviceAccounts": accounts(&m.service_accounts), "notServiceAccounts": accounts(&m.not_service_accounts),
    })
}

fn one_of<T: Copy>(words: &[T], number: i32) -> T {
    words[usize::try_from(number).unwrap()]
}

/// What the same object is in JSON.
fn from_json(type_url: &str, name: &str, value: &Value) -> Result<Decoded<WorkloadSpec>, Refused> {
    decode_spec(&Resource {
        type_url,
        name,
        value: value.to_string().as_bytes(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_workload_is_the_same_from_protobuf_and_from_json(m in workload()) {
        let json = from_json(TYPE_WORKLOAD, &text(&m.uid), &workload_json(&m));
        prop_assert!(json.is_ok(), "{json:?}");
        prop_assert_eq!(read_address(Type::Workload(m)), json);
    }

    #[test]
    fn a_service_is_the_same_from_protobuf_and_from_json(m in service()) {
        let name = format!("{}/{}", text(&m.namespace), text(&m.hostname));
        let json = from_json(TYPE_SERVICE, &name, &service_json(&m));
        prop_assert!(json.is_ok(), "{json:?}");
        prop_assert_eq!(read_address(Type::Service(m)), json);
    }

    #[test]
    fn a_policy_is_the_same_from_protobuf_and_from_json(
        rules in vec(vec(vec(found(), 0..3), 0..3), 0..3), scope in 0..3_i32, action in 0..2_i32, dry_run: bool,
    ) {
        let json = json!({
            "name": "p", "namespace": "ns", "dryRun": dry_run,
            "scope": one_of(&["Global", "Namespace", "WorkloadSelector"], scope), "action": one_of(&["Allow", "Deny"], action),
            "rules": rules.iter().map(|clauses| {
                clauses.iter().map(|matches| matches.iter().map(match_json).collect()).collect()
            }).collect::<Vec<Vec<Vec<Value>>>>(),
        });
        let clause = |matches: &Vec<Match>| bytes(&Clause { matches: matches.iter().map(bytes).collect() });
        let rule = |clauses: &Vec<Vec<Match>>| Rule { clauses: clauses.iter().map(clause).collect() };
        let m = Authorization {
            scope,
            dry_run,
            ..policy(action, rules.iter().map(rule).collect())
        };
        let json = from_json(TYPE_AUTHORIZATION, "ns/p", &json);
        prop_assert!(json.is_ok(), "{json:?}");
        prop_assert_eq!(read(TYPE_ISTIO_AUTHORIZATION, &m.encode_to_vec()), json);
    }
}
