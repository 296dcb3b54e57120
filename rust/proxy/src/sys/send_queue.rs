//! How much a socket takes before it says that it is full.
#![allow(
    unsafe_code,
    reason = "TCP_NOTSENT_LOWAT has no safe form in std or socket2"
)]

use std::io;
use std::os::fd::AsRawFd;

/// Lets at most about `bytes` wait in the kernel that are not on their way yet (TCP_NOTSENT_LOWAT, tcp(7)): what waits
/// there cannot be overtaken any more.
pub fn limit_unsent(socket: &impl AsRawFd, bytes: u32) -> io::Result<()> {
    let value = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // SAFETY: the pointer is to an int that lives through the call, and the length is its.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// What a socket takes whose peer does not read.
    fn taken(limit: Option<u32>) -> usize {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        if let Some(limit) = limit {
            limit_unsent(&socket, limit).unwrap();
        }
        let mut taken = 0;
        while let Ok(n) = socket.write(&[0; 64 * 1024]) {
            taken += n;
        }
        taken
    }

    #[test]
    fn less_waits_in_a_socket_with_a_limit() {
        let (limited, free) = (taken(Some(16 * 1024)), taken(None));
        assert!(limited * 2 < free, "{limited} {free}");
    }
}
