//! For the tests of this module: a connected pair on loopback, waiting with a deadline, capability checks.

use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

/// A client and the server side of the same connection.
pub(super) fn connected_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback can be bound");
    let address = listener.local_addr().expect("it is bound");
    let client = TcpStream::connect(address).expect("loopback accepts");
    let (server, _) = listener.accept().expect("the client is waiting");
    (client, server)
}

/// Whether the condition came true within half a minute, which nobody waits for who is not about to fail.
pub(super) fn eventually(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(30);
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    condition()
}

/// True if the test may go on; otherwise the reason for skipping it is printed.
pub(super) fn may_administer_network() -> bool {
    const CAP_NET_ADMIN: u32 = 12; // capabilities(7)
    let status = fs::read_to_string("/proc/self/status").expect("proc is mounted");
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .expect("proc_pid_status(5) has CapEff");
    let may = effective & (1 << CAP_NET_ADMIN) != 0;
    if !may {
        println!("skipped: needs CAP_NET_ADMIN");
    }
    may
}
