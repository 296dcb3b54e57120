//! Peers' tunnels on their way in: 15008, from accept to the end of the last stream.
//!
//! What a stream asks for is `inbound/request.rs`' business. Counterpart: `tunnel/client.rs` on the other node.

mod request;

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::doors::Guest;
use crate::error::{Error, Side, Stage};
use crate::sys;
use crate::tasks::spawn_local;
use crate::telemetry::Reporter;
use crate::telemetry::access_log::Direction;
use crate::telemetry::metrics;
use crate::tls::Session;
use crate::tunnel::server::Serving;
use crate::tunnel::{self, TunnelEnd};
use crate::worker::Worker;
use request::Request;

/// Tunnels of one worker at once, in handshake or open: beyond it new ones are refused at the door.
const MAX_TUNNELS: usize = 16 * 1024;

/// What is the same for every stream of a tunnel.
struct Peer {
    worker: Rc<Worker>,
    /// The other node.
    address: SocketAddr,
    /// Where it reached us: the workload's address, port 15008.
    local: SocketAddr,
    /// The listener may keep the client's address toward the application.
    transparent: bool,
}

/// Serves one accepted connection, from TLS to the end of its last stream.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpStream,
    address: SocketAddr,
    transparent: bool,
) {
    let _open = worker.recorder.socket(Reporter::Destination);
    let Ok(local) = socket.local_addr() else {
        return;
    };
    let peer = Rc::new(Peer {
        worker: worker.clone(),
        address: sys::canonical(address),
        local: sys::canonical(local),
        transparent,
    });
    let guest = match worker.doors.enter(peer.address.ip()) {
        Err(crowded) => return peer.deny(&overload(crowded.to_string())),
        Ok(guest) => guest,
    };
    match peer.session().await {
        Err(error) => peer.deny(&error),
        Ok(session) => peer.tunnel(socket, session, guest).await,
    }
}

/// What a tunnel's end says against the peer. An ordinary loss after the handshake is each stream's own matter.
fn refusal(end: &TunnelEnd, established: bool) -> Option<Error> {
    let (stage, reason) = match end {
        TunnelEnd::Tls(_) if established => return None,
        TunnelEnd::Tls(error) => (Stage::Handshake, error.reason()),
        TunnelEnd::HandshakeTimeout(_) => (Stage::Handshake, "handshake_timeout"),
        TunnelEnd::PrefaceTimeout(_) => (Stage::Tunnel, "preface_timeout"),
        TunnelEnd::HeadersTimeout(_) => (Stage::Tunnel, "headers_timeout"),
        TunnelEnd::Http2(_) => (Stage::Tunnel, "http2"),
        TunnelEnd::PingTimeout => (Stage::Tunnel, "ping_timeout"),
        _ => return None,
    };
    Some(Error::new(stage, Side::Downstream, reason, end.to_string()))
}

fn overload(text: String) -> Error {
    Error::new(Stage::Tunnel, Side::Local, "overload", text)
}

impl Peer {
    /// Our side of the handshake: the local workload's certificate as it is now.
    async fn session(&self) -> Result<Session, Error> {
        if self.worker.tunnels.len() >= MAX_TUNNELS {
            return Err(overload(format!(
                "too many tunnels on this worker: {MAX_TUNNELS}"
            )));
        }
        let workload = self.worker.local_workload().await?;
        let certificate = self.worker.certificate(&workload.identity()).await?;
        Session::server(certificate.server()).map_err(|error| {
            let text = format!("tls error: {error}");
            Error::new(Stage::TlsConfig, Side::Local, "tls_config", text)
        })
    }

    async fn tunnel(self: &Rc<Self>, socket: TcpStream, session: Session, guest: Guest) {
        let shared = &self.worker.shared;
        let _open = shared.metrics.tunnel(metrics::Side::Inbound);
        let serving = Serving {
            engine: shared.server_engine(),
            timeouts: shared.timeouts(),
            tunnels: &self.worker.tunnels,
            metrics: &shared.metrics,
            handshakes: &self.worker.handshakes,
        };
        let on_request = |stream, request: tunnel::Request| {
            spawn_local(Request::new(self.clone(), stream, request.head).serve());
        };
        let on_end = |end: &TunnelEnd, established| {
            if let Some(error) = refusal(end, established) {
                self.deny(&error);
            }
        };
        serving
            .serve(socket, session, guest, on_request, on_end)
            .await;
    }

    fn deny(&self, error: &Error) {
        let shared = &self.worker.shared;
        shared.metrics.refused(metrics::Side::Inbound, error.reason);
        shared.deny_early(Direction::Inbound, self.address, Some(self.local), error);
    }
}
