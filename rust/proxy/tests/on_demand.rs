//! A node that learns the mesh when a connection needs it: what it asks for, whom that lets wait, and for how long.
//!
//! Connections come in by forwards and go out as plain TCP; the test is the control plane.
#![expect(
    clippy::unwrap_used,
    reason = "what fails ends the test with the place"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use mesh::decode::{TYPE_AUTHORIZATION, TYPE_ISTIO_ADDRESS, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::delta::Response;
use proxy::DataPlane;
use proxy::control::Event;
use proxy::settings::Settings;
use serde_json::{Value, json};
use support::echo::echo;
use support::node::{authority, node, resource};

mod support {
    pub(crate) mod echo;
    pub(crate) mod node;
}

/// For everything that should happen at once.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longer than any test: who waits so long has not been released.
const NEVER: f64 = 600.0;
/// Where nobody listens.
const VIP: &str = "127.77.0.1";

#[test]
fn a_connection_waits_for_the_service_that_it_needs_and_goes_there() {
    let node = Node::start(&format!("{VIP}:80"), NEVER);
    let waiting = node.connect();
    assert_eq!(node.wanted(1), [format!("/{VIP}")]);
    node.apply_service(VIP, &json!({}));
    echoed(waiting);
    // It is known now.
    echoed(node.connect());
    assert_eq!(node.plane.take_events(), []);
}

#[test]
fn many_who_miss_the_same_ask_once_and_are_released_together() {
    let node = Node::start(&format!("{VIP}:80"), NEVER);
    let waiting: Vec<_> = (0..100).map(|_| node.connect()).collect();
    assert_eq!(node.wanted(1), [format!("/{VIP}")]);
    node.apply_service(VIP, &json!({}));
    for connection in waiting {
        echoed(connection);
    }
    assert_eq!(node.plane.take_events(), []);
}

#[test]
fn nobody_waits_for_who_is_not_there() {
    let node = Node::start_before_echo(NEVER);
    let waiting = node.connect();
    let key = format!("/{}", node.echo.ip());
    assert_eq!(node.wanted(1), [key.as_str()]);
    node.plane.not_there("/10.9.9.9");
    node.plane.not_there(&key);
    echoed(waiting);
    // Nor does the next one, which would not be let go.
    echoed(node.connect());
    assert_eq!(node.plane.take_events(), []);
}

#[test]
fn a_control_plane_that_says_nothing_holds_nobody_for_ever() {
    const PATIENT: Duration = Duration::from_secs(2);
    let node = Node::start_before_echo(PATIENT.as_secs_f64());
    let begin = Instant::now();
    echoed(node.connect());
    assert!(begin.elapsed() >= PATIENT);
    assert_eq!(node.wanted(1).len(), 1);
    // To wait again soon would slow down all that leaves the mesh.
    let begin = Instant::now();
    echoed(node.connect());
    assert!(begin.elapsed() < PATIENT);
}

#[test]
fn an_answer_by_another_name_lets_go_even_if_it_cannot_be_used() {
    let node = Node::start_before_echo(NEVER);
    let waiting = node.connect();
    let key = format!("/{}", node.echo.ip());
    assert_eq!(node.wanted(1), [key.as_str()]);
    let broken =
        [(1, "1"), (3, "uid"), (4, key.as_str())].map(|(n, text)| field(n, text.as_bytes()));
    let broken = [broken.concat(), field(2, &field(2, b"\x0a\x05x"))].concat();
    let message = [field(2, &broken), field(4, TYPE_ISTIO_ADDRESS.as_bytes())].concat();
    let response = Response::read(message).unwrap();
    let rejections = node.plane.apply_delta(&response, &[]);
    assert_eq!(rejections.len(), 1);
    assert_eq!(rejections[0].name, "uid");
    echoed(waiting);
}

#[test]
fn behind_a_service_its_waypoint_is_asked_for_and_never_gone_around() {
    let node = Node::start(&format!("{VIP}:80"), NEVER);
    let mut waiting = node.connect();
    assert_eq!(node.wanted(1), [format!("/{VIP}")]);
    let waypoint = json!({"destination": "ns/waypoint.ns", "hboneMtlsPort": 15008});
    node.apply_service(VIP, &json!({"waypoint": waypoint}));
    assert_eq!(node.wanted(1), ["ns/waypoint.ns"]);
    node.plane.not_there("ns/waypoint.ns");
    let end = waiting.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn one_of_ten_thousand_in_an_answer_is_found_however_they_meet() {
    for _ in 0..5 {
        let node = Node::start(&format!("{VIP}:80"), NEVER);
        let names: Vec<String> = (0..10_000).map(|n| format!("s{n}")).collect();
        let services = names.iter().enumerate().map(|(n, name)| {
            let vip = if n == 5_000 {
                VIP.to_owned()
            } else {
                format!("127.88.{}.{}", n / 250, n % 250)
            };
            service(name, &vip, node.echo.port(), &json!({})).to_string()
        });
        let services: Vec<String> = services.collect();
        let endpoint = endpoint(node.echo, "s5000").to_string();
        let keys: Vec<String> = names.iter().map(|name| format!("ns/{name}.ns")).collect();
        let mut resources = vec![resource(TYPE_WORKLOAD, "endpoint", &endpoint)];
        let several = keys.iter().zip(&services);
        resources.extend(several.map(|(key, value)| resource(TYPE_SERVICE, key, value)));
        // While it is applied, connections come: each sees it there or is woken by it.
        thread::scope(|scope| {
            let connecting = scope.spawn(|| {
                let connections: Vec<_> = (0..40).map(|_| node.connect()).collect();
                connections.into_iter().for_each(echoed);
            });
            assert_eq!(node.plane.apply(&resources, &[]), []);
            connecting.join().unwrap();
        });
    }
}

#[test]
fn a_request_waits_to_learn_that_we_are_its_waypoint_and_not_to_learn_who_asks() {
    let through = ThroughWaypoint::start();
    let connection = through.connect();
    assert_eq!(wanted(&through.waypoint, 1), [format!("/{VIP}")]);
    through.tell_service();
    echoed(connection);
    // Who asked is known to nobody still, and nobody has answered.
    assert_eq!(wanted(&through.waypoint, 1), ["/127.0.0.1"]);
}

#[test]
fn a_policy_that_is_attached_while_a_request_waits_is_asked() {
    let through = ThroughWaypoint::start();
    let mut connection = through.connect();
    assert_eq!(wanted(&through.waypoint, 1), [format!("/{VIP}")]);
    let policy = json!({"name": "nobody", "namespace": "ns", "scope": "WorkloadSelector",
        "action": "Deny", "dryRun": false, "rules": [[]]})
    .to_string();
    let attached = pod(
        "web",
        "127.0.0.2",
        &json!({"authorizationPolicies": ["ns/nobody"]}),
    );
    let resources = [
        resource(TYPE_AUTHORIZATION, "ns/nobody", &policy),
        resource(TYPE_WORKLOAD, "web", &attached),
    ];
    assert_eq!(through.waypoint.apply(&resources, &[]), []);
    through.tell_service();
    let end = connection.read(&mut [0]).unwrap_err();
    assert_eq!(end.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn nothing_is_asked_for_where_all_of_the_mesh_is_pushed() {
    let node = Node::start_with("127.0.0.2:0", |settings| {
        settings["onDemand"] = json!(false)
    });
    echoed(node.connect());
    assert_eq!(node.plane.take_events(), []);
}

/// A node with one way in, and an echo.
struct Node {
    plane: DataPlane,
    way_in: SocketAddr,
    echo: SocketAddr,
}

impl Node {
    fn start(target: &str, patience: f64) -> Self {
        Self::start_with(target, |settings| {
            settings["deadlines"] = json!({"demand": patience})
        })
    }

    /// The way leads to the echo itself, of which nothing is known.
    fn start_before_echo(patience: f64) -> Self {
        Self::start("127.0.0.2:0", patience)
    }

    /// `target` with port 0: the echo.
    fn start_with(target: &str, change: impl FnOnce(&mut Value)) -> Self {
        let echo = echo();
        let target = if target.ends_with(":0") {
            echo.to_string()
        } else {
            target.to_owned()
        };
        let mut settings = json!({
            "workers": 2, "logLevel": "error", "accessLog": {"format": "off"}, "onDemand": true,
            "workload": {"name": "client", "namespace": "ns", "serviceAccount": "client"},
            "listeners": {"forwards": [{"listen": "127.0.0.1:0", "target": target}]},
        });
        change(&mut settings);
        let settings = Settings::parse(settings.to_string().as_bytes()).unwrap();
        let plane = DataPlane::new(settings).unwrap();
        let way_in = plane.start().unwrap()["forwards[0]"];
        let client = json!({"uid": "client", "name": "client", "namespace": "ns",
            "serviceAccount": "client", "workloadIps": ["127.0.0.1"], "services": {}})
        .to_string();
        assert_eq!(
            plane.apply(&[resource(TYPE_WORKLOAD, "client", &client)], &[]),
            []
        );
        plane.mark_synced();
        // A certificate for the client, which is not what is looked at here.
        let _ = plane.take_events();
        Self {
            plane,
            way_in,
            echo,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.way_in, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn wanted(&self, count: usize) -> Vec<String> {
        wanted(&self.plane, count)
    }

    /// A service at `vip` whose endpoint is the echo.
    fn apply_service(&self, vip: &str, more: &Value) {
        let service = service("web", vip, self.echo.port(), more).to_string();
        let endpoint = endpoint(self.echo, "web").to_string();
        let resources = [
            resource(TYPE_WORKLOAD, "endpoint", &endpoint),
            resource(TYPE_SERVICE, "ns/web.ns", &service),
        ];
        assert_eq!(self.plane.apply(&resources, &[]), []);
    }
}

/// A client and the waypoint of a service, which does not know the service yet.
struct ThroughWaypoint {
    waypoint: DataPlane,
    /// Kept alive.
    _client: DataPlane,
    way_in: SocketAddr,
    service: String,
}

impl ThroughWaypoint {
    fn start() -> Self {
        let (authority, echo) = (authority(), echo());
        let more = json!({"onDemand": true, "deadlines": {"demand": NEVER}});
        let inbound = json!({"inbound": "127.0.0.2:0"});
        let waypoint = node(&authority, "web", &inbound, 15008, &more);
        let inbound = waypoint.start().unwrap()["inbound"].port();
        let target = format!("{VIP}:{}", echo.port());
        let forwards = json!({"forwards": [{"listen": "127.0.0.1:0", "target": target}]});
        let client = node(&authority, "client", &forwards, inbound, &json!({}));
        let way_in = client.start().unwrap()["forwards[0]"];
        let ours = pod("client", "127.0.0.1", &json!({}));
        let theirs = pod("web", "127.0.0.2", &json!({}));
        let gateway = json!({"destination": "/127.0.0.2", "hboneMtlsPort": inbound});
        let service = service("web", VIP, echo.port(), &json!({"waypoint": gateway})).to_string();
        let theirs = resource(TYPE_WORKLOAD, "web", &theirs);
        let resources = [
            resource(TYPE_WORKLOAD, "client", &ours),
            theirs,
            resource(TYPE_SERVICE, "ns/web.ns", &service),
        ];
        assert_eq!(client.apply(&resources, &[]), []);
        assert_eq!(waypoint.apply(&[theirs], &[]), []);
        for node in [&client, &waypoint] {
            node.mark_synced();
        }
        Self {
            waypoint,
            _client: client,
            way_in,
            service,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.way_in, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What the waypoint misses.
    fn tell_service(&self) {
        let service = resource(TYPE_SERVICE, "ns/web.ns", &self.service);
        assert_eq!(self.waypoint.apply(&[service], &[]), []);
    }
}

fn pod(name: &str, address: &str, more: &Value) -> String {
    let mut pod = json!({"uid": name, "name": name, "namespace": "default", "serviceAccount": name,
        "workloadIps": [address], "protocol": "HBONE", "services": {}});
    let more = more.as_object().unwrap().clone();
    pod.as_object_mut().unwrap().extend(more);
    pod.to_string()
}

/// The next wishes, so many.
fn wanted(plane: &DataPlane, count: usize) -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    let mut wanted = Vec::new();
    while wanted.len() < count {
        assert!(Instant::now() < deadline, "only {wanted:?} is wanted");
        for event in plane.take_events() {
            if let Event::ResourceWanted(name) = event {
                wanted.push(name);
            }
        }
        thread::yield_now();
    }
    wanted
}

fn service(name: &str, vip: &str, port: u16, more: &Value) -> Value {
    let mut service = json!({"name": name, "namespace": "ns", "hostname": format!("{name}.ns"),
        "vips": [format!("/{vip}")], "ports": {"80": port}});
    let more = more.as_object().unwrap().clone();
    service.as_object_mut().unwrap().extend(more);
    service
}

fn endpoint(echo: SocketAddr, service: &str) -> Value {
    json!({"uid": "endpoint", "name": "endpoint", "namespace": "ns", "workloadIps": [echo.ip()],
        "services": {format!("ns/{service}.ns"): {"80": echo.port()}}})
}

/// A protobuf field with a length.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
    assert!(value.len() < 0x80, "longer ones take a longer length");
    field.extend(value);
    field
}

/// A byte goes there and back.
fn echoed(mut stream: TcpStream) {
    stream.write_all(b"?").unwrap();
    stream.read_exact(&mut [0]).unwrap();
}
