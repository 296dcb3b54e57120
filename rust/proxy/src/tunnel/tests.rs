//! Tunnels over real sockets: the pool, deadlines, ends. What streams carry byte by byte is `relay/tests.rs`'s.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hbone::{Fields, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout;

use super::client::Dialer;
use super::first_flight::FirstFlight;
use super::pool::{PoolKey, TunnelPool};
use super::server::Serving;
use super::set::TunnelSet;
use super::state::TunnelEnd;
use super::stream::{Inbox, StreamEnd, TunnelStream};
use super::{Request, Timeouts};
use crate::error::{Error, Stage};
use crate::telemetry::metrics::Metrics;
use crate::tls::testing::{Authority, CLIENT, SERVER, identity};
use crate::tls::{Session, WorkloadCertificate};
use crate::turns::Turns;

pub(super) const SOON: Duration = Duration::from_secs(30);
const BRIEF: Duration = Duration::from_millis(200);

pub(crate) fn patient() -> Timeouts {
    Timeouts {
        handshake: SOON,
        preface: SOON,
        headers: SOON,
        ping_interval: SOON,
        ping_timeout: SOON,
    }
}

/// Runs a story on a worker-like thread; a story that hangs fails.
pub(crate) fn play<F: Future<Output = ()> + 'static>(story: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        timeout(Duration::from_secs(60), story).await.unwrap();
    });
}

/// A peer that accepts every request and keeps its streams open.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) tunnels: Rc<TunnelSet>,
    pub(super) accepted: Rc<Cell<usize>>,
    pub(super) running: Rc<Cell<usize>>,
    pub(super) ends: tokio::sync::mpsc::UnboundedReceiver<(String, bool)>,
}

pub(crate) struct World {
    pub(crate) authority: Authority,
    pub(crate) metrics: Arc<Metrics>,
    handshakes: Rc<Turns>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            authority: Authority::root("root"),
            metrics: Arc::new(Metrics::new("test", Arc::default())),
            handshakes: Turns::new(1),
        }
    }

    pub(super) async fn peer(&self, timeouts: Timeouts, streams: u32) -> Peer {
        let running = Rc::new(Cell::new(0));
        let counted = running.clone();
        let keep = move |stream, request: &Request| keep(stream, request, &counted);
        Peer {
            running,
            ..self.peer_that(timeouts, streams, keep).await
        }
    }

    /// A peer that does as it is told with every request.
    pub(super) async fn peer_that(
        &self,
        timeouts: Timeouts,
        streams: u32,
        handle: impl Fn(TunnelStream, &Request) + 'static,
    ) -> Peer {
        let handle = Rc::new(handle);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let certificate = self.authority.certificate(SERVER);
        let (metrics, tunnels) = (self.metrics.clone(), Rc::new(TunnelSet::default()));
        let handshakes = self.handshakes.clone();
        let accepted = Rc::new(Cell::new(0));
        let (report, ends) = tokio::sync::mpsc::unbounded_channel();
        let (set, count) = (tunnels.clone(), accepted.clone());
        spawn_local(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                count.set(count.get() + 1);
                let session = Session::server(certificate.server()).unwrap();
                let (metrics, set, report) = (metrics.clone(), set.clone(), report.clone());
                let (handle, handshakes) = (handle.clone(), handshakes.clone());
                spawn_local(async move {
                    let serving = Serving {
                        engine: hbone::Config {
                            max_concurrent_streams: Some(streams),
                            ..hbone::Config::server()
                        },
                        timeouts,
                        tunnels: &set,
                        metrics: &metrics,
                        handshakes: &handshakes,
                    };
                    let on_end = |end: &TunnelEnd, established| {
                        let _ = report.send((end.to_string(), established));
                    };
                    let handle = |stream, request: Request| handle(stream, &request);
                    serving.serve(socket, session, (), handle, on_end).await;
                });
            }
        });
        Peer {
            address,
            tunnels,
            accepted,
            running: Rc::default(),
            ends,
        }
    }

    pub(super) fn dialer(&self) -> Rc<Dialer> {
        self.dialer_with(SOON)
    }

    fn dialer_with(&self, handshake: Duration) -> Rc<Dialer> {
        Rc::new(Dialer {
            engine: hbone::Config::client(),
            timeouts: Timeouts {
                handshake,
                ..patient()
            },
            connect: SOON,
            keepalive: None,
            mark: None,
            tunnels: Rc::default(),
            metrics: self.metrics.clone(),
            handshakes: self.handshakes.clone(),
        })
    }

    pub(crate) fn pool(&self, max_streams: usize, idle: Duration) -> Rc<TunnelPool> {
        self.pool_with(max_streams, idle, SOON)
    }

    pub(super) fn pool_with(
        &self,
        max_streams: usize,
        idle: Duration,
        handshake: Duration,
    ) -> Rc<TunnelPool> {
        let dialer = self.dialer_with(handshake);
        Rc::new(TunnelPool::new(dialer, max_streams, idle))
    }
}

/// A request for this address makes the peer's handler panic.
const FATAL: &str = "10.6.6.6:1";

/// Answers 200 and holds the stream until the other side has ended it.
fn keep(stream: TunnelStream, request: &Request, running: &Rc<Cell<usize>>) {
    assert_ne!(request.head.authority.as_deref(), Some(FATAL));
    running.set(running.get() + 1);
    let running = running.clone();
    spawn_local(async move {
        stream.respond(&ResponseHead::status(200), false);
        while !matches!(stream.inbox().await, Inbox::Finished | Inbox::Cut(_)) {}
        running.set(running.get() - 1);
    });
}

pub(crate) fn key(peer: SocketAddr) -> PoolKey {
    PoolKey {
        source: identity(CLIENT),
        expected: vec![identity(SERVER)],
        peer,
        client: "127.0.0.1".parse().unwrap(),
    }
}

pub(super) async fn open(
    pool: &Rc<TunnelPool>,
    peer: SocketAddr,
    certificate: &WorkloadCertificate,
) -> Result<TunnelStream, Error> {
    let head = RequestHead::connect("10.0.0.1:80", Fields::default());
    let key = key(peer);
    let session = || Session::client(certificate.client(&key.expected));
    pool.connect(&key, &head, session, SOON, &FirstFlight::none())
        .await
}

async fn open_many(
    pool: &Rc<TunnelPool>,
    peer: SocketAddr,
    certificate: &Rc<WorkloadCertificate>,
    count: usize,
) -> Vec<Result<TunnelStream, Error>> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (pool, certificate) = (pool.clone(), certificate.clone());
            spawn_local(async move { open(&pool, peer, &certificate).await })
        })
        .collect();
    let mut opened = Vec::new();
    for task in tasks {
        opened.push(task.await.unwrap());
    }
    opened
}

#[test]
fn first_requests_at_once_share_one_dial() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let opened = open_many(&pool, peer.address, &own, 100).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!(peer.accepted.get(), 1);
    });
}

/// The most handshakes that ended between two answers to somebody who only waits for the worker's sockets.
fn most_handshakes_between_answers(each_turn: usize) -> u64 {
    const CROWD: usize = 60;
    let most = Rc::new(Cell::new(0));
    let seen = most.clone();
    play(async move {
        let world = World {
            handshakes: Turns::new(each_turn),
            ..World::new()
        };
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (
            world.pool(1, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let metrics = world.metrics.clone();
        let hops = spawn_local(async move {
            let mut before = 0;
            while before < CROWD as u64 {
                near.writable().await.unwrap();
                near.try_write(b"?").unwrap();
                far.readable().await.unwrap();
                // Until nothing is there, so that the next byte takes another look.
                while far.try_read(&mut [0; 8]).is_ok() {}
                let now = metrics.handshakes_completed();
                seen.set(seen.get().max(now - before));
                before = now;
            }
        });
        let opened = open_many(&pool, peer.address, &own, CROWD).await;
        assert!(opened.iter().all(Result::is_ok));
        hops.await.unwrap();
    });
    most.get()
}

#[test]
fn a_crowd_of_handshakes_leaves_room_between_them() {
    assert!(most_handshakes_between_answers(1) <= 4);
    // Else the above would say nothing.
    assert!(most_handshakes_between_answers(1000) > 4);
}

#[test]
fn no_more_tunnels_are_made_than_the_stream_limit_asks_for() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let opened = open_many(&pool, peer.address, &own, 250).await;
        assert!(opened.iter().all(Result::is_ok));
        assert_eq!(peer.accepted.get(), 3);
    });
}

#[test]
fn the_peers_smaller_limit_is_obeyed() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 10).await;
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let opened = open_many(&pool, peer.address, &own, 35).await;
        assert!(opened.iter().all(Result::is_ok));
    });
}

#[test]
fn a_peer_that_takes_no_streams_is_an_error_and_not_a_dial_for_ever() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 0).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let error = open(&pool, peer.address, &own)
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!((error.stage, error.reason), (Stage::Tunnel, "no_streams"));
        assert_eq!(peer.accepted.get(), 1);
    });
}

#[test]
fn a_full_tunnel_returns_to_service_when_its_streams_end() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (
            world.pool(2, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let full = open_many(&pool, peer.address, &own, 2).await;
        drop(full);
        for _ in 0..5 {
            let again = open_many(&pool, peer.address, &own, 2).await;
            assert!(again.iter().all(Result::is_ok));
        }
        assert_eq!(peer.accepted.get(), 1);
    });
}

#[test]
fn a_failed_dial_fails_those_who_wait_for_it_at_once_and_nobody_else() {
    play(async {
        let world = World::new();
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let nobody = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        for failed in open_many(&pool, nobody, &own, 20).await {
            assert_eq!(failed.map(|_| ()).unwrap_err().stage, Stage::Dial);
        }
        let peer = world.peer(patient(), 200).await;
        assert!(open(&pool, peer.address, &own).await.is_ok());
    });
}

#[test]
fn a_peer_that_is_somebody_else_is_refused() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let head = RequestHead::connect("10.0.0.1:80", Fields::default());
        let mut key = key(peer.address);
        key.expected = vec![identity("spiffe://cluster.local/ns/shop/sa/another")];
        let session = || Session::client(own.client(&key.expected));
        let opened = pool
            .connect(&key, &head, session, SOON, &FirstFlight::none())
            .await;
        let error = opened.map(|_| ()).unwrap_err();
        assert_eq!((error.stage, error.reason), (Stage::Handshake, "wrong_san"));
    });
}

#[test]
fn an_idle_tunnel_is_ended_and_a_used_one_is_not() {
    play(async {
        let world = World::new();
        let mut peer = world.peer(patient(), 200).await;
        let (pool, own) = (
            world.pool(100, Duration::ZERO),
            world.authority.certificate(CLIENT),
        );
        let used = open(&pool, peer.address, &own).await.unwrap();
        pool.sweep();
        assert!(timeout(BRIEF, peer.ends.recv()).await.is_err());
        drop(used);
        pool.sweep();
        let (end, established) = peer.ends.recv().await.unwrap();
        assert!(established && end == "closed", "{end}");
    });
}

#[test]
fn after_goaway_running_streams_go_on_and_new_ones_use_another_tunnel() {
    play(async {
        let world = World::new();
        let mut peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let running = open(&pool, peer.address, &own).await.unwrap();
        peer.tunnels.close_when_idle();
        peer.tunnels.succeed();
        let other = loop {
            let other = open(&pool, peer.address, &own).await.unwrap();
            if !Rc::ptr_eq(other.tunnel(), running.tunnel()) {
                break other;
            }
        };
        running.finish();
        drop(running);
        let (end, _) = peer.ends.recv().await.unwrap();
        assert!(end == "closed", "{end}");
        drop(other);
    });
}

#[test]
fn a_tunnel_that_is_lost_cuts_its_streams() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        peer.tunnels.abort();
        let end = opened.cut().await;
        assert!(
            matches!(end, StreamEnd::Lost(_) | StreamEnd::Reset(_)),
            "{end:?}"
        );
        assert!(matches!(opened.inbox().await, Inbox::Cut(_)));
    });
}

#[test]
fn a_silent_client_is_held_no_longer_than_the_handshakes_deadline() {
    play(async {
        let world = World::new();
        let short = Timeouts {
            handshake: BRIEF,
            ..patient()
        };
        let mut peer = world.peer(short, 200).await;
        let mut silent = TcpStream::connect(peer.address).await.unwrap();
        let (end, established) = peer.ends.recv().await.unwrap();
        assert!(!established && end.ends_with("TLS handshake"), "{end}");
        assert_eq!(silent.read(&mut [0; 16]).await.unwrap(), 0);
    });
}

#[test]
fn a_client_that_says_nothing_after_tls_is_held_no_longer_than_the_prefaces_deadline() {
    play(async {
        let world = World::new();
        // Both begin with the connection; a handshake is to fit in under load.
        let enough = Duration::from_secs(3);
        let short = Timeouts {
            handshake: enough,
            preface: enough,
            ..patient()
        };
        let mut peer = world.peer(short, 200).await;
        let own = world.authority.certificate(CLIENT);
        let _socket = handshake(peer.address, &own).await;
        let (end, established) = peer.ends.recv().await.unwrap();
        assert!(established && end.ends_with("HTTP/2 preface"), "{end}");
    });
}

#[test]
fn a_peer_that_does_not_answer_a_ping_is_gone() {
    play(async {
        let world = World::new();
        let short = Timeouts {
            ping_interval: Duration::from_millis(50),
            ping_timeout: BRIEF,
            ..patient()
        };
        let mut peer = world.peer(short, 200).await;
        let own = world.authority.certificate(CLIENT);
        let (mut socket, mut session) = handshake(peer.address, &own).await;
        // The preface and our SETTINGS, then nothing.
        let engine = hbone::Connection::new(hbone::Config::client());
        let mut bytes = Vec::new();
        session.encrypt(engine.output(), &mut bytes).unwrap();
        socket.write_all(&bytes).await.unwrap();
        let (end, _) = peer.ends.recv().await.unwrap();
        assert!(end == "HBONE ping timeout", "{end}");
    });
}

#[test]
fn a_header_block_must_end() {
    play(async {
        let world = World::new();
        let short = Timeouts {
            headers: BRIEF,
            ..patient()
        };
        let mut peer = world.peer(short, 200).await;
        let own = world.authority.certificate(CLIENT);
        let (mut socket, mut session) = handshake(peer.address, &own).await;
        let engine = hbone::Connection::new(hbone::Config::client());
        let mut plain = engine.output().to_vec();
        // HEADERS on stream 1 without END_HEADERS.
        plain.extend_from_slice(&[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82]);
        let mut bytes = Vec::new();
        session.encrypt(&plain, &mut bytes).unwrap();
        socket.write_all(&bytes).await.unwrap();
        let (end, _) = peer.ends.recv().await.unwrap();
        assert!(end.ends_with("unfinished HTTP/2 header block"), "{end}");
    });
}

/// A client that goes no further than TLS by itself.
async fn handshake(peer: SocketAddr, own: &WorkloadCertificate) -> (TcpStream, Session) {
    let mut socket = TcpStream::connect(peer).await.unwrap();
    let mut session = Session::client(own.client(&[identity(SERVER)])).unwrap();
    let (mut incoming, mut outgoing) = (Vec::new(), Vec::new());
    loop {
        let used = session
            .receive(&mut incoming, &mut outgoing, &mut |_| ())
            .unwrap();
        incoming.drain(..used);
        socket.write_all(&outgoing).await.unwrap();
        outgoing.clear();
        if !session.is_handshaking() {
            return (socket, session);
        }
        assert_ne!(socket.read_buf(&mut incoming).await.unwrap(), 0);
    }
}

#[test]
fn a_panic_in_a_tunnels_task_ends_its_streams_on_both_sides() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        assert_eq!(peer.running.get(), 1);
        let head = RequestHead::connect(FATAL, Fields::default());
        let _fatal = opened.tunnel().open(&head).unwrap();
        assert!(matches!(opened.cut().await, StreamEnd::Lost(_)));
        while peer.running.get() > 0 {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_request_on_its_way_to_a_server_that_leaves_is_served() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        drop(open(&pool, peer.address, &own).await.unwrap());
        while peer.running.get() > 0 {
            tokio::task::yield_now().await;
        }
        // Before the client can have heard of it.
        peer.tunnels.close_when_idle();
        let stream = open(&pool, peer.address, &own).await.unwrap();
        assert_eq!((peer.accepted.get(), peer.running.get()), (1, 1));
        drop(stream);
        peer.tunnels.emptied().await;
    });
}

#[test]
fn a_server_that_leaves_does_not_wait_long_for_a_peer_that_says_nothing() {
    play(async {
        let world = World::new();
        let mut peer = world.peer(patient(), 200).await;
        let own = world.authority.certificate(CLIENT);
        // The preface and our SETTINGS, then nothing.
        let (mut socket, mut session) = handshake(peer.address, &own).await;
        let engine = hbone::Connection::new(hbone::Config::client());
        let mut bytes = Vec::new();
        session.encrypt(engine.output(), &mut bytes).unwrap();
        socket.write_all(&bytes).await.unwrap();
        peer.tunnels.close_when_idle();
        // Else it would be the ping's deadline, of a minute, that ends it.
        let (end, established) = peer.ends.recv().await.unwrap();
        assert!(established && end == "closed", "{end}");
    });
}

mod first_flight;
mod full;
