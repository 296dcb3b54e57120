use std::io::{ErrorKind, Read, Write};

use super::*;
use crate::sys::testing::{connected_pair, eventually};

#[test]
fn abort_on_close_sends_a_reset() {
    let (client, mut server) = connected_pair();
    abort_on_close(&client).unwrap();
    drop(client);
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_reset_is_seen_without_reading_and_stays_pending() {
    let (client, mut server) = connected_pair();
    assert!(!peer_reset(&server));
    abort_on_close(&client).unwrap();
    drop(client);
    assert!(eventually(|| peer_reset(&server)));
    assert!(peer_reset(&server), "looking does not consume it");
    let error = server.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_half_close_is_not_a_reset() {
    let (client, mut server) = connected_pair();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert!(!peer_reset(&server));
}

#[test]
fn a_reset_after_half_close_is_seen_too() {
    let (client, mut server) = connected_pair();
    server.write_all(b"unread").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    drop(client); // with unread data the kernel resets (RFC 2525 §2.17)
    assert!(eventually(|| peer_reset(&server)));
}

#[test]
fn queued_bytes_are_counted_on_both_sides() {
    let (mut client, server) = connected_pair();
    client.write_all(&[7; 1000]).unwrap();
    assert!(eventually(|| unread_bytes(&server).unwrap() == 1000));
    assert!(eventually(|| unsent_bytes(&client).unwrap() == 0));
}

#[test]
fn bytes_that_the_peer_does_not_take_stay_unsent() {
    let (mut client, _server) = connected_pair();
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65_536]).is_ok() {}
    assert!(unsent_bytes(&client).unwrap() > 0);
}
