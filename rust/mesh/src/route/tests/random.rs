//! Whatever the mesh looks like, there is an answer, and a tunnel has somebody whom its peer must be.

use std::net::IpAddr;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{MeshSnapshot, NoRoute, Route, RouteFacts, Target, local, read_target, route};
use crate::explain::{explain_inbound, explain_plaintext, explain_route};
use crate::route::{InboundFacts, inbound, plaintext};
use crate::testing::{mesh, pod, service};

/// Few of everything, so that things meet.
const ADDRESSES: [&str; 6] = [
    "10.0.0.1", "10.0.0.2", "10.0.0.3", "ff06::1", "ff06::2", "10.1.0.1",
];
const VIPS: [&str; 4] = ["10.1.0.1", "10.1.0.2", "ff07::1", "10.0.0.2"];
const NAMES: [&str; 3] = ["a.ns", "b.ns", "c.ns"];
const NETWORKS: [&str; 2] = ["", "far"];

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

fn gateway() -> impl Strategy<Value = Value> {
    let address = (
        one_of(&NETWORKS),
        prop::sample::select([ADDRESSES.as_slice(), &VIPS].concat()),
    );
    let destination = prop_oneof![
        address.prop_map(|(network, address)| format!("{network}/{address}")),
        one_of(&NAMES).prop_map(|name| format!("ns/{name}")),
        Just("ns/h.example".to_owned()),
    ];
    (destination, prop::sample::select(vec![80, 15008]))
        .prop_map(|(to, port)| json!({"destination": to, "hboneMtlsPort": port}))
}

fn workload() -> impl Strategy<Value = Value> {
    let what = (
        prop::collection::btree_set(one_of(&ADDRESSES), 0..3),
        one_of(&NETWORKS),
        prop::collection::btree_map(
            one_of(&NAMES),
            prop::sample::select(vec![0, 80, 9090]),
            0..3,
        ),
        prop::option::of(gateway()),
        prop::option::of(gateway()),
    );
    let how = (
        one_of(&["TCP", "HBONE"]),
        one_of(&["Standard", "HostNetwork"]),
        one_of(&["Healthy", "Unhealthy"]),
        one_of(&["", "h.example"]),
        prop::option::of((one_of(&["NONE", "PROXY"]), prop::option::of(Just(15088)))),
        0..3_u32,
        one_of(&["x", "y"]),
    );
    (what, how).prop_map(|((addresses, network, services, waypoint, gateway), how)| {
        let (protocol, mode, status, hostname, tunnel, capacity, account) = how;
        let services: serde_json::Map<_, _> = services
            .into_iter()
            .map(|(name, port)| (format!("ns/{name}"), if port == 0 { json!({}) } else { json!({"80": port}) }))
            .collect();
        let mut object = json!({
            "workloadIps": addresses, "network": network, "services": services, "protocol": protocol,
            "networkMode": mode, "status": status, "hostname": hostname, "capacity": capacity,
            "serviceAccount": account,
        });
        if let Some(waypoint) = waypoint {
            object["waypoint"] = waypoint;
        }
        if let Some(gateway) = gateway {
            object["networkGateway"] = gateway;
        }
        if let Some((protocol, port)) = tunnel {
            object["applicationTunnel"] = json!({"protocol": protocol, "port": port});
        }
        object
    })
}

fn a_service() -> impl Strategy<Value = Value> {
    let weighted = prop::collection::vec((gateway(), 0..3_u32), 0..3);
    (
        prop::collection::btree_set((one_of(&NETWORKS), one_of(&VIPS)), 0..3),
        prop::option::of(gateway()),
        weighted,
        prop::option::of(one_of(&["Standard", "Passthrough", "Failover", "Strict"])),
        prop::option::of(one_of(&["Dual", "IPv4", "IPv6"])),
        prop::collection::btree_map(
            prop::sample::select(vec!["80", "15008"]),
            prop::sample::select(vec![0, 80, 8080, 15008]),
            0..3,
        ),
        any::<bool>(),
    )
        .prop_map(|(vips, waypoint, weighted, mode, families, ports, named)| {
            let vips: Vec<_> = vips.iter().map(|(n, a)| format!("{n}/{a}")).collect();
            let weighted: Vec<_> = weighted
                .into_iter()
                .map(|(to, weight)| json!({"destination": to, "weight": weight}))
                .collect();
            let names = if named { vec!["spiffe://cluster.local/ns/ns/sa/s"] } else { vec![] };
            let mut object = json!({
                "vips": vips, "weightedWaypoints": weighted, "ports": ports, "subjectAltNames": names,
            });
            if let Some(waypoint) = waypoint {
                object["waypoint"] = waypoint;
            }
            if let Some(mode) = mode {
                object["loadBalancer"] =
                    json!({"routingPreferences": ["Network"], "mode": mode, "healthPolicy": "OnlyHealthy"});
            }
            if let Some(families) = families {
                object["ipFamilies"] = json!(families);
            }
            object
        })
}

fn any_mesh() -> impl Strategy<Value = std::sync::Arc<MeshSnapshot>> {
    let workloads = prop::collection::vec(workload(), 2..6);
    let services = prop::collection::vec(a_service(), NAMES.len());
    (workloads, services).prop_map(|(workloads, services)| {
        let workloads = workloads.into_iter().enumerate();
        let workloads: Vec<_> = workloads
            .map(|(n, more)| pod(&format!("w{n}"), &[], more))
            .collect();
        let services = services.into_iter().zip(NAMES);
        let services: Vec<_> = services
            .map(|(more, name)| service(name.trim_end_matches(".ns"), &[], more))
            .collect();
        mesh(&json!({"workloads": workloads, "services": services}))
    })
}

fn any_target() -> impl Strategy<Value = Target> {
    let hosts = [ADDRESSES.as_slice(), &VIPS, &["1.2.3.4", "::ffff:10.0.0.2"]].concat();
    let address = (
        prop::sample::select(hosts),
        prop::sample::select(vec![80, 81, 15008]),
    );
    prop_oneof![
        4 => address.prop_map(|(host, port)| {
            let host: IpAddr = host.parse().unwrap();
            Target::Address((host, port).into())
        }),
        1 => one_of(&NAMES).prop_map(|name| read_target(&format!("{name}:80"))),
    ]
}

proptest! {
    #[test]
    fn a_tunnel_has_somebody_whom_its_peer_must_be(
        mesh in any_mesh(),
        target in any_target(),
        client in prop::sample::select(ADDRESSES.to_vec()),
        network in one_of(&NETWORKS),
        luck in any::<u64>(),
        answers in prop::collection::vec(prop::sample::select(ADDRESSES.to_vec()), 0..3),
    ) {
        let source = local(&mesh, "w0");
        let facts = RouteFacts {
            source: &source,
            client: client.parse().unwrap(),
            target: &target,
            network,
            hbone_port: 15008,
        };
        let found = route(&mesh, &facts, &mut |total| luck % total);
        let told = explain_route(&mesh, &facts, &mut |total| luck % total);
        prop_assert_eq!(told.error, found.as_ref().err().map(ToString::to_string));
        let answers: Vec<IpAddr> = answers.iter().map(|text| text.parse().unwrap()).collect();
        let found = match found {
            Ok(Route::Resolve(unresolved)) => unresolved.answered(&answers, &mut |total| luck % total),
            found => found,
        };
        match found {
            Ok(Route::Hbone { expected, .. } | Route::DoubleHbone { expected, .. }) => {
                prop_assert!(!expected.is_empty());
            }
            Ok(Route::Resolve(_)) => prop_assert!(false, "a name was resolved"),
            Ok(Route::Passthrough { destination, .. }) => prop_assert!(!is_mapped(destination.ip())),
            Err(error) => prop_assert!(said_by_the_book(&error), "{error}"),
        }
    }

    #[test]
    fn requests_have_an_answer_and_the_explanation_is_the_same(
        mesh in any_mesh(),
        target in any_target(),
        at in prop::sample::select(ADDRESSES.to_vec()),
        host in prop::option::of(one_of(&NAMES)),
    ) {
        let local = local(&mesh, "w0");
        let facts = InboundFacts {
            local: &local,
            local_address: at.parse().unwrap(),
            target: &target,
            network: "",
            reserved_ports: &[15001, 15006, 15008],
        };
        let found = inbound(&mesh, &facts);
        let told = explain_inbound(&mesh, &facts, host);
        prop_assert_eq!(told.error, found.as_ref().err().map(ToString::to_string));
        prop_assert_eq!(told.route.map(|route| route.destination), found.ok().map(|route| route.destination));
        let destination = (facts.local_address, 80).into();
        let found = plaintext(&mesh, &local, destination);
        let told = explain_plaintext(&mesh, &local, destination);
        prop_assert_eq!(told.error, found.err().map(|error| error.to_string()));
    }
}

fn is_mapped(address: IpAddr) -> bool {
    address != address.to_canonical()
}

fn said_by_the_book(error: &NoRoute) -> bool {
    let text = error.to_string();
    [
        "no healthy upstream: ",
        "no service for target address: ",
        "no valid routing destination for workload: ",
        "no service or workload for hostname: ",
        "unknown waypoint: waypoint ",
        "unknown network gateway: network gateway ",
        "no ip addresses were resolved for workload: ",
        "ip addresses were resolved for workload ",
    ]
    .iter()
    .any(|start| text.starts_with(start))
}
