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

use proxy::DataPlane;
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use support::node::{authority, node};
use support::pair::{HOST, apply};

#[path = "../tests/support"]
mod support {
    pub(crate) mod node;
    pub(crate) mod pair;
}

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
        let one = json!({"workers": 1});
        let listeners = json!({"inbound": "127.0.0.2:0"});
        let server = node(&authority, "web", &listeners, 15008, &one);
        let bound = server.start().unwrap();
        let forward = json!({"listen": "127.0.0.1:0", "target": format!("{HOST}:80")});
        let listeners = json!({"forwards": [forward]});
        let hbone = bound["inbound"].port();
        let client = node(&authority, "client", &listeners, hbone, &one);
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
