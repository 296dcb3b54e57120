//! Serving a tunnel: TLS with a client certificate, HTTP/2, one request handler per stream.
//!
//! What a request may do is decided in `inbound.rs`.

use std::rc::Rc;

use tokio::net::TcpStream;

use super::driver::Timeouts;
use super::set::TunnelSet;
use super::state::{Request, Tunnel, TunnelEnd};
use super::stream::TunnelStream;
use crate::tls::Session;

/// Serves one accepted connection until it ends, and gives the reason.
pub(crate) async fn serve(
    socket: TcpStream,
    session: Session,
    engine: hbone::Config,
    timeouts: Timeouts,
    tunnels: &Rc<TunnelSet>,
    on_request: impl Fn(TunnelStream, Request),
) -> Rc<TunnelEnd> {
    let tunnel = Tunnel::new(hbone::Connection::new(engine), session);
    let member = tunnels.add(tunnel.clone());
    let end = tunnel
        .drive(socket, timeouts, |tunnel, request| {
            on_request(tunnel.accept(request.stream), request);
        })
        .await;
    drop(member);
    end
}
