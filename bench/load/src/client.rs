//! How every workload reaches the application: a non-blocking dial, a blocking one, and when to give up.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

/// Longer than any workload may take to finish what it has begun.
pub(crate) const GRACE: Duration = Duration::from_secs(15);

/// Where to, and how marked: a mark makes a connection go past the capture rules.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) to: SocketAddr,
    pub(crate) mark: Option<u32>,
}

impl Target {
    /// The n-th address from this one on.
    pub(crate) fn plus(mut self, n: u32) -> Self {
        if let IpAddr::V4(first) = self.to.ip() {
            self.to.set_ip(IpAddr::V4(Ipv4Addr::from_bits(
                first.to_bits().wrapping_add(n),
            )));
        }
        self
    }

    /// A connection under way; writable when it is there.
    pub(crate) fn begin(&self) -> io::Result<TcpStream> {
        let socket = self.socket()?;
        socket.set_nonblocking(true)?;
        match socket.connect(&self.to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(socket.into())
    }

    /// A connection that is there, whose reads and writes block, but not for ever.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let socket = self.socket()?;
        socket.connect_timeout(&self.to.into(), GRACE)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(GRACE))?;
        stream.set_write_timeout(Some(GRACE))?;
        Ok(stream)
    }

    fn socket(&self) -> io::Result<Socket> {
        let socket = Socket::new(
            Domain::for_address(self.to),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_tcp_nodelay(true)?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    }
}

/// The request for a reply of this size (see `server`).
pub(crate) fn request(size: u64) -> [u8; 9] {
    let mut request = [b'R'; 9];
    request[1..].copy_from_slice(&size.to_be_bytes());
    request
}

pub(crate) fn is_pending(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

pub(crate) fn timed_out(what: &str) -> io::Error {
    io::Error::new(
        ErrorKind::TimedOut,
        format!("{what}: not done within {GRACE:?} of the end"),
    )
}

/// Nanoseconds, as many as fit: four seconds.
pub(crate) fn nanos(since: Instant) -> u32 {
    u32::try_from(since.elapsed().as_nanos()).unwrap_or(u32::MAX)
}
