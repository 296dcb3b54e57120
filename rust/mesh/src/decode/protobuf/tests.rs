use prost::Message;
use prost::bytes::Bytes;

use super::super::{Refused, Resource, TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION, decode_spec};
use super::messages::{
    Address, ApplicationTunnel, Authorization, Block, Clause, Destination, GatewayAddress,
    LoadBalancing, Locality, Match, MatchType, NamespacedHostname, NetworkAddress, Port, PortList,
    Rule, ServiceAccountMatch, ServicesEntry, StringMatch, Type, WeightedWaypoint,
};
use super::{Decoded, messages};
use crate::authorization::Action;
use crate::service::Service;
use crate::store::MeshStore;
use crate::workload::{Workload, WorkloadSpec};

mod bad_input;
mod contract;
mod mistakes;
mod same_road;

/// A workload of which nothing is wrong.
fn pod() -> messages::Workload {
    messages::Workload {
        uid: "u".into(),
        namespace: "ns".into(),
        ..Default::default()
    }
}

/// A service of which nothing is wrong.
fn web() -> messages::Service {
    messages::Service {
        namespace: "ns".into(),
        hostname: "h".into(),
        ..Default::default()
    }
}

/// A policy of which nothing is wrong.
fn policy(action: i32, rules: Vec<Rule>) -> Authorization {
    Authorization {
        name: "p".into(),
        namespace: "ns".into(),
        action,
        rules: rules.iter().map(bytes).collect(),
        ..Default::default()
    }
}

fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// A rule of one clause of one match.
fn matching(found: Match) -> Rule {
    let clause = Clause {
        matches: vec![bytes(&found)],
    };
    Rule {
        clauses: vec![bytes(&clause)],
    }
}

fn string(match_type: MatchType) -> StringMatch {
    StringMatch {
        match_type: Some(match_type),
    }
}

fn at(destination: Option<Destination>) -> GatewayAddress {
    GatewayAddress {
        destination,
        hbone_mtls_port: 15008,
    }
}

fn network_address(network: &'static str, address: &'static [u8]) -> NetworkAddress {
    NetworkAddress {
        network: network.into(),
        address: Bytes::from_static(address),
        length: None,
    }
}

fn read(type_url: &str, value: &[u8]) -> Result<Decoded<WorkloadSpec>, Refused> {
    decode_spec(&Resource {
        type_url,
        name: "n",
        value,
    })
}

fn read_address(of: Type) -> Result<Decoded<WorkloadSpec>, Refused> {
    let address = Address { kind: Some(of) };
    read(TYPE_ISTIO_ADDRESS, &address.encode_to_vec())
}

fn read_workload(m: messages::Workload) -> Result<WorkloadSpec, Vec<String>> {
    match read_address(Type::Workload(m)) {
        Ok(Decoded::Workload(workload)) => Ok(workload),
        Ok(other) => panic!("not a workload: {other:?}"),
        Err(refused) => Err(refused.reasons),
    }
}

fn read_service(m: messages::Service) -> Result<Service, Vec<String>> {
    match read_address(Type::Service(m)) {
        Ok(Decoded::Service(service)) => Ok(service),
        Ok(other) => panic!("not a service: {other:?}"),
        Err(refused) => Err(refused.reasons),
    }
}

fn read_policy(m: &Authorization) -> Result<crate::authorization::Authorization, Refused> {
    read(TYPE_ISTIO_AUTHORIZATION, &m.encode_to_vec()).map(|decoded| match decoded {
        Decoded::Authorization(policy) => policy,
        other => panic!("not a policy: {other:?}"),
    })
}

#[test]
fn what_is_not_said_has_istios_default() {
    let workload = read_workload(pod()).unwrap();
    assert_eq!(
        Workload::from(workload.clone()).identity().to_string(),
        "spiffe://cluster.local/ns/ns/sa/default"
    );
    assert_eq!(
        (
            &*workload.cluster,
            workload.capacity,
            &*workload.workload_type
        ),
        ("Kubernetes", 1, "deployment")
    );
    let m = messages::Workload {
        capacity: Some(0),
        application_tunnel: Some(ApplicationTunnel {
            protocol: 1,
            port: 0,
        }),
        ..pod()
    };
    let workload = read_workload(m).unwrap();
    assert_eq!(workload.capacity, 0);
    assert_eq!(workload.application_tunnel.unwrap().port, None);
}

#[test]
fn every_number_of_an_enumeration_means_what_istio_means() {
    let kinds = [0, 1, 2, 3, 4, -1].map(|workload_type| {
        let m = messages::Workload {
            workload_type,
            ..pod()
        };
        read_workload(m).unwrap().workload_type.to_string()
    });
    assert_eq!(
        kinds,
        [
            "deployment",
            "cronjob",
            "pod",
            "job",
            "deployment",
            "deployment"
        ]
    );
    let spelled = |m: messages::Workload| {
        serde_json::to_value(Workload::from(read_workload(m).unwrap())).unwrap()
    };
    for (number, [protocol, mode, status, tunnel]) in [
        (0, ["TCP", "Standard", "Healthy", "NONE"]),
        (1, ["HBONE", "HostNetwork", "Unhealthy", "PROXY"]),
    ] {
        let found = spelled(messages::Workload {
            tunnel_protocol: number,
            network_mode: number,
            status: number,
            application_tunnel: Some(ApplicationTunnel {
                protocol: number,
                port: 1,
            }),
            ..pod()
        });
        assert_eq!(found["protocol"], protocol);
        assert_eq!(found["networkMode"], mode);
        assert_eq!(found["status"], status);
        assert_eq!(found["applicationTunnel"]["protocol"], tunnel);
    }
    let spelled = |m: messages::Service| serde_json::to_value(read_service(m).unwrap()).unwrap();
    let families = [0, 1, 2, 3].map(|ip_families| {
        spelled(messages::Service {
            ip_families,
            ..web()
        })["ipFamilies"]
            .clone()
    });
    assert_eq!(
        serde_json::json!(families),
        serde_json::json!([null, "IPv4", "IPv6", "Dual"])
    );
    let seen = [0, 1, 2, -1].map(|visibility| {
        spelled(messages::Service {
            visibility,
            ..web()
        })["visibility"]
            .clone()
    });
    assert_eq!(
        serde_json::json!(seen),
        serde_json::json!(["Public", "Namespace", "Public", "Public"])
    );
    let balanced = |mode, health_policy| {
        let load_balancing = LoadBalancing {
            routing_preference: vec![1, 2, 3, 4, 5, 6],
            mode,
            health_policy,
        };
        let m = messages::Service {
            load_balancing: Some(load_balancing),
            ..web()
        };
        spelled(m)["loadBalancer"].clone()
    };
    for (mode, name, health_policy, health) in [
        (0, "Standard", 0, "OnlyHealthy"),
        (1, "Strict", 1, "AllowAll"),
        (2, "Failover", 0, "OnlyHealthy"),
        (3, "Passthrough", 1, "AllowAll"),
    ] {
        let expected = serde_json::json!({
            "routingPreferences": ["Region", "Zone", "Subzone", "Node", "Cluster", "Network"],
            "mode": name, "healthPolicy": health,
        });
        assert_eq!(balanced(mode, health_policy), expected);
    }
    for (scope, name) in [(0, "Global"), (1, "Namespace"), (2, "WorkloadSelector")] {
        let found = read_policy(&Authorization {
            scope,
            ..policy(0, vec![])
        })
        .unwrap();
        assert_eq!(format!("{:?}", found.scope), name);
    }
    let actions = [0, 1].map(|action| read_policy(&policy(action, vec![])).unwrap().action);
    assert_eq!(actions, [Action::Allow, Action::Deny]);
}

#[test]
fn an_address_of_a_service_with_a_length_is_a_block_of_them() {
    let mapped = b"\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\x01\x02\x03";
    let of = |address: &'static [u8], length| NetworkAddress {
        length,
        ..network_address("net", address)
    };
    let m = messages::Service {
        addresses: vec![
            of(b"\x0a\x01\x02\x03", None),
            of(b"\x0a\x01\x02\x04", Some(32)),
            of(b"\x0a\x01\x02\x03", Some(24)),
            of(b"\x0a\x01\x02\x03", Some(0)),
            of(mapped, None),
            of(mapped, Some(120)),
            of(b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", Some(128)),
            of(b"\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01", Some(8)),
        ],
        ..web()
    };
    let service = serde_json::to_value(read_service(m).unwrap()).unwrap();
    let expected = [
        "net/10.1.2.3",
        "net/10.1.2.4",
        "net/10.1.2.3",
        "net/fd00::1",
    ];
    assert_eq!(service["vips"], serde_json::json!(expected));
    let blocks = ["10.1.2.0/24", "0.0.0.0/0", "10.1.2.0/24", "fd00::/8"]
        .map(|cidr| serde_json::json!({"network": "net", "cidr": cidr}));
    assert_eq!(service["cidrVips"], serde_json::json!(blocks));
}

#[test]
fn of_two_entries_for_a_port_or_a_service_the_last_one_counts() {
    let port = |service_port, target_port| Port {
        service_port,
        target_port,
    };
    let entry = |ports| ServicesEntry {
        key: "ns/dns".into(),
        value: Some(PortList { ports }),
    };
    let m = messages::Workload {
        services: vec![
            entry(vec![port(1, 1)]),
            entry(vec![port(53, 0), port(53, 5353)]),
        ],
        ..pod()
    };
    let services = read_workload(m).unwrap().services;
    let ports = services.values().next().unwrap();
    assert_eq!((services.len(), ports.len(), ports[&53]), (1, 1, 5353));
}

#[test]
fn a_workload_is_known_by_its_uid_and_a_policy_by_the_name_of_its_resource() {
    let mut store = MeshStore::new();
    let address = Address {
        kind: Some(Type::Workload(pod())),
    };
    let (address, policy) = (address.encode_to_vec(), policy(1, vec![]).encode_to_vec());
    let resource = |type_url, value| Resource {
        type_url,
        name: "other",
        value,
    };
    let resources = [
        resource(TYPE_ISTIO_ADDRESS, &*address),
        resource(TYPE_ISTIO_AUTHORIZATION, &*policy),
    ];
    assert_eq!(store.apply(&resources, &[]).rejections, []);
    let mesh = store.snapshot();
    assert!(mesh.workload_by_uid("u").is_some() && mesh.workload_by_uid("other").is_none());
    assert!(mesh.policy("other").is_some() && mesh.policy("ns/p").is_none());
    // One that cannot be read wholly is enforced under that name, too, and gives way to one that can.
    let bad = policy_with_a_broken_rule();
    let bad = [Resource {
        name: "third",
        ..resource(TYPE_ISTIO_AUTHORIZATION, &*bad)
    }];
    assert_eq!(store.apply(&bad, &[]).rejections.len(), 1);
    assert!(store.snapshot().policy("third").unwrap().unreadable);
    let good = [Resource {
        name: "third",
        ..resource(TYPE_ISTIO_AUTHORIZATION, &*policy)
    }];
    assert_eq!(store.apply(&good, &[]).rejections, []);
    assert_eq!(store.apply(&bad, &[]).rejections.len(), 1);
    assert!(!store.snapshot().policy("third").unwrap().unreadable);
}

fn policy_with_a_broken_rule() -> Vec<u8> {
    let mut m = policy(1, vec![]);
    m.rules.push(Bytes::from_static(b"\x0a\x05"));
    m.encode_to_vec()
}
