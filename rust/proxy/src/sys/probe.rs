//! Questions to a connected socket that do not disturb it: how much is queued, has the peer reset it.
#![allow(
    unsafe_code,
    reason = "two ioctls, poll and a connect to nowhere have no safe form in std or socket2"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use socket2::SockRef;

/// Makes the next close send RST instead of FIN and throw away what is unsent: the way to pass an abort on.
pub fn abort_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Sends a RST now and throws away what is queued, as a close after [`abort_on_close`] does; what is left to close later is a
/// socket without a connection (connect(2), `AF_UNSPEC`).
///
/// # Errors
/// As connect(2); one that has no connection any more is none.
pub fn reset(socket: &impl AsFd) -> io::Result<()> {
    let nowhere = libc::sockaddr {
        sa_family: libc::AF_UNSPEC as libc::sa_family_t,
        sa_data: [0; 14],
    };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the address lives through the call and has that length; the borrow keeps the descriptor open.
    let done = unsafe { libc::connect(descriptor, &raw const nowhere, length) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Takes [`abort_on_close`] back: the next close is a FIN, behind whatever is still to be sent.
pub fn finish_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(None)
}

/// Whether the connection has ended by the peer's RST or another error that nobody has read yet.
///
/// A relay that is not reading, because its other side is full, learns of a reset only this way. The error
/// stays pending: the next read or write reports it.
#[must_use]
pub fn peer_reset(socket: &impl AsFd) -> bool {
    polled(socket, 0) & libc::POLLERR != 0 // always reported
}

/// Whether the peer has said that nothing more comes, or is gone, although what it sent may not be read yet.
#[must_use]
pub fn peer_hung_up(socket: &impl AsFd) -> bool {
    let over = libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR;
    polled(socket, libc::POLLRDHUP) & over != 0
}

/// What of `events` is the case now.
fn polled(socket: &impl AsFd, events: libc::c_short) -> libc::c_short {
    let mut poll = libc::pollfd {
        fd: socket.as_fd().as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: `poll` is one valid pollfd for the length given, and the borrow keeps the descriptor open.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    if ready > 0 { poll.revents } else { 0 }
}

/// Bytes written but not yet acknowledged by the peer (SIOCOUTQ).
pub fn unsent_bytes(socket: &impl AsFd) -> io::Result<usize> {
    queued(socket, libc::TIOCOUTQ)
}

/// Bytes received but not yet read (SIOCINQ).
pub fn unread_bytes(socket: &impl AsFd) -> io::Result<usize> {
    queued(socket, libc::FIONREAD)
}

fn queued(socket: &impl AsFd, request: libc::Ioctl) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: both requests write one int, to which the pointer points; the borrow keeps the descriptor open.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}

#[cfg(test)]
mod tests;
