//! Closing a socket so that its peer sees a RST.

use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::sys;

/// How often the send queue is looked at while it drains.
const LOOK: Duration = Duration::from_millis(2);

/// Closes with a RST once the peer's kernel holds everything that was written, or when `patience` is over.
pub(crate) async fn abort(socket: Rc<TcpStream>, patience: Duration) {
    delivered(&socket, patience).await;
    abort_now(&socket);
}

/// Waits until the peer's kernel holds everything that was written, or `patience` is over.
///
/// A close with SO_LINGER 0 throws the send queue away, so a RST sent at once would overtake the bytes before it.
pub(crate) async fn delivered(socket: &TcpStream, patience: Duration) {
    let deadline = Instant::now() + patience;
    let mut pause = LOOK;
    // There is no readiness event for an empty send queue.
    // There is no waiting for a connection that is gone: what it did not take stays in its queue for ever.
    while sys::unsent_bytes(socket).unwrap_or(0) > 0
        && socket.peer_addr().is_ok()
        && Instant::now() < deadline
    {
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}

/// From now on the socket's end is a RST, even if this process is killed: the kernel closes its sockets, and a FIN from
/// it would make a truncated answer look whole. Only [`finish`] takes that back.
pub(crate) fn guard(socket: &TcpStream) {
    // Failing means that the socket is gone already.
    let _ = sys::abort_on_close(socket);
}

/// Both sides have said that they were complete: the coming close is a FIN.
pub(crate) fn finish(socket: &TcpStream) {
    // Failing means that the socket is gone already.
    let _ = sys::finish_on_close(socket);
}

/// Makes the coming close a RST, without waiting for anything.
pub(crate) fn abort_now(socket: &TcpStream) {
    // Failing means that the socket is gone already.
    let _ = sys::abort_on_close(socket);
}
