//! A tunnel inside a stream of another one: double HBONE (spec/dataplane.md §2.4).
//!
//! ```text
//!   application ─▶ CONNECT stream │ inner HTTP/2 │ inner TLS ─▶ CONNECT stream │ HTTP/2 │ TLS ─▶ gateway
//! ```
//! The gateway relays the outer stream's payload to somebody of its choice, whom the inner TLS identifies. So the inner
//! tunnel is for one stream and is never pooled: others would all end at the same peer. It has no buffer of its own, and
//! what its application does not read stops the outer stream's window. Counterpart: `client.rs`, over TCP.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use hbone::{Fields, RequestHead};
use mesh::identity::Identity;
use tokio::time::{Instant, timeout_at};

use super::client::{Dialer, session_failed};
use super::first_flight::FirstFlight;
use super::request;
use super::revocation;
use super::state::{Tunnel, TunnelEnd, handshake_result};
use super::stream::TunnelStream;
use crate::error::{Error, Side, Stage};
use crate::tasks::spawn_local;
use crate::telemetry::metrics;
use crate::tls::{Session, TlsError};
use crate::turns::Turn;

/// What is to be made behind a gateway.
pub(crate) struct BehindGateway {
    /// The stream that the gateway has accepted.
    pub(crate) outer: TunnelStream,
    pub(crate) gateway: SocketAddr,
    /// Knows whom to expect inside.
    pub(crate) session: Result<Session, TlsError>,
    pub(crate) head: RequestHead,
}

/// What a gateway's stream leads to: the one stream of the inner tunnel, and who is at its end.
pub(crate) struct Nested {
    /// Dropping it ends the inner tunnel, and with that the outer stream.
    pub(crate) stream: TunnelStream,
    /// Whom the inner handshake has proven.
    pub(crate) peer: Option<Identity>,
    /// What came with the inner peer's answer, `baggage` among it.
    pub(crate) fields: Fields,
}

impl Dialer {
    /// Makes a tunnel inside a gateway's stream and a request in it, all within `deadline`. What the application says
    /// meanwhile goes along with the request.
    ///
    /// # Errors
    /// What failed inside; the outer stream is reset.
    pub(crate) async fn nest(
        &self,
        behind: BehindGateway,
        deadline: Duration,
        first: &FirstFlight,
    ) -> Result<Nested, Error> {
        let by = Instant::now() + deadline;
        let BehindGateway { outer, gateway, .. } = behind;
        let session = behind.session.map_err(|error| session_failed(&error))?;
        let tunnel = Tunnel::new(hbone::Connection::new(self.engine.clone()), session);
        let mut making = Making(Some(tunnel.clone()));
        let member = self.tunnels.add_inner(&tunnel);
        let turn = Turn::of(&self.handshakes);
        let driver = tunnel
            .clone()
            .drive(outer, self.timeouts, turn, |_, _| (), |_| ());
        let open = self.metrics.tunnel(metrics::Side::Outbound);
        spawn_local(async move {
            driver.await;
            drop((member, open));
        });
        let outcome = match timeout_at(by, tunnel.established()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Rc::new(TunnelEnd::HandshakeTimeout(deadline))),
        };
        self.metrics
            .handshake(metrics::Side::Outbound, handshake_result(&outcome));
        revocation::count(&self.metrics, metrics::Side::Outbound, &outcome);
        outcome.map_err(|end| handshake_failed(gateway, &end))?;
        let stream = tunnel.open(&behind.head).map_err(|_| lost(gateway))?;
        // For this one only: with it the tunnel ends in order.
        tunnel.close_when_idle();
        making.0 = None;
        let left = by.saturating_duration_since(Instant::now());
        let answer = request::answer(&stream, left, first).await?;
        Ok(Nested {
            peer: tunnel.peer(),
            fields: answer.fields,
            stream,
        })
    }
}

/// Ends an inner tunnel for which nobody waits any more before it has come to its stream.
struct Making(Option<Rc<Tunnel>>);

impl Drop for Making {
    fn drop(&mut self) {
        if let Some(tunnel) = &self.0 {
            tunnel.abort();
        }
    }
}

fn handshake_failed(gateway: SocketAddr, end: &TunnelEnd) -> Error {
    let reason = match end {
        TunnelEnd::Tls(error) => error.reason(),
        TunnelEnd::HandshakeTimeout(_) => "handshake_timeout",
        _ => "connection_lost",
    };
    let text = format!("io error: {end}: through gateway {gateway}");
    Error::new(Stage::Handshake, Side::Upstream, reason, text)
}

/// Between the handshake and the request.
fn lost(gateway: SocketAddr) -> Error {
    let text = format!("h2 failed: connection lost: through gateway {gateway}");
    Error::new(Stage::Tunnel, Side::Upstream, "connect_lost", text)
}

#[cfg(test)]
mod tests;
