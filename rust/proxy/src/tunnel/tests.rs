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
        let short = Timeouts {
            preface: BRIEF,
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

/// An application that has said something before anybody listened.
async fn spoken(bytes: &[u8]) -> (FirstFlight, TcpStream) {
    let (mut client, near) = crate::relay::tests::pair().await;
    client.write_all(bytes).await.unwrap();
    (FirstFlight::of(Rc::new(near)), client)
}

async fn open_saying(
    pool: &Rc<TunnelPool>,
    peer: SocketAddr,
    certificate: &WorkloadCertificate,
    bytes: &[u8],
) -> Result<TunnelStream, Error> {
    let (first, _client) = spoken(bytes).await;
    let head = RequestHead::connect("10.0.0.1:80", Fields::default());
    let key = key(peer);
    let session = || Session::client(certificate.client(&key.expected));
    let opened = pool.connect(&key, &head, session, SOON, &first).await;
    if opened.is_ok() {
        assert_eq!(first.len(), bytes.len());
    }
    opened
}

/// Answers `status` once `wanted` bytes are there, and notes them.
async fn answer_after(
    stream: TunnelStream,
    wanted: usize,
    status: u16,
    heard: Rc<std::cell::RefCell<Vec<Vec<u8>>>>,
) {
    while stream.held().len() < wanted {
        assert!(matches!(stream.inbox().await, Inbox::Held));
        tokio::task::yield_now().await;
    }
    heard.borrow_mut().push(stream.held());
    stream.respond(&ResponseHead::status(status), status != 200);
    if status == 200 {
        stream.cut().await;
    }
}

#[test]
fn first_bytes_arrive_before_the_peer_has_agreed() {
    play(async {
        let world = World::new();
        let heard = Rc::default();
        let notes = Rc::clone(&heard);
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                spawn_local(answer_after(stream, 8, 200, Rc::clone(&notes)));
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open_saying(&pool, peer.address, &own, b"question").await;
        assert!(opened.is_ok());
        assert_eq!(*heard.borrow(), [b"question"]);
    });
}

#[test]
fn more_than_the_first_flight_waits_for_the_answer() {
    play(async {
        let world = World::new();
        let heard: Rc<std::cell::RefCell<Vec<Vec<u8>>>> = Rc::default();
        let notes = heard.clone();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                spawn_local(answer_after(stream, 16 * 1024, 200, notes.clone()));
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let (first, _client) = spoken(&[7; 40_000]).await;
        let head = RequestHead::connect("10.0.0.1:80", Fields::default());
        let key = key(peer.address);
        let session = || Session::client(own.client(&key.expected));
        let opened = pool.connect(&key, &head, session, SOON, &first).await;
        assert!(opened.is_ok());
        assert_eq!((first.len(), heard.borrow()[0].len()), (16_384, 16_384));
    });
}

#[test]
fn a_request_that_was_refused_unseen_is_made_again_with_the_same_bytes() {
    play(async {
        let world = World::new();
        let heard: Rc<std::cell::RefCell<Vec<Vec<u8>>>> = Rc::default();
        let notes = heard.clone();
        // The client takes the limit for larger and is refused until it has learned better.
        let peer = world
            .peer_that(patient(), 10, move |stream, _| {
                spawn_local(answer_after(stream, 4, 200, notes.clone()));
            })
            .await;
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let tasks: Vec<_> = (0..35_u32)
            .map(|number| {
                let (pool, own, address) = (pool.clone(), own.clone(), peer.address);
                spawn_local(async move {
                    open_saying(&pool, address, &own, &number.to_be_bytes()).await
                })
            })
            .collect();
        let mut opened = Vec::new();
        for task in tasks {
            opened.push(task.await.unwrap().unwrap());
        }
        let mut numbers: Vec<_> = heard.borrow().clone();
        numbers.sort();
        let expected: Vec<_> = (0..35_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(numbers, expected);
    });
}

#[test]
fn bytes_that_a_lost_peer_may_have_delivered_are_not_sent_again() {
    play(async {
        let world = World::new();
        let tunnels: Rc<std::cell::RefCell<Option<Rc<TunnelSet>>>> = Rc::default();
        let set = tunnels.clone();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                let set = set.clone();
                spawn_local(async move {
                    match stream.held().len() {
                        0 => stream.respond(&ResponseHead::status(200), false),
                        _ => set.borrow().as_ref().expect("is set").abort(),
                    }
                    stream.cut().await;
                });
            })
            .await;
        *tunnels.borrow_mut() = Some(peer.tunnels.clone());
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let _running = open(&pool, peer.address, &own).await.unwrap();
        let error = open_saying(&pool, peer.address, &own, b"pay 10")
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            (error.reason, peer.accepted.get()),
            ("connect_lost", 1),
            "{error}"
        );
    });
}

#[test]
fn a_refusal_is_what_it_is_whatever_was_said_before() {
    play(async {
        let world = World::new();
        let heard = Rc::default();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                spawn_local(answer_after(stream, 8, 503, Rc::clone(&heard)));
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open_saying(&pool, peer.address, &own, b"question").await;
        assert_eq!(opened.map(|_| ()).unwrap_err().reason, "refused_503");
    });
}

#[test]
fn no_bytes_overtake_their_own_request_in_a_tunnel_that_is_full() {
    play(async {
        let world = World::new();
        let heard: Rc<std::cell::RefCell<Vec<Vec<u8>>>> = Rc::default();
        let notes = heard.clone();
        let mut peer = world
            .peer_that(patient(), 200, move |stream, _| {
                spawn_local(answer_after(stream, 5, 200, notes.clone()));
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let bulk = open_saying(&pool, peer.address, &own, b"bulk!")
            .await
            .unwrap();
        let say = |stream: &TunnelStream, bytes: &[u8]| {
            let mut source = bytes;
            stream.send_from(|slices: &mut [std::io::IoSliceMut<'_>]| {
                std::io::Read::read_vectored(&mut source, slices)
            })
        };
        // All in one turn: the driver has no chance to write.
        while !bulk.tunnel().is_full() {
            say(&bulk, &[1; 64 * 1024]).unwrap();
        }
        let head = RequestHead::connect("10.0.0.1:80", Fields::default());
        let small = bulk.tunnel().open(&head).unwrap();
        assert_eq!(say(&small, b"small").unwrap(), 5);
        while heard.borrow().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert_eq!(heard.borrow()[1], b"small");
        assert!(peer.ends.try_recv().is_err(), "the tunnel lives");
    });
}

#[test]
fn a_worker_that_holds_all_it_may_reads_no_further_until_applications_have() {
    play(async {
        super::held::set_limit(100_000);
        let world = World::new();
        let streams: Rc<std::cell::RefCell<Vec<TunnelStream>>> = Rc::default();
        let kept = streams.clone();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                stream.respond(&ResponseHead::status(200), false);
                kept.borrow_mut().push(stream);
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        let second = open(&pool, peer.address, &own).await.unwrap();
        let say = |stream: &TunnelStream| {
            let mut source = &[1_u8; 64 * 1024][..];
            stream.send_from(|slices: &mut [std::io::IoSliceMut<'_>]| {
                std::io::Read::read_vectored(&mut source, slices)
            })
        };
        // More than the limit, in two streams of one tunnel.
        let mut said = 0;
        for _ in 0..8 {
            for stream in [&opened, &second] {
                said += say(stream).unwrap_or(0);
                tokio::task::yield_now().await;
            }
        }
        assert!(said > 300_000, "{said}");
        while super::held::total() < 100_000 {
            tokio::task::yield_now().await;
        }
        // What one turn had read already may be on top.
        assert!(
            super::held::total() <= 100_000 + 4 * crate::scratch::READ,
            "{}",
            super::held::total()
        );
        let before = super::held::total();
        assert!(before < said);
        // Applications that are gone take no room: the rest is read.
        drop(streams.take());
        opened.cut().await;
        assert_eq!(super::held::total(), 0);
        super::held::set_limit(super::held::BUDGET);
        assert!(open(&pool, peer.address, &own).await.is_ok());
    });
}

#[test]
fn an_answer_to_a_ping_that_came_with_the_last_bytes_does_not_keep_a_paused_tunnels_worker_busy() {
    play(async {
        super::held::set_limit(100_000);
        let world = World::new();
        let streams: Rc<std::cell::RefCell<Vec<TunnelStream>>> = Rc::default();
        let kept = streams.clone();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                stream.respond(&ResponseHead::status(200), false);
                kept.borrow_mut().push(stream);
            })
            .await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        let tunnel = streams.borrow()[0].tunnel().clone();
        while !tunnel.state.borrow().wire.paused {
            let mut source = &[1_u8; 64 * 1024][..];
            let _ = opened.send_from(|slices: &mut [std::io::IoSliceMut<'_>]| {
                std::io::Read::read_vectored(&mut source, slices)
            });
            tokio::task::yield_now().await;
        }
        {
            let mut state = tunnel.state.borrow_mut();
            state.pong = true;
            state.wire.wake_driver();
        }
        while tunnel.state.borrow().pong {
            tokio::task::yield_now().await;
        }
        assert!(tunnel.state.borrow().wire.paused);
        // A driver that looks at the answer again and again gives nobody a turn, until it is late enough for this.
        assert!(!streams.borrow()[0].is_cut(), "nobody was late");
        super::held::set_limit(super::held::BUDGET);
    });
}

#[test]
fn streams_that_wait_for_a_contested_tunnel_do_not_wake_each_other_meanwhile() {
    play(async {
        super::held::set_limit(1);
        let world = World::new();
        let streams: Rc<std::cell::RefCell<Vec<TunnelStream>>> = Rc::default();
        let kept = streams.clone();
        let peer = world
            .peer_that(patient(), 200, move |stream, _| {
                stream.respond(&ResponseHead::status(200), false);
                kept.borrow_mut().push(stream);
            })
            .await;
        let (pool, own) = (
            world.pool(100, SOON),
            Rc::new(world.authority.certificate(CLIENT)),
        );
        let opened = open_many(&pool, peer.address, &own, 40).await;
        let mut opened: Vec<_> = opened.into_iter().map(Result::unwrap).collect();
        let tunnel = opened[0].tunnel().clone();
        let bulk = [opened.pop().unwrap(), opened.pop().unwrap()];
        for stream in &bulk {
            say(stream, &[1; 8 * 1024]);
        }
        // The peer soon reads no more, then its socket takes no more, and then ours: what is left waits here.
        let waiting = || tunnel.state.borrow().wire.outgoing.len();
        for stream in &opened {
            while waiting() < 64 * 1024 && say(stream, &[1; 16 * 1024]) > 0 {
                for _ in 0..100 {
                    tokio::task::yield_now().await;
                }
            }
        }
        let left = waiting();
        assert!((64 * 1024..128 * 1024).contains(&left), "{left}");
        {
            let mut habit = super::sharing::Habit::default();
            (0..4).for_each(|_| habit.saw(100));
            let state = &mut *tunnel.state.borrow_mut();
            // From now on, for as long as anybody looks.
            state.wire.sharing.saw(opened[0].id(), habit, u64::MAX);
        }
        let looks = Rc::new(Cell::new(0));
        let waited_for = [bulk[0].id(), bulk[1].id()];
        let tasks = bulk.map(|stream| {
            let looks = looks.clone();
            spawn_local(std::future::poll_fn(move |context| {
                looks.set(looks.get() + 1);
                match stream.poll_room(context) {
                    Ok(super::stream::Room::Open) => std::task::Poll::Ready(()),
                    _ => std::task::Poll::Pending,
                }
            }))
        });
        for _ in 0..1000 {
            tokio::task::yield_now().await;
        }
        assert_eq!(waiting(), left, "nothing has left meanwhile");
        assert!(looks.get() <= 4, "{} looks for nothing", looks.get());
        // Once the peer reads again both have their turn.
        super::held::set_limit(super::held::BUDGET);
        let wanted = |stream: &TunnelStream| waited_for.contains(&stream.id());
        streams.borrow_mut().retain(wanted);
        for task in tasks {
            task.await.unwrap();
        }
    });
}

/// Gives how much of it was taken.
fn say(stream: &TunnelStream, mut bytes: &[u8]) -> usize {
    let source =
        |slices: &mut [std::io::IoSliceMut<'_>]| std::io::Read::read_vectored(&mut bytes, slices);
    stream.send_from(source).unwrap_or(0)
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
