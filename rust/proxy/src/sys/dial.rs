//! Sockets we connect: options set, source address bound if wanted, not yet connected.
//!
//! Whose deadline it is and what a failure means is the caller's business (spec/dataplane.md §1.1, §1.4).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::accepted::Keepalive;
use super::address::canonical;
use super::process::touches_reserve;

/// A socket ready to connect to one destination.
#[derive(Debug)]
pub struct DialSocket {
    socket: Socket,
    destination: SocketAddr,
    /// The source address could not be kept; the connect goes on from an address of this machine. Worth a
    /// warning, not an error.
    pub source_lost: Option<io::Error>,
}

impl DialSocket {
    /// Where it will connect to, in canonical form.
    #[must_use]
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// Connects on the current tokio runtime. No deadline here: wrap it in the caller's.
    ///
    /// A peer that accepts, speaks and resets at once may have done all that before we look. So the outcome is not
    /// asked from SO_ERROR, which would call this a failed connect and lose the bytes, but by a look at the queue.
    pub async fn connect(self) -> io::Result<tokio::net::TcpStream> {
        match self.socket.connect(&self.destination.into()) {
            Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let stream = tokio::net::TcpStream::from_std(self.into_std())?;
        loop {
            stream.writable().await?;
            match SockRef::from(&stream).peek(&mut [MaybeUninit::uninit()]) {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    // Not yet, whatever the event was.
                    tokio::task::yield_now().await;
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => return Ok(stream),
            }
        }
    }

    /// The non-blocking, not yet connected socket.
    #[must_use]
    pub fn into_std(self) -> TcpStream {
        self.socket.into()
    }
}

/// Makes the socket for `destination`: TCP_NODELAY (an error if refused), keepalive (best effort), SO_MARK (an
/// error if refused), and with `source` the transparent bind to that address.
///
/// `source` equal to the destination's address is ignored: a pod calling itself must not get its own spoofed
/// packets back. A source of the other family makes the connect fail, as upstream.
pub fn socket_for_dial(
    destination: SocketAddr,
    source: Option<IpAddr>,
    mark: Option<u32>,
    keepalive: Option<&Keepalive>,
) -> io::Result<DialSocket> {
    let destination = canonical(destination);
    let source = source
        .map(|ip| ip.to_canonical())
        .filter(|ip| *ip != destination.ip());
    let family = source.map_or(destination, |ip| SocketAddr::new(ip, 0));
    let socket = Socket::new(
        Domain::for_address(family),
        Type::STREAM.nonblocking(), // one call instead of three
        Some(Protocol::TCP),
    )?;
    if touches_reserve(&socket) {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = keepalive {
        keepalive.apply(&socket);
    }
    if let Some(mark) = mark {
        socket.set_mark(mark)?;
    }
    let source_lost = source.and_then(|ip| bind_source(&socket, ip).err());
    Ok(DialSocket {
        socket,
        destination,
        source_lost,
    })
}

/// Binds to an address that need not be ours: TRANSPARENT lets packets leave with it, FREEBIND lets the bind
/// itself pass before routing knows the address.
fn bind_source(socket: &Socket, source: IpAddr) -> io::Result<()> {
    if source.is_ipv4() {
        socket.set_ip_transparent_v4(true)?;
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_ip_transparent_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&SocketAddr::new(source, 0).into())
}

#[cfg(test)]
mod tests;
