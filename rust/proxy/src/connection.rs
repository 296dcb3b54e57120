//! One connection's story: when, between which addresses, how much, how it ended.
//!
//! The one source for its access-log line and its metrics (spec/dataplane.md §15, §16). What it has in common with
//! others is its pair's (`pairs.rs`); who may talk to whom is decided elsewhere; this only writes down.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hbone::Fields;
use mesh::identity::Identity;
use mesh::route::{Route, Target};
use mesh::service::Service;
use mesh::workload::Workload;

use crate::error::Error;
use crate::pairs::{Between, Pair, Pairs};
use crate::telemetry::access_log::{self, Direction, End, Line};
use crate::telemetry::{ConnectionMetrics, ResponseFlag, Value};

/// Bytes in one direction, as counted where they reach their destination.
#[derive(Debug)]
pub(crate) struct Flow {
    bytes: Cell<u64>,
    metrics: Rc<ConnectionMetrics>,
    way: Way,
}

#[derive(Clone, Copy, Debug)]
enum Way {
    /// Downstream to upstream.
    Received,
    /// Upstream to downstream.
    Sent,
}

impl Flow {
    /// One that no metric hears of.
    #[cfg(test)]
    pub(crate) fn unheard() -> Rc<Self> {
        use crate::telemetry::metrics::Metrics;
        let recorder = Metrics::new("test", Arc::default()).recorder();
        let metrics = Rc::new(recorder.connections(&crate::telemetry::Labels::nobody()));
        Self::new(&metrics, Way::Received)
    }

    fn new(metrics: &Rc<ConnectionMetrics>, way: Way) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            metrics: metrics.clone(),
            way,
        })
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        self.bytes.set(self.bytes.get() + bytes);
        match self.way {
            Way::Received => self.metrics.add_received(bytes),
            Way::Sent => self.metrics.add_sent(bytes),
        }
    }
}

/// What is known of who opened an inbound connection, best last.
pub(crate) struct Source<'a> {
    /// What the peer says of itself, among much else.
    pub(crate) fields: &'a Fields,
    /// What the mesh says of its address.
    pub(crate) workload: Option<&'a Arc<Workload>>,
    /// What its certificate proves.
    pub(crate) identity: Option<&'a Identity>,
}

/// Who is at the end of a tunnel through a gateway, which the mesh knows nothing of.
pub(crate) struct FarEnd<'a> {
    /// What it says of itself, among much else.
    pub(crate) fields: &'a Fields,
    /// What its certificate proves.
    pub(crate) identity: Option<&'a Identity>,
}

/// A connection from the moment it is known where it goes to its end.
pub(crate) struct ConnectionRecord {
    pair: Rc<Pair>,
    started: Instant,
    source: SocketAddr,
    destination: SocketAddr,
    hbone_address: Option<Target>,
    /// Downstream to upstream.
    pub(crate) received: Rc<Flow>,
    /// Upstream to downstream.
    pub(crate) sent: Rc<Flow>,
    closed: bool,
}

impl ConnectionRecord {
    /// Opens the record of an application's connection that goes out, with whoever has been found behind a gateway.
    pub(crate) fn outbound(
        pairs: &Pairs,
        started: Instant,
        client: SocketAddr,
        source: &Arc<Workload>,
        route: &Route,
        far: Option<&FarEnd<'_>>,
    ) -> Self {
        let Toward {
            destination,
            hbone_address,
            between,
        } = Toward::of(source, route, far);
        let pair = pairs.find(&between);
        Self::open(pair, started, (client, destination), hbone_address.cloned())
    }

    /// How the workload `source` introduces itself on `route`, for which there is no record yet.
    pub(crate) fn introduction_on(pairs: &Pairs, source: &Arc<Workload>, route: &Route) -> String {
        let toward = Toward::of(source, route, None);
        pairs.find(&toward.between).introduction().to_owned()
    }

    /// Opens the record of a peer's request that comes in.
    pub(crate) fn inbound(
        pairs: &Pairs,
        started: Instant,
        addresses: (SocketAddr, SocketAddr),
        source: &Source<'_>,
        workload: &Arc<Workload>,
        target: &Target,
        service: Option<&Arc<Service>>,
    ) -> Self {
        let pair = pairs.find(&Between {
            direction: Direction::Inbound,
            source: source.workload,
            destination: Some(workload),
            service: service.map(|service| &**service),
            tunnelled: true,
            peer: Some((source.identity, source.fields)),
        });
        Self::open(pair, started, addresses, Some(target.clone()))
    }

    /// Opens the record of a plain connection that comes in: nothing proves who its client is.
    pub(crate) fn plaintext(
        pairs: &Pairs,
        started: Instant,
        addresses: (SocketAddr, SocketAddr),
        source: Option<&Arc<Workload>>,
        workload: &Arc<Workload>,
        service: Option<&Arc<Service>>,
    ) -> Self {
        let pair = pairs.find(&Between {
            direction: Direction::Inbound,
            source,
            destination: Some(workload),
            service: service.map(|service| &**service),
            tunnelled: false,
            peer: None,
        });
        Self::open(pair, started, addresses, None)
    }

    fn open(
        pair: Rc<Pair>,
        started: Instant,
        (source, destination): (SocketAddr, SocketAddr),
        hbone_address: Option<Target>,
    ) -> Self {
        pair.metrics.open();
        let record = Self {
            started,
            source,
            destination,
            hbone_address,
            received: Flow::new(&pair.metrics, Way::Received),
            sent: Flow::new(&pair.metrics, Way::Sent),
            closed: false,
            pair,
        };
        if record.is_logged(Line::OPENED) {
            record.pair.log.access_opened(&record.line());
        }
        record
    }

    /// How our workload introduces itself to the peer: the value of `baggage`.
    pub(crate) fn introduction(&self) -> &str {
        self.pair.introduction()
    }

    /// Closes the record: one line, the final counters.
    pub(crate) fn close(mut self, result: Result<(), &Error>) {
        self.finish(result.err());
    }

    fn finish(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        if self.is_logged(End::level_of(error.is_some())) {
            self.log(error);
        }
        self.pair
            .metrics
            .close(error.map_or(ResponseFlag::None, Error::flag));
    }

    fn log(&self, error: Option<&Error>) {
        let (received, sent) = (self.received.bytes.get(), self.sent.bytes.get());
        // As the proxy's own application sees it: outbound it sends what goes up, inbound what goes down.
        let (bytes_sent, bytes_received) = match self.pair.direction() {
            Direction::Outbound => (received, sent),
            Direction::Inbound => (sent, received),
        };
        let end = End {
            bytes_sent,
            bytes_received,
            duration: self.started.elapsed(),
            error: error.map(Error::text),
            ending: error.map(Error::ending).unwrap_or_default(),
        };
        self.pair.log.access(&self.line(), &end);
    }

    fn is_logged(&self, level: crate::telemetry::log::Level) -> bool {
        self.pair.log.enabled(level, access_log::TARGET)
    }

    fn line(&self) -> Line<'_> {
        Line {
            source: self.source,
            destination: self.destination,
            hbone_address: match &self.hbone_address {
                None => Value::Absent,
                Some(Target::Address(address)) => Value::Address(*address),
                Some(host) => Value::Bare(host),
            },
            parties: self.pair.parties(),
        }
    }
}

/// A route as a record has it.
struct Toward<'a> {
    destination: SocketAddr,
    hbone_address: Option<&'a Target>,
    between: Between<'a>,
}

impl<'a> Toward<'a> {
    fn of(source: &'a Arc<Workload>, route: &'a Route, far: Option<&'a FarEnd<'a>>) -> Self {
        let (destination, workload, service, hbone_address) = match route {
            Route::Hbone {
                peer,
                authority,
                workload,
                service,
                ..
            } => (*peer, Some(workload), service.as_ref(), Some(authority)),
            Route::DoubleHbone {
                peer,
                authority,
                workload,
                service,
                ..
            } => (*peer, Some(workload), Some(service), Some(authority)),
            Route::Resolve(_) => unreachable!("a name is resolved before a record is opened"),
            Route::Passthrough {
                destination,
                workload,
                service,
            } => (*destination, workload.as_ref(), service.as_ref(), None),
        };
        Self {
            destination,
            hbone_address,
            between: Between {
                direction: Direction::Outbound,
                source: Some(source),
                destination: workload,
                service: service.map(|service| &**service),
                tunnelled: hbone_address.is_some(),
                peer: far.map(|far| (far.identity, far.fields)),
            },
        }
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(Some(&Error::drained()));
        }
    }
}

#[cfg(test)]
mod tests;
