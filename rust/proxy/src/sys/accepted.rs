//! What accepted sockets are born with, and the keepalive settings that accepted and dialled ones share.
//!
//! Linux copies a listener's options into every socket it accepts, so they are set once, before the first connection,
//! and an accept costs no further calls.

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

/// When a silent peer is probed and given up (spec/dataplane.md §1.1). Defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub time: Duration,
    pub interval: Duration,
    pub retries: u32,
    /// Also limit how long sent data may stay unacknowledged: `time + retries × interval`.
    pub user_timeout: bool,
}

/// What Linux takes (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT); one value beyond it, and the kernel would
/// refuse it and with it the probes that were asked for.
const MAX_WAIT: Duration = Duration::from_secs(32_767);
const MAX_PROBES: u32 = 127;

impl Keepalive {
    /// Best effort: an old kernel or a limited namespace must not cost the connection.
    pub(super) fn apply(&self, socket: &Socket) {
        let probes = TcpKeepalive::new()
            .with_time(self.time.min(MAX_WAIT))
            .with_interval(self.interval.min(MAX_WAIT))
            .with_retries(self.retries.min(MAX_PROBES));
        let _ = socket.set_tcp_keepalive(&probes);
        if self.user_timeout {
            let _ = socket.set_tcp_user_timeout(Some(self.give_up_after()));
        }
    }

    fn give_up_after(&self) -> Duration {
        self.time
            .saturating_add(self.interval.saturating_mul(self.retries))
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            time: Duration::from_secs(180),
            interval: Duration::from_secs(180),
            retries: 9,
            user_timeout: false,
        }
    }
}

/// Options of the sockets that a listener accepts. TCP_NODELAY is always among them: whoever relays has no reason to
/// wait for more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedOptions {
    pub keepalive: Option<Keepalive>,
    /// The close is a RST unless [`super::finish_on_close`] has been said: see [`super::abort_on_close`].
    pub abort_on_close: bool,
}

impl AcceptedOptions {
    /// To be called before the listener listens, so that the first connection has them too.
    pub(super) fn set_on(&self, listener: &Socket) -> io::Result<()> {
        listener.set_tcp_nodelay(true)?;
        if let Some(keepalive) = &self.keepalive {
            keepalive.apply(listener);
        }
        if self.abort_on_close {
            listener.set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
