use serde_json::{Value, json};

use super::*;
use crate::testing::{local, mesh, pod, service};

fn answer(mesh: &MeshSnapshot, target: &str) -> Result<(String, Vec<String>), (u16, String)> {
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
    match inbound(mesh, &facts) {
        Ok(route) => {
            let names = route.candidates.iter().map(|c| c.service.key().to_string());
            Ok((route.destination.to_string(), names.collect()))
        }
        Err(refusal) => Err((refusal.status(), refusal.to_string())),
    }
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
        ],
    }))
}

fn plain(mesh: &MeshSnapshot, destination: &str) -> Result<(String, Vec<String>), String> {
    match plaintext(mesh, &local(mesh, "server"), destination.parse().unwrap()) {
        Ok(route) => {
            let names = route.candidates.iter().map(|c| c.service.key().to_string());
            Ok((route.destination.to_string(), names.collect()))
        }
        Err(refusal) => Err(refusal.to_string()),
    }
}

#[test]
fn where_plain_connections_go() {
    let services = ["ns/own.ns", "ns/plain.ns", "ns/reserved.ns"].map(str::to_owned);
    let refused = |port| {
        let workload = "server";
        Err(format!(
            "port {port} takes PROXY headers, which only the mesh may write (workload {workload})"
        ))
    };
    let goes = |to: &str| Ok((to.to_owned(), services.to_vec()));
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
    let services = ["ns/own.ns", "ns/plain.ns", "ns/reserved.ns"];
    let to = |address: &str, names: &[&str]| {
        Ok((
            address.to_owned(),
            names.iter().map(ToString::to_string).collect(),
        ))
    };
    let no = |status, text: &str| Err((status, text.to_owned()));
    for (what, target, expected) in [
        (
            "our address",
            "10.0.0.2:8080",
            to("10.0.0.2:8080", &services),
        ),
        (
            "our address, mapped",
            "[::ffff:10.0.0.2]:8080",
            to("10.0.0.2:8080", &services),
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
            to("10.0.0.2:9090", &["ns/own.ns"]),
        ),
        (
            "a service without a port of ours",
            "plain.ns:80",
            to("10.0.0.2:8080", &["ns/plain.ns"]),
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
    let proxy = world(json!({"applicationTunnel": {"protocol": "PROXY"}}));
    assert_eq!(
        answer(&proxy, "10.0.0.2:80").map_err(|(status, _)| status),
        Err(503)
    );
}

#[test]
fn the_service_is_guessed_from_the_clients_word_then_from_the_port() {
    let mesh = world(json!({}));
    let guess = |host: Option<&str>, port, uid: &str| {
        let of = |n: &str| {
            Candidate::of(
                &mesh,
                mesh.service(&n.parse().unwrap()).unwrap(),
                &local(&mesh, uid),
            )
        };
        let candidates = ["ns/plain.ns", "ns/own.ns"].map(of);
        guess_service(&candidates, host, port).map(|s| s.hostname.to_string())
    };
    for (host, port, uid, expected) in [
        (Some("own.ns"), 1, "server", Some("own.ns")),
        (Some("x.ns"), 8080, "server", Some("plain.ns")),
        (None, 8080, "server", Some("plain.ns")),
        (None, 9090, "server", Some("own.ns")),
        (None, 9090, "client", None),
        (None, 80, "server", None),
    ] {
        assert_eq!(
            guess(host, port, uid).as_deref(),
            expected,
            "{host:?} {port} {uid}"
        );
    }
    assert_eq!(guess_service(&[], Some("own.ns"), 80), None);
}
