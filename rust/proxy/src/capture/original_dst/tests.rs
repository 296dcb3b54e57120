use std::net::{Ipv4Addr, TcpListener, TcpStream};

use super::*;

#[test]
fn the_local_address_is_used_and_warned_about_unless_transparent() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    let (server, _) = listener.accept().unwrap();

    let (destination, quiet) = OriginalDestination::of(&server, true).unwrap();
    assert_eq!(destination, OriginalDestination(address));
    assert!(quiet.is_none());

    let (destination, warning) = OriginalDestination::of(&server, false).unwrap();
    assert_eq!(destination, OriginalDestination(address));
    if let Some(warning) = warning {
        assert!(warning.to_string().contains("os error"));
    } else {
        println!("skipped: connections are tracked here");
    }
}
