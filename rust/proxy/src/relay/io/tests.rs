use std::io::IoSliceMut;

use tokio::io::AsyncWriteExt;

use super::*;
use crate::relay::tests::pair;
use crate::sys::unsent_bytes;
use crate::tunnel::tests::play;

/// What the runtime believes, without asking the kernel: a closure that is not called means "not ready".
fn believed(socket: &TcpStream, interest: Interest) -> bool {
    socket.try_io(interest, || Ok(())).is_ok()
}

#[test]
fn a_short_read_leaves_a_socket_that_counts_as_empty_and_wakes_for_more() {
    play(async {
        let (mut one, other) = pair().await;
        for _ in 0..2 {
            one.write_all(&[1; PROOF]).await.unwrap();
            other.readable().await.unwrap();
            assert_eq!(read_available(&other, &mut [0; 2 * PROOF]).unwrap(), PROOF);
            assert!(!believed(&other, Interest::READABLE));
        }
    });
}

#[test]
fn a_full_read_leaves_a_socket_that_may_have_more() {
    play(async {
        let (mut one, other) = pair().await;
        one.write_all(b"12345678").await.unwrap();
        other.readable().await.unwrap();
        assert_eq!(read_available(&other, &mut [0; 4]).unwrap(), 4);
        assert!(believed(&other, Interest::READABLE));
        assert_eq!(read_available(&other, &mut [0; 4]).unwrap(), 4);
        let error = read_available(&other, &mut [0; 4]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!believed(&other, Interest::READABLE));
    });
}

#[test]
fn an_end_is_found_behind_a_short_read_whether_it_was_there_before_or_comes_later() {
    for early in [true, false] {
        play(async move {
            let (mut one, other) = pair().await;
            one.write_all(&[1; PROOF]).await.unwrap();
            if early {
                one.shutdown().await.unwrap();
                while !other
                    .ready(Interest::READABLE)
                    .await
                    .unwrap()
                    .is_read_closed()
                {
                    tokio::task::yield_now().await;
                }
            }
            other.readable().await.unwrap();
            assert_eq!(read_available(&other, &mut [0; 2 * PROOF]).unwrap(), PROOF);
            if !early {
                one.shutdown().await.unwrap();
            }
            other.readable().await.unwrap();
            assert_eq!(read_available(&other, &mut [0; 2 * PROOF]).unwrap(), 0);
        });
    }
}

#[test]
fn a_reset_behind_a_short_read_is_an_error() {
    play(async {
        let (mut one, other) = pair().await;
        one.write_all(&[1; PROOF]).await.unwrap();
        other.readable().await.unwrap();
        assert_eq!(read_available(&other, &mut [0; 2 * PROOF]).unwrap(), PROOF);
        crate::sys::abort_on_close(&one).unwrap();
        drop(one);
        other.readable().await.unwrap();
        let error = read_available(&other, &mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_vectored_read_is_short_by_the_sum_of_its_buffers() {
    play(async {
        let (mut one, other) = pair().await;
        one.write_all(&[1; PROOF + 6]).await.unwrap();
        other.readable().await.unwrap();
        let (mut first, mut second) = ([0; PROOF], [0; PROOF]);
        let mut buffers = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        let proof = proof_of_empty(2 * PROOF);
        let read = attempt(&other, Interest::READABLE, proof, |mut socket| {
            socket.read_vectored(&mut buffers)
        });
        assert_eq!(read.unwrap(), PROOF + 6);
        assert_eq!((first[PROOF - 1], &second[4..8]), (1, &[1, 1, 0, 0][..]));
        assert!(!believed(&other, Interest::READABLE));
    });
}

#[test]
fn what_is_behind_an_urgent_mark_is_not_left_there() {
    play(async {
        let (mut one, other) = pair().await;
        one.set_nodelay(true).unwrap();
        // The runtime has heard of the connection, and one event will tell of all that follows.
        other.writable().await.unwrap();
        let _ = read_available(&other, &mut [0; 1]);
        // As FTP clients say ABOR. The urgent byte itself is not part of the stream.
        one.write_all(b"\xff\xf4").await.unwrap();
        SockRef::from(&one).send_out_of_band(b"\xff").unwrap();
        one.write_all(b"\xf2ABOR\r\n").await.unwrap();
        while unsent_bytes(&one).unwrap() > 0 {
            tokio::task::yield_now().await;
        }
        let mut read = Vec::new();
        while read.len() < 9 {
            let mut buffer = [0; 16];
            other.readable().await.unwrap();
            if let Ok(n) = read_available(&other, &mut buffer) {
                read.extend_from_slice(&buffer[..n]);
            }
        }
        assert_eq!(read, b"\xff\xf4\xf2ABOR\r\n");
    });
}

#[test]
fn a_short_write_leaves_a_socket_that_counts_as_full_until_its_peer_has_read() {
    play(async {
        let (one, other) = pair().await;
        one.writable().await.unwrap();
        let piece = vec![7; 1 << 20];
        let mut written = 0;
        // Not for ever: the peer does not read.
        while believed(&one, Interest::WRITABLE) {
            written += write_available(&one, &piece).unwrap_or(0);
        }
        assert!(
            written > 0 && !written.is_multiple_of(piece.len()),
            "{written}"
        );
        let mut read = 0;
        let mut buffer = vec![0; 1 << 16];
        while read < written {
            other.readable().await.unwrap();
            match read_available(&other, &mut buffer) {
                Ok(n) => read += n,
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
        one.writable().await.unwrap();
        assert_eq!(write_available(&one, b"more").unwrap(), 4);
    });
}
