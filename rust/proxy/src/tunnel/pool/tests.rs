//! The rows of spec/dataplane.md §19 "Pool", in their order, and the bound on what is kept.

use super::*;
use crate::tls::WorkloadCertificate;
use crate::tls::testing::CLIENT;
use crate::tunnel::tests::{SOON, World, key, patient, play};
use hbone::{Fields, ResponseHead};

async fn open_as(
    pool: &Rc<TunnelPool>,
    key: &PoolKey,
    own: &WorkloadCertificate,
) -> Result<TunnelStream, Error> {
    let head = RequestHead::connect("10.0.0.1:80", Fields::default());
    let session = || Session::client(own.client(&key.expected));
    pool.connect(key, &head, session, SOON, &FirstFlight::none())
        .await
}

/// So many at once, each for the key that `of` gives it.
async fn at_once(
    pool: &Rc<TunnelPool>,
    own: &Rc<WorkloadCertificate>,
    count: usize,
    of: impl Fn(usize) -> PoolKey,
) -> Vec<TunnelStream> {
    let opening: Vec<_> = (0..count)
        .map(|index| {
            let (pool, own, key) = (pool.clone(), own.clone(), of(index));
            spawn_local(async move { open_as(&pool, &key, &own).await.unwrap() })
        })
        .collect();
    let mut opened = Vec::new();
    for stream in opening {
        opened.push(stream.await.unwrap());
    }
    opened
}

fn from(client: u8, peer: SocketAddr) -> PoolKey {
    PoolKey {
        client: [127, 0, 1, client].into(),
        ..key(peer)
    }
}

#[test]
fn two_at_once_with_room_for_three_share_a_connection() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(3, SOON);
        let opened = at_once(&pool, &own, 2, |_| key(peer.address)).await;
        assert_eq!((opened.len(), peer.accepted.get()), (2, 1));
    });
}

#[test]
fn distinct_keys_have_distinct_connections() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(100, SOON);
        let one = open_as(&pool, &from(1, peer.address), &own).await.unwrap();
        let two = open_as(&pool, &from(2, peer.address), &own).await.unwrap();
        assert!(!Rc::ptr_eq(one.tunnel(), two.tunnel()));
        assert_eq!(peer.accepted.get(), 2);
    });
}

/// Upstream makes three new ones for the five, as a connection that was full is never used again; ours is (§20.2
/// item 5).
#[test]
fn four_at_once_with_room_for_two_make_two_connections_and_five_more_need_only_a_third() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(2, SOON);
        let four = at_once(&pool, &own, 4, |_| key(peer.address)).await;
        assert_eq!(peer.accepted.get(), 2);
        drop(four);
        let five = at_once(&pool, &own, 5, |_| key(peer.address)).await;
        assert_eq!((five.len(), peer.accepted.get()), (5, 3));
    });
}

#[test]
fn with_room_for_one_each_request_has_its_connection() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(1, SOON);
        let opened = at_once(&pool, &own, 3, |_| key(peer.address)).await;
        assert_eq!((opened.len(), peer.accepted.get()), (3, 3));
    });
}

/// §20.2 item 12: what ends first frees nothing.
#[test]
fn a_stream_has_its_place_until_both_of_its_halves_have_ended() {
    play(async {
        let world = World::new();
        let taken: Rc<RefCell<Vec<TunnelStream>>> = Rc::default();
        let held = taken.clone();
        let answer = move |stream: TunnelStream, _: &_| {
            stream.respond(&ResponseHead::status(200), false);
            held.borrow_mut().push(stream);
        };
        let peer = world.peer_that(patient(), 200, answer).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(1, SOON);
        let half = open_as(&pool, &key(peer.address), &own).await.unwrap();
        half.finish();
        let other = open_as(&pool, &key(peer.address), &own).await.unwrap();
        assert_eq!(peer.accepted.get(), 2);
        assert!(!Rc::ptr_eq(half.tunnel(), other.tunnel()));
        taken.borrow()[0].finish();
        while !half.is_finished() {
            tokio::task::yield_now().await;
        }
        let first = half.tunnel().clone();
        drop(half);
        let again = open_as(&pool, &key(peer.address), &own).await.unwrap();
        assert!(Rc::ptr_eq(again.tunnel(), &first));
        assert_eq!(peer.accepted.get(), 2);
    });
}

#[test]
fn a_hundred_at_once_with_room_for_one_more_share_a_connection() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(101, SOON);
        let opened = at_once(&pool, &own, 100, |_| key(peer.address)).await;
        assert_eq!((opened.len(), peer.accepted.get()), (100, 1));
    });
}

#[test]
fn three_hundred_at_once_of_three_sources_make_three_connections() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(101, SOON);
        let of = |index: usize| from((index % 3) as u8, peer.address);
        let opened = at_once(&pool, &own, 300, of).await;
        assert_eq!((opened.len(), peer.accepted.get()), (300, 3));
    });
}

#[test]
fn an_idle_connection_is_given_up_and_one_that_is_used_stays() {
    play(async {
        let world = World::new();
        let mut peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(100, Duration::from_millis(100));
        let persistent = open_as(&pool, &from(1, peer.address), &own).await.unwrap();
        drop(open_as(&pool, &from(2, peer.address), &own).await.unwrap());
        let swept = pool.clone();
        let sweeping = spawn_local(async move {
            loop {
                tokio::time::sleep(swept.sweep_interval()).await;
                swept.sweep();
            }
        });
        let (end, _) = peer.ends.recv().await.unwrap();
        assert_eq!(end, "closed");
        assert!(persistent.tunnel().is_usable());
        let again = open_as(&pool, &from(1, peer.address), &own).await.unwrap();
        assert!(Rc::ptr_eq(again.tunnel(), persistent.tunnel()));
        assert_eq!(peer.accepted.get(), 2);
        sweeping.abort();
    });
}

/// spec/reliability.md T13.
#[test]
fn ever_other_destinations_leave_no_more_than_the_surplus_and_the_latest_stay() {
    const MOST: usize = 8;
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = Rc::into_inner(world.pool(100, SOON)).expect("not shared yet");
        let pool = Rc::new(pool.with_max_idle(MOST));
        for client in 0..60 {
            drop(
                open_as(&pool, &from(client, peer.address), &own)
                    .await
                    .unwrap(),
            );
            assert!(pool.keys() <= MOST + MOST / 4 + 1, "{}", pool.keys());
        }
        while peer.tunnels.len() > MOST + MOST / 4 + 1 {
            tokio::task::yield_now().await;
        }
        let accepted = peer.accepted.get();
        drop(open_as(&pool, &from(59, peer.address), &own).await.unwrap());
        assert_eq!(peer.accepted.get(), accepted);
    });
}

#[test]
fn a_destination_that_cannot_be_reached_leaves_nothing() {
    play(async {
        let world = World::new();
        let own = Rc::new(world.authority.certificate(CLIENT));
        let pool = world.pool(100, SOON);
        let nobody = {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            listener.local_addr().unwrap()
        };
        for client in 0..50 {
            let error = open_as(&pool, &from(client, nobody), &own).await;
            assert_eq!(error.map(|_| ()).unwrap_err().stage, Stage::Dial);
        }
        assert_eq!(pool.keys(), 0);
    });
}

/// spec/reliability.md U4: whoever waits for a silent peer is told at the deadline, and nobody waits behind it.
#[test]
fn a_silent_peer_holds_up_only_those_who_want_it() {
    play(async {
        let world = World::new();
        let own = Rc::new(world.authority.certificate(CLIENT));
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let nobody = silent.local_addr().unwrap();
        let peer = world.peer(patient(), 200).await;
        // Long enough for a handshake that is not silent, also where others have the processors.
        let pool = world.pool_with(100, SOON, Duration::from_secs(2));
        let (waiting, certificate) = (pool.clone(), own.clone());
        let stuck = spawn_local(async move { open_as(&waiting, &key(nobody), &certificate).await });
        drop(open_as(&pool, &key(peer.address), &own).await.unwrap());
        assert!(!stuck.is_finished());
        let error = stuck.await.unwrap().map(|_| ()).unwrap_err();
        assert_eq!(
            (error.stage, error.reason),
            (Stage::Handshake, "handshake_timeout")
        );
    });
}
