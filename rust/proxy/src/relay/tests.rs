//! Every kind of end, through a tunnel and without one: what one application does is what the other sees.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use hbone::{Fields, RequestHead, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::abort::abort;
use super::halves::Halves;
use super::{Means, RelayEnd, copy};
use crate::connection::Flow;
use crate::error::{Error, Side};
use crate::sys;
use crate::tls::Session;
use crate::tls::testing::{CLIENT, SERVER, identity};
use crate::tunnel::first_flight::FirstFlight;
use crate::tunnel::server::Serving;
use crate::tunnel::tests::{World, key, patient, play};
use crate::turns::Turns;

/// Two applications with a relay between them.
pub(super) struct Joined {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    /// Ends the relay as policy would.
    pub(super) cut: oneshot::Sender<Error>,
    pub(super) ended: oneshot::Receiver<RelayEnd>,
    /// The far end of the tunnel has seen it end; an error without one.
    pub(super) tunnel_ended: oneshot::Receiver<()>,
    pub(super) up: Rc<Flow>,
    pub(super) down: Rc<Flow>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Plain(Means),
    Tunnel,
}

pub(super) const COPY: Way = Way::Plain(Means::Copy);
pub(super) const SPLICE: Way = Way::Plain(Means::Splice);
const WAYS: [Way; 3] = [COPY, SPLICE, Way::Tunnel];

/// Two ends of a connection on loopback.
pub(crate) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (connected.unwrap(), accepted.unwrap().0)
}

async fn cut_by(receiver: oneshot::Receiver<Error>) -> Error {
    match receiver.await {
        Ok(error) => error,
        Err(_) => std::future::pending().await,
    }
}

pub(super) async fn join(way: Way) -> Joined {
    join_with(way, |_| ()).await
}

/// With something done to our socket toward the server first.
async fn join_with(way: Way, prepare: impl FnOnce(&TcpStream)) -> Joined {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    prepare(&far);
    let (cut, cutting) = oneshot::channel();
    let (report, ended) = oneshot::channel();
    let (gone, tunnel_ended) = oneshot::channel();
    let (up, down) = (Flow::unheard(), Flow::unheard());
    let flows = (up.clone(), down.clone());
    let (near, far) = (Rc::new(near), Rc::new(far));
    match way {
        Way::Plain(means) => {
            spawn_local(async move {
                let both = (&*flows.0, &*flows.1);
                let end = copy::copy(&near, &far, both, means, cut_by(cutting)).await;
                if !matches!(end, RelayEnd::Finished) {
                    tokio::join!(abort(near, super::PATIENCE), abort(far, super::PATIENCE));
                }
                let _ = report.send(end);
            });
        }
        Way::Tunnel => tunnelled((near, far), flows, cutting, report, gone).await,
    }
    Joined {
        client,
        server,
        cut,
        ended,
        tunnel_ended,
        up,
        down,
    }
}

/// Joins the two sockets by a stream between two tunnel ends; the near one reports.
async fn tunnelled(
    (near, far): (Rc<TcpStream>, Rc<TcpStream>),
    (up, down): (Rc<Flow>, Rc<Flow>),
    cutting: oneshot::Receiver<Error>,
    report: oneshot::Sender<RelayEnd>,
    gone: oneshot::Sender<()>,
) {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let certificate = world.authority.certificate(SERVER);
    let metrics = world.metrics.clone();
    spawn_local(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let serving = Serving {
            engine: hbone::Config::server(),
            timeouts: patient(),
            tunnels: &Rc::default(),
            metrics: &metrics,
            handshakes: &Turns::new(1),
        };
        let session = Session::server(certificate.server()).unwrap();
        let far = std::cell::RefCell::new(Some(far));
        let handle = |stream: crate::tunnel::TunnelStream, _| {
            let application = far.borrow_mut().take().expect("one request");
            spawn_local(async move {
                stream.respond(&ResponseHead::status(200), false);
                stream.attach(application.clone(), Flow::unheard());
                let up = Flow::unheard();
                let mut halves = Halves::new(&stream, &application, Side::Upstream, &up);
                let end = halves.run(std::future::pending()).await;
                drop(stream);
                if !matches!(end, RelayEnd::Finished) {
                    abort(application, super::PATIENCE).await;
                }
            });
        };
        let tell = |_: &_, _| {
            let _ = gone.send(());
        };
        serving.serve(socket, session, (), handle, tell).await;
    });
    let own = world.authority.certificate(CLIENT);
    let pool = world.pool(10, Duration::from_secs(10));
    let key = key(address);
    let head = RequestHead::connect("10.0.0.1:80", Fields::default());
    let session = || Session::client(own.client(&[identity(SERVER)]));
    let opened = pool
        .connect(&key, &head, session, super::PATIENCE, &FirstFlight::none())
        .await;
    let stream = opened.unwrap_or_else(|error| panic!("{error}"));
    // It ends with its only stream, as an idle tunnel does some time later.
    stream.tunnel().close_when_idle();
    spawn_local(async move {
        stream.attach(near.clone(), down);
        let mut halves = Halves::new(&stream, &near, Side::Downstream, &up);
        let end = halves.run(cut_by(cutting)).await;
        drop(stream);
        if !matches!(end, RelayEnd::Finished) {
            abort(near, super::PATIENCE).await;
        }
        let _ = report.send(end);
    });
}

/// Reads to the end; what came, and how it ended.
pub(super) async fn read(socket: &mut TcpStream) -> (Vec<u8>, Result<(), io::ErrorKind>) {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes).await;
    (bytes, end.map(|_| ()).map_err(|error| error.kind()))
}

pub(super) fn reset(socket: TcpStream) {
    sys::abort_on_close(&socket).unwrap();
    drop(socket);
}

#[test]
fn a_fin_arrives_as_a_fin_and_the_other_direction_goes_on() {
    for way in WAYS {
        play(async move {
            let mut joined = join(way).await;
            joined.client.write_all(b"question").await.unwrap();
            joined.client.shutdown().await.unwrap();
            assert_eq!(
                read(&mut joined.server).await,
                (b"question".to_vec(), Ok(()))
            );
            joined.server.write_all(b"the answer").await.unwrap();
            drop(joined.server);
            assert_eq!(
                read(&mut joined.client).await,
                (b"the answer".to_vec(), Ok(()))
            );
            assert!(
                matches!(joined.ended.await.unwrap(), RelayEnd::Finished),
                "{way:?}"
            );
            assert_eq!((joined.up.bytes(), joined.down.bytes()), (8, 10), "{way:?}");
        });
    }
}

#[test]
fn a_slow_reader_gets_everything_and_a_fin_although_the_tunnel_has_ended() {
    for way in WAYS {
        play(async move {
            // Little room, so that the rest is held by the far end.
            let small = |far: &TcpStream| {
                let far = socket2::SockRef::from(far);
                far.set_send_buffer_size(4096).unwrap();
            };
            let mut joined = join_with(way, small).await;
            let server = socket2::SockRef::from(&joined.server);
            server.set_recv_buffer_size(16 * 1024).unwrap();
            joined.server.shutdown().await.unwrap();
            let sent = vec![7; 250_000];
            joined.client.write_all(&sent).await.unwrap();
            joined.client.shutdown().await.unwrap();
            assert_eq!(read(&mut joined.client).await, (Vec::new(), Ok(())));
            if matches!(way, Way::Tunnel) {
                assert!(matches!(joined.ended.await.unwrap(), RelayEnd::Finished));
            }
            // The near end is done, and the tunnel, too.
            if joined.tunnel_ended.await.is_ok() {
                // The reader is slower than what a cut stream is given.
                tokio::time::sleep(super::PATIENCE + Duration::from_millis(200)).await;
            }
            let large = socket2::SockRef::from(&joined.server);
            large.set_recv_buffer_size(1 << 20).unwrap();
            let (heard, end) = read(&mut joined.server).await;
            assert_eq!((heard.len(), end), (sent.len(), Ok(())), "{way:?}");
        });
    }
}

#[test]
fn the_server_may_end_first() {
    for way in WAYS {
        play(async move {
            let mut joined = join(way).await;
            joined.server.write_all(b"banner").await.unwrap();
            joined.server.shutdown().await.unwrap();
            assert_eq!(read(&mut joined.client).await, (b"banner".to_vec(), Ok(())));
            joined.client.write_all(b"late").await.unwrap();
            drop(joined.client);
            assert_eq!(read(&mut joined.server).await, (b"late".to_vec(), Ok(())));
        });
    }
}

#[test]
fn a_reset_arrives_as_a_reset_behind_the_bytes_before_it() {
    const RESET: Result<(), io::ErrorKind> = Err(io::ErrorKind::ConnectionReset);
    for way in WAYS {
        play(async move {
            let mut joined = join(way).await;
            joined.server.write_all(b"half an ans").await.unwrap();
            reset(joined.server);
            assert_eq!(
                read(&mut joined.client).await,
                (b"half an ans".to_vec(), RESET),
                "{way:?}"
            );
        });
        play(async move {
            let mut joined = join(way).await;
            joined.client.write_all(b"half a quest").await.unwrap();
            reset(joined.client);
            assert_eq!(
                read(&mut joined.server).await,
                (b"half a quest".to_vec(), RESET),
                "{way:?}"
            );
            let end = joined.ended.await.unwrap();
            assert!(
                matches!(end, RelayEnd::Reset(Side::Downstream)),
                "{way:?}: {end:?}"
            );
        });
    }
}

#[test]
fn a_reset_after_a_fin_is_a_reset() {
    for way in WAYS {
        play(async move {
            let mut joined = join(way).await;
            joined.client.shutdown().await.unwrap();
            assert_eq!(read(&mut joined.server).await, (Vec::new(), Ok(())));
            reset(joined.client);
            let error = loop {
                // The first writes may still go into the void.
                if let Err(error) = joined.server.write_all(b"anybody there?").await {
                    break error.kind();
                }
                joined.server.writable().await.unwrap();
                tokio::task::yield_now().await;
            };
            let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(gone.contains(&error), "{way:?}: {error:?}");
        });
    }
}

#[test]
fn a_cut_is_a_reset_on_both_sides() {
    for way in WAYS {
        play(async move {
            let mut joined = join(way).await;
            joined.client.write_all(b"x").await.unwrap();
            assert_eq!(joined.server.read_u8().await.unwrap(), b'x');
            assert!(joined.cut.send(Error::policy_changed()).is_ok());
            for socket in [&mut joined.client, &mut joined.server] {
                let (_, end) = read(socket).await;
                assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "{way:?}");
            }
            assert!(matches!(joined.ended.await.unwrap(), RelayEnd::Cut(_)));
        });
    }
}

#[test]
fn many_bytes_arrive_as_they_were_both_ways_at_once() {
    for way in WAYS {
        play(async move {
            let Joined {
                mut client,
                mut server,
                up,
                down,
                ..
            } = join(way).await;
            let pattern = |seed: u32| -> Vec<u8> {
                (0..3_000_000_u32)
                    .map(|i| (i.wrapping_mul(2_654_435_761) ^ seed).to_be_bytes()[0])
                    .collect()
            };
            let (question, answer) = (pattern(1), pattern(2));
            let (asked, answered) = (question.clone(), answer.clone());
            let ask = spawn_local(async move {
                let (mut from, mut to) = client.split();
                let send = async {
                    to.write_all(&asked).await.unwrap();
                    to.shutdown().await.unwrap();
                };
                let mut got = Vec::new();
                tokio::join!(send, async { from.read_to_end(&mut got).await.unwrap() });
                got
            });
            let (mut from, mut to) = server.split();
            let send = async {
                to.write_all(&answered).await.unwrap();
                to.shutdown().await.unwrap();
            };
            let mut got = Vec::new();
            tokio::join!(send, async { from.read_to_end(&mut got).await.unwrap() });
            assert!(got == question, "{way:?}");
            assert!(ask.await.unwrap() == answer, "{way:?}");
            assert_eq!((up.bytes(), down.bytes()), (3_000_000, 3_000_000));
        });
    }
}
