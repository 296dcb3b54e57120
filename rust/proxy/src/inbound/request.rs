//! One CONNECT: is it allowed, where does it go, and then its bytes.
//!
//! The order of checks is a contract with every peer (spec/dataplane.md §3.2); [`Request::handle`] is that order.
//! Counterpart: `outbound.rs` on the other node.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hbone::headers::{
    Authority, BAGGAGE, FORWARDED, Forwarded, ForwardedNetwork, X_FORWARDED_NETWORK,
};
use hbone::{Fields, RequestHead, ResponseHead};
use mesh::authorize::ConnectionFacts;
use mesh::identity::Identity;
use mesh::route::{InboundFacts, InboundRefusal, InboundRoute, Target, inbound, inbound_miss};
use mesh::workload::Workload;
use tokio::net::TcpStream;

use super::Peer;
use crate::connection::{ConnectionRecord, Source};
use crate::connections::{Guarded, Registration};
use crate::deliver::{Delivery, introduce};
use crate::demand::{Asker, Demand};
use crate::error::{Error, Side, Stage};
use crate::outbound::patience;
use crate::policy::permit;
use crate::relay::RelayEnd;
use crate::relay::abort::{abort, finish, guard};
use crate::relay::halves::Halves;
use crate::sys;
use crate::telemetry::metrics;
use crate::tunnel::{StreamEnd, TunnelStream};

/// One CONNECT.
pub(super) struct Request {
    peer: Rc<Peer>,
    stream: TunnelStream,
    /// Until it is answered.
    head: Option<Box<RequestHead>>,
    started: Instant,
    registration: Registration,
}

/// A request that was turned down: what the peer is told, what the log says.
struct Refusal {
    /// `None`: it has been answered already, with a 200 that cannot be kept; the stream is reset.
    status: Option<u16>,
    error: Error,
    /// Present once the request had come far enough to count as a connection.
    record: Option<Box<ConnectionRecord>>,
}

impl Refusal {
    fn early(status: u16, reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            status: Some(status),
            error: Error::new(Stage::Lookup, Side::Downstream, reason, text),
            record: None,
        }
    }

    fn late(status: Option<u16>, error: Error, record: ConnectionRecord) -> Box<Self> {
        Box::new(Self {
            status,
            error,
            record: Some(Box::new(record)),
        })
    }
}

/// Whoever asked has gone, or shall not be answered.
fn gone(end: &StreamEnd) -> Error {
    if end.is_revoked() {
        return Error::peer_revoked(Side::Downstream);
    }
    let text = "client disconnected before the connection was made";
    Error::new(Stage::Relay, Side::Downstream, "cancelled", text)
}

impl Request {
    pub(super) fn new(peer: Rc<Peer>, stream: TunnelStream, head: RequestHead) -> Self {
        Self {
            stream,
            head: Some(Box::new(head)),
            started: Instant::now(),
            registration: peer.worker.connections.register(),
            peer,
        }
    }

    pub(super) async fn serve(mut self) {
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
        let next = self.next_hop(&workload, &target).await?;
        let host = self.host();
        let record = self.record(&workload, &target, &next, host.as_deref());
        let facts = self.facts(&next);
        // Registered first: a policy that changes between the two lines ends the connection instead of missing it.
        self.registration.guard(Guarded {
            workload: workload.uid.clone(),
            facts: facts.clone(),
            host: host.map(String::into_boxed_str),
        });
        let shared = &self.peer.worker.shared;
        if let Err(error) = permit(shared, &workload, &facts) {
            return Err(Refusal::late(Some(401), error, record));
        }
        let delivery = self.delivery(&next);
        let application = match self.unless_stopped(delivery.dial(shared)).await {
            Ok(application) => application,
            Err(error) => {
                let denied = error.stage == Stage::Policy;
                let status = if denied { 401 } else { 503 };
                return Err(Refusal::late(Some(status), error, record));
            }
        };
        guard(&application);
        self.accept(&record);
        if let Some(asked) = next.header {
            let addresses = (self.peer.address, asked);
            let told = introduce(shared, &application, addresses, facts.identity.as_ref());
            if let Err(error) = self.unless_stopped(told).await {
                return Err(Refusal::late(None, error, record));
            }
        }
        Ok((Rc::new(application), record))
    }

    /// Whoever asked may give up meanwhile, or policy may change.
    async fn unless_stopped<T>(
        &self,
        action: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            error = self.registration.cut_in_tunnel() => Err(error),
            end = self.stream.cut() => Err(gone(&end)),
            done = action => done,
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
                status: Some(503),
                error,
                record: None,
            })
    }

    async fn next_hop(
        &self,
        workload: &Workload,
        target: &Target,
    ) -> Result<InboundRoute, Box<Refusal>> {
        let shared = &self.peer.worker.shared;
        let facts = InboundFacts {
            local: workload,
            local_address: self.peer.local.ip(),
            target,
            network: &shared.settings.network,
            reserved_ports: shared.reserved_ports(),
        };
        let decided = match (inbound(&shared.snapshot(), &facts), &shared.demand) {
            (Err(refusal), Some(demand)) => {
                Box::pin(self.next_hop_on_demand(demand, &facts, refusal)).await?
            }
            (decided, _) => decided,
        };
        decided.map_err(|refusal| {
            let text = refusal.to_string();
            Box::new(Refusal::early(refusal.status(), "destination", text))
        })
    }

    /// The decision once more, if what it missed comes; for as long as that is possible.
    async fn next_hop_on_demand(
        &self,
        demand: &Demand,
        facts: &InboundFacts<'_>,
        mut refusal: InboundRefusal,
    ) -> Result<Result<InboundRoute, InboundRefusal>, Box<Refusal>> {
        let shared = &self.peer.worker.shared;
        let deadline = demand.deadline();
        let mut asked = None;
        // Who stands there, then its waypoint.
        for _ in 0..2 {
            let missed = inbound_miss(&shared.snapshot(), facts, &refusal);
            let Some(missed) = missed.filter(|missed| asked.as_ref() != Some(missed)) else {
                break;
            };
            let fetching = demand.fetch(shared, &missed, Asker::Peer, deadline);
            let fetched = self.unless_stopped(async { Ok(fetching.await) }).await;
            match fetched {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    return Err(Box::new(Refusal {
                        status: Some(503),
                        error,
                        record: None,
                    }));
                }
            }
            match inbound(&shared.snapshot(), facts) {
                Ok(route) => return Ok(Ok(route)),
                Err(another) => refusal = another,
            }
            asked = Some(missed);
        }
        Ok(Err(refusal))
    }

    fn identity(&self) -> Option<Identity> {
        self.stream.tunnel().peer()
    }

    /// The service that the client says it asked for.
    fn host(&self) -> Option<String> {
        self.head().fields.get(FORWARDED).and_then(Forwarded::host)
    }

    fn record(
        &self,
        workload: &Arc<Workload>,
        target: &Target,
        next: &InboundRoute,
        host: Option<&str>,
    ) -> ConnectionRecord {
        let peer = &self.peer;
        let settings = &peer.worker.shared.settings;
        let fields = &self.head().fields;
        // A gateway speaks for a workload of another network, whose address means nothing here.
        let sent_on =
            ForwardedNetwork::is_another(fields.get(X_FORWARDED_NETWORK), &settings.network);
        let snapshot = peer.worker.shared.snapshot();
        let known = (!sent_on)
            .then(|| {
                peer.worker
                    .shared
                    .peer_workload(&snapshot, peer.address.ip())
            })
            .flatten();
        let identity = self.identity();
        let source = Source {
            identity: identity.as_ref(),
            workload: known,
            fields: if settings.response_baggage {
                fields
            } else {
                &NOTHING_SAID
            },
        };
        let port = next.destination.port();
        let service = mesh::route::guess_service(&next.candidates, host, port);
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

    fn facts(&self, next: &InboundRoute) -> ConnectionFacts {
        ConnectionFacts {
            source: self.peer.address,
            destination: next.destination,
            identity: self.identity(),
        }
    }

    fn delivery(&self, next: &InboundRoute) -> Delivery {
        let peer = &self.peer;
        if next.header.is_some() && peer.worker.shared.settings.localhost_app_tunnel {
            return Delivery::on_loopback(next.destination);
        }
        let kept = peer.transparent.then(|| peer.address.ip());
        Delivery::straight(next.destination, kept)
    }

    fn accept(&self, record: &ConnectionRecord) {
        let mut head = ResponseHead::status(200);
        if self.peer.worker.shared.settings.response_baggage {
            head.fields.push(BAGGAGE, record.introduction());
        }
        self.stream.respond(&head, false);
    }

    async fn end(self, application: Rc<TcpStream>, record: ConnectionRecord, end: RelayEnd) {
        match &end {
            RelayEnd::Finished | RelayEnd::Reset(_) => record.close(Ok(())),
            RelayEnd::Failed(error) | RelayEnd::Cut(error) => record.close(Err(error)),
        }
        // Resets the stream unless both sides have finished.
        drop(self.stream);
        match &end {
            RelayEnd::Finished => finish(&application),
            RelayEnd::Cut(_) => self.peer.worker.spent.abort(application),
            RelayEnd::Failed(_) | RelayEnd::Reset(_) => {
                abort(application, patience(&end, Side::Upstream)).await;
            }
        }
    }

    fn refuse(&self, refusal: Refusal) {
        let Refusal {
            status,
            error,
            record,
        } = refusal;
        if let Some(status) = status {
            self.stream.respond(&ResponseHead::status(status), true);
        }
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

/// What counts as said by a peer whose words are not to be believed.
static NOTHING_SAID: Fields = Fields::new();
