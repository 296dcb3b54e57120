//! Applications' connections on their way out: 15001, SOCKS5, explicit ports.
//!
//! Accept, target, route, tunnel or dial (`outbound/reach.rs`), relay. Counterpart: `inbound.rs` on the other node.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh::route::{NoRoute, Route, RouteFacts, Target, route_noting, route_or_miss};
use mesh::workload::Workload;
use tokio::net::TcpStream;

use crate::capture::WayIn;
use crate::capture::socks5::Outcome;
use crate::connection::ConnectionRecord;
use crate::connections::{Dialled, Registration};
use crate::demand::{Asker, Demand};
use crate::error::{Error, Side, Stage};
use crate::passthrough::join;
use crate::relay::abort::{abort, abort_now, delivered, finish};
use crate::relay::halves::Halves;
use crate::relay::{PATIENCE, RelayEnd};
use crate::sys;
use crate::telemetry::Reporter;
use crate::telemetry::access_log::Direction;
use crate::telemetry::log::Level;
use crate::telemetry::metrics;
use crate::tunnel::TunnelStream;
use crate::tunnel::first_flight::FirstFlight;
use crate::worker::Worker;
use reach::Upstream;

mod reach;

/// What one connection may miss: a service, its waypoint, the gateway to that, and each of them once more by another name.
const MAX_MISSED: usize = 6;

/// How long a SOCKS reply may take to arrive before the connection is reset behind it.
const LAST_REPLY: Duration = Duration::from_secs(1);

/// One connection, from accept to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpStream,
    client: SocketAddr,
    way: Rc<WayIn>,
) {
    let _open = worker.recorder.socket(Reporter::Source);
    let registration = worker.connections.register();
    let connection = Connection {
        application: Rc::new(socket),
        client: sys::canonical(client),
        started: Instant::now(),
        worker,
        registration,
    };
    // Everything but the relay through a tunnel is boxed: what making and ending a connection needs is given back, not kept
    // for as long as it lives.
    let Some(joined) = Box::pin(connection.make(&way)).await else {
        return;
    };
    let side = Side::Downstream;
    let mut halves = Halves::new(
        &joined.stream,
        &connection.application,
        side,
        &joined.record.received,
    )
    .after(joined.failed);
    let end = halves.run(connection.registration.cut()).await;
    Box::pin(connection.end(joined, end)).await;
}

struct Connection {
    worker: Rc<Worker>,
    application: Rc<TcpStream>,
    client: SocketAddr,
    started: Instant,
    registration: Registration,
}

/// An application's connection and its stream.
struct Joined {
    stream: TunnelStream,
    record: ConnectionRecord,
    /// What was read before the peer had agreed ended in an error.
    failed: bool,
}

/// A connection that could not be made, with the record if it had come so far.
struct Failed {
    error: Error,
    record: Option<ConnectionRecord>,
}

impl Failed {
    fn recorded(error: Error, record: ConnectionRecord) -> Self {
        Self {
            error,
            record: Some(record),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self {
            error,
            record: None,
        }
    }
}

impl Connection {
    /// Finds the way and takes it, but for the relay through a tunnel. `None`: the connection has been dealt with.
    async fn make(&self, way: &WayIn) -> Option<Joined> {
        let (upstream, record) = match self.open(way).await {
            Ok(opened) => opened,
            Err((failed, target)) => {
                self.refuse(way, failed, target).await;
                return None;
            }
        };
        let confirmed = way.confirm(&self.application, Outcome::Succeeded).await;
        if confirmed.is_err() {
            record.close(Ok(()));
            return None;
        }
        match upstream {
            Upstream::Stream(stream, first) => {
                record.received.add(first.len());
                stream.attach(self.application.clone(), record.sent.clone());
                let failed = first.has_failed();
                Some(Joined {
                    stream,
                    record,
                    failed,
                })
            }
            Upstream::Socket(socket) => {
                let sockets = (self.application.clone(), socket);
                join(&self.worker, sockets, record, self.registration.cut()).await;
                None
            }
        }
    }

    async fn open(
        &self,
        way: &WayIn,
    ) -> Result<(Upstream, ConnectionRecord), (Failed, Option<SocketAddr>)> {
        let target = tokio::select! {
            biased;
            error = self.registration.cut() => Err(error),
            target = way.target(&self.application, &self.worker) => target,
        };
        let target = target.map_err(|error| (error.into(), None))?;
        let address = match &target {
            Target::Address(address) => Some(*address),
            Target::Host { .. } => None,
        };
        self.connect(&target, self.first_flight(way))
            .await
            .map_err(|failed| (failed, address))
    }

    /// A SOCKS client speaks when it has our reply, the others when they like.
    fn first_flight(&self, way: &WayIn) -> FirstFlight {
        match way {
            WayIn::Captured { .. } | WayIn::Forward(_)
                if self.worker.shared.settings.first_flight =>
            {
                FirstFlight::of(self.application.clone())
            }
            _ => FirstFlight::none(),
        }
    }

    async fn connect(
        &self,
        target: &Target,
        first: FirstFlight,
    ) -> Result<(Upstream, ConnectionRecord), Failed> {
        let worker = &self.worker;
        worker.refuse_self_call(target)?;
        let source = worker.local_workload().await?;
        let route = self.route(&source, target).await?;
        // Where a route or a name leads may be a port of ours too. A tunnel is another matter: a node may be its own peer.
        if let Route::Passthrough { destination, .. } = &route {
            worker.refuse_self_call(&Target::Address(*destination))?;
        }
        if let Some(dialled) = Dialled::of(&source.uid, self.client, target, &route) {
            self.registration.describe(dialled);
        }
        self.reach(&source, &route, first).await
    }

    /// Where it goes; resolves the name of a destination that has nothing else.
    async fn route(&self, source: &Arc<Workload>, target: &Target) -> Result<Route, Error> {
        let worker = &self.worker;
        let settings = &worker.shared.settings;
        let mut choose = |total| worker.random.below(total);
        let facts = RouteFacts {
            source,
            client: self.client.ip(),
            target,
            network: &settings.network,
            hbone_port: settings.hbone_port,
        };
        let decided = match &worker.shared.demand {
            None => {
                let mut odd = |step: &dyn fmt::Display| self.tell_odd(step);
                route_noting(&worker.shared.snapshot(), &facts, &mut choose, &mut odd)
            }
            // Boxed, so that those who are told all of the mesh do not carry what it takes.
            Some(demand) => Box::pin(self.route_on_demand(demand, &facts)).await?,
        };
        let unresolved = match decided {
            Ok(Route::Resolve(unresolved)) => unresolved,
            Ok(route) => return Ok(route),
            Err(error) => return Err(no_route(&error)),
        };
        let resolving = async { Ok(worker.resolve(source, unresolved.hostname()).await) };
        let Some(addresses) = self.unless_cut(resolving).await? else {
            return Err(no_route(&unresolved.failed()));
        };
        match unresolved.answered(&addresses, &mut choose) {
            Ok(Route::Resolve(another)) => Err(no_route(&another.hostname())),
            Ok(route) => Ok(route),
            Err(error) => Err(no_route(&error)),
        }
    }

    fn tell_odd(&self, step: &dyn fmt::Display) {
        let log = &self.worker.shared.log;
        log.repeating(
            Level::Warn,
            "overlap",
            "proxy::outbound",
            &step.to_string(),
            &[],
        );
    }

    /// The decision, taken again for each thing that it missed and that came, or turned out not to be there: behind a
    /// service may be a waypoint, and behind that a gateway.
    async fn route_on_demand(
        &self,
        demand: &Demand,
        facts: &RouteFacts<'_>,
    ) -> Result<Result<Route, NoRoute>, Error> {
        let shared = &self.worker.shared;
        let deadline = demand.deadline();
        let mut choose = |total| self.worker.random.below(total);
        let mut asked = Vec::new();
        loop {
            let mut odd = |step: &dyn fmt::Display| self.tell_odd(step);
            let (decided, missed) = route_or_miss(&shared.snapshot(), facts, &mut choose, &mut odd);
            let Some(missed) = missed.filter(|missed| !asked.contains(missed)) else {
                return Ok(decided);
            };
            let fetching = demand.fetch(shared, &missed, Asker::Application, deadline);
            if !self.unless_cut(async { Ok(fetching.await) }).await? || asked.len() == MAX_MISSED {
                return Ok(decided);
            }
            asked.push(missed);
        }
    }

    async fn end(&self, joined: Joined, end: RelayEnd) {
        match &end {
            RelayEnd::Finished | RelayEnd::Reset(_) => joined.record.close(Ok(())),
            RelayEnd::Failed(error) | RelayEnd::Cut(error) => joined.record.close(Err(error)),
        }
        // Resets the stream unless both sides have finished.
        drop(joined.stream);
        if matches!(end, RelayEnd::Finished) {
            finish(&self.application);
        } else {
            // A peer may have cut thousands at once.
            delivered(&self.application, patience(&end, Side::Downstream)).await;
            self.worker.spent.abort(self.application.clone());
        }
    }

    /// Tells the application that there will be no connection: never by a FIN, which reads as an empty answer.
    async fn refuse(&self, way: &WayIn, failed: Failed, target: Option<SocketAddr>) {
        let Failed { error, record } = failed;
        let shared = &self.worker.shared;
        shared
            .metrics
            .refused(metrics::Side::Outbound, error.reason);
        match record {
            Some(record) => record.close(Err(&error)),
            None => shared.deny_early(Direction::Outbound, self.client, target, &error),
        }
        // A negotiation that failed has had its reply.
        let told = error.stage == Stage::Negotiation
            || way
                .confirm(&self.application, socks_outcome(&error))
                .await
                .is_ok();
        if told {
            abort(self.application.clone(), LAST_REPLY).await;
        } else {
            abort_now(&self.application);
        }
    }
}

/// The decision's own words.
fn no_route(why: &dyn fmt::Display) -> Error {
    Error::new(Stage::Lookup, Side::Local, "no_route", why.to_string())
}

/// Bytes before a reset get time to arrive, but not at a side that is gone, and not after a policy's cut.
pub(crate) fn patience(end: &RelayEnd, side: Side) -> Duration {
    match end {
        RelayEnd::Cut(_) => Duration::ZERO,
        RelayEnd::Reset(from) if *from == side => Duration::ZERO,
        _ => PATIENCE,
    }
}

fn socks_outcome(error: &Error) -> Outcome {
    match (error.stage, error.reason) {
        (Stage::Policy, _) | (_, "refused_401" | "refused_403" | "self_call") => {
            Outcome::NotAllowed
        }
        (Stage::DialTimeout, _) | (_, "dial_timeout" | "connect_timeout") => Outcome::TimedOut,
        (Stage::Dial, _) | (_, "refused_503") => Outcome::ConnectionRefused,
        (Stage::Lookup, _) => Outcome::HostUnreachable,
        _ => Outcome::GeneralFailure,
    }
}
