use std::net::TcpListener;

use super::*;

#[test]
fn the_loopback_address_is_of_the_workloads_family() {
    for (to, expected) in [
        ("10.0.0.1:15088", "127.0.0.1:15088"),
        ("[fd00::1]:15088", "[::1]:15088"),
        ("127.0.0.9:1", "127.0.0.1:1"),
    ] {
        let delivery = Delivery::on_loopback(to.parse().unwrap());
        let to: SocketAddr = expected.parse().unwrap();
        let from = Some(to.ip());
        assert_eq!(delivery, Delivery { to, from });
    }
}

#[tokio::test]
async fn a_header_is_written_whole_into_a_socket_that_takes_it_in_pieces() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    // The kernel makes some 5 KB of it.
    socket.set_send_buffer_size(1).unwrap();
    socket
        .connect(&listener.local_addr().unwrap().into())
        .unwrap();
    socket.set_nonblocking(true).unwrap();
    let socket = TcpStream::from_std(socket.into()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    let sent: Vec<u8> = (0..4_000_000_u32).map(|n| n.to_be_bytes()[2]).collect();
    let expected = sent.clone();
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut peer, &mut got).unwrap();
        got
    });
    write(&socket, &sent).await.unwrap();
    drop(socket);
    assert!(reader.join().unwrap() == expected);
}

#[tokio::test]
async fn an_application_that_is_gone_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (peer, _) = listener.accept().unwrap();
    sys::abort_on_close(&peer).unwrap();
    drop(peer);
    let error = write(&socket, &[0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
