use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use socket2::SockRef;

use super::*;
use crate::sys::testing::may_administer_network;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_dialled_socket_connects_with_nodelay_and_keepalive() {
    let (listener, address) = server();
    let keepalive = Keepalive {
        user_timeout: true,
        ..Keepalive::default()
    };
    let dial = socket_for_dial(address, None, None, Some(&keepalive)).unwrap();
    let stream = run(async { dial.connect().await.unwrap().into_std().unwrap() });
    listener.accept().unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), keepalive.time);
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), keepalive.interval);
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), keepalive.retries);
    assert_eq!(
        socket.tcp_user_timeout().unwrap(),
        Some(std::time::Duration::from_secs(1800))
    );
}

#[test]
fn a_v4_mapped_destination_is_dialled_as_v4() {
    let (_listener, address) = server();
    let mapped = SocketAddr::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(), address.port());
    let dial = socket_for_dial(mapped, None, None, None).unwrap();
    assert_eq!(dial.destination(), address);
    run(dial.connect()).unwrap();
}

#[test]
fn a_source_equal_to_the_destination_is_not_bound() {
    let (_listener, address) = server();
    let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
    for source in [address.ip(), mapped] {
        let dial = socket_for_dial(address, Some(source), None, None).unwrap();
        assert!(dial.source_lost.is_none());
        let local = dial.into_std().local_addr().unwrap();
        assert_eq!(local.port(), 0, "unbound until the connect");
    }
}

#[test]
fn a_source_address_is_kept_or_the_loss_is_reported_and_the_dial_goes_on() {
    let (listener, address) = server();
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    let dial = socket_for_dial(address, Some(source), None, None).unwrap();
    let lost = dial.source_lost.is_some();
    run(dial.connect()).unwrap();
    let (_, peer) = listener.accept().unwrap();
    if may_administer_network() {
        assert!(!lost);
        assert_eq!(peer.ip(), source);
    } else {
        assert!(lost);
    }
}

#[test]
fn a_foreign_source_address_can_be_bound() {
    if !may_administer_network() {
        return;
    }
    let foreign = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)); // RFC 5737: nobody's
    let dial = socket_for_dial(([127, 0, 0, 1], 9).into(), Some(foreign), None, None).unwrap();
    assert!(dial.source_lost.is_none());
    assert_eq!(dial.into_std().local_addr().unwrap().ip(), foreign);
}

#[test]
fn a_source_of_the_other_family_fails_the_connect() {
    let (_listener, address) = server();
    let source = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let Ok(dial) = socket_for_dial(address, Some(source), None, None) else {
        println!("skipped: no IPv6 here");
        return;
    };
    run(dial.connect()).unwrap_err();
}

#[test]
fn a_refused_dial_says_so() {
    let (listener, address) = server();
    drop(listener);
    let dial = socket_for_dial(address, None, None, None).unwrap();
    let error = run(dial.connect()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_mark_is_set_or_an_error() {
    let result = socket_for_dial(([127, 0, 0, 1], 9).into(), None, Some(1337), None);
    if may_administer_network() {
        assert_eq!(result.unwrap().socket.mark().unwrap(), 1337);
    } else {
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
