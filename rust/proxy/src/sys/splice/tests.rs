use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;

use super::super::testing::{connected_pair, eventually};
use super::super::{abort_on_close, unread_bytes};
use super::*;

const KIB: usize = 1024;

/// Two connections: what is written to the first is to be spliced to the last.
fn line() -> (TcpStream, TcpStream, TcpStream, TcpStream) {
    let ((client, near), (far, server)) = (connected_pair(), connected_pair());
    for socket in [&near, &far] {
        socket.set_nonblocking(true).unwrap();
    }
    (client, near, far, server)
}

#[test]
fn bytes_pass_and_are_counted_on_both_sides() {
    let (mut client, near, far, mut server) = line();
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    client.write_all(b"question").unwrap();
    assert!(eventually(|| unread_bytes(&near).unwrap() == 8));
    assert_eq!((pipe.fill(&near).unwrap(), pipe.held()), (8, 8));
    assert_eq!((pipe.drain(&far).unwrap(), pipe.held()), (8, 0));
    let mut read = [0; 8];
    server.read_exact(&mut read).unwrap();
    assert_eq!(&read, b"question");
}

#[test]
fn an_empty_socket_would_block_and_a_finished_one_has_ended() {
    let (client, near, _far, _server) = line();
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    let error = pipe.fill(&near).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    client.shutdown(Shutdown::Write).unwrap();
    assert!(eventually(|| pipe
        .fill(&near)
        .is_ok_and(|moved| moved == 0)));
}

#[test]
fn a_reset_comes_behind_the_bytes_before_it() {
    let (mut client, near, _far, _server) = line();
    client.write_all(b"half").unwrap();
    assert!(eventually(|| unread_bytes(&near).unwrap() == 4));
    abort_on_close(&client).unwrap();
    drop(client);
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    assert_eq!(pipe.fill(&near).unwrap(), 4);
    assert_eq!(pipe.read_all().unwrap(), b"half");
    let mut end = None;
    assert!(eventually(|| {
        end = pipe.fill(&near).err().map(|error| error.kind());
        end != Some(io::ErrorKind::WouldBlock)
    }));
    assert_eq!(end, Some(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_full_receiver_would_block_and_what_it_did_not_take_is_kept() {
    let (mut client, near, far, mut server) = line();
    let writer = std::thread::spawn(move || client.write_all(&vec![7; 32 * KIB * KIB]));
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    let (mut taken, mut given) = (0, 0);
    let full = loop {
        match pipe.fill(&near) {
            Ok(moved) => taken += moved,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        match drain_all(&mut pipe, &far) {
            (moved, None) => given += moved,
            (moved, Some(error)) => break (given + moved, error),
        }
    };
    assert_eq!(full.1, io::ErrorKind::WouldBlock);
    assert_eq!(taken - full.0, pipe.held());
    assert_ne!(pipe.held(), 0);
    let mut read = vec![0; full.0];
    server.read_exact(&mut read).unwrap();
    assert!(read.iter().all(|byte| *byte == 7));
    drop((near, far));
    let _ = writer.join().unwrap();
}

fn drain_all(pipe: &mut Pipe, to: &TcpStream) -> (usize, Option<io::ErrorKind>) {
    let mut given = 0;
    while pipe.held() > 0 {
        match pipe.drain(to) {
            Ok(moved) => given += moved,
            Err(error) => return (given, Some(error.kind())),
        }
    }
    (given, None)
}

#[test]
fn a_receiver_that_is_gone_is_an_error_and_no_signal() {
    block_sigpipe().unwrap();
    // The test harness ignores the signal anyway, so what is asked is whether it could come.
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let blocked = u64::from_str_radix(blocked.unwrap().trim(), 16).unwrap();
    assert_ne!(blocked & 1 << (libc::SIGPIPE - 1), 0);
    let (mut client, near, far, _server) = line();
    client.write_all(b"into the void").unwrap();
    far.shutdown(Shutdown::Write).unwrap();
    assert!(eventually(|| unread_bytes(&near).unwrap() == 13));
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    pipe.fill(&near).unwrap();
    let error = pipe.drain(&far).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(!is_unsupported(&error));
    assert_eq!(pipe.held(), 13);
}

#[test]
fn what_cannot_be_spliced_says_so_and_takes_nothing() {
    let mut pipe = Pipe::open(64 * KIB).unwrap();
    // Sources that know no splice differ from kernel to kernel; a directory never did.
    let directory = File::open("/").unwrap();
    let error = pipe.fill(&directory).unwrap_err();
    assert!(is_unsupported(&error), "{error}");
    assert_eq!(pipe.held(), 0);
}

#[test]
fn a_pipe_has_the_size_that_was_asked_for_or_what_is_allowed() {
    assert_eq!(Pipe::open(256 * KIB).unwrap().capacity(), 256 * KIB);
    // More than everybody may have: half of it, and half of that, until one is allowed.
    let most = Pipe::open(64 * KIB * KIB).unwrap().capacity();
    assert!(most >= 256 * KIB && most.is_power_of_two(), "{most}");
    assert_eq!(Pipe::open(KIB).unwrap().capacity(), 64 * KIB);
}

#[test]
fn neither_end_blocks_or_is_inherited() {
    let pipe = Pipe::open(64 * KIB).unwrap();
    for end in [&pipe.out, &pipe.into] {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", end.as_raw_fd()));
        let flags = info.unwrap();
        let flags = flags.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        let both = libc::O_NONBLOCK | libc::O_CLOEXEC;
        assert_eq!(flags & both, both);
    }
}
