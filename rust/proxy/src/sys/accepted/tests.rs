use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use socket2::SockRef;

use super::*;
use crate::sys::{ListenOptions, finish_on_close, listen};

fn accepted(options: AcceptedOptions) -> (TcpListener, TcpStream, TcpStream) {
    let options = ListenOptions {
        accepted: options,
        ..ListenOptions::default()
    };
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let listener = listen(address, &options).unwrap().socket;
    let port = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (server, _) = listener.accept().unwrap();
    (listener, client, server)
}

#[test]
fn accepted_sockets_inherit_what_the_listener_was_given() {
    let keepalive = Keepalive {
        time: Duration::from_secs(181),
        interval: Duration::from_secs(17),
        retries: 7,
        user_timeout: true,
    };
    let (_listener, _client, server) = accepted(AcceptedOptions {
        keepalive: Some(keepalive.clone()),
        abort_on_close: true,
    });
    let server = SockRef::from(&server);
    assert!(server.tcp_nodelay().unwrap());
    assert!(server.keepalive().unwrap());
    assert_eq!(server.tcp_keepalive_time().unwrap(), keepalive.time);
    assert_eq!(server.tcp_keepalive_interval().unwrap(), keepalive.interval);
    assert_eq!(server.tcp_keepalive_retries().unwrap(), keepalive.retries);
    assert_eq!(
        server.tcp_user_timeout().unwrap(),
        Some(keepalive.give_up_after())
    );
    assert_eq!(server.linger().unwrap(), Some(Duration::ZERO));
}

#[test]
fn nodelay_is_always_inherited_and_the_rest_only_if_given() {
    let (_listener, _client, server) = accepted(AcceptedOptions::default());
    let server = SockRef::from(&server);
    assert!(server.tcp_nodelay().unwrap());
    assert!(!server.keepalive().unwrap());
    assert_eq!(server.linger().unwrap(), None);
}

#[test]
fn an_inherited_abort_is_a_reset_and_can_be_taken_back() {
    use std::io::Read;
    for (complete, end) in [(true, Ok(0)), (false, Err(io::ErrorKind::ConnectionReset))] {
        let (_listener, mut client, server) = accepted(AcceptedOptions {
            keepalive: None,
            abort_on_close: true,
        });
        if complete {
            finish_on_close(&server).unwrap();
        }
        drop(server);
        client
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let read = client.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(read, end);
    }
}

#[test]
fn the_user_timeout_is_the_whole_time_of_probing() {
    assert_eq!(
        Keepalive::default().give_up_after(),
        Duration::from_secs(1800)
    );
}

#[test]
fn a_wish_for_longer_than_the_kernel_takes_gets_the_longest_that_it_takes() {
    let (_listener, _client, server) = accepted(AcceptedOptions {
        keepalive: Some(Keepalive {
            time: Duration::from_secs(12 * 3600),
            interval: Duration::from_secs(12 * 3600),
            retries: 1000,
            user_timeout: false,
        }),
        abort_on_close: false,
    });
    let server = SockRef::from(&server);
    assert!(server.keepalive().unwrap());
    assert_eq!(server.tcp_keepalive_time().unwrap(), MAX_WAIT);
    assert_eq!(server.tcp_keepalive_interval().unwrap(), MAX_WAIT);
    assert_eq!(server.tcp_keepalive_retries().unwrap(), MAX_PROBES);
}
