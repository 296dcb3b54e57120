//! An application that says back what it hears, on the server's address, as long as the process lives.

use std::net::{SocketAddr, TcpListener};
use std::thread;

pub(crate) fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                // However it ends.
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    address
}
