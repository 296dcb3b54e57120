//! The mesh of two nodes in one process: a client, a server, and the server's service.

use mesh::decode::{TYPE_SERVICE, TYPE_WORKLOAD};
use proxy::DataPlane;
use serde_json::{Value, json};

use super::node::resource;

/// The service's name.
pub(crate) const HOST: &str = "web.default.svc.cluster.local";

/// Tells a node of both; the service's application is on this port.
pub(crate) fn apply(node: &DataPlane, port: u16) {
    let pod = |name: &str, address: &str, services: Value| {
        json!({"uid": name, "name": name, "namespace": "default", "serviceAccount": name,
            "workloadIps": [address], "protocol": "HBONE", "services": services})
        .to_string()
    };
    let key = format!("default/{HOST}");
    let client = pod("client", "127.0.0.1", json!({}));
    let web = pod("web", "127.0.0.2", json!({&key: {"80": port}}));
    let service = json!({"name": "web", "namespace": "default", "ports": {"80": port},
        "hostname": HOST, "vips": ["/127.10.0.1"]});
    let service = service.to_string();
    let resources = [
        resource(TYPE_WORKLOAD, "client", &client),
        resource(TYPE_WORKLOAD, "web", &web),
        resource(TYPE_SERVICE, &key, &service),
    ];
    assert_eq!(node.apply(&resources, &[]), []);
}
