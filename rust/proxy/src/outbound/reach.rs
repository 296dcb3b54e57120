//! The next hop of an application's connection: a tunnel, a tunnel inside a tunnel, or a plain connection.
//!
//! Where it goes has been decided (`mesh::route`); here it is dialled, within the deadlines of each step
//! (spec/dataplane.md §2.4). What is made of the outcome is `outbound.rs`'s.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use hbone::headers::{Forwarded, TraceParent, X_FORWARDED_NETWORK};
use hbone::{Fields, RequestHead};
use mesh::identity::Identity;
use mesh::route::{Route, Target};
use mesh::service::Service;
use mesh::workload::Workload;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Connection, Failed};
use crate::connection::{ConnectionRecord, FarEnd};
use crate::error::{Error, Side, Stage};
use crate::relay::abort::guard;
use crate::sys;
use crate::tls::{Session, WorkloadCertificate};
use crate::tunnel::first_flight::FirstFlight;
use crate::tunnel::nested::Nested;
use crate::tunnel::pool::PoolKey;
use crate::tunnel::{BehindGateway, TunnelStream};

/// The next hop, connected.
pub(super) enum Upstream {
    Stream(TunnelStream, FirstFlight),
    Socket(Rc<TcpStream>),
}

/// One request through the mesh.
struct Call<'a> {
    source: &'a Arc<Workload>,
    /// The peer to dial: the destination, its waypoint, or a gateway.
    peer: SocketAddr,
    expected: &'a [Identity],
    head: RequestHead,
}

impl Connection {
    /// Dials, and opens the record: before the dial, so that it is counted while it is being made, but behind a gateway
    /// only when it is known who is there (§2.1 step 8).
    pub(super) async fn reach(
        &self,
        source: &Arc<Workload>,
        route: &Route,
        first: FirstFlight,
    ) -> Result<(Upstream, ConnectionRecord), Failed> {
        let pairs = &self.worker.pairs;
        let toward = |far: Option<&FarEnd<'_>>| {
            ConnectionRecord::outbound(pairs, self.started, self.client, source, route, far)
        };
        if let Route::DoubleHbone { .. } = route {
            let introduction = ConnectionRecord::introduction_on(pairs, source, route);
            // Boxed, so that those who need no gateway do not carry what it takes.
            let nested = Box::pin(self.nested(source, route, &introduction, &first));
            let reached = self.unless_cut(nested).await;
            return match reached {
                Ok(nested) => {
                    let far = FarEnd {
                        fields: &nested.fields,
                        identity: nested.peer.as_ref(),
                    };
                    let record = toward(Some(&far));
                    Ok((Upstream::Stream(nested.stream, first), record))
                }
                Err(error) => Err(Failed::recorded(error, toward(None))),
            };
        }
        let record = toward(None);
        let reached = self
            .unless_cut(self.direct(source, route, record.introduction(), first))
            .await;
        match reached {
            Ok(upstream) => Ok((upstream, record)),
            Err(error) => Err(Failed::recorded(error, record)),
        }
    }

    async fn direct(
        &self,
        source: &Arc<Workload>,
        route: &Route,
        introduction: &str,
        first: FirstFlight,
    ) -> Result<Upstream, Error> {
        match route {
            Route::Hbone {
                peer,
                authority,
                expected,
                service,
                ..
            } => {
                let call = Call {
                    source,
                    peer: *peer,
                    expected,
                    head: self.request(authority, introduction, service.as_ref()),
                };
                let certificate = self.worker.certificate(&source.identity()).await?;
                let stream = self.tunnel(&call, &certificate, &first).await?;
                Ok(Upstream::Stream(stream, first))
            }
            Route::Passthrough { destination, .. } => {
                self.dial(*destination).await.map(Upstream::Socket)
            }
            Route::DoubleHbone { .. } | Route::Resolve(_) => {
                unreachable!("a gateway's and an unresolved route are others' to follow")
            }
        }
    }

    /// A stream through the gateway, a handshake with whoever is behind it, and a request there (§2.4).
    async fn nested(
        &self,
        source: &Arc<Workload>,
        route: &Route,
        introduction: &str,
        first: &FirstFlight,
    ) -> Result<Nested, Error> {
        let Route::DoubleHbone {
            peer,
            authority,
            expected,
            inner_expected,
            service,
            ..
        } = route
        else {
            unreachable!("only called for a route through a gateway");
        };
        let worker = &self.worker;
        let outer = self.request(authority, introduction, Some(service));
        let inner = sent_on(&outer, &worker.shared.settings.network);
        let call = Call {
            source,
            peer: *peer,
            expected,
            head: outer,
        };
        let certificate = worker.certificate(&source.identity()).await?;
        // The application's first bytes are for who is behind, not for the gateway.
        let silence = FirstFlight::none();
        let outer = self.tunnel(&call, &certificate, &silence).await?;
        let behind = BehindGateway {
            outer,
            gateway: *peer,
            session: Session::client(certificate.client(inner_expected)),
            head: inner,
        };
        let deadline = worker.shared.settings.deadlines.connect;
        worker.dialer.nest(behind, deadline, first).await
    }

    /// Opens a stream through the mesh and waits for the peer to agree.
    async fn tunnel(
        &self,
        call: &Call<'_>,
        certificate: &WorkloadCertificate,
        first: &FirstFlight,
    ) -> Result<TunnelStream, Error> {
        let worker = &self.worker;
        let key = PoolKey {
            source: call.source.identity(),
            expected: call.expected.to_vec(),
            peer: call.peer,
            client: self.client.ip(),
        };
        let session = || Session::client(certificate.client(&key.expected));
        let deadline = worker.shared.settings.deadlines.connect;
        let pool = &worker.pool;
        pool.connect(&key, &call.head, session, deadline, first)
            .await
    }

    fn request(
        &self,
        authority: &Target,
        introduction: &str,
        service: Option<&Arc<Service>>,
    ) -> RequestHead {
        let random = &self.worker.random;
        let host = service.map(|service| &*service.hostname);
        let trace = TraceParent {
            trace: u128::from(random.next()) << 64 | u128::from(random.next()),
            parent: random.next(),
        };
        let fields = Fields::default()
            .with("baggage", introduction)
            .with("forwarded", Forwarded::encode(self.client, host))
            .with("traceparent", trace.encode());
        RequestHead::connect(authority.to_string(), fields)
    }

    async fn dial(&self, destination: SocketAddr) -> Result<Rc<TcpStream>, Error> {
        let shared = &self.worker.shared;
        let failed = |error: &io::Error| {
            let reason = match error.kind() {
                io::ErrorKind::TimedOut => "dial_timeout",
                io::ErrorKind::ConnectionRefused => "dial_refused",
                _ => "dial",
            };
            let text = format!("io error: {error}");
            Error::new(Stage::Dial, Side::Upstream, reason, text)
        };
        let mark = shared.settings.packet_mark;
        let socket = sys::socket_for_dial(destination, None, mark, shared.keepalive().as_ref())
            .map_err(|error| failed(&error))?;
        match timeout(shared.settings.deadlines.dial, socket.connect()).await {
            Ok(Ok(socket)) => {
                guard(&socket);
                Ok(Rc::new(socket))
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&io::Error::new(
                io::ErrorKind::TimedOut,
                "deadline has elapsed",
            ))),
        }
    }

    /// Goes on with `work` until a drain or somebody else ends the connection.
    pub(super) async fn unless_cut<T>(
        &self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            error = self.registration.cut() => Err(error),
            done = work => done,
        }
    }
}

/// What whoever is behind a gateway is asked: the same, under the same trace, and from which network (§2.4, §6.5).
fn sent_on(outer: &RequestHead, network: &str) -> RequestHead {
    let mut inner = outer.clone();
    inner.fields.push(X_FORWARDED_NETWORK, network);
    inner
}

#[cfg(test)]
mod tests;
