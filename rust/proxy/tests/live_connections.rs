//! Two data planes with connections between them: what operators are shown of these, and what a change of policy leaves.
#![expect(
    clippy::unwrap_used,
    reason = "what fails ends the test with the place"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mesh::decode::TYPE_AUTHORIZATION;
use proxy::DataPlane;
use serde_json::{Value, json};
use support::echo::echo;
use support::node::{authority, node, resource};
use support::pair::{HOST, apply};

mod support {
    pub(crate) mod echo;
    pub(crate) mod node;
    pub(crate) mod pair;
}

/// For everything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn both_ends_show_a_connection_while_it_lives() {
    let nodes = Nodes::start();
    let connection = nodes.connect();
    let source = connection.local_addr().unwrap().to_string();
    let ours = connections(&nodes.client, "client");
    assert_eq!(
        ours["outbound"],
        json!([{
            "src": source, "originalDst": format!("{HOST}:80"),
            "actualDst": nodes.inbound.to_string(), "protocol": "HBONE",
        }])
    );
    assert_eq!(ours["inbound"], json!([]));
    let theirs = connections(&nodes.server, "web");
    let tunnel = theirs["inbound"][0]["src"].clone();
    assert!(tunnel.as_str().unwrap().starts_with("127.0.0.1:"));
    assert_eq!(
        theirs["inbound"],
        json!([{
            "src": tunnel, "originalDst": HOST,
            "actualDst": nodes.application.to_string(), "protocol": "HBONE",
        }])
    );
    assert_eq!(theirs["outbound"], json!([]));
    drop(connection);
    eventually("both have forgotten it", || {
        [(&nodes.client, "client"), (&nodes.server, "web")]
            .iter()
            .all(|(node, uid)| connections(node, uid) == Value::Null)
    });
}

#[test]
fn a_change_of_policy_ends_every_connection_of_every_worker() {
    let nodes = Nodes::start();
    let mut held: Vec<_> = (0..200).map(|_| nodes.connect()).collect();
    let outbound = |node| connections(node, "client")["outbound"].clone();
    assert_eq!(
        outbound(&nodes.client).as_array().unwrap().len(),
        held.len()
    );
    let policy = json!({
        "name": "strangers", "namespace": "default", "scope": "Namespace", "action": "Deny", "dryRun": false,
        "rules": [[[{"principals": [{"Exact": "cluster.local/ns/default/sa/client"}]}]]],
    });
    let policy = policy.to_string();
    let resource = resource(TYPE_AUTHORIZATION, "default/strangers", &policy);
    assert_eq!(nodes.server.apply(&[resource], &[]), []);
    for connection in &mut held {
        let end = connection.read(&mut [0]).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    }
    eventually("nobody is left", || {
        connections(&nodes.server, "web") == Value::Null
    });
}

/// One workload's, at a node whose workers all answer.
fn connections(node: &DataPlane, uid: &str) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut answer: Value = serde_json::from_slice(&node.connections()).unwrap();
        assert_eq!(answer["leftOff"], 0);
        if answer["silentWorkers"] == json!([]) {
            return answer["workloads"][uid].take();
        }
        assert!(Instant::now() < deadline, "no answer: {answer}");
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::yield_now();
    }
}

/// A client's node, a server's, and an echo behind it.
struct Nodes {
    client: DataPlane,
    server: DataPlane,
    way_in: SocketAddr,
    inbound: SocketAddr,
    application: SocketAddr,
}

impl Nodes {
    fn start() -> Self {
        let application = echo();
        let authority = authority();
        let server = node(
            &authority,
            "web",
            &json!({"inbound": "127.0.0.2:0"}),
            15008,
            &json!({}),
        );
        let inbound = server.start().unwrap()["inbound"];
        let listeners = json!({"forwards": [
            {"listen": "127.0.0.1:0", "target": format!("{HOST}:80")}]});
        let client = node(&authority, "client", &listeners, inbound.port(), &json!({}));
        let way_in = client.start().unwrap()["forwards[0]"];
        for node in [&client, &server] {
            apply(node, application.port());
            node.mark_synced();
        }
        Self {
            client,
            server,
            way_in,
            inbound,
            application,
        }
    }

    /// A connection that has carried a byte there and back.
    fn connect(&self) -> TcpStream {
        let mut stream = TcpStream::connect_timeout(&self.way_in, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"?").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        stream
    }
}
