use serde_json::{Value, json};

use super::*;
use crate::testing::{local, mesh, pod, service};

mod upstream;

/// Where it goes and whom it may be meant for, or the status and the error.
fn answer(mesh: &MeshSnapshot, target: &str) -> Result<(String, String), (u16, String)> {
    match asked(mesh, target) {
        Ok(route) => Ok((
            route.destination.to_string(),
            format!("{:?}", route.candidates),
        )),
        Err(refusal) => Err((refusal.status(), refusal.to_string())),
    }
}

fn asked(mesh: &MeshSnapshot, target: &str) -> Result<InboundRoute, InboundRefusal> {
    let local = local(mesh, "server");
    let target = match target.parse() {
        Ok(address) => Target::Address(address),
        Err(_) => {
            let (hostname, port) = target.rsplit_once(':').unwrap();
            Target::Host {
                hostname: hostname.into(),
                port: port.parse().unwrap(),
            }
        }
    };
    let facts = InboundFacts {
        local: &local,
        local_address: "::ffff:10.0.0.2".parse().unwrap(),
        target: &target,
        network: "",
        reserved_ports: &[15001, 15006, 15008],
    };
    inbound(mesh, &facts)
}

fn world(more: Value) -> Arc<MeshSnapshot> {
    let mut server = pod(
        "server",
        &["10.0.0.2"],
        json!({"services": {
            "ns/own.ns": {"80": 9090}, "ns/plain.ns": {}, "ns/unknown.ns": {}, "ns/reserved.ns": {"80": 15008},
        }}),
    );
    server
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    mesh(&json!({
        "workloads": [server, pod("client", &["10.0.0.1"], json!({}))],
        "services": [
            service("own", &["/10.1.0.1"], json!({})), service("plain", &["/10.1.0.2"], json!({})),
            service("reserved", &[], json!({})), service("zero", &[], json!({"ports": {"80": 0}})),
            service("secret", &[], json!({"namespace": "other", "visibility": "Namespace"})),
            service("bare", &[], json!({})),
            service("far", &["far/10.2.0.1"], json!({})),
            service("six", &["far/10.2.0.2", "/ff07::1"], json!({})),
            service("many", &["/10.1.0.7", "/10.1.0.8", "/ff07::2", "far/10.2.0.3"], json!({})),
        ],
    }))
}

fn plain(mesh: &MeshSnapshot, destination: &str) -> Result<(String, String), String> {
    match plaintext(mesh, &local(mesh, "server"), destination.parse().unwrap()) {
        Ok(route) => {
            assert_eq!(route.header, None, "nobody vouches for who calls");
            Ok((
                route.destination.to_string(),
                format!("{:?}", route.candidates),
            ))
        }
        Err(refusal) => Err(refusal.to_string()),
    }
}

#[test]
fn where_plain_connections_go() {
    let services = "the services of server".to_owned();
    let refused = |port| {
        let workload = "server";
        Err(format!(
            "port {port} takes PROXY headers, which only the mesh may write (workload {workload})"
        ))
    };
    let goes = |to: &str| Ok((to.to_owned(), services.clone()));
    let proxy = |port: Value| json!({"applicationTunnel": {"protocol": "PROXY", "port": port}});
    let bare = json!({"applicationTunnel": {"protocol": "NONE", "port": 9000}});
    for (what, more, destination, expected) in [
        (
            "where it was meant for",
            json!({}),
            "10.0.0.2:8080",
            goes("10.0.0.2:8080"),
        ),
        (
            "mapped",
            json!({}),
            "[::ffff:10.0.0.2]:8080",
            goes("10.0.0.2:8080"),
        ),
        (
            "past the port that requests go to",
            bare,
            "10.0.0.2:8080",
            goes("10.0.0.2:8080"),
        ),
        (
            "not where headers are believed",
            proxy(json!(9000)),
            "10.0.0.2:9000",
            refused(9000),
        ),
        (
            "beside where they are",
            proxy(json!(9000)),
            "10.0.0.2:8080",
            goes("10.0.0.2:8080"),
        ),
        (
            "nowhere if they are everywhere",
            proxy(Value::Null),
            "10.0.0.2:8080",
            refused(8080),
        ),
    ] {
        assert_eq!(plain(&world(more), destination), expected, "{what}");
    }
}

#[test]
fn where_requests_go() {
    let mesh = world(json!({}));
    let services = "the services of server";
    let to = |address: &str, meant: &str| Ok((address.to_owned(), meant.to_owned()));
    let no = |status, text: &str| Err((status, text.to_owned()));
    for (what, target, expected) in [
        (
            "our address",
            "10.0.0.2:8080",
            to("10.0.0.2:8080", services),
        ),
        (
            "our address, mapped",
            "[::ffff:10.0.0.2]:8080",
            to("10.0.0.2:8080", services),
        ),
        (
            "another workload's address",
            "10.0.0.1:8080",
            no(400, "ip mismatch: 10.0.0.2 != 10.0.0.1"),
        ),
        (
            "a service's address",
            "10.1.0.1:80",
            no(400, "ip mismatch: 10.0.0.2 != 10.1.0.1"),
        ),
        (
            "loopback",
            "127.0.0.1:8080",
            no(400, "ip mismatch: 10.0.0.2 != 127.0.0.1"),
        ),
        (
            "one of our own ports",
            "10.0.0.2:15008",
            no(503, "attempted recursive call to ourselves"),
        ),
        (
            "a service that we are in",
            "own.ns:80",
            to("10.0.0.2:9090", "service ns/own.ns"),
        ),
        (
            "a service without a port of ours",
            "plain.ns:80",
            to("10.0.0.2:8080", "service ns/plain.ns"),
        ),
        (
            "a port that the service does not have",
            "plain.ns:81",
            no(
                503,
                "requested service plain.ns:81 found, but cannot resolve port",
            ),
        ),
        (
            "a named port that we do not have",
            "zero.ns:80",
            no(
                503,
                "requested service zero.ns:80 found, but cannot resolve port",
            ),
        ),
        (
            "a service that leads to our own port",
            "reserved.ns:80",
            no(503, "attempted recursive call to ourselves"),
        ),
        (
            "an unknown name",
            "x.ns:80",
            no(503, "no service or workload for hostname: x.ns"),
        ),
        (
            "a name in other letters",
            "OWN.ns:80",
            no(503, "no service or workload for hostname: OWN.ns"),
        ),
        (
            "a name that we do not see",
            "secret.ns:80",
            no(503, "no service or workload for hostname: secret.ns"),
        ),
    ] {
        assert_eq!(answer(&mesh, target), expected, "{what}");
    }
}

#[test]
fn behind_an_application_tunnel_the_application_decides() {
    let mesh = world(json!({"applicationTunnel": {"protocol": "NONE", "port": 15088}}));
    let destination = |target| answer(&mesh, target).map(|(address, _)| address);
    assert_eq!(destination("10.1.0.1:80").as_deref(), Ok("10.0.0.2:15088"));
    assert_eq!(destination("own.ns:80").as_deref(), Ok("10.0.0.2:15088"));
    assert_eq!(
        destination("10.1.0.1:15008").map_err(|(status, _)| status),
        Err(503)
    );
    let same_port = world(json!({"applicationTunnel": {"protocol": "NONE"}}));
    assert_eq!(
        answer(&same_port, "10.1.0.1:80").map(|(a, _)| a).as_deref(),
        Ok("10.0.0.2:80")
    );
    let looped = world(json!({"applicationTunnel": {"protocol": "NONE", "port": 15006}}));
    assert_eq!(
        answer(&looped, "10.0.0.2:80"),
        Err((503, "attempted recursive call to ourselves".into()))
    );
}

/// What the application is told that was asked for.
#[test]
fn a_header_names_what_was_asked_for() {
    let proxy =
        |port: Value| world(json!({"applicationTunnel": {"protocol": "PROXY", "port": port}}));
    let header = |mesh: &MeshSnapshot, target: &str| match asked(mesh, target) {
        Ok(route) => Ok((
            route.destination.to_string(),
            route.header.unwrap().to_string(),
        )),
        Err(refusal) => Err((refusal.status(), refusal.to_string())),
    };
    let to = |destination: &str, header: &str| Ok((destination.to_owned(), header.to_owned()));
    let own = proxy(json!(15088));
    for (what, mesh, target, expected) in [
        (
            "an address as it is",
            &own,
            "10.1.0.1:80",
            to("10.0.0.2:15088", "10.1.0.1:80"),
        ),
        (
            "an unknown address",
            &own,
            "1.2.3.4:80",
            to("10.0.0.2:15088", "1.2.3.4:80"),
        ),
        (
            "our own address",
            &own,
            "10.0.0.2:8080",
            to("10.0.0.2:15088", "10.0.0.2:8080"),
        ),
        (
            "mapped",
            &own,
            "[::ffff:10.0.0.2]:8080",
            to("10.0.0.2:15088", "10.0.0.2:8080"),
        ),
        (
            "a service by its address, with its own port",
            &own,
            "own.ns:80",
            to("10.0.0.2:15088", "10.1.0.1:80"),
        ),
        (
            "without a port of the tunnel's own",
            &proxy(Value::Null),
            "own.ns:80",
            to("10.0.0.2:9090", "10.1.0.1:80"),
        ),
        (
            "IPv4 first, the last of several",
            &own,
            "many.ns:80",
            to("10.0.0.2:15088", "10.1.0.8:80"),
        ),
        (
            "else IPv6",
            &own,
            "six.ns:80",
            to("10.0.0.2:15088", "[ff07::1]:80"),
        ),
        (
            "else another network's",
            &own,
            "far.ns:80",
            to("10.0.0.2:15088", "10.2.0.1:80"),
        ),
        (
            "a service without addresses",
            &own,
            "bare.ns:80",
            Err((
                503,
                "requested service bare.ns found, but has no IP addresses".to_owned(),
            )),
        ),
        (
            "a port that it does not have",
            &own,
            "own.ns:81",
            Err((
                503,
                "requested service own.ns:81 found, but cannot resolve port".to_owned(),
            )),
        ),
        (
            "a port of ours, which comes before the address",
            &proxy(json!(15006)),
            "bare.ns:80",
            Err((503, "attempted recursive call to ourselves".to_owned())),
        ),
    ] {
        assert_eq!(header(mesh, target), expected, "{what}");
    }
    // Without a header, nobody misses the address; nor does one that is written stand in front of plain bytes.
    let none = world(json!({"applicationTunnel": {"protocol": "NONE", "port": 9000}}));
    let route = asked(&none, "bare.ns:80").unwrap();
    assert_eq!((route.destination.port(), route.header), (9000, None));
}
