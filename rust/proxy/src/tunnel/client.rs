//! Making a tunnel: TCP, TLS with the peer's identity checked, HTTP/2.
//!
//! One deadline for each step and no lock across any of them; who may wait for a dial is `pool.rs`'s matter.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::driver::Timeouts;
use super::revocation;
use super::set::TunnelSet;
use super::state::{Tunnel, TunnelEnd, handshake_result};
use crate::error::{Error, Side, Stage};
use crate::sys;
use crate::tasks::spawn_local;
use crate::telemetry::metrics::{self, Metrics};
use crate::tls::{Session, TlsError};
use crate::turns::{Turn, Turns};

/// What every dial of a worker has in common.
pub(crate) struct Dialer {
    pub(crate) engine: hbone::Config,
    pub(crate) timeouts: Timeouts,
    pub(crate) connect: Duration,
    pub(crate) keepalive: Option<sys::Keepalive>,
    pub(crate) mark: Option<u32>,
    pub(crate) tunnels: Rc<TunnelSet>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) handshakes: Rc<Turns>,
}

impl Dialer {
    /// The most that making a tunnel may take.
    pub(super) fn patience(&self) -> Duration {
        self.connect + self.timeouts.handshake
    }

    /// Makes a tunnel to `peer` with a session that knows whom to expect.
    ///
    /// # Errors
    /// The stage that failed, with the peer's address.
    pub(crate) async fn tunnel(
        &self,
        peer: SocketAddr,
        session: Result<Session, TlsError>,
    ) -> Result<Rc<Tunnel>, Error> {
        let session = session.map_err(|error| session_failed(&error))?;
        let socket = self
            .tcp(peer)
            .await
            .map_err(|error| dial_failed(peer, &error))?;
        let tunnel = Tunnel::new(hbone::Connection::new(self.engine.clone()), session);
        let member = self.tunnels.add(tunnel.clone());
        let driver = tunnel.clone().drive(
            socket,
            self.timeouts,
            Turn::of(&self.handshakes),
            |_, _| (),
            |_| (),
        );
        let open = self.metrics.tunnel(metrics::Side::Outbound);
        spawn_local(async move {
            driver.await;
            drop((member, open));
        });
        let outcome = tunnel.established().await;
        self.metrics
            .handshake(metrics::Side::Outbound, handshake_result(&outcome));
        revocation::count(&self.metrics, metrics::Side::Outbound, &outcome);
        outcome.map_err(|end| tunnel_failed(peer, &end))?;
        Ok(tunnel)
    }

    async fn tcp(&self, peer: SocketAddr) -> io::Result<tokio::net::TcpStream> {
        let socket = sys::socket_for_dial(peer, None, self.mark, self.keepalive.as_ref())?;
        match timeout(self.connect, socket.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "deadline has elapsed",
            )),
        }
    }
}

/// Our own configuration makes no session.
pub(super) fn session_failed(error: &TlsError) -> Error {
    let text = format!("tls error: {error}");
    Error::new(Stage::TlsConfig, Side::Local, "tls_config", text)
}

fn dial_failed(peer: SocketAddr, error: &io::Error) -> Error {
    if error.kind() == io::ErrorKind::TimedOut {
        return Error::new(
            Stage::DialTimeout,
            Side::Upstream,
            "dial_timeout",
            format!(
                "connection timed out, maybe a NetworkPolicy is blocking HBONE port {}: {error}",
                peer.port()
            ),
        );
    }
    Error::new(
        Stage::Dial,
        Side::Upstream,
        "dial",
        format!("io error: {error}"),
    )
}

fn tunnel_failed(peer: SocketAddr, end: &TunnelEnd) -> Error {
    let (stage, reason, what) = match end {
        TunnelEnd::Tls(error) => (Stage::Handshake, error.reason(), "io error"),
        TunnelEnd::HandshakeTimeout(_) => (Stage::Handshake, "handshake_timeout", "io error"),
        TunnelEnd::Http2(_) => (Stage::Tunnel, "http2", "http2 handshake failed"),
        _ => (Stage::Handshake, "connection_lost", "io error"),
    };
    let text = format!("{what}: {end}: {peer}");
    Error::new(stage, Side::Upstream, reason, text)
}

#[cfg(test)]
mod tests;
