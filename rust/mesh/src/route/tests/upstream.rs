//! The rows of upstream's own tests of this decision (spec/dataplane.md §19 `build_request`), each by the name it has
//! there or by what it says.

use serde_json::{Value, json};

use super::{Arc, MeshSnapshot, answer};
use crate::testing::{mesh, pod, service};

fn gateway(destination: &str, port: u16) -> Value {
    json!({"destination": destination, "hboneMtlsPort": port})
}

/// Merges what two rows add to an object.
fn with(mut one: Value, two: Value) -> Value {
    if let (Some(one), Value::Object(two)) = (one.as_object_mut(), two) {
        one.extend(two);
    }
    one
}

/// §19: source 127.0.0.1 and ::1 in namespace `ns`, waypoints 127.0.0.10 and, dual, 127.0.0.11 and ff06::c5.
fn world(workloads: Vec<Value>, services: Vec<Value>) -> Arc<MeshSnapshot> {
    let mut all = vec![
        pod("client", &["127.0.0.1", "::1"], json!({})),
        pod("waypoint", &["127.0.0.10"], json!({})),
        pod("waypoint-dual", &["127.0.0.11", "ff06::c5"], json!({})),
    ];
    all.extend(workloads);
    mesh(&json!({"workloads": all, "services": services}))
}

fn example(more: Value) -> Value {
    let plain = json!({"hostname": "example.com", "ports": {"80": 8080}});
    service("example", &["/127.0.0.3"], with(plain, more))
}

/// An endpoint of `example`.
fn of_example(more: Value) -> Value {
    with(json!({"services": {"ns/example.com": {"80": 8080}}}), more)
}

fn remote(more: Value) -> Value {
    pod(
        "remote",
        &[],
        of_example(with(json!({"network": "remote"}), more)),
    )
}

fn east_west(more: Value) -> Value {
    pod(
        "gateway",
        &["10.22.1.1"],
        with(json!({"network": "remote"}), more),
    )
}

#[test]
fn unknown_dest() {
    let mesh = world(vec![], vec![]);
    assert_eq!(answer(&mesh, "127.0.0.1", "1.2.3.4:80"), "tcp 1.2.3.4:80");
}

#[test]
fn a_service_with_only_a_remote_pod_and_no_gateway_is_an_error() {
    let mesh = world(vec![remote(json!({}))], vec![example(json!({}))]);
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "no healthy upstream: 127.0.0.3:80"
    );
    let with_address = pod(
        "remote",
        &["10.0.0.9"],
        of_example(json!({"network": "remote"})),
    );
    let mesh = world(vec![with_address], vec![example(json!({}))]);
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "no valid routing destination for workload: remote"
    );
}

#[test]
fn double_hbone_by_the_gateways_address() {
    let behind = json!({"networkGateway": gateway("remote/10.22.1.1", 15009)});
    let sans = json!({"subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/example"]});
    let mesh = world(
        vec![remote(behind), east_west(json!({}))],
        vec![example(sans)],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "double 10.22.1.1:15009 example.com:80 gateway ns/example.com <- ns/ns/sa/gateway << ns/ns/sa/example"
    );
}

/// Service-level names only: with none, nobody can be the inner peer (§20.1 item 4).
#[test]
fn without_names_of_the_service_nobody_is_expected_beyond_the_gateway() {
    let behind = json!({"networkGateway": gateway("remote/10.22.1.1", 15009)});
    let mesh = world(
        vec![remote(behind), east_west(json!({}))],
        vec![example(json!({}))],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "double 10.22.1.1:15009 example.com:80 gateway ns/example.com <- ns/ns/sa/gateway <<"
    );
}

#[test]
fn double_hbone_by_the_gateways_hostname_with_the_endpoints_port() {
    let behind = json!({"networkGateway": gateway("ns/gateway.ns", 15009)});
    let ports = json!({"ports": {"15009": 15009}, "subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/ew"]});
    let gateways = json!({"services": {"ns/gateway.ns": {"15009": 15008}}});
    let mesh = world(
        vec![remote(behind), pod("gateway", &["127.0.0.5"], gateways)],
        vec![example(json!({})), service("gateway", &[], ports)],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "double 127.0.0.5:15008 example.com:80 gateway ns/example.com <- ns/ns/sa/ew ns/ns/sa/gateway <<"
    );
}

/// A remote waypoint is asked for the service by its name and port all the same, and its service's names are the inner
/// ones.
#[test]
fn double_hbone_to_a_remote_waypoint() {
    let behind = json!({"network": "remote", "networkGateway": gateway("remote/10.22.1.1", 15009)});
    let waypoint = json!({"services": {"ns/wp.ns": {}}});
    let mesh = world(
        vec![
            pod("wp", &[], with(waypoint, behind)),
            east_west(json!({})),
            pod("local", &["127.0.0.2"], of_example(json!({}))),
        ],
        vec![
            example(json!({"waypoint": gateway("ns/wp.ns", 15008)})),
            service(
                "wp",
                &[],
                json!({"ports": {"15008": 15008}, "subjectAltNames": ["spiffe://cluster.local/ns/ns/sa/wp"]}),
            ),
        ],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "double 10.22.1.1:15009 example.com:80 gateway ns/example.com <- ns/ns/sa/gateway << ns/ns/sa/wp"
    );
}

/// Which of the two an endpoint choice prefers is `balance`'s; here the sick one cannot be chosen.
#[test]
fn failover_to_another_network_when_the_local_pod_is_unhealthy() {
    let failover = json!({"loadBalancer": {
        "routingPreferences": ["Network"], "mode": "Failover", "healthPolicy": "OnlyHealthy",
    }});
    let behind = json!({"networkGateway": gateway("remote/10.22.1.1", 15009)});
    let world = |status: &str| {
        world(
            vec![
                pod(
                    "local",
                    &["127.0.0.2"],
                    of_example(json!({"status": status})),
                ),
                remote(behind.clone()),
                east_west(json!({})),
            ],
            vec![example(failover.clone())],
        )
    };
    assert_eq!(
        answer(&world("Healthy"), "127.0.0.1", "127.0.0.3:80"),
        "hbone 127.0.0.2:15008 127.0.0.2:8080 local ns/example.com <- ns/ns/sa/local"
    );
    assert_eq!(
        answer(&world("Unhealthy"), "127.0.0.1", "127.0.0.3:80"),
        "double 10.22.1.1:15009 example.com:80 gateway ns/example.com <- ns/ns/sa/gateway <<"
    );
}

#[test]
fn a_known_pod_is_reached_as_it_wants_on_whatever_node() {
    for node in ["local-node", "remote-node"] {
        for (protocol, expected) in [
            ("TCP", "tcp 127.0.0.2:80 pod"),
            (
                "HBONE",
                "hbone 127.0.0.2:15008 127.0.0.2:80 pod <- ns/ns/sa/pod",
            ),
        ] {
            let mesh = world(
                vec![pod(
                    "pod",
                    &["127.0.0.2"],
                    json!({"protocol": protocol, "node": node}),
                )],
                vec![],
            );
            assert_eq!(answer(&mesh, "127.0.0.1", "127.0.0.2:80"), expected);
        }
    }
}

#[test]
fn the_sources_own_waypoint_is_ignored() {
    let waypoint = json!({"waypoint": gateway("/127.0.0.10", 15008)});
    let mesh = mesh(&json!({"workloads": [
        pod("client", &["127.0.0.1"], waypoint),
        pod("pod", &["127.0.0.2"], json!({"protocol": "TCP"})),
        pod("waypoint", &["127.0.0.10"], json!({})),
    ]}));
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.2:80"),
        "tcp 127.0.0.2:80 pod"
    );
}

#[test]
fn destination_workload_waypoint() {
    let behind = |at: &str| json!({"protocol": "TCP", "waypoint": gateway(at, 15008)});
    let mesh = world(
        vec![
            pod("pod", &["127.0.0.2"], behind("/127.0.0.10")),
            pod("six", &["ff06::c3"], behind("/127.0.0.11")),
        ],
        vec![],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.2:80"),
        "hbone 127.0.0.10:15008 127.0.0.2:80 waypoint <- ns/ns/sa/waypoint"
    );
    // A waypoint that is named by its address is dialled at that address, whatever the caller's family.
    assert_eq!(
        answer(&mesh, "::1", "[ff06::c3]:80"),
        "hbone 127.0.0.11:15008 [ff06::c3]:80 waypoint-dual <- ns/ns/sa/waypoint-dual"
    );
}

#[test]
fn service_waypoint() {
    let waypoint = json!({"waypoint": gateway("/127.0.0.10", 15008)});
    let mesh = world(
        vec![pod("pod", &["127.0.0.2"], of_example(json!({})))],
        vec![example(waypoint)],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "hbone 127.0.0.10:15008 127.0.0.3:80 waypoint ns/example.com <- ns/ns/sa/waypoint"
    );
}

#[test]
fn empty_service() {
    let mesh = world(vec![], vec![example(json!({}))]);
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "no healthy upstream: 127.0.0.3:80"
    );
}

#[test]
fn a_named_target_port_picks_only_pods_that_have_it() {
    let endpoint = |port: &str| json!({"services": {"ns/example.com": {port: 1234}}});
    let mesh = world(
        vec![
            pod("without", &["127.0.0.4"], endpoint("81")),
            pod("with", &["127.0.0.2"], endpoint("80")),
        ],
        vec![example(json!({"ports": {"80": 0}}))],
    );
    for drawn in 0..3 {
        assert_eq!(
            super::answer_to(&mesh, "client", "127.0.0.1", "127.0.0.3:80", &mut |total| {
                drawn % total
            }),
            "hbone 127.0.0.2:15008 127.0.0.2:1234 with ns/example.com <- ns/ns/sa/with"
        );
    }
}

#[test]
fn host_network_pods_are_found_by_service_only() {
    let host = json!({"networkMode": "HostNetwork", "protocol": "TCP"});
    let mesh = world(
        vec![pod("host", &["127.0.0.2"], of_example(host))],
        vec![example(json!({}))],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "tcp 127.0.0.2:8080 host ns/example.com"
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.2:80"),
        "tcp 127.0.0.2:80"
    );
}

#[test]
fn ip_families_and_the_targets_family_choose_the_address() {
    let dual = ["127.0.0.2", "ff06::c2"];
    let four = "tcp 127.0.0.2:8080 pod ns/example.com";
    let six = "tcp [ff06::c2]:8080 pod ns/example.com";
    let only = |family: &str| json!({"ipFamilies": family});
    for (what, families, by_four, by_six) in [
        ("the target's family", json!({}), four, six),
        ("both", only("Dual"), four, six),
        ("IPv6 only", only("IPv6"), six, six),
        ("IPv4 only", only("IPv4"), four, four),
    ] {
        let vips = json!({"vips": ["/127.0.0.3", "/ff06::c3"]});
        let mesh = world(
            vec![pod("pod", &dual, of_example(json!({"protocol": "TCP"})))],
            vec![example(with(vips, families))],
        );
        assert_eq!(
            answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
            by_four,
            "{what}"
        );
        assert_eq!(answer(&mesh, "::1", "[ff06::c3]:80"), by_six, "{what}");
        assert_eq!(
            answer(&mesh, "127.0.0.1", "example.com:80"),
            by_four,
            "{what}"
        );
        assert_eq!(answer(&mesh, "::1", "example.com:80"), by_six, "{what}");
    }
}

#[test]
fn a_passthrough_service_keeps_the_destination_but_for_its_waypoint() {
    let mode = json!({"vips": ["/1.2.3.4"], "loadBalancer": {
        "routingPreferences": [], "mode": "Passthrough", "healthPolicy": "OnlyHealthy",
    }});
    let pods = || vec![pod("pod", &["127.0.0.2"], of_example(json!({})))];
    let mesh = world(pods(), vec![example(mode.clone())]);
    assert_eq!(answer(&mesh, "127.0.0.1", "1.2.3.4:80"), "tcp 1.2.3.4:80");
    // There is no destination to keep for who asks for the name.
    assert_eq!(
        answer(&mesh, "127.0.0.1", "example.com:80"),
        "hbone 127.0.0.2:15008 127.0.0.2:8080 pod ns/example.com <- ns/ns/sa/pod"
    );
    let waypoint = json!({"waypoint": gateway("/127.0.0.10", 15008)});
    let mesh = world(pods(), vec![example(with(mode, waypoint))]);
    assert_eq!(
        answer(&mesh, "127.0.0.1", "1.2.3.4:80"),
        "hbone 127.0.0.10:15008 1.2.3.4:80 waypoint ns/example.com <- ns/ns/sa/waypoint"
    );
}

/// §19 "port mapping": the endpoint's 9090 goes before the service's 8080, that before the application tunnel's 80.
#[test]
fn port_mapping() {
    let tunnel = json!({"applicationTunnel": {"protocol": "NONE", "port": 15088}});
    let endpoint = |ports: Value| json!({"services": {"ns/example.com": ports}});
    for (what, ports, service_port, more, expected) in [
        (
            "the endpoint's",
            json!({"80": 9090}),
            8080,
            json!({}),
            Some(9090),
        ),
        ("the service's", json!({}), 8080, json!({}), Some(8080)),
        (
            "the tunnel keeps the service's",
            json!({}),
            8080,
            tunnel,
            Some(8080),
        ),
        ("nobody's", json!({}), 0, json!({}), None),
    ] {
        let mesh = world(
            vec![pod("pod", &["127.0.0.2"], with(endpoint(ports), more))],
            vec![example(json!({"ports": {"80": service_port}}))],
        );
        let expected = match expected {
            Some(port) => {
                format!("hbone 127.0.0.2:15008 127.0.0.2:{port} pod ns/example.com <- ns/ns/sa/pod")
            }
            None => "no healthy upstream: 127.0.0.3:80".to_owned(),
        };
        assert_eq!(
            answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
            expected,
            "{what}"
        );
    }
}

/// §19 "visibility": what the client does not see falls through to a block that it does.
#[test]
fn a_service_that_is_not_seen_falls_through_to_a_block() {
    let unseen = json!({"namespace": "other", "visibility": "Namespace"});
    let block = json!({"cidrVips": [{"network": "", "cidr": "127.0.0.0/28"}], "hostname": "block"});
    let endpoint = |name: &str| json!({"services": {name: {}}});
    let mesh = world(
        vec![
            pod("seen", &["127.0.1.2"], endpoint("ns/block")),
            pod("unseen", &["127.0.1.3"], endpoint("other/example.com")),
        ],
        vec![example(unseen), service("block", &[], block)],
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "127.0.0.3:80"),
        "hbone 127.0.1.2:15008 127.0.1.2:8080 seen ns/block <- ns/ns/sa/seen"
    );
    assert_eq!(
        answer(&mesh, "127.0.0.1", "example.com:80"),
        "no service or workload for hostname: example.com"
    );
}
