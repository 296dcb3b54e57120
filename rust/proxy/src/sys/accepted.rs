//! Options of sockets we accepted, and the keepalive settings that accepted and dialled ones share.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// When a silent peer is probed and given up (spec/dataplane.md §1.1). Defaults are upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub time: Duration,
    pub interval: Duration,
    pub retries: u32,
    /// Also limit how long sent data may stay unacknowledged: `time + retries × interval`.
    pub user_timeout: bool,
}

impl Keepalive {
    /// Best effort: an old kernel or a limited namespace must not cost the connection.
    pub(super) fn apply(&self, socket: &socket2::Socket) {
        let probes = TcpKeepalive::new()
            .with_time(self.time)
            .with_interval(self.interval)
            .with_retries(self.retries);
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

/// TCP_NODELAY, and keepalive if given. An error means that the connection is already gone.
pub fn set_accepted_options(socket: &impl AsFd, keepalive: Option<&Keepalive>) -> io::Result<()> {
    let socket = SockRef::from(socket);
    socket.set_tcp_nodelay(true)?;
    if let Some(keepalive) = keepalive {
        keepalive.apply(&socket);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
