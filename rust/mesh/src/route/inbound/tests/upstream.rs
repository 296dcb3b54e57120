//! The rows of upstream's own tests of this decision (spec/dataplane.md §19 "Inbound"): client .1, server .2 of service
//! 10.10.0.1, waypoint .3 of service 10.10.0.2, ports 80 → 8080.

use serde_json::{Value, json};

use super::*;

/// To whom the server and its service say that their waypoint is; what the waypoint's application wants.
struct World {
    workloads: Option<&'static str>,
    services: Option<&'static str>,
    several: &'static [&'static str],
    tunnel: Value,
}

const PLAIN: World = World {
    workloads: None,
    services: None,
    several: &[],
    tunnel: Value::Null,
};

impl World {
    fn mesh(&self) -> Arc<MeshSnapshot> {
        let at = |to: &&str| json!({"destination": to, "hboneMtlsPort": 15008});
        let mut server = pod(
            "server",
            &["10.0.0.2"],
            json!({"services": {"ns/server.ns": {}}}),
        );
        let mut waypoint = pod(
            "waypoint",
            &["10.0.0.3"],
            json!({"services": {"ns/waypoint.ns": {}}}),
        );
        let mut of_server = service("server", &["/10.10.0.1"], json!({}));
        if let Some(to) = self.workloads {
            server["waypoint"] = at(&to);
        }
        if let Some(to) = self.services {
            of_server["waypoint"] = at(&to);
        }
        let several = self
            .several
            .iter()
            .map(|to| json!({"destination": at(to), "weight": 0}));
        of_server["weightedWaypoints"] = several.collect();
        if !self.tunnel.is_null() {
            waypoint["applicationTunnel"] = self.tunnel.clone();
        }
        mesh(&json!({
            "workloads": [pod("client", &["10.0.0.1"], json!({})), server, waypoint],
            "services": [of_server, service("waypoint", &["/10.10.0.2"], json!({}))],
        }))
    }

    /// Where a tunnel that ends at `local` leads, with the header if one is written.
    fn answer(&self, local: &str, target: &str) -> String {
        let mesh = self.mesh();
        let local = crate::testing::local(&mesh, local);
        let target = Target::parse(target).unwrap();
        let facts = InboundFacts {
            local: &local,
            local_address: local.addresses[0],
            target: &target,
            network: "",
            reserved_ports: &[15001, 15006, 15008],
        };
        match inbound(&mesh, &facts) {
            Ok(InboundRoute {
                destination,
                header: None,
                ..
            }) => destination.to_string(),
            Ok(InboundRoute {
                destination,
                header: Some(header),
                ..
            }) => format!("{destination} PROXY {header}"),
            Err(refusal) => format!("{} {refusal}", refusal.status()),
        }
    }
}

#[test]
fn to_a_workload_without_a_waypoint() {
    assert_eq!(PLAIN.answer("server", "10.0.0.2:8080"), "10.0.0.2:8080");
    assert_eq!(PLAIN.answer("server", "server.ns:80"), "10.0.0.2:8080");
}

/// A sandwiched waypoint: named by the address of its pod, of its service, or by hostname; attached to a workload or to a
/// service.
#[test]
fn to_a_workload_with_a_waypoint_referenced_by_pod_or_vip() {
    for waypoint in ["/10.0.0.3", "/10.10.0.2", "ns/waypoint.ns"] {
        let attached = World {
            workloads: Some(waypoint),
            ..PLAIN
        };
        assert_eq!(
            attached.answer("waypoint", "10.0.0.2:8080"),
            "10.0.0.3:8080",
            "{waypoint}"
        );
        let attached = World {
            services: Some(waypoint),
            ..PLAIN
        };
        assert_eq!(
            attached.answer("waypoint", "10.10.0.1:8080"),
            "10.0.0.3:8080",
            "{waypoint}"
        );
    }
}

/// Whoever stands in the set is a waypoint, whatever its weight (§20.2 item 7).
#[test]
fn to_a_service_with_several_waypoints() {
    for several in [
        &["/10.0.0.3"][..],
        &["/10.0.0.9", "ns/waypoint.ns"],
        &["/10.10.0.2", "ns/gone.ns"],
    ] {
        let attached = World { several, ..PLAIN };
        assert_eq!(
            attached.answer("waypoint", "10.10.0.1:8080"),
            "10.0.0.3:8080",
            "{several:?}"
        );
    }
    let fallback = World {
        several: &["/10.0.0.9"],
        services: Some("/10.0.0.3"),
        ..PLAIN
    };
    assert_eq!(
        fallback.answer("waypoint", "10.10.0.1:8080"),
        "10.0.0.3:8080"
    );
    let others = World {
        several: &["/10.0.0.9", "ns/gone.ns"],
        ..PLAIN
    };
    assert_eq!(
        others.answer("waypoint", "10.10.0.1:8080"),
        "400 ip mismatch: 10.0.0.3 != 10.10.0.1"
    );
}

#[test]
fn to_a_waypoint_with_a_proxy_tunnel() {
    let tunnel = json!({"protocol": "PROXY", "port": 15088});
    for waypoint in ["/10.0.0.3", "/10.10.0.2", "ns/waypoint.ns"] {
        let attached = World {
            workloads: Some(waypoint),
            tunnel: tunnel.clone(),
            ..PLAIN
        };
        assert_eq!(
            attached.answer("waypoint", "10.0.0.2:80"),
            "10.0.0.3:15088 PROXY 10.0.0.2:80"
        );
        let attached = World {
            services: Some(waypoint),
            tunnel: tunnel.clone(),
            ..PLAIN
        };
        assert_eq!(
            attached.answer("waypoint", "10.10.0.1:80"),
            "10.0.0.3:15088 PROXY 10.10.0.1:80"
        );
        assert_eq!(
            attached.answer("waypoint", "server.ns:80"),
            "10.0.0.3:15088 PROXY 10.10.0.1:80"
        );
    }
}

#[test]
fn mismatches() {
    let of_workload = World {
        workloads: Some("/10.0.0.3"),
        ..PLAIN
    };
    let of_service = World {
        services: Some("/10.0.0.3"),
        ..PLAIN
    };
    let elsewhere = World {
        workloads: Some("/10.0.0.1"),
        services: Some("ns/gone.ns"),
        ..PLAIN
    };
    for (what, world, local, target, expected) in [
        (
            "the server asked for the client",
            &PLAIN,
            "server",
            "10.0.0.1:80",
            "400 ip mismatch: 10.0.0.2 != 10.0.0.1",
        ),
        (
            "a waypoint of nobody",
            &PLAIN,
            "waypoint",
            "10.0.0.2:80",
            "400 ip mismatch: 10.0.0.3 != 10.0.0.2",
        ),
        (
            "a waypoint of no service",
            &PLAIN,
            "waypoint",
            "10.10.0.1:80",
            "400 ip mismatch: 10.0.0.3 != 10.10.0.1",
        ),
        (
            "a workload's, asked for the service",
            &of_workload,
            "waypoint",
            "10.10.0.1:80",
            "400 ip mismatch: 10.0.0.3 != 10.10.0.1",
        ),
        (
            "a service's, asked for the workload",
            &of_service,
            "waypoint",
            "10.0.0.2:80",
            "400 ip mismatch: 10.0.0.3 != 10.0.0.2",
        ),
        (
            "another's waypoint",
            &elsewhere,
            "waypoint",
            "10.0.0.2:80",
            "400 ip mismatch: 10.0.0.3 != 10.0.0.2",
        ),
        (
            "an unknown waypoint",
            &elsewhere,
            "waypoint",
            "10.10.0.1:80",
            "400 ip mismatch: 10.0.0.3 != 10.10.0.1",
        ),
        (
            "an unknown address",
            &of_service,
            "waypoint",
            "1.2.3.4:80",
            "400 ip mismatch: 10.0.0.3 != 1.2.3.4",
        ),
        (
            "the server itself behind a waypoint",
            &of_service,
            "server",
            "10.10.0.1:80",
            "400 ip mismatch: 10.0.0.2 != 10.10.0.1",
        ),
    ] {
        assert_eq!(world.answer(local, target), expected, "{what}");
    }
}
