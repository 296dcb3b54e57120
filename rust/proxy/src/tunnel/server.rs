//! Serving a tunnel: TLS with a client certificate, HTTP/2, one request handler per stream.
//!
//! What a request may do is decided in `inbound.rs`.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::driver::Timeouts;
use super::revocation;
use super::set::TunnelSet;
use super::state::{Request, Tunnel, TunnelEnd, handshake_result};
use super::stream::TunnelStream;
use crate::telemetry::metrics::{Metrics, Side};
use crate::tls::Session;
use crate::turns::{Turn, Turns};

/// What every tunnel that is served has in common.
pub(crate) struct Serving<'s> {
    pub(crate) engine: hbone::Config,
    pub(crate) timeouts: Timeouts,
    pub(crate) tunnels: &'s Rc<TunnelSet>,
    pub(crate) metrics: &'s Metrics,
    pub(crate) handshakes: &'s Rc<Turns>,
}

impl Serving<'_> {
    /// Serves one accepted connection until it ends. `door` is dropped as soon as TLS stands or has failed; `on_end` hears
    /// the reason and whether TLS had stood.
    pub(crate) async fn serve(
        self,
        socket: TcpStream,
        session: Session,
        door: impl Sized,
        on_request: impl Fn(TunnelStream, Request),
        on_end: impl FnOnce(&TunnelEnd, bool),
    ) {
        let tunnel = Tunnel::new(hbone::Connection::new(self.engine), session);
        let _member = self.tunnels.add(tunnel.clone());
        if self.tunnels.is_leaving() {
            tunnel.close_when_idle();
        }
        let count = async {
            let outcome = tunnel.established().await;
            drop(door);
            self.metrics
                .handshake(Side::Inbound, handshake_result(&outcome));
            revocation::count(self.metrics, Side::Inbound, &outcome);
        };
        let serve = |tunnel: &Rc<Tunnel>, request: Request| {
            on_request(tunnel.accept(request.stream), request);
        };
        let end = |end: &TunnelEnd| on_end(end, tunnel.was_established());
        let turn = Turn::of(self.handshakes);
        let drive = tunnel
            .clone()
            .drive(socket, self.timeouts, turn, serve, end);
        tokio::join!(drive, count);
    }
}
