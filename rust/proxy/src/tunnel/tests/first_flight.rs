//! What an application says before the peer has agreed: with the request, again if it was not seen, never twice.

use super::*;

/// An application that has said something before anybody listened.
async fn spoken(bytes: &[u8]) -> (FirstFlight, TcpStream) {
    let (mut client, near) = crate::relay::tests::pair().await;
    client.write_all(bytes).await.unwrap();
    (FirstFlight::of(Rc::new(near)), client)
}

pub(super) async fn open_saying(
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
pub(super) async fn answer_after(
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
