//! Bulk through pipes, with copying as the oracle: the same story over both must show the same.

use std::io::{Read, Write};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;
use crate::error::{Error, Side};
use crate::relay::RelayEnd;
use crate::relay::pipes::tests::{counts, exhaust};
use crate::relay::tests::{COPY, Joined, SPLICE, Way, join, pair, read, reset};
use crate::tunnel::tests::play;

const MIB: usize = 1024 * 1024;
const BOTH: [Way; 2] = [COPY, SPLICE];
const RESET: Result<(), io::ErrorKind> = Err(io::ErrorKind::ConnectionReset);
/// More than any buffer on the way holds; what a stalled receiver lets through must stay below it.
const ENDLESS: usize = 64 * MIB;

/// Bytes that show where they belong: the length of the period is prime, so no buffer's size divides it.
fn pattern() -> Vec<u8> {
    (0..65_521_u32)
        .map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

async fn send(to: &mut (impl AsyncWriteExt + Unpin), size: usize) {
    let period = pattern();
    let mut left = size;
    while left > 0 {
        let piece = &period[..left.min(period.len())];
        to.write_all(piece).await.unwrap();
        left -= piece.len();
    }
}

/// Reads this many bytes, each of which must be the right one.
async fn expect(from: &mut (impl AsyncReadExt + Unpin), size: usize) {
    let period = pattern();
    let mut buffer = vec![0; period.len()];
    let mut left = size;
    while left > 0 {
        let piece = &mut buffer[..left.min(period.len())];
        from.read_exact(piece).await.unwrap();
        assert!(
            *piece == period[..piece.len()],
            "{left} bytes before the end"
        );
        left -= piece.len();
    }
}

/// A pair whose two directions have had a bulk transfer behind them.
async fn busy(way: Way) -> Joined {
    let mut joined = join(way).await;
    let Joined { client, server, .. } = &mut joined;
    tokio::join!(send(client, MIB), expect(server, MIB));
    tokio::join!(send(server, MIB), expect(client, MIB));
    joined
}

/// Whether this thread has seen a pipe, which is what the two ways differ in. None may be on loan any more.
fn check_pipes(way: Way) {
    let (idle, lent) = counts();
    assert_eq!(lent, 0, "{way:?}");
    assert_eq!(
        idle > 0,
        matches!(way, Way::Plain(Means::Splice)),
        "{way:?}"
    );
}

/// Sends until nothing more is taken for a while; gives how much was.
async fn send_until_stuck(socket: &TcpStream) -> usize {
    let period = pattern();
    let mut sent = 0;
    while timeout(Duration::from_millis(300), socket.writable())
        .await
        .is_ok()
    {
        assert!(sent < ENDLESS, "nobody reads, and {sent} bytes were taken");
        sent += write_available(socket, &period[sent % period.len()..]).unwrap_or(0);
    }
    sent
}

/// Ends both directions of a connection that is over, and checks what was counted.
async fn end_with(joined: Joined, counted: (usize, usize), way: Way) {
    let Joined {
        mut client,
        mut server,
        ended,
        ..
    } = joined;
    client.shutdown().await.unwrap();
    server.shutdown().await.unwrap();
    assert_eq!(read(&mut client).await, (Vec::new(), Ok(())));
    assert_eq!(read(&mut server).await, (Vec::new(), Ok(())));
    assert!(matches!(ended.await.unwrap(), RelayEnd::Finished));
    let (up, down) = (joined.up.bytes(), joined.down.bytes());
    assert_eq!((up, down), (counted.0 as u64, counted.1 as u64), "{way:?}");
    check_pipes(way);
}

#[test]
fn sixty_four_mebibytes_arrive_as_they_were_both_ways_at_once_and_are_counted() {
    for way in BOTH {
        play(async move {
            let mut joined = join(way).await;
            let size = 64 * MIB;
            let (mut near_from, mut near_to) = joined.client.split();
            let (mut far_from, mut far_to) = joined.server.split();
            tokio::join!(
                send(&mut near_to, size),
                send(&mut far_to, size),
                expect(&mut near_from, size),
                expect(&mut far_from, size)
            );
            end_with(joined, (size, size), way).await;
        });
    }
}

#[test]
fn either_side_may_finish_first_after_a_bulk_transfer() {
    for (way, client_first) in [(COPY, true), (COPY, false), (SPLICE, true), (SPLICE, false)] {
        play(async move {
            let mut joined = busy(way).await;
            let (mut one, mut other) = (&mut joined.client, &mut joined.server);
            if !client_first {
                std::mem::swap(&mut one, &mut other);
            }
            let finishing = async {
                send(one, 3 * MIB).await;
                one.shutdown().await.unwrap();
            };
            tokio::join!(finishing, async {
                expect(other, 3 * MIB).await;
                assert_eq!(read(other).await, (Vec::new(), Ok(())));
            });
            send(other, 2 * MIB + 1).await;
            expect(one, 2 * MIB + 1).await;
            let (mut up, mut down) = (4 * MIB, 3 * MIB + 1);
            if !client_first {
                std::mem::swap(&mut up, &mut down);
            }
            end_with(joined, (up, down), way).await;
        });
    }
}

#[test]
fn a_reset_in_the_middle_comes_behind_every_byte_that_was_taken_before_it() {
    for (way, from_client) in [(COPY, true), (COPY, false), (SPLICE, true), (SPLICE, false)] {
        play(async move {
            let joined = busy(way).await;
            let (flow, side) = if from_client {
                (joined.up, Side::Downstream)
            } else {
                (joined.down, Side::Upstream)
            };
            let (mut one, mut other) = (joined.client, joined.server);
            if !from_client {
                std::mem::swap(&mut one, &mut other);
            }
            send(&mut one, 3 * MIB / 2).await;
            reset(one);
            let (bytes, end) = read(&mut other).await;
            assert_eq!(end, RESET, "{way:?}");
            let period = pattern();
            for piece in bytes.chunks(period.len()) {
                assert!(*piece == period[..piece.len()], "{way:?}");
            }
            let end = joined.ended.await.unwrap();
            assert!(
                matches!(&end, RelayEnd::Reset(from) if *from == side),
                "{end:?}"
            );
            assert_eq!(flow.bytes(), (MIB + bytes.len()) as u64, "{way:?}");
            check_pipes(way);
        });
    }
}

#[test]
fn a_receiver_that_resets_while_it_is_sent_to_ends_the_sender() {
    for way in BOTH {
        play(async move {
            let mut joined = busy(way).await;
            let sent = send_until_stuck(&joined.client).await;
            expect(&mut joined.server, MIB).await;
            reset(joined.server);
            let error = loop {
                joined.client.writable().await.unwrap();
                match write_available(&joined.client, b"more") {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => break error.kind(),
                    Ok(_) | Err(_) => tokio::task::yield_now().await,
                }
            };
            let gone = [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe];
            assert!(gone.contains(&error), "{way:?}: {error:?}");
            let end = joined.ended.await.unwrap();
            assert!(matches!(end, RelayEnd::Reset(Side::Upstream)), "{end:?}");
            let counted = usize::try_from(joined.up.bytes()).unwrap();
            assert!(
                (2 * MIB..=MIB + sent + MIB).contains(&counted),
                "{way:?}: {counted}"
            );
            check_pipes(way);
        });
    }
}

#[test]
fn a_cut_with_bytes_on_their_way_is_a_reset_and_nobody_gets_their_pipe() {
    for way in BOTH {
        play(async move {
            let mut joined = busy(way).await;
            send_until_stuck(&joined.client).await;
            let held = usize::from(matches!(way, Way::Plain(Means::Splice)));
            assert_eq!(counts().1, held, "{way:?}");
            assert!(joined.cut.send(Error::policy_changed()).is_ok());
            assert!(matches!(joined.ended.await.unwrap(), RelayEnd::Cut(_)));
            assert_eq!(read(&mut joined.client).await.1, RESET);
            assert_eq!(read(&mut joined.server).await.1, RESET);
            // The dirty one is closed, not kept; the other direction had none of its own.
            assert_eq!(counts(), (0, 0), "{way:?}");
        });
    }
}

#[test]
fn a_slow_receiver_holds_its_sender_back_and_gets_everything_in_the_end() {
    for way in BOTH {
        play(async move {
            let mut joined = busy(way).await;
            // Fails when it is more than the kernel's buffers and one pipe hold.
            let sent = send_until_stuck(&joined.client).await;
            let mut received = Vec::new();
            while received.len() < sent {
                joined.server.read_buf(&mut received).await.unwrap();
            }
            let period = pattern();
            for piece in received.chunks(period.len()) {
                assert!(*piece == period[..piece.len()], "{way:?}");
            }
            end_with(joined, (MIB + sent, MIB), way).await;
        });
    }
}

#[test]
fn a_pair_that_is_always_ready_lets_others_have_their_turn() {
    for way in BOTH {
        play(async move {
            let joined = busy(way).await;
            let blocking = |socket: TcpStream| {
                let socket = socket.into_std().unwrap();
                socket.set_nonblocking(false).unwrap();
                socket
            };
            let (mut client, mut server) = (blocking(joined.client), blocking(joined.server));
            let size = 512 * MIB;
            let sending = std::thread::spawn(move || {
                let piece = vec![7; MIB];
                (0..size / MIB).for_each(|_| client.write_all(&piece).unwrap());
                client
            });
            let receiving = std::thread::spawn(move || {
                let mut piece = vec![0; 4 * MIB];
                let mut left = size;
                while left > 0 {
                    left -= server.read(&mut piece).unwrap();
                }
                server
            });
            let (mut most, mut before) = (0, joined.up.bytes());
            while joined.up.bytes() < (MIB + size) as u64 {
                tokio::task::yield_now().await;
                let now = joined.up.bytes();
                most = most.max(now - before);
                before = now;
            }
            drop((sending.join().unwrap(), receiving.join().unwrap()));
            // A turn of spliced steps, and what a half-empty one before it left.
            assert!(most <= 3 * MIB as u64, "{way:?}: {most} bytes in one turn");
        });
    }
}

#[test]
fn an_idle_connection_holds_no_pipe() {
    play(async {
        let mut joined = busy(SPLICE).await;
        assert_eq!(counts(), (1, 0));
        for _ in 0..3 {
            joined.client.write_all(b"ping").await.unwrap();
            joined.server.read_exact(&mut [0; 4]).await.unwrap();
            assert_eq!(counts(), (1, 0));
        }
        end_with(joined, (MIB + 12, MIB), SPLICE).await;
    });
}

#[test]
fn when_all_pipes_are_in_use_bulk_is_copied_and_takes_a_pipe_again_later() {
    play(async {
        let mut joined = busy(SPLICE).await;
        let all = exhaust();
        let (_, lent) = counts();
        tokio::join!(
            send(&mut joined.client, 8 * MIB),
            expect(&mut joined.server, 8 * MIB)
        );
        assert_eq!(counts(), (0, lent));
        drop(all);
        let sent = send_until_stuck(&joined.client).await;
        assert_eq!(counts().1, 1);
        let mut received = Vec::new();
        while received.len() < sent {
            joined.server.read_buf(&mut received).await.unwrap();
        }
        end_with(joined, (9 * MIB + sent, MIB), SPLICE).await;
    });
}

/// A carrier's sockets, with the applications at their other ends.
struct Line {
    one: TcpStream,
    near: TcpStream,
    far: TcpStream,
    other: TcpStream,
    flow: std::rc::Rc<Flow>,
}

async fn line() -> Line {
    let ((one, near), (far, other)) = (pair().await, pair().await);
    let flow = Flow::unheard();
    Line {
        one,
        near,
        far,
        other,
        flow,
    }
}

impl Line {
    fn carrier(&self) -> Carrier<'_> {
        Carrier::new(&self.near, &self.far, &self.flow, Means::Splice)
    }

    /// Has the carrier take what was sent, `size` bytes, and then find nothing more.
    async fn pass(&self, carrier: &mut Carrier<'_>, size: usize) {
        let end = self.flow.bytes() + size as u64;
        while self.flow.bytes() < end {
            self.near.readable().await.unwrap();
            carrier.carry().unwrap();
        }
        assert_eq!(self.flow.bytes(), end);
        // It may have been told of an event that it has already answered.
        if self.near.try_io(Interest::READABLE, || Ok(())).is_ok() {
            assert_eq!(carrier.carry().unwrap(), Taken::Nothing);
        }
    }
}

#[test]
fn what_comes_in_large_pieces_is_spliced_and_what_comes_in_small_ones_is_not() {
    play(async {
        let line = line().await;
        let mut carrier = line.carrier();
        let mut say = async |size: usize| {
            assert_eq!(write_available(&line.one, &vec![7; size]).unwrap(), size);
            line.pass(&mut carrier, size).await;
            let mut heard = vec![0; size];
            let other = &line.other;
            let mut taken = 0;
            while taken < size {
                other.readable().await.unwrap();
                taken += read_available(other, &mut heard[taken..]).unwrap_or(0);
            }
            carrier.pace
        };
        assert_eq!(say(BULK).await, Pace::Small, "the first bytes are copied");
        assert_eq!(say(FIRST as usize).await, Pace::Bulk { fresh: true });
        assert_eq!(say(BULK).await, Pace::Bulk { fresh: true });
        assert_eq!(say(BULK - 1).await, Pace::Small);
        assert_eq!(say(BULK - 1).await, Pace::Small);
        assert_eq!(say(BULK).await, Pace::Bulk { fresh: true });
    });
}

#[test]
fn an_urgent_mark_does_not_stop_what_is_behind_it() {
    play(async {
        let line = line().await;
        let mut carrier = line.carrier();
        carrier.pace = Pace::Bulk { fresh: true };
        // A splice ends at the mark, and the next one finds nothing: only a read gets past it.
        assert_eq!(write_available(&line.one, &vec![7; BULK]).unwrap(), BULK);
        SockRef::from(&line.one).send_out_of_band(b"!").unwrap();
        assert_eq!(write_available(&line.one, b"behind").unwrap(), 6);
        line.pass(&mut carrier, BULK + 6).await;
    });
}

#[test]
fn what_is_in_a_pipe_for_a_socket_that_takes_from_none_goes_on_in_memory() {
    play(async {
        let mut line = line().await;
        line.one.write_all(b"in a pipe").await.unwrap();
        line.near.readable().await.unwrap();
        let mut carrier = line.carrier();
        let mut pipe = pipes::lend().unwrap();
        pipe.fill(&line.near).unwrap();
        carrier.load = Load::Pipe(pipe);
        let unsupported = io::Error::from_raw_os_error(libc::EINVAL);
        carrier.unpipe(unsupported).unwrap();
        assert_eq!((carrier.pace, counts()), (Pace::Copy, (1, 0)));
        carrier.unload().unwrap();
        assert!(!carrier.is_loaded());
        assert_eq!(line.flow.bytes(), 9);
        let mut heard = [0; 9];
        line.other.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"in a pipe");
    });
}
