//! Sockets whose connections have been cut, by us or at the other end of the tunnel: the RST now, the close when there is time.
//!
//! A change of policy may cut thousands at once, and of what a close costs half is the RST and half the kernel's tidying up.
//! All of their peers are told before anything is tidied up, and that is done in turns, too. Not for bytes that are still to
//! arrive: who cares for them waits before (`abort.rs`).

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::net::TcpStream;
use tokio::task::{spawn_local, yield_now};

use crate::sys;

/// A worker's.
#[derive(Debug, Default)]
pub(crate) struct SpentSockets {
    sockets: RefCell<Vec<Rc<TcpStream>>>,
    /// Whether one came since the last turn.
    stirred: Cell<bool>,
}

impl SpentSockets {
    /// Ends the connection with a RST, whatever its queues hold, and closes the socket some time soon.
    pub(crate) fn abort(self: &Rc<Self>, socket: Rc<TcpStream>) {
        let mut sockets = self.sockets.borrow_mut();
        // Either way it is over: what could not be reset now is by its close, as every application's socket is.
        if sys::reset(&*socket).is_err() || sockets.len() >= MOST {
            return;
        }
        sockets.push(socket);
        self.stirred.set(true);
        if sockets.len() == 1 {
            spawn_local(self.clone().close());
        }
    }

    /// Closes them all, a few in a turn, once no more come.
    async fn close(self: Rc<Self>) {
        loop {
            yield_now().await;
            if self.stirred.take() {
                continue;
            }
            let mut sockets = self.sockets.borrow_mut();
            let left = sockets.len().saturating_sub(CLOSED);
            sockets.truncate(left);
            if sockets.is_empty() {
                // The room of a burst goes, too.
                *sockets = Vec::new();
                return;
            }
        }
    }
}

/// Descriptors that may be open for nothing.
const MOST: usize = 16 * 1024;
/// Closed in one turn: some 10 us each.
const CLOSED: usize = 16;

#[cfg(test)]
mod tests;
