//! Tunnels inside tunnels, over real sockets: a gateway that relays bytes, and a peer behind it.

use std::cell::RefCell;
use std::io;

use hbone::{ErrorCode, ResponseHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::connection::Flow;
use crate::relay::RelayEnd;
use crate::relay::abort::abort;
use crate::relay::halves::Halves;
use crate::relay::tests::pair;
use crate::tls::WorkloadCertificate;
use crate::tls::testing::{CLIENT, SERVER, identity};
use crate::tunnel::Request;
use crate::tunnel::pool::TunnelPool;
use crate::tunnel::tests::{Peer, SOON, World, open, patient, play};

const BAGGAGE: &str = "k8s.namespace.name=far,k8s.deployment.name=echo";
const LARGE: usize = 3 * 1024 * 1024;

/// Joins a stream to an application's socket, as a node does.
async fn relay(stream: TunnelStream, application: TcpStream, side: Side) -> RelayEnd {
    let (application, up) = (Rc::new(application), Flow::unheard());
    stream.attach(application.clone(), Flow::unheard());
    let mut halves = Halves::new(&stream, &application, side, &up);
    let end = halves.run(std::future::pending()).await;
    drop(stream);
    if !matches!(end, RelayEnd::Finished) {
        abort(application, crate::relay::PATIENCE).await;
    }
    end
}

/// A gateway in front of a peer in front of an application, and our end.
struct Lab {
    gateway: Peer,
    pool: Rc<TunnelPool>,
    dialer: Rc<Dialer>,
    own: WorkloadCertificate,
    /// The peer behind the gateway; kept so that it goes on accepting.
    _far: Peer,
}

impl Lab {
    /// The peer behind the gateway answers `status` and relays to `application`.
    async fn new(status: u16, application: TcpStream) -> Self {
        let world = World::new();
        let application = RefCell::new(Some(application));
        let handle = move |stream: TunnelStream, _: &Request| {
            let head = ResponseHead {
                status,
                fields: Fields::new().with("baggage", BAGGAGE),
            };
            stream.respond(&head, status != 200);
            if status == 200 {
                let application = application.borrow_mut().take().expect("one request");
                spawn_local(relay(stream, application, Side::Upstream));
            }
        };
        let far = world.peer_that(patient(), 10, handle).await;
        Self::before(world, far).await
    }

    async fn before(world: World, far: Peer) -> Self {
        let address = far.address;
        let forward = move |stream: TunnelStream, _: &Request| {
            spawn_local(async move {
                let socket = TcpStream::connect(address).await.unwrap();
                stream.respond(&ResponseHead::status(200), false);
                relay(stream, socket, Side::Upstream).await;
            });
        };
        let gateway = world.peer_that(patient(), 10, forward).await;
        Self {
            gateway,
            pool: world.pool(10, SOON),
            dialer: world.dialer(),
            own: world.authority.certificate(CLIENT),
            _far: far,
        }
    }

    async fn nest(&self, expected: &[Identity], deadline: Duration) -> Result<Nested, Error> {
        let outer = open(&self.pool, self.gateway.address, &self.own).await?;
        let behind = behind(outer, self.gateway.address, &self.own, expected);
        let first = FirstFlight::none();
        self.dialer.nest(behind, deadline, &first).await
    }

    async fn refused(&self, expected: &[Identity], deadline: Duration) -> Error {
        self.nest(expected, deadline)
            .await
            .map(|_| ())
            .expect_err("refused")
    }
}

fn behind(
    outer: TunnelStream,
    gateway: SocketAddr,
    own: &WorkloadCertificate,
    expected: &[Identity],
) -> BehindGateway {
    BehindGateway {
        outer,
        gateway,
        session: Session::client(own.client(expected)),
        head: RequestHead::connect("echo.far.svc:80", Fields::default()),
    }
}

/// Two applications with the world between them.
async fn joined() -> (Lab, TcpStream, TcpStream, oneshot::Receiver<RelayEnd>) {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let lab = Lab::new(200, far).await;
    let nested = lab.nest(&[identity(SERVER)], SOON).await.unwrap();
    let (report, ended) = oneshot::channel();
    spawn_local(async move {
        let end = relay(nested.stream, near, Side::Downstream).await;
        let _ = report.send(end);
    });
    (lab, client, server, ended)
}

fn noise(seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..LARGE).map(|_| next()).collect()
}

async fn until_end(socket: &mut TcpStream) -> (Vec<u8>, io::Result<usize>) {
    let mut bytes = Vec::new();
    let end = socket.read_to_end(&mut bytes).await;
    (bytes, end)
}

#[test]
fn bytes_and_ends_pass_both_ways_at_once() {
    play(async {
        let (_lab, client, server, ended) = joined().await;
        let (mut client, mut server) = (client.into_split(), server.into_split());
        let (question, answer) = (noise(1), noise(2));
        let (q, a) = (question.clone(), answer.clone());
        let asking = spawn_local(async move {
            client.1.write_all(&q).await.unwrap();
            client.1.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            client.0.read_to_end(&mut bytes).await.unwrap();
            bytes
        });
        let answering = spawn_local(async move {
            let mut bytes = Vec::new();
            let reads = server.0.read_to_end(&mut bytes);
            let (read, wrote) = tokio::join!(reads, server.1.write_all(&a));
            wrote.unwrap();
            read.unwrap();
            server.1.shutdown().await.unwrap();
            bytes
        });
        assert!(answering.await.unwrap() == question);
        assert!(asking.await.unwrap() == answer);
        assert!(matches!(ended.await, Ok(RelayEnd::Finished)));
    });
}

#[test]
fn an_answer_comes_after_the_questions_end() {
    play(async {
        let (_lab, mut client, mut server, ended) = joined().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(until_end(&mut server).await.0, b"question");
        server.write_all(b"answer").await.unwrap();
        drop(server);
        let (bytes, end) = until_end(&mut client).await;
        assert_eq!(bytes, b"answer");
        end.unwrap();
        assert!(matches!(ended.await, Ok(RelayEnd::Finished)));
    });
}

#[test]
fn the_inner_tunnel_ends_with_its_stream_and_the_outer_one_is_used_again() {
    play(async {
        let (lab, client, server, ended) = joined().await;
        drop((client, server));
        ended.await.unwrap();
        let outer = open(&lab.pool, lab.gateway.address, &lab.own)
            .await
            .unwrap();
        let quiet = || outer.tunnel().open_streams() == 1;
        while !quiet() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_reset_behind_the_inner_tunnel_is_a_reset_here() {
    play(async {
        let (_lab, mut client, mut server, ended) = joined().await;
        server.write_all(b"half an ans").await.unwrap();
        let mut begun = [0; 11];
        client.read_exact(&mut begun).await.unwrap();
        server.set_zero_linger().unwrap();
        drop(server);
        let end = until_end(&mut client).await.1.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert!(matches!(ended.await, Ok(RelayEnd::Reset(Side::Upstream))));
    });
}

#[test]
fn a_reset_here_is_a_reset_behind_the_inner_tunnel() {
    play(async {
        let (_lab, mut client, mut server, ended) = joined().await;
        client.write_all(b"half a que").await.unwrap();
        let mut begun = [0; 10];
        server.read_exact(&mut begun).await.unwrap();
        client.set_zero_linger().unwrap();
        drop(client);
        let end = until_end(&mut server).await.1.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        assert!(matches!(ended.await, Ok(RelayEnd::Reset(Side::Downstream))));
    });
}

#[test]
fn a_lost_gateway_is_a_reset_and_never_a_whole_answer() {
    play(async {
        let (lab, mut client, mut server, ended) = joined().await;
        server.write_all(b"half an ans").await.unwrap();
        let mut begun = [0; 11];
        client.read_exact(&mut begun).await.unwrap();
        lab.gateway.tunnels.abort();
        let end = until_end(&mut client).await.1.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        let Ok(RelayEnd::Failed(error)) = ended.await else {
            panic!("not a failure");
        };
        assert_eq!((error.stage, error.reason), (Stage::Relay, "tunnel_lost"));
    });
}

#[test]
fn an_application_that_does_not_read_stops_the_sender() {
    play(async {
        let (_lab, mut client, mut server, _ended) = joined().await;
        let answer = noise(3);
        let sent = answer.clone();
        let mut writing = spawn_local(async move {
            for _ in 0..16 {
                server.write_all(&sent).await.unwrap();
            }
        });
        // 48 MiB are more than all windows and sockets on the way take.
        let waited = tokio::time::timeout(Duration::from_secs(1), &mut writing).await;
        assert!(waited.is_err(), "somebody held all of it");
        assert!(crate::tunnel::held::total() < 8 * 1024 * 1024);
        let mut bytes = vec![0; LARGE];
        for _ in 0..16 {
            client.read_exact(&mut bytes).await.unwrap();
            assert!(bytes == answer);
        }
        writing.await.unwrap();
    });
}

#[test]
fn the_peer_says_who_it_is_and_proves_it() {
    play(async {
        let (far, _server) = pair().await;
        let lab = Lab::new(200, far).await;
        let nested = lab.nest(&[identity(SERVER)], SOON).await.unwrap();
        assert_eq!(nested.peer, Some(identity(SERVER)));
        assert_eq!(nested.fields.get("baggage"), Some(BAGGAGE.as_bytes()));
    });
}

#[test]
fn whoever_is_not_expected_inside_is_refused_even_if_nobody_is_expected() {
    play(async {
        let (far, _server) = pair().await;
        let lab = Lab::new(200, far).await;
        let another = identity("spiffe://cluster.local/ns/shop/sa/another");
        for (expected, wanted) in [
            (vec![another.clone()], another.to_string()),
            (vec![], String::new()),
        ] {
            let error = lab.refused(&expected, SOON).await;
            assert_eq!((error.stage, error.reason), (Stage::Handshake, "wrong_san"));
            let text = format!(
                "identity verification error: peer did not present the expected SAN ({wanted}), got {SERVER}"
            );
            assert!(error.text().contains(&text), "{error}");
        }
    });
}

#[test]
fn a_refusal_of_the_inner_peer_is_told_with_its_status() {
    play(async {
        let (far, _server) = pair().await;
        let lab = Lab::new(401, far).await;
        let error = lab.refused(&[identity(SERVER)], SOON).await;
        assert_eq!(error.stage, Stage::Connect);
        assert_eq!(error.text(), "http status: 401 Unauthorized");
    });
}

#[test]
fn a_gateway_that_leads_nowhere_is_given_up() {
    play(async {
        let world = World::new();
        let kept = RefCell::new(Vec::new());
        let swallow = move |stream: TunnelStream, _: &Request| {
            stream.respond(&ResponseHead::status(200), false);
            kept.borrow_mut().push(stream);
        };
        let far = world.peer_that(patient(), 10, swallow).await;
        let brief = Duration::from_millis(200);
        let own = world.authority.certificate(CLIENT);
        let outer = open(&world.pool(10, SOON), far.address, &own)
            .await
            .unwrap();
        let behind = behind(outer, far.address, &own, &[identity(SERVER)]);
        let (dialer, first) = (world.dialer(), FirstFlight::none());
        let nested = dialer.nest(behind, brief, &first);
        let error = nested.await.map(|_| ()).unwrap_err();
        assert_eq!(
            (error.stage, error.reason),
            (Stage::Handshake, "handshake_timeout")
        );
    });
}

#[test]
fn a_gateway_that_cuts_the_stream_during_the_handshake_is_named() {
    play(async {
        let world = World::new();
        let cut = |stream: TunnelStream, _: &Request| {
            stream.respond(&ResponseHead::status(200), false);
            drop(stream);
        };
        let far = world.peer_that(patient(), 10, cut).await;
        let own = world.authority.certificate(CLIENT);
        let outer = open(&world.pool(10, SOON), far.address, &own)
            .await
            .unwrap();
        let behind = behind(outer, far.address, &own, &[identity(SERVER)]);
        let (dialer, first) = (world.dialer(), FirstFlight::none());
        let nested = dialer.nest(behind, SOON, &first);
        let error = nested.await.map(|_| ()).unwrap_err();
        assert_eq!(
            (error.stage, error.reason),
            (Stage::Handshake, "connection_lost")
        );
        let code = ErrorCode::Cancel;
        assert!(error.text().contains(&code.to_string()), "{error}");
        assert!(error.text().contains(&far.address.to_string()), "{error}");
    });
}

#[test]
fn a_gateway_that_is_revoked_ends_what_goes_through_it_with_that_reason() {
    play(async {
        let (lab, mut client, _server, ended) = joined().await;
        let outer = open(&lab.pool, lab.gateway.address, &lab.own).await;
        outer.unwrap().tunnel().revoke();
        let RelayEnd::Cut(error) = ended.await.unwrap() else {
            panic!("not cut");
        };
        assert_eq!(error, Error::peer_revoked(Side::Upstream));
        assert!(client.read(&mut [0]).await.is_err(), "reset");
    });
}
