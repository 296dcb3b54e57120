use serde_json::json;

use super::*;
use crate::testing::{local, mesh, pod, service};

fn world() -> Arc<MeshSnapshot> {
    let services = json!({
        "ns/own.ns": {"80": 9090}, "ns/plain.ns": {}, "ns/unknown.ns": {}, "aa/twin": {}, "zz/twin": {},
    });
    let twin = |namespace: &str| {
        service(
            "twin",
            &[],
            json!({"namespace": namespace, "hostname": "twin", "ports": {"1": 2}}),
        )
    };
    mesh(&json!({
        "workloads": [pod("server", &["10.0.0.2"], json!({"services": services})), pod("other", &[], json!({}))],
        "services": [
            service("own", &[], json!({})), service("plain", &[], json!({})),
            service("named", &[], json!({"endpoints": {"server": {"workloadUid": "server", "port": {"80": 7070}, "status": "Healthy"}}})),
            service("foreign", &[], json!({"ports": {"80": 9090}})),
            twin("zz"), twin("aa"), twin("a0"),
        ],
    }))
}

#[test]
fn the_service_is_guessed_from_the_clients_word_then_from_the_port() {
    let mesh = world();
    for (what, host, port, uid, expected) in [
        (
            "by name, whatever the port",
            Some("plain.ns"),
            1,
            "server",
            Some("ns/plain.ns"),
        ),
        (
            "by port if the name is not ours",
            Some("foreign.ns"),
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "by port if the name is unknown",
            Some("unknown.ns"),
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "the first that leads there",
            None,
            8080,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "by our own word for a port",
            None,
            9090,
            "server",
            Some("ns/own.ns"),
        ),
        (
            "the first of the name that is ours",
            Some("twin"),
            1,
            "server",
            Some("aa/twin"),
        ),
        ("the first of the port", None, 2, "server", Some("aa/twin")),
        ("not by the service's own port", None, 80, "server", None),
        ("nothing of who is in none", None, 8080, "other", None),
    ] {
        let candidates = Candidates::all(&mesh, &local(&mesh, uid));
        let guess = guess_service(&candidates, host, port).map(|s| s.key().to_string());
        assert_eq!(guess.as_deref(), expected, "{what}");
    }
}

#[test]
fn of_a_service_that_was_asked_for_only_that_one_is_guessed() {
    let mesh = world();
    let server = local(&mesh, "server");
    for (what, name, host, port, expected) in [
        ("by port", "ns/plain.ns", None, 8080, true),
        ("by the endpoint's port", "ns/named.ns", None, 7070, true),
        ("by name", "ns/plain.ns", Some("plain.ns"), 1, true),
        (
            "not another's name",
            "ns/plain.ns",
            Some("own.ns"),
            1,
            false,
        ),
        ("not another's port", "ns/plain.ns", None, 9090, false),
    ] {
        let service = mesh.service(&name.parse().unwrap()).unwrap();
        let candidates = Candidates::one(&mesh, &server, service);
        let guess = guess_service(&candidates, host, port);
        assert_eq!(guess.is_some(), expected, "{what}");
    }
}
