//! How soon a change of policy ends the connections that it forbids, among many that it does not:
//! `policy_cut [CONNECTIONS FORBIDDEN POLICIES]`.
//!
//! One node takes all connections, in this process, with so many policies that match none of them. Clients, their nodes and
//! the application are children: a process has a bounded number of descriptors. Then one policy denies the account of one
//! child's node. Says when both of their ends were told, from the call on, what that cost of processors, and looks whether
//! all others still carry bytes. Who is told closes later: what that costs is no cut's.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a command for people; what fails ends it with the place"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesh::decode::{Rejection, Resource, TYPE_AUTHORIZATION, TYPE_SERVICE, TYPE_WORKLOAD};
use mesh::identity::Identity;
use proxy::DataPlane;
use proxy::settings::Settings;
use proxy::tls::{PrivateKey, WorkloadCertificate};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use serde_json::{Value, json};

/// No step takes longer than this, or something is broken.
const PATIENCE: Duration = Duration::from_secs(60);
const HOST: &str = "web.default.svc.cluster.local";
/// Children whose connections stay.
const FRIENDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["application"] => runtime().block_on(application()),
        ["client"] => client(),
        [] => measure(19_000, 200, 2_000),
        [connections, forbidden, policies] => measure(
            connections.parse().unwrap(),
            forbidden.parse().unwrap(),
            policies.parse().unwrap(),
        ),
        _ => panic!("usage: policy_cut [CONNECTIONS FORBIDDEN POLICIES]"),
    }
}

fn measure(connections: usize, forbidden: usize, policies: usize) {
    let mut application = Helper::start("application");
    let port: u16 = application.hear().as_u64().unwrap().try_into().unwrap();
    let authority = Authority::new();
    let node = node(&authority, "web", &json!({"inbound": "127.0.0.2:0"}), 15008);
    let inbound = node.start().unwrap()["inbound"].port();
    apply_mesh(&node, port);
    node.mark_synced();
    for n in 0..policies {
        let rules =
            json!([[[{"principals": [{"Exact": format!("cluster.local/ns/other/sa/{n}")}]}]]]);
        assert_eq!(deny(&node, &format!("other-{n}"), &rules), []);
    }
    let friends = (connections - forbidden) / FRIENDS;
    let mut clients: Vec<Helper> = (0..FRIENDS).map(|_| Helper::start("client")).collect();
    clients.push(Helper::start("client"));
    for (n, client) in clients.iter_mut().enumerate() {
        let (name, count) = if n < FRIENDS {
            ("friend", friends)
        } else {
            ("stranger", forbidden)
        };
        client.tell(&json!({
            "authority": [authority.certificate, authority.key], "name": name, "count": count,
            "inbound": inbound, "port": port,
        }));
    }
    for client in &mut clients {
        assert_eq!(client.hear(), json!("ready"));
    }
    println!(
        "{} connections, {policies} policies; {forbidden} are to be cut",
        friends * FRIENDS + forbidden,
    );
    let processes = [std::process::id(), clients[FRIENDS].id(), application.id()];
    let before = processes.map(on_processors);
    let begin = now();
    let start = Instant::now();
    let rules = json!([[[{"principals": [{"Exact": "cluster.local/ns/default/sa/stranger"}]}]]]);
    assert_eq!(deny(&node, "strangers", &rules), []);
    let applied = start.elapsed();
    let told = clients[FRIENDS].hear();
    application.tell(&json!(forbidden));
    let reset = application.hear();
    println!("applied in {:.2} ms", applied.as_secs_f64() * 1e3);
    show_times("client", begin, told);
    show_times("application", begin, reset);
    let after = processes.map(on_processors);
    let each = |n: usize| (after[n] - before[n]) * 1e3 / forbidden as f64;
    println!(
        "of processors for each: {:.1} us by the node, {:.1} us by the client's and who waits there, {:.1} us by the application",
        each(0),
        each(1),
        each(2),
    );
    let mut alive = 0;
    for client in &mut clients[..FRIENDS] {
        client.tell(&json!("check"));
        alive += usize::try_from(client.hear().as_u64().unwrap()).unwrap();
    }
    println!("{alive} of {} others carry bytes", friends * FRIENDS);
    assert_eq!(alive, friends * FRIENDS);
    drop(clients);
    node.stop();
}

/// How soon after `begin` these were told, in seconds since 1970 each.
fn show_times(who: &str, begin: f64, told: Value) {
    let told: Vec<f64> = serde_json::from_value(told).unwrap();
    let mut after: Vec<f64> = told.iter().map(|at| (at - begin) * 1e3).collect();
    after.sort_by(f64::total_cmp);
    println!(
        "the {who} told after {:.1} ms in the median, at most {:.1} ms",
        after[after.len() / 2],
        after[after.len() - 1],
    );
}

/// Answers each byte by itself. Says when the first so many of its connections were reset, as soon as they are.
async fn application() {
    let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
    say(&json!(listener.local_addr().unwrap().port()));
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let mut words = std::io::stdin().lock().lines();
        let count: usize = serde_json::from_str(&words.next().unwrap().unwrap()).unwrap();
        let (at, kept): (Vec<f64>, Vec<_>) =
            (0..count).map(|_| ends.blocking_recv().unwrap()).unzip();
        say(&json!(at));
        drop(kept);
    });
    tokio::task::LocalSet::new()
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let ended = ended.clone();
                tokio::task::spawn_local(async move {
                    answer(&stream).await;
                    // Failing means that nobody wants to know any more.
                    let _ = ended.send((now(), stream));
                });
            }
        })
        .await;
}

/// Until it ends, however.
async fn answer(stream: &tokio::net::TcpStream) {
    let mut byte = [0];
    // The buffer is a byte: an idle connection shall cost little.
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut byte) {
            Ok(0) => return,
            Ok(_) => drop(stream.try_write(&byte)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// A node and connections through it. A stranger's are watched for their ends, a friend's are tried when it is told to.
fn client() {
    let mut words = std::io::stdin().lock().lines();
    let mut hear = || -> Value { serde_json::from_str(&words.next().unwrap().unwrap()).unwrap() };
    let job = hear();
    let number = |name: &str| u16::try_from(job[name].as_u64().unwrap()).unwrap();
    let authority = Authority {
        certificate: job["authority"][0].as_str().unwrap().into(),
        key: job["authority"][1].as_str().unwrap().into(),
    };
    let name = job["name"].as_str().unwrap();
    let listeners =
        json!({"forwards": [{"listen": "127.0.0.1:0", "target": format!("{HOST}:80")}]});
    let node = node(&authority, name, &listeners, number("inbound"));
    let way_in = node.start().unwrap()["forwards[0]"];
    apply_mesh(&node, number("port"));
    node.mark_synced();
    let mut held: Vec<TcpStream> = (0..number("count")).map(|_| connect(way_in)).collect();
    if name == "friend" {
        say(&json!("ready"));
        assert_eq!(hear(), json!("check"));
        let alive = held.iter_mut().filter_map(|stream| echoed(stream).ok());
        say(&json!(alive.count()));
    } else {
        runtime().block_on(async {
            // Known to the runtime before anybody says that all is ready: that costs as much as a cut.
            let watched: Vec<_> = held.drain(..).map(watched).collect();
            let ends: Vec<_> = watched
                .into_iter()
                .map(|stream| tokio::spawn(ended(stream)))
                .collect();
            say(&json!("ready"));
            let (mut at, mut kept) = (Vec::new(), Vec::new());
            for end in ends {
                let (when, stream) = end.await.unwrap();
                at.push(when);
                kept.push(stream);
            }
            say(&json!(at));
        });
    }
    // Until the parent has seen enough.
    let _ = words.next();
}

fn watched(stream: TcpStream) -> tokio::net::TcpStream {
    stream.set_nonblocking(true).unwrap();
    tokio::net::TcpStream::from_std(stream).unwrap()
}

/// When a connection was reset, in seconds since 1970, and what is left of it.
async fn ended(stream: tokio::net::TcpStream) -> (f64, tokio::net::TcpStream) {
    loop {
        stream.readable().await.unwrap();
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                return (now(), stream);
            }
            Ok(count) => panic!("not reset, but {count} bytes"),
        }
    }
}

fn connect(way_in: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&way_in, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echoed(&mut stream).unwrap();
    stream
}

fn echoed(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"?")?;
    stream.read_exact(&mut [0])
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs_f64()
}

/// Milliseconds that a process had processors.
fn on_processors(process: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_task = |task: std::io::Result<std::fs::DirEntry>| -> f64 {
        // Nanoseconds, then what does not matter here. A thread may have ended meanwhile.
        let figures = std::fs::read_to_string(task.unwrap().path().join("schedstat"));
        let first = |figures: String| figures.split(' ').next()?.parse::<f64>().ok();
        figures.ok().and_then(first).unwrap_or_default()
    };
    tasks.map(of_task).sum::<f64>() / 1e6
}

fn say(what: &Value) {
    println!("{what}");
}

/// A child, which ends with us: its words stop coming.
struct Helper {
    child: Child,
    words: BufReader<std::process::ChildStdout>,
}

impl Helper {
    fn start(role: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let words = BufReader::new(child.stdout.take().unwrap());
        Self { child, words }
    }

    fn tell(&mut self, what: &Value) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
    }

    fn id(&self) -> u32 {
        self.child.id()
    }

    fn hear(&mut self) -> Value {
        let mut line = String::new();
        self.words.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Who signs for all of them, in PEM so that children have it too.
struct Authority {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: Self::params().self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    fn sign(&self, account: &str) -> WorkloadCertificate {
        let identity = Identity::new("cluster.local", "default", account).unwrap();
        let mut params = CertificateParams::default();
        let name = identity.to_string();
        params.subject_alt_names = vec![SanType::URI(name.as_str().try_into().unwrap())];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = PrivateKey::generate().unwrap();
        let issuer = Issuer::new(Self::params(), KeyPair::from_pem(&self.key).unwrap());
        let chain = params.signed_by(&key, &issuer).unwrap().pem();
        let roots = self.certificate.as_bytes();
        WorkloadCertificate::new(identity, &key, chain.as_bytes(), roots).unwrap()
    }
}

fn node(authority: &Authority, name: &str, listeners: &Value, hbone_port: u16) -> DataPlane {
    let settings = json!({
        "workers": 2, "hbonePort": hbone_port, "listeners": listeners, "logLevel": "error",
        "workload": {"name": name, "namespace": "default", "serviceAccount": name},
        "accessLog": {"format": "off"}, "originalSource": false,
    });
    let node = DataPlane::new(Settings::parse(settings.to_string().as_bytes()).unwrap()).unwrap();
    node.install(authority.sign(name));
    node
}

fn apply_mesh(node: &DataPlane, port: u16) {
    let key = format!("default/{HOST}");
    let pod = |name: &str, address: &str, services: Value| {
        json!({"uid": name, "name": name, "namespace": "default", "serviceAccount": name,
            "workloadIps": [address], "protocol": "HBONE", "services": services})
    };
    let service = json!({"name": "web", "namespace": "default", "ports": {"80": port},
        "hostname": HOST, "vips": ["/127.10.0.1"]});
    for (type_url, name, value) in [
        (
            TYPE_WORKLOAD,
            "friend",
            pod("friend", "127.0.0.1", json!({})),
        ),
        (
            TYPE_WORKLOAD,
            "stranger",
            pod("stranger", "127.0.0.1", json!({})),
        ),
        (
            TYPE_WORKLOAD,
            "web",
            pod("web", "127.0.0.2", json!({&key: {"80": port}})),
        ),
        (TYPE_SERVICE, key.as_str(), service),
    ] {
        assert_eq!(apply(node, type_url, name, &value), []);
    }
}

fn deny(node: &DataPlane, name: &str, rules: &Value) -> Vec<Rejection> {
    let policy = json!({"name": name, "namespace": "default", "scope": "Namespace", "action": "Deny",
        "dryRun": false, "rules": rules});
    apply(
        node,
        TYPE_AUTHORIZATION,
        &format!("default/{name}"),
        &policy,
    )
}

fn apply(node: &DataPlane, type_url: &str, name: &str, value: &Value) -> Vec<Rejection> {
    let value = value.to_string();
    let value = value.as_bytes();
    let resource = Resource {
        type_url,
        name,
        value,
    };
    node.apply(&[resource], &[])
}
