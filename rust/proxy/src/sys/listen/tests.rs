use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};

use super::*;
use crate::sys::testing::may_administer_network;

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn with(reuse_port: ReusePort) -> ListenOptions {
    ListenOptions {
        reuse_port,
        ..ListenOptions::default()
    }
}

fn address(listener: &Listener) -> SocketAddr {
    listener.socket.local_addr().unwrap()
}

#[test]
fn a_listener_accepts_and_does_not_block() {
    let listener = listen(loopback(0), &ListenOptions::default()).unwrap();
    let none_yet = listener.socket.accept().unwrap_err();
    assert_eq!(none_yet.kind(), io::ErrorKind::WouldBlock);
    let _client = TcpStream::connect(address(&listener)).unwrap();
    listener.socket.accept().unwrap();
}

#[test]
fn a_group_shares_the_port_that_the_kernel_chose() {
    let group = listen_group(loopback(0), 3, &with(ReusePort::First)).unwrap();
    let ports: Vec<_> = group.iter().map(|one| address(one).port()).collect();
    assert_eq!(ports, vec![ports[0]; 3]);
    assert_ne!(ports[0], 0);
}

#[test]
fn every_member_of_a_group_is_given_connections() {
    let group = listen_group(loopback(0), 2, &with(ReusePort::First)).unwrap();
    let _clients: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(address(&group[0])).unwrap())
        .collect();
    for member in &group {
        member.socket.accept().unwrap();
    }
}

#[test]
fn the_first_of_a_group_finds_out_that_the_port_is_taken() {
    for there in [ReusePort::Never, ReusePort::First, ReusePort::Join] {
        let taken = listen(loopback(0), &with(there)).unwrap();
        let error = listen(address(&taken), &with(ReusePort::First)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{there:?}");
    }
}

#[test]
fn a_second_group_is_refused_and_says_where() {
    let group = listen_group(loopback(0), 2, &with(ReusePort::First)).unwrap();
    let taken = address(&group[0]);
    let error = listen_group(taken, 2, &with(ReusePort::First)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("failed to bind to address {taken}: Address already in use (os error 98)")
    );
}

#[test]
fn joining_overlaps_with_whoever_shares() {
    let before = listen(loopback(0), &with(ReusePort::Join)).unwrap();
    listen_group(address(&before), 2, &with(ReusePort::Join)).unwrap();
}

#[test]
fn a_port_with_old_connections_in_time_wait_can_be_opened_again() {
    let listener = listen(loopback(0), &with(ReusePort::First)).unwrap();
    let at = address(&listener);
    let client = TcpStream::connect(at).unwrap();
    let (server, _) = listener.socket.accept().unwrap();
    drop(server); // closes first, so the server's side keeps TIME_WAIT
    drop(client);
    drop(listener);
    listen_group(at, 2, &with(ReusePort::First)).unwrap();
}

#[test]
fn a_wildcard_v6_listener_serves_v4_too() {
    let Ok(listener) = listen((Ipv6Addr::UNSPECIFIED, 0).into(), &ListenOptions::default()) else {
        println!("skipped: no IPv6 here");
        return;
    };
    let _client = TcpStream::connect((Ipv4Addr::LOCALHOST, address(&listener).port())).unwrap();
    let (_, peer) = listener.socket.accept().unwrap();
    assert!(super::super::canonical(peer).is_ipv4());
}

#[test]
fn transparency_is_reported_as_it_came_out() {
    let options = |transparent| ListenOptions {
        transparent,
        ..ListenOptions::default()
    };
    assert!(
        !listen(loopback(0), &options(Some(false)))
            .unwrap()
            .transparent
    );
    let attempted = listen(loopback(0), &options(None)).unwrap().transparent;
    assert_eq!(
        attempted,
        listen(loopback(0), &options(Some(true))).is_ok(),
        "an attempt succeeds exactly where a demand does"
    );
    if may_administer_network() {
        assert!(attempted);
    }
}

#[test]
fn a_mark_is_set_or_an_error() {
    let marked = ListenOptions {
        mark: Some(1337),
        ..ListenOptions::default()
    };
    let result = listen(loopback(0), &marked);
    if may_administer_network() {
        let listener = result.unwrap();
        assert_eq!(
            socket2::SockRef::from(&listener.socket).mark().unwrap(),
            1337
        );
    } else {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn a_thousand_connections_at_once_find_room_while_nobody_accepts() {
    const CROWD: usize = 1000;
    crate::sys::raise_nofile_limit().unwrap();
    let listener = listen(loopback(0), &ListenOptions::default()).unwrap();
    let to = address(&listener).into();
    let begun = std::time::Instant::now();
    let crowd: Vec<_> = (0..CROWD)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            // Loopback answers at once; whoever found no room would be waiting for its second SYN.
            let _ = client.connect(&to);
            client
        })
        .collect();
    let connected = crowd.iter().filter(|client| client.peer_addr().is_ok());
    assert_eq!(connected.count(), CROWD, "after {:?}", begun.elapsed());
    for _ in 0..CROWD {
        listener.socket.accept().unwrap();
    }
}
