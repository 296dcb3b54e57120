//! Where connections go in a mesh that a real istiod described (`tests/vectors/istiod/README.md`): first those that
//! upstream's proxy made there and logged, then what else that mesh has.

use serde_json::{Value, json};

use super::{Arc, MeshSnapshot, answer_to};
use crate::testing::mesh;

/// The mesh of upstream's dump. It lists a workload's services without their ports, which stand at the services.
fn world() -> Arc<MeshSnapshot> {
    let text = include_str!("../../../../../tests/vectors/istiod/config_dump.json");
    let dump: Value = serde_json::from_str(text).unwrap();
    let mut workloads = dump["workloads"].clone();
    for workload in workloads.as_array_mut().unwrap() {
        workload["services"] = json!({});
        workload
            .as_object_mut()
            .unwrap()
            .entry("workloadIps")
            .or_insert_with(|| json!([]));
    }
    for service in dump["services"].as_array().unwrap() {
        let part = |name: &str| service[name].as_str().unwrap();
        let key = format!("{}/{}", part("namespace"), part("hostname"));
        for (uid, endpoint) in service["endpoints"].as_object().unwrap() {
            let mut all = workloads.as_array_mut().unwrap().iter_mut();
            let workload = all.find(|workload| workload["uid"] == **uid).unwrap();
            workload["services"][&key] = endpoint["port"].clone();
        }
    }
    let mut services = dump["services"].clone();
    for service in services.as_array_mut().unwrap() {
        service.as_object_mut().unwrap().remove("endpoints");
    }
    mesh(&json!({"workloads": workloads, "services": services}))
}

fn from_poda(mesh: &MeshSnapshot, target: &str) -> String {
    let poda = "Kubernetes//Pod/default/poda";
    answer_to(mesh, poda, "10.66.0.2", target, &mut |_| 0)
        .replace("Kubernetes//Pod/", "")
        .replace("Kubernetes/networking.istio.io/", "")
}

#[test]
fn connections_go_where_upstream_says_in_its_log() {
    let mesh = world();
    for (what, target, expected) in [
        (
            "a pod by its address",
            "10.66.0.3:7300",
            "hbone 10.66.0.3:15008 10.66.0.3:7300 default/podb <- ns/default/sa/sa-b",
        ),
        (
            "a service",
            "10.96.0.10:80",
            "hbone 10.66.0.3:15008 10.66.0.3:7300 default/podb default/echo.default.svc.cluster.local <- ns/default/sa/sa-b",
        ),
        (
            "a closed port",
            "10.66.0.3:7999",
            "hbone 10.66.0.3:15008 10.66.0.3:7999 default/podb <- ns/default/sa/sa-b",
        ),
        (
            "the last of two on one address",
            "10.66.0.1:18099",
            "tcp 10.66.0.1:18099 istio-system/zt-b",
        ),
        (
            "who does not answer",
            "10.77.1.1:8080",
            "hbone 10.77.1.1:15008 10.77.1.1:8080 shop/web-1 <- ns/shop/sa/web",
        ),
    ] {
        assert_eq!(from_poda(&mesh, target), expected, "{what}");
    }
}

#[test]
fn everything_else_in_that_mesh_has_its_way() {
    let mesh = world();
    let waypoint = "l7/waypoint-0";
    for (what, target, expected) in [
        (
            "a service behind a waypoint, which itself is a pod of plain TCP",
            "10.96.1.2:9080",
            format!("hbone 10.77.0.9:15008 10.96.1.2:9080 {waypoint} l7/reviews.l7.svc.cluster.local <- ns/l7/sa/waypoint"),
        ),
        (
            "a pod behind one",
            "10.77.0.10:9080",
            format!("hbone 10.77.0.9:15008 10.77.0.10:9080 {waypoint} <- ns/l7/sa/waypoint"),
        ),
        (
            "the waypoint's service, behind itself",
            "10.96.1.1:80",
            format!("hbone 10.77.0.9:15008 10.96.1.1:80 {waypoint} l7/waypoint.l7.svc.cluster.local <- ns/l7/sa/waypoint"),
        ),
        ("a name to resolve", "240.240.0.8:80", "resolve backend.bydns.example ServiceEntry/shop/bydns/backend.bydns.example shop/www.bydns.example".into()),
        ("a service that keeps destinations", "240.240.0.9:80", "tcp 240.240.0.9:80".into()),
        (
            "an unhealthy pod of a service that takes all",
            "10.96.2.3:81",
            "hbone 10.77.1.5:15008 10.77.1.5:81 shop/sick-1 shop/notready.shop.svc.cluster.local <- ns/shop/sa/default".into(),
        ),
        ("a host-network pod", "192.168.1.10:80", "tcp 192.168.1.10:80".into()),
        ("a machine of another network", "10.88.0.1:5432", "tcp 10.88.0.1:5432".into()),
        ("a named port of no endpoint", "10.96.2.1:80", "no healthy upstream: 10.96.2.1:80".into()),
    ] {
        assert_eq!(from_poda(&mesh, target), expected, "{what}");
    }
    let from_waypoint = answer_to(
        &mesh,
        "Kubernetes//Pod/l7/waypoint-0",
        "10.77.0.9",
        "10.77.0.10:9080",
        &mut |_| 0,
    );
    assert_eq!(
        from_waypoint,
        "hbone 10.77.0.10:15008 10.77.0.10:9080 Kubernetes//Pod/l7/reviews-1 <- ns/l7/sa/reviews"
    );
}

#[test]
fn a_block_leads_to_each_endpoint_on_its_own_port() {
    let mesh = world();
    let poda = "Kubernetes//Pod/default/poda";
    let found = (0..16).map(|n| {
        let mut choose = |total: u64| total * n / 16;
        let found = answer_to(&mesh, poda, "10.66.0.2", "203.0.113.9:443", &mut choose);
        found.split(' ').nth(1).unwrap().to_owned()
    });
    let found: std::collections::BTreeSet<String> = found.collect();
    assert_eq!(
        found.iter().collect::<Vec<_>>(),
        ["198.51.100.7:8443", "198.51.100.8:443"]
    );
}
