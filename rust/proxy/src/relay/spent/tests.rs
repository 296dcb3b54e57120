use std::io;
use std::rc::Weak;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::tests::pair;
use super::*;
use crate::tunnel::tests::play;

fn open(sockets: &[Weak<TcpStream>]) -> usize {
    sockets
        .iter()
        .filter(|socket| socket.strong_count() > 0)
        .count()
}

#[test]
fn the_peer_sees_a_reset_although_the_socket_is_still_open_and_bytes_were_queued() {
    play(async {
        let spent = Rc::<SpentSockets>::default();
        let (mut peer, mut socket) = pair().await;
        socket.write_all(b"late").await.unwrap();
        let socket = Rc::new(socket);
        let held = [Rc::downgrade(&socket)];
        spent.abort(socket);
        assert_eq!(open(&held), 1);
        let mut bytes = Vec::new();
        let end = peer.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::ConnectionReset);
        while open(&held) > 0 {
            yield_now().await;
        }
        assert!(spent.sockets.borrow().is_empty());
    });
}

#[test]
fn sockets_are_closed_a_few_in_a_turn_and_none_while_others_come() {
    play(async {
        let spent = Rc::<SpentSockets>::default();
        let (mut peers, mut sockets) = (Vec::new(), Vec::new());
        for _ in 0..3 * CLOSED {
            let (peer, socket) = pair().await;
            peers.push(peer);
            sockets.push(Rc::new(socket));
        }
        let held: Vec<_> = sockets.iter().map(Rc::downgrade).collect();
        for socket in sockets {
            spent.abort(socket);
            yield_now().await;
            assert_eq!(open(&held), held.len());
        }
        let mut left = held.len();
        while left > 0 {
            let before = left;
            yield_now().await;
            left = open(&held);
            assert!(before - left <= CLOSED, "{before} {left}");
        }
    });
}
