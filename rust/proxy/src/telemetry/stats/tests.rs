use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::*;
use crate::telemetry::log::{Filter, Format, Losses, Output, Settings};
use crate::telemetry::readiness::Heartbeats;

const SOON: Duration = Duration::from_secs(30);

/// Both ports served on a thread of their own.
struct Server {
    metrics: SocketAddr,
    readiness: SocketAddr,
    state: State,
    stop: Option<watch::Sender<bool>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    fn start(heartbeats: Heartbeats) -> Self {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (metrics, readiness) = (bind(), bind());
        let losses = Arc::<Losses>::default();
        let settings = Settings {
            format: Format::Plain,
            access: None,
            output: Output::Stdout,
            filter: "off".parse::<Filter>().unwrap(),
        };
        let state = State {
            metrics: Arc::new(Metrics::new("test", Arc::clone(&losses))),
            readiness: Arc::new(Readiness::new(["state manager", "proxy"], heartbeats)),
            logger: Logger::start(settings, losses).unwrap(),
        };
        let (stop, stopping) = watch::channel(false);
        let addresses = (
            metrics.local_addr().unwrap(),
            readiness.local_addr().unwrap(),
        );
        let listeners = Listeners {
            metrics: Some(metrics),
            readiness: Some(readiness),
        };
        let served = state.clone();
        let thread = thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(serve(listeners, served, stopping))
        });
        Self {
            metrics: addresses.0,
            readiness: addresses.1,
            state,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends a whole request and returns all that comes back, without the date.
fn ask(to: SocketAddr, request: &str) -> String {
    let mut stream = connect(to);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
        .split_inclusive("\r\n")
        .filter(|line| !line.starts_with("date:"))
        .collect()
}

fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
}

#[test]
fn readiness_is_told_as_upstream_tells_it() {
    let server = Server::start(Heartbeats::new(1));
    let probe = || ask(server.readiness, &request("GET /healthz/ready"));
    assert_eq!(
        probe(),
        "HTTP/1.1 500 Internal Server Error\r\ncontent-type: text/plain\r\nconnection: close\r\n\
         content-length: 41\r\n\r\nnot ready, pending: proxy, state manager\n"
    );
    server.state.readiness.complete("proxy");
    server.state.readiness.complete("state manager");
    assert_eq!(
        probe(),
        "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\n\
         content-length: 6\r\n\r\nready\n"
    );
}

#[test]
fn a_stuck_worker_makes_the_node_unready() {
    let heartbeats = Heartbeats::aged(2, Duration::from_secs(6));
    let server = Server::start(heartbeats.clone());
    server.state.readiness.complete("proxy");
    server.state.readiness.complete("state manager");
    heartbeats.beat(0);
    let probe = || ask(server.readiness, &request("GET /healthz/ready"));
    assert!(probe().ends_with("\r\n\r\nnot ready, pending: worker 1\n"));
    heartbeats.beat(1);
    assert!(probe().ends_with("\r\n\r\nready\n"));
}

#[test]
fn other_methods_and_paths_are_refused() {
    let server = Server::start(Heartbeats::new(0));
    for (to, line, status) in [
        (
            server.readiness,
            "POST /healthz/ready",
            "405 Method Not Allowed",
        ),
        (
            server.readiness,
            "HEAD /healthz/ready",
            "405 Method Not Allowed",
        ),
        (server.readiness, "GET /", "404 Not Found"),
        (server.readiness, "GET /metrics", "404 Not Found"),
        (server.metrics, "GET /", "404 Not Found"),
        (server.metrics, "GET /healthz/ready", "404 Not Found"),
    ] {
        let answer = ask(to, &request(line));
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
}

#[test]
fn metrics_are_served_on_both_paths_to_any_method() {
    let server = Server::start(Heartbeats::new(0));
    for line in ["GET /metrics", "GET /stats/prometheus?x=y", "POST /metrics"] {
        let answer = ask(server.metrics, &request(line));
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\n")
        );
        assert!(answer.contains("\nistio_build{component=\"ztunnel\",tag=\"test\"} 1\n"));
        assert!(answer.ends_with("# EOF\n"));
    }
}

#[test]
fn open_metrics_is_named_to_those_who_ask_for_it() {
    let server = Server::start(Heartbeats::new(0));
    for (accept, kind) in [
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain",
            "application/openmetrics-text;charset=utf-8;version=1.0.0",
        ),
        (
            "text/plain, Application/OpenMetrics-Text",
            "application/openmetrics-text;charset=utf-8;version=1.0.0",
        ),
        ("text/plain", "text/plain; charset=utf-8"),
        ("*/*", "text/plain; charset=utf-8"),
    ] {
        let request = format!(
            "GET /metrics HTTP/1.1\r\nhost: x\r\naccept: {accept}\r\nconnection: close\r\n\r\n"
        );
        let answer = ask(server.metrics, &request);
        assert!(
            answer.contains(&format!("\r\ncontent-type: {kind}\r\n")),
            "{accept}: {answer}"
        );
    }
}

#[test]
fn a_large_exposition_arrives_whole() {
    use crate::telemetry::{
        Labels, Reporter, ResponseFlag, SecurityPolicy, ServiceLabels, SideLabels,
    };
    let server = Server::start(Heartbeats::new(0));
    let recorder = server.state.metrics.recorder();
    for number in 0..1000 {
        let workload = &format!("workload-{number}");
        let labels = Labels {
            reporter: Reporter::Source,
            source: SideLabels {
                workload,
                ..SideLabels::default()
            },
            destination: SideLabels::default(),
            service: ServiceLabels::default(),
            security_policy: SecurityPolicy::Unknown,
            claimed: false,
        };
        let connections = recorder.connections(&labels);
        connections.open();
        connections.close(ResponseFlag::None);
    }
    let answer = ask(server.metrics, &request("GET /metrics"));
    assert!(answer.len() > 2 << 20);
    assert!(answer.ends_with("# EOF\n"));
    assert_eq!(
        answer
            .matches("istio_tcp_connections_closed_total{")
            .count(),
        1000
    );
}

/// What a body in chunks holds.
fn chunks(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        let piece = &body[end + 2..];
        whole.extend_from_slice(&piece[..size]);
        body = &piece[size + 2..];
    }
}

#[test]
fn every_encoding_gives_the_same_text() {
    use encoding::Encoding;
    let server = Server::start(Heartbeats::new(0));
    let recorder = server.state.metrics.recorder();
    // Some pieces of text.
    for number in 0..200 {
        let workload = &format!("workload-{number}");
        let mut labels = crate::telemetry::Labels::nobody();
        labels.source.workload = workload;
        let connections = recorder.connections(&labels);
        connections.open();
        connections.close(crate::telemetry::ResponseFlag::None);
    }
    // Descriptors and memory differ from scrape to scrape.
    let counted = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("istio_"));
        lines.map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    let plain = ask(server.metrics, &request("GET /metrics"));
    let plain = counted(plain.split_once("\r\n\r\n").unwrap().1);
    assert!(plain.len() > 800);
    for (wish, encoding) in [
        ("gzip", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
        ("br", Encoding::Brotli),
        ("zstd", Encoding::Zstd),
    ] {
        let mut stream = connect(server.metrics);
        let request = format!(
            "GET /stats/prometheus HTTP/1.1\r\nhost: x\r\naccept-encoding: {wish}\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap();
        let head = std::str::from_utf8(&answer[..end]).unwrap();
        assert!(
            head.contains(&format!("\r\ncontent-encoding: {wish}")),
            "{head}"
        );
        assert!(head.contains("\r\nvary: accept-encoding"), "{head}");
        let body = compress::tests::decompressed(encoding, &chunks(&answer[end + 4..]));
        let text = String::from_utf8(body).unwrap();
        assert_eq!(counted(&text), plain, "{wish}");
        assert!(text.ends_with("# EOF\n"), "{wish}");
    }
}

#[test]
fn headers_have_a_size_and_a_time() {
    let server = Server::start(Heartbeats::new(0));
    let long = format!(
        "GET /metrics HTTP/1.1\r\nhost: {}\r\n\r\n",
        "x".repeat(9000)
    );
    let mut stream = connect(server.metrics);
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));

    let begun = Instant::now();
    let mut slow = connect(server.readiness);
    slow.write_all(b"GET /healthz/ready HTTP/1.1\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408"));
    assert!(begun.elapsed() < SOON);
}

#[test]
fn silent_connections_hold_a_probe_up_for_a_moment_only() {
    let server = Server::start(Heartbeats::new(0));
    let silent: Vec<_> = (0..80).map(|_| connect(server.readiness)).collect();
    let answer = ask(server.readiness, &request("GET /healthz/ready"));
    assert!(answer.starts_with("HTTP/1.1 500"));
    drop(silent);
}

#[test]
fn stopping_closes_the_ports_and_what_is_idle() {
    let mut server = Server::start(Heartbeats::new(0));
    let mut idle = connect(server.readiness);
    idle.write_all(b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).unwrap();
    server.stop();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    TcpStream::connect(server.readiness).unwrap_err();
}

/// U1: upstream's servers end at the first failed accept.
#[test]
fn failed_accepts_do_not_end_the_server() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let client = thread::spawn(move || ask(address, &request("GET /")));
    let settings = Settings {
        format: Format::Plain,
        access: None,
        output: Output::Stdout,
        filter: "off".parse().unwrap(),
    };
    let logger = Logger::start(settings, Arc::default()).unwrap();
    let (stop, stopping) = watch::channel(false);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = tokio_listener(listener).unwrap();
        let mut errors = vec![libc::EMFILE, libc::ECONNABORTED, libc::ENFILE, libc::ENOMEM];
        let accept = async || match errors.pop() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => listener.accept().await.map(|(stream, _)| stream),
        };
        let answer = |_| std::future::ready(hyper::Response::new(body::Body::text("here\n")));
        let client = async {
            let answer = tokio::task::spawn_blocking(move || client.join().unwrap()).await;
            drop(stop);
            answer.unwrap()
        };
        let run = server::run("test", accept, answer, &logger, stopping);
        let (answer, ()) = tokio::join!(client, run);
        assert!(answer.ends_with("\r\n\r\nhere\n"), "{answer}");
    });
}
