//! The last hop: from us to the application of the local workload (spec/dataplane.md §1.4, §3.7).
//!
//! Whether a connection may come so far is decided before: `inbound.rs` for tunnels, `passthrough.rs` for plain ones.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mesh::identity::Identity;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::error::{Error, Side, Stage};
use crate::proxy_header::ProxyHeader;
use crate::relay::io::write_available;
use crate::shared::Shared;
use crate::sys;
use crate::telemetry::log::Level;

/// How an application is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// What to dial.
    pub(crate) to: SocketAddr,
    /// The address to dial from, if it matters. One that is also the destination's is never taken: a pod that calls
    /// itself must not get its own packets back (§1.4).
    pub(crate) from: Option<IpAddr>,
}

impl Delivery {
    /// A connection that goes where it was meant to go, from the client's address if that is to be `kept`.
    pub(crate) fn straight(to: SocketAddr, kept: Option<IpAddr>) -> Self {
        Self { to, from: kept }
    }

    /// To an application that believes headers: on the loopback address, from which nobody comes but who is in the pod
    /// already (spec/reliability.md T24).
    pub(crate) fn on_loopback(to: SocketAddr) -> Self {
        let ip = match to.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        Self::straight(SocketAddr::new(ip, to.port()), Some(ip))
    }

    /// Connects to the application.
    ///
    /// # Errors
    /// It cannot be reached within the deadline.
    pub(crate) async fn dial(self, shared: &Shared) -> Result<TcpStream, Error> {
        let mark = shared.settings.packet_mark;
        let socket = sys::socket_for_dial(self.to, self.from, mark, shared.keepalive().as_ref())
            .map_err(|error| failed(&error))?;
        if let Some(error) = &socket.source_lost {
            let text = format!(
                "cannot keep the client's address toward {}: {error}",
                self.to
            );
            shared
                .log
                .repeating(Level::Warn, "source_lost", "proxy::inbound", &text, &[]);
        }
        within(shared, socket.connect()).await
    }
}

/// Tells an application whom it speaks with, before anything else reaches it. These bytes are ours, not the peer's: no
/// metric counts them, as upstream, whose counters sit behind them.
///
/// # Errors
/// It does not take them within the deadline of a dial: a new socket has room for all of them, so it is gone.
pub(crate) async fn introduce(
    shared: &Shared,
    application: &TcpStream,
    (source, destination): (SocketAddr, SocketAddr),
    identity: Option<&Identity>,
) -> Result<(), Error> {
    let identity = identity.map(Identity::to_string);
    let header = ProxyHeader {
        source,
        destination,
        identity: identity.as_deref(),
    };
    let header = header.encode().map_err(io::Error::other);
    let header = header.map_err(|error| failed(&error))?;
    within(shared, write(application, &header)).await
}

async fn write(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match write_available(socket, bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn within<T>(
    shared: &Shared,
    action: impl Future<Output = io::Result<T>>,
) -> Result<T, Error> {
    match timeout(shared.settings.deadlines.dial, action).await {
        Ok(done) => done.map_err(|error| failed(&error)),
        Err(_) => Err(failed(&io::Error::new(
            io::ErrorKind::TimedOut,
            "deadline has elapsed",
        ))),
    }
}

fn failed(error: &io::Error) -> Error {
    let text = format!("connection failed: {error}");
    Error::new(Stage::Dial, Side::Upstream, "dial", text)
}

#[cfg(test)]
mod tests;
