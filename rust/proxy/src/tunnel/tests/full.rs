//! Tunnels and workers that have no room: who waits, who is read no further, and that nobody spins meanwhile.

use super::first_flight::{answer_after, open_saying};
use super::*;

/// A peer that agrees to every request and keeps its stream, from which nobody reads.
async fn peer_that_keeps(world: &World) -> (Peer, Rc<std::cell::RefCell<Vec<TunnelStream>>>) {
    let streams: Rc<std::cell::RefCell<Vec<TunnelStream>>> = Rc::default();
    let kept = streams.clone();
    let peer = world
        .peer_that(patient(), 200, move |stream, _| {
            stream.respond(&ResponseHead::status(200), false);
            kept.borrow_mut().push(stream);
        })
        .await;
    (peer, streams)
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
        crate::tunnel::held::set_limit(100_000);
        let world = World::new();
        let (peer, streams) = peer_that_keeps(&world).await;
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
        while crate::tunnel::held::total() < 100_000 {
            tokio::task::yield_now().await;
        }
        // What one turn had read already may be on top.
        assert!(
            crate::tunnel::held::total() <= 100_000 + 4 * crate::scratch::READ,
            "{}",
            crate::tunnel::held::total()
        );
        let before = crate::tunnel::held::total();
        assert!(before < said);
        // Applications that are gone take no room: the rest is read.
        drop(streams.take());
        opened.cut().await;
        assert_eq!(crate::tunnel::held::total(), 0);
        crate::tunnel::held::set_limit(crate::tunnel::held::BUDGET);
        assert!(open(&pool, peer.address, &own).await.is_ok());
    });
}

#[test]
fn an_answer_to_a_ping_that_came_with_the_last_bytes_does_not_keep_a_paused_tunnels_worker_busy() {
    play(async {
        crate::tunnel::held::set_limit(100_000);
        let world = World::new();
        let (peer, streams) = peer_that_keeps(&world).await;
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
        crate::tunnel::held::set_limit(crate::tunnel::held::BUDGET);
    });
}

#[test]
fn streams_that_wait_for_a_contested_tunnel_do_not_wake_each_other_meanwhile() {
    play(async {
        crate::tunnel::held::set_limit(1);
        let world = World::new();
        let (peer, streams) = peer_that_keeps(&world).await;
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
            let mut habit = crate::tunnel::sharing::Habit::default();
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
                    Ok(crate::tunnel::stream::Room::Open) => std::task::Poll::Ready(()),
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
        crate::tunnel::held::set_limit(crate::tunnel::held::BUDGET);
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
