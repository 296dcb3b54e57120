//! What carries a tunnel's bytes: a socket, or a stream of another tunnel (spec/dataplane.md §2.4).
//!
//! Readiness and bytes, no records and no frames: `driver.rs` is the same for both. For a socket every call is the one
//! that the driver would make itself.

use std::io::{self, IoSliceMut, Read};
use std::net::Shutdown;
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::state::PeerRevoked;
use super::stream::{Room, SendError, StreamEnd, TunnelStream};
use crate::relay::io::{read_records, write_available};
use crate::sys;

/// What may wait in the socket without being on its way, bytes: nothing overtakes it there.
const UNSENT: u32 = 128 * 1024;

/// A way for bytes in both directions, each with an end of its own.
pub(super) trait Link {
    /// To be called once, before anything is sent.
    fn prepare(&self);

    /// Whether a read would give something: bytes, the end, or an error.
    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Takes what is there, at most a buffer full; 0 is the end. `WouldBlock` means to wait again.
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// The same, whether or not it is known to be readable.
    fn read_unasked(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Whether a write would take something or fail.
    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Gives what fits, of at least one byte. `WouldBlock` means to wait again.
    fn write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// Whether bytes have come that nobody has read.
    fn has_unread(&self) -> bool;

    /// Whether the other side has said that nothing more comes, or is gone, although what it sent may not be read yet.
    fn is_over(&self) -> bool;

    /// Our side is complete.
    fn shut_down(&self) -> io::Result<()>;
}

impl Link for TcpStream {
    fn prepare(&self) {
        // Failing only means that interactive streams wait longer behind bulk.
        let _ = sys::limit_unsent(self, UNSENT);
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(context)
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        read_records(self, buffer)
    }

    /// Past tokio, which remembers that there was nothing to read and would not ask the kernel.
    fn read_unasked(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self)).read(buffer)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_write_ready(context)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        write_available(self, bytes)
    }

    fn has_unread(&self) -> bool {
        sys::unread_bytes(self).is_ok_and(|unread| unread > 0)
    }

    fn is_over(&self) -> bool {
        sys::peer_hung_up(self)
    }

    fn shut_down(&self) -> io::Result<()> {
        SockRef::from(self).shutdown(Shutdown::Write)
    }
}

/// No application is attached to it, so that everything is held for the tunnel inside, within the window that the peer
/// was given: what is not read earns no credit.
impl Link for TunnelStream {
    fn prepare(&self) {}

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_inbox(context).map(|_| Ok(()))
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.take(buffer) {
            Some(taken) => taken.map_err(|end| broken(&end)),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn read_unasked(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn poll_writable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.poll_room(context) {
            Ok(Room::Open) => Poll::Ready(Ok(())),
            Ok(Room::Full | Room::WindowClosed) => Poll::Pending,
            Err(end) => Poll::Ready(Err(broken(&end))),
        }
    }

    fn write(&self, mut bytes: &[u8]) -> io::Result<usize> {
        let sent = self.send_from(|slices: &mut [IoSliceMut<'_>]| bytes.read_vectored(slices));
        sent.map_err(|error| match error {
            SendError::Source(error) => error,
            SendError::Stream(end) => broken(&end),
        })
    }

    fn has_unread(&self) -> bool {
        self.holds_bytes()
    }

    fn is_over(&self) -> bool {
        self.is_finished() || self.is_cut()
    }

    fn shut_down(&self) -> io::Result<()> {
        self.finish();
        Ok(())
    }
}

fn broken(end: &StreamEnd) -> io::Error {
    if end.is_revoked() {
        return io::Error::new(io::ErrorKind::ConnectionReset, PeerRevoked);
    }
    let text = match end {
        StreamEnd::Reset(code) => format!("stream reset by peer: {code}"),
        StreamEnd::Lost(end) => end.to_string(),
    };
    io::Error::new(io::ErrorKind::ConnectionReset, text)
}
