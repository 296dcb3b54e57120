//! Peers' tunnels on their way in: 15008.
//!
//! The order of checks is a contract with every peer (spec/dataplane.md §3.2); [`Request::handle`] is that order.
//! Counterpart: `outbound.rs` on the other node.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hbone::headers::{Authority, Forwarded};
use hbone::{RequestHead, ResponseHead};
use mesh::authorize::ConnectionFacts;
use mesh::identity::Identity;
use mesh::route::{InboundFacts, InboundRoute, Target, inbound};
use mesh::workload::Workload;
use tokio::net::TcpStream;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::connection::{ConnectionRecord, Source};
use crate::connections::{Guarded, Registration};
use crate::error::{Error, Side, Stage};
use crate::outbound::patience;
use crate::policy::permit;
use crate::relay::RelayEnd;
use crate::relay::abort::{abort, finish, guard};
use crate::relay::halves::Halves;
use crate::shared::Shared;
use crate::sys;
use crate::telemetry::Reporter;
use crate::telemetry::access_log::Direction;
use crate::telemetry::log::Level;
use crate::telemetry::metrics;
use crate::tls::Session;
use crate::tunnel::server::Serving;
use crate::tunnel::{self, TunnelEnd, TunnelStream};
use crate::worker::Worker;

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
    match peer.session().await {
        Err(error) => peer.deny(&error),
        Ok(session) => peer.tunnel(socket, session).await,
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

impl Peer {
    /// Our side of the handshake: the local workload's certificate as it is now.
    async fn session(&self) -> Result<Session, Error> {
        if self.worker.tunnels.len() >= MAX_TUNNELS {
            let text = format!("too many tunnels on this worker: {MAX_TUNNELS}");
            return Err(Error::new(Stage::Tunnel, Side::Local, "overload", text));
        }
        let workload = self.worker.local_workload().await?;
        let certificate = self.worker.certificate(&workload.identity()).await?;
        Session::server(certificate.server()).map_err(|error| {
            let text = format!("tls error: {error}");
            Error::new(Stage::TlsConfig, Side::Local, "tls_config", text)
        })
    }

    async fn tunnel(self: &Rc<Self>, socket: TcpStream, session: Session) {
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
            let request = Request {
                peer: self.clone(),
                stream,
                head: Some(Box::new(request.head)),
                started: Instant::now(),
                registration: self.worker.connections.register(),
            };
            spawn_local(request.serve());
        };
        let on_end = |end: &TunnelEnd, established| {
            if let Some(error) = refusal(end, established) {
                self.deny(&error);
            }
        };
        serving.serve(socket, session, on_request, on_end).await;
    }

    fn deny(&self, error: &Error) {
        let shared = &self.worker.shared;
        shared.metrics.refused(metrics::Side::Inbound, error.reason);
        shared.deny_early(Direction::Inbound, self.address, Some(self.local), error);
    }
}

/// One CONNECT.
struct Request {
    peer: Rc<Peer>,
    stream: TunnelStream,
    /// Until it is answered.
    head: Option<Box<RequestHead>>,
    started: Instant,
    registration: Registration,
}

/// A request that was turned down: what the peer is told, what the log says.
struct Refusal {
    status: u16,
    error: Error,
    /// Present once the request had come far enough to count as a connection.
    record: Option<Box<ConnectionRecord>>,
}

impl Refusal {
    fn early(status: u16, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status,
            error: Error::new(Stage::Lookup, Side::Downstream, reason, text),
            record: None,
        }
    }
}

impl Request {
    async fn serve(mut self) {
        // All but the relay is boxed: what answering a request needs is not kept for as long as its connection lives.
        let Some((application, record)) = Box::pin(self.answer()).await else {
            return;
        };
        let mut halves = Halves::new(&self.stream, &application, Side::Upstream, &record.sent);
        let end = halves.run(self.registration.cut_in_tunnel()).await;
        Box::pin(self.end(application, record, end)).await;
    }

    /// `None`: the request was turned down.
    async fn answer(&mut self) -> Option<(Rc<TcpStream>, ConnectionRecord)> {
        let handled = self.handle().await;
        self.head = None;
        match handled {
            Ok((application, record)) => {
                self.stream
                    .attach(application.clone(), record.received.clone());
                Some((application, record))
            }
            Err(refusal) => {
                self.refuse(*refusal);
                None
            }
        }
    }

    /// The checks, in the order that peers rely on.
    async fn handle(&self) -> Result<(Rc<TcpStream>, ConnectionRecord), Box<Refusal>> {
        let target = self.target()?;
        let workload = self.local_workload().await?;
        let next = self.next_hop(&workload, &target)?;
        let record = self.record(&workload, &target, &next);
        let facts = self.facts(&next);
        // Registered first: a policy that changes between the two lines ends the connection instead of missing it.
        self.registration.guard(Guarded {
            workload: workload.uid.clone(),
            facts: facts.clone(),
            host: self.host().map(String::into_boxed_str),
        });
        let shared = &self.peer.worker.shared;
        if let Err(error) = permit(shared, &workload, &facts) {
            return Err(Box::new(Refusal {
                status: 401,
                error,
                record: Some(Box::new(record)),
            }));
        }
        let source = self.peer.transparent.then(|| self.peer.address.ip());
        // Whoever asked may give up meanwhile, or policy may change.
        let dialled = tokio::select! {
            biased;
            error = self.stopped() => Err(error),
            dialled = dial_application(shared, source, next.destination) => dialled,
        };
        match dialled {
            Ok(application) => {
                guard(&application);
                self.accept(&record);
                Ok((Rc::new(application), record))
            }
            Err(error) => Err(Box::new(Refusal {
                status: if error.stage == Stage::Policy {
                    401
                } else {
                    503
                },
                error,
                record: Some(Box::new(record)),
            })),
        }
    }

    /// Resolves when the request need not be answered any more.
    async fn stopped(&self) -> Error {
        tokio::select! {
            biased;
            error = self.registration.cut_in_tunnel() => error,
            _ = self.stream.cut() => Error::new(
                Stage::Relay,
                Side::Downstream,
                "cancelled",
                "client disconnected before the connection was made",
            ),
        }
    }

    fn head(&self) -> &RequestHead {
        self.head.as_ref().expect("kept until it is answered")
    }

    fn target(&self) -> Result<Target, Refusal> {
        let head = self.head();
        if head.method != "CONNECT" {
            let text = format!("expected method CONNECT, got {}", head.method);
            return Err(Refusal::early(400, "method", text));
        }
        let authority = head.authority.as_deref().unwrap_or_default();
        match Authority::parse(authority) {
            Ok(Authority::Address(address)) => Ok(Target::Address(sys::canonical(address))),
            Ok(Authority::Host { host, port }) => Ok(Target::Host {
                hostname: host,
                port,
            }),
            Err(_) => Err(Refusal::early(
                400,
                "authority",
                format!("no valid authority pseudo header: {authority}"),
            )),
        }
    }

    async fn local_workload(&self) -> Result<Arc<Workload>, Refusal> {
        self.peer
            .worker
            .local_workload()
            .await
            .map_err(|error| Refusal {
                status: 503,
                error,
                record: None,
            })
    }

    fn next_hop(&self, workload: &Workload, target: &Target) -> Result<InboundRoute, Refusal> {
        let shared = &self.peer.worker.shared;
        inbound(
            &shared.snapshot(),
            &InboundFacts {
                local: workload,
                local_address: self.peer.local.ip(),
                target,
                network: &shared.settings.network,
                reserved_ports: shared.reserved_ports(),
            },
        )
        .map_err(|refusal| Refusal::early(refusal.status(), "destination", refusal.to_string()))
    }

    fn identity(&self) -> Option<Identity> {
        self.stream.tunnel().peer()
    }

    fn record(
        &self,
        workload: &Arc<Workload>,
        target: &Target,
        next: &InboundRoute,
    ) -> ConnectionRecord {
        let peer = &self.peer;
        let shared = &peer.worker.shared;
        let network = &shared.settings.network;
        // A gateway speaks for a workload of another network, whose address means nothing here.
        let from_gateway = self
            .head()
            .fields
            .get("x-forwarded-network")
            .and_then(|value| std::str::from_utf8(value).ok())
            .is_some_and(|other| !other.eq_ignore_ascii_case(network));
        let snapshot = shared.snapshot();
        let known = (!from_gateway)
            .then(|| snapshot.workload_by_address(network, peer.address.ip()))
            .flatten();
        let identity = self.identity();
        let source = Source {
            identity: identity.as_ref(),
            workload: known,
            fields: &self.head().fields,
        };
        let host = self.host();
        let service =
            mesh::route::guess_service(&next.candidates, host.as_deref(), next.destination.port());
        ConnectionRecord::inbound(
            &peer.worker.pairs,
            self.started,
            (peer.address, peer.local),
            &source,
            workload,
            target,
            service,
        )
    }

    /// The service that the client says it asked for.
    fn host(&self) -> Option<String> {
        self.head()
            .fields
            .get("forwarded")
            .and_then(Forwarded::host)
    }

    fn facts(&self, next: &InboundRoute) -> ConnectionFacts {
        ConnectionFacts {
            source: self.peer.address,
            destination: next.destination,
            identity: self.identity(),
        }
    }

    fn accept(&self, record: &ConnectionRecord) {
        let mut head = ResponseHead::status(200);
        head.fields.push("baggage", record.introduction());
        self.stream.respond(&head, false);
    }

    async fn end(self, application: Rc<TcpStream>, record: ConnectionRecord, end: RelayEnd) {
        match &end {
            RelayEnd::Finished | RelayEnd::Reset(_) => record.close(Ok(())),
            RelayEnd::Failed(error) | RelayEnd::Cut(error) => record.close(Err(error)),
        }
        // Resets the stream unless both sides have finished.
        drop(self.stream);
        if matches!(end, RelayEnd::Finished) {
            finish(&application);
        } else {
            abort(application, patience(&end, Side::Upstream)).await;
        }
    }

    fn refuse(&self, refusal: Refusal) {
        let Refusal {
            status,
            error,
            record,
        } = refusal;
        self.stream.respond(&ResponseHead::status(status), true);
        match record {
            Some(record) => {
                let shared = &self.peer.worker.shared;
                shared.metrics.refused(metrics::Side::Inbound, error.reason);
                record.close(Err(&error));
            }
            None => self.peer.deny(&error),
        }
    }
}

/// Connects to the local application, from the client's address if there is one to keep.
///
/// # Errors
/// It cannot be reached within the deadline.
pub(crate) async fn dial_application(
    shared: &Shared,
    source: Option<IpAddr>,
    destination: SocketAddr,
) -> Result<TcpStream, Error> {
    let failed = |error: &io::Error| {
        let text = format!("connection failed: {error}");
        Error::new(Stage::Dial, Side::Upstream, "dial", text)
    };
    let mark = shared.settings.packet_mark;
    let socket = sys::socket_for_dial(destination, source, mark, shared.keepalive().as_ref())
        .map_err(|error| failed(&error))?;
    if let Some(error) = &socket.source_lost {
        let text = format!("cannot keep the client's address toward {destination}: {error}");
        shared
            .log
            .repeating(Level::Warn, "source_lost", "proxy::inbound", &text, &[]);
    }
    match timeout(shared.settings.deadlines.dial, socket.connect()).await {
        Ok(connected) => connected.map_err(|error| failed(&error)),
        Err(_) => Err(failed(&io::Error::new(
            io::ErrorKind::TimedOut,
            "deadline has elapsed",
        ))),
    }
}
