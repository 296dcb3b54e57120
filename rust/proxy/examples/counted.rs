//! Two data planes in one process and a fixed piece of work through both, to be counted: `counted WORK UNITS`.
//!
//! Says how many allocations the work took; under strace, what it took of the kernel. Not a benchmark: everything goes
//! one step at a time, so that two runs do the same. `tools/gates` drives it and knows what the counts may be.
//!
//! Client and application are threads of this process that neither allocate nor count: the data planes' workers are told
//! from them by the thread ids in the answer, the work from what is around it by the two markers.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a command for a script; what fails ends it with the place"
)]

use std::alloc::System;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use mesh::decode::{Resource, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::identity::Identity;
use proxy::DataPlane;
use proxy::settings::Settings;
use proxy::tls::{PrivateKey, WorkloadCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// No step takes longer than this, or something is broken.
const PATIENCE: Duration = Duration::from_secs(20);
/// What goes one way before the other side says something: one write that a socket's buffer holds.
const CHUNK: usize = 256 * 1024;
/// A message of a round trip.
const MESSAGE: usize = 128;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, work, units] = &arguments[..] else {
        panic!("usage: counted connections|down|round-trips|up UNITS");
    };
    let units: usize = units.parse().unwrap();
    let application = Application::start();
    let nodes = Nodes::start(application);
    let mut client = Client::new(nodes.way_in);
    // Tunnels up, windows grown, pools and buffers as they stay.
    client.work(work, 16);
    let region = Region::new(ALLOCATOR);
    mark("begin");
    client.work(work, units);
    mark("end");
    let spent = region.change();
    let answer = json!({
        "units": units,
        "allocations": spent.allocations + spent.reallocations,
        "bytes": spent.bytes_allocated,
        "workers": threads("worker-"),
    });
    println!("{answer}");
    nodes.stop();
}

/// A system call that nobody else makes.
fn mark(name: &str) {
    let there = Path::new("/gates").join(name).exists();
    assert!(!there, "a marker is a file that is not there");
}

/// Ids of the threads of this process whose names begin so.
fn threads(prefix: &str) -> Vec<u32> {
    let id = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        let id = entry.file_name().to_str()?.parse().ok()?;
        name.starts_with(prefix).then_some(id)
    };
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    tasks.filter_map(Result::ok).filter_map(id).collect()
}

/// One connection at a time: a byte says what is wanted, then it is done until the client ends.
struct Application;

impl Application {
    fn start() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.2:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let (stream, _) = listener.accept().unwrap();
                Self::serve(&stream, &mut buffer);
            }
        });
        address
    }

    fn serve(mut stream: &TcpStream, buffer: &mut [u8]) {
        patient(stream);
        let mut wanted = [0];
        if stream.read_exact(&mut wanted).is_err() {
            return;
        }
        let (taken, given) = match wanted[0] {
            b'D' => (1, CHUNK),
            b'E' => (MESSAGE, MESSAGE),
            b'U' => (CHUNK, 1),
            _ => (1, 1),
        };
        while stream.read_exact(&mut buffer[..taken]).is_ok() {
            stream.write_all(&buffer[..given]).unwrap();
        }
    }
}

struct Client {
    way_in: SocketAddr,
    buffer: Vec<u8>,
    /// The connection of works that need but one.
    open: Option<TcpStream>,
}

impl Client {
    fn new(way_in: SocketAddr) -> Self {
        Self {
            way_in,
            buffer: vec![7; CHUNK],
            open: None,
        }
    }

    fn work(&mut self, work: &str, units: usize) {
        match work {
            "connections" => (0..units).for_each(|_| self.connection()),
            "down" => self.steps(b'D', (1, CHUNK), units * (1 << 20) / CHUNK),
            "round-trips" => self.steps(b'E', (MESSAGE, MESSAGE), units),
            "up" => self.steps(b'U', (CHUNK, 1), units * (1 << 20) / CHUNK),
            _ => panic!("no such work: {work}"),
        }
    }

    fn connection(&mut self) {
        let mut stream = self.connect(b'C');
        stream.write_all(&[1]).unwrap();
        stream.read_exact(&mut self.buffer[..1]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // The application ended as well, and everything on the way knows it.
        assert_eq!(stream.read(&mut self.buffer[..1]).unwrap(), 0);
    }

    fn steps(&mut self, wanted: u8, (given, taken): (usize, usize), steps: usize) {
        let mut stream = self.open.take().unwrap_or_else(|| self.connect(wanted));
        for _ in 0..steps {
            stream.write_all(&self.buffer[..given]).unwrap();
            stream.read_exact(&mut self.buffer[..taken]).unwrap();
        }
        self.open = Some(stream);
    }

    fn connect(&self, wanted: u8) -> TcpStream {
        let mut stream = TcpStream::connect_timeout(&self.way_in, PATIENCE).unwrap();
        patient(&stream);
        stream.set_nodelay(true).unwrap();
        stream.write_all(&[wanted]).unwrap();
        stream
    }
}

fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// A client's node and a server's, of one worker each.
struct Nodes {
    nodes: [DataPlane; 2],
    way_in: SocketAddr,
}

impl Nodes {
    fn start(application: SocketAddr) -> Self {
        let authority = authority();
        let server = node(&authority, "web", &json!({"inbound": "127.0.0.2:0"}), 15008);
        let bound = server.start().unwrap();
        let listeners = json!({"forwards": [
            {"listen": "127.0.0.1:0", "target": "web.default.svc.cluster.local:80"}]});
        let client = node(&authority, "client", &listeners, bound["inbound"].port());
        let way_in = client.start().unwrap()["forwards[0]"];
        let nodes = [client, server];
        for node in &nodes {
            apply(node, application.port());
            node.mark_synced();
        }
        Self { nodes, way_in }
    }

    fn stop(self) {
        self.nodes.iter().for_each(DataPlane::stop);
    }
}

fn node(
    authority: &CertifiedIssuer<'static, KeyPair>,
    name: &str,
    listeners: &Value,
    hbone_port: u16,
) -> DataPlane {
    let settings = json!({
        "workers": 1, "hbonePort": hbone_port, "listeners": listeners, "logLevel": "error",
        "workload": {"name": name, "namespace": "default", "serviceAccount": name},
        "accessLog": {"format": "off"}, "originalSource": false,
    });
    let node = DataPlane::new(Settings::parse(settings.to_string().as_bytes()).unwrap()).unwrap();
    node.install(certificate(authority, name));
    node
}

fn apply(node: &DataPlane, port: u16) {
    let pod = |name: &str, address: &str, services: Value| {
        json!({"uid": name, "name": name, "namespace": "default", "serviceAccount": name,
            "workloadIps": [address], "protocol": "HBONE", "services": services})
        .to_string()
    };
    let hostname = "default/web.default.svc.cluster.local";
    let client = pod("client", "127.0.0.1", json!({}));
    let web = pod("web", "127.0.0.2", json!({hostname: {"80": port}}));
    let service = json!({"name": "web", "namespace": "default", "ports": {"80": port},
        "hostname": "web.default.svc.cluster.local", "vips": ["/127.10.0.1"]});
    let service = service.to_string();
    let resources = [
        (TYPE_WORKLOAD, "client", &client),
        (TYPE_WORKLOAD, "web", &web),
        (TYPE_SERVICE, hostname, &service),
    ]
    .map(|(type_url, name, value)| Resource {
        type_url,
        name,
        value: value.as_bytes(),
    });
    assert_eq!(node.apply(&resources, &[]), []);
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate(
    authority: &CertifiedIssuer<'static, KeyPair>,
    account: &str,
) -> WorkloadCertificate {
    let identity = Identity::new("cluster.local", "default", account).unwrap();
    let name = identity.to_string();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().unwrap())];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = PrivateKey::generate().unwrap();
    let chain = params.signed_by(&key, authority).unwrap().pem();
    WorkloadCertificate::new(identity, &key, chain.as_bytes(), authority.pem().as_bytes()).unwrap()
}
