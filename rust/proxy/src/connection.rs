//! One connection's story: who, where, when, how much, how it ended.
//!
//! The one source for its access-log line and its metrics (spec/dataplane.md §15, §16). Who may talk to whom is
//! decided elsewhere; this only writes down.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use hbone::headers::Baggage;
use mesh::identity::Identity;
use mesh::route::{Route, Target};
use mesh::service::Service;
use mesh::workload::Workload;

use crate::error::Error;
use crate::shared::Shared;
use crate::telemetry::access_log::{Destination, Direction, End, Line, Source as LineSource};
use crate::telemetry::{
    ConnectionMetrics, Labels, Reporter, ResponseFlag, SecurityPolicy, ServiceLabels, SideLabels,
};

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
        let side = SideLabels::default();
        let labels = Labels {
            reporter: Reporter::Source,
            source: side,
            destination: side,
            service: ServiceLabels::default(),
            security_policy: SecurityPolicy::Unknown,
        };
        let metrics = crate::telemetry::metrics::Metrics::new("test", Arc::default());
        Rc::new(Self {
            bytes: Cell::new(0),
            metrics: Rc::new(metrics.connection(&labels)),
            way: Way::Received,
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
pub(crate) struct Source {
    /// What the peer says of itself.
    pub(crate) baggage: Baggage,
    /// What the mesh says of its address.
    pub(crate) workload: Option<Arc<Workload>>,
    /// What its certificate proves.
    pub(crate) identity: Option<Identity>,
}

/// A connection from the moment it is known where it goes to its end.
pub(crate) struct ConnectionRecord {
    shared: Arc<Shared>,
    started: Instant,
    story: Story,
    metrics: Rc<ConnectionMetrics>,
    /// Downstream to upstream.
    pub(crate) received: Rc<Flow>,
    /// Upstream to downstream.
    pub(crate) sent: Rc<Flow>,
    closed: bool,
}

/// The fixed part of the access-log line.
struct Story {
    direction: Direction,
    source: Party,
    destination: Party,
    hbone_address: Option<Target>,
    service: Option<Arc<Service>>,
}

struct Party {
    address: SocketAddr,
    workload: Option<Arc<Workload>>,
    baggage: Baggage,
    identity: Option<String>,
}

impl ConnectionRecord {
    /// Opens the record of an application's connection that goes out.
    pub(crate) fn outbound(
        shared: &Arc<Shared>,
        started: Instant,
        client: SocketAddr,
        source: &Arc<Workload>,
        route: &Route,
    ) -> Self {
        let (address, tunnelled, workload, service, hbone_address) = match route {
            Route::Hbone {
                peer,
                authority,
                workload,
                service,
                ..
            } => {
                let authority = Some(Target::Address(*authority));
                (*peer, true, Some(workload.clone()), service, authority)
            }
            Route::Passthrough {
                destination,
                workload,
                service,
            } => (*destination, false, workload.clone(), service, None),
        };
        let identity_of =
            |workload: &Arc<Workload>| tunnelled.then(|| workload.identity().to_string());
        let story = Story {
            direction: Direction::Outbound,
            source: Party {
                address: client,
                identity: identity_of(source),
                workload: Some(source.clone()),
                baggage: Baggage::default(),
            },
            destination: Party {
                address,
                identity: workload.as_ref().and_then(identity_of),
                workload,
                baggage: Baggage::default(),
            },
            hbone_address,
            service: service.clone(),
        };
        Self::open(shared, started, story)
    }

    /// Opens the record of a peer's request that comes in.
    pub(crate) fn inbound(
        shared: &Arc<Shared>,
        started: Instant,
        (peer, local): (SocketAddr, SocketAddr),
        source: Source,
        workload: &Arc<Workload>,
        target: &Target,
        service: Option<&Arc<Service>>,
    ) -> Self {
        let story = Story {
            direction: Direction::Inbound,
            source: Party {
                address: peer,
                workload: source.workload,
                baggage: source.baggage,
                identity: source.identity.map(|identity| identity.to_string()),
            },
            destination: Party {
                address: local,
                workload: Some(workload.clone()),
                baggage: Baggage::default(),
                identity: Some(workload.identity().to_string()),
            },
            hbone_address: Some(target.clone()),
            service: service.cloned(),
        };
        Self::open(shared, started, story)
    }

    fn open(shared: &Arc<Shared>, started: Instant, story: Story) -> Self {
        let metrics = Rc::new(shared.metrics.connection(&story.labels()));
        let flow = |way| {
            Rc::new(Flow {
                bytes: Cell::new(0),
                metrics: metrics.clone(),
                way,
            })
        };
        shared.log.access_opened(&story.line());
        Self {
            shared: shared.clone(),
            started,
            story,
            received: flow(Way::Received),
            sent: flow(Way::Sent),
            metrics,
            closed: false,
        }
    }

    /// Closes the record: one line, the final counters.
    pub(crate) fn close(mut self, result: Result<(), &Error>) {
        self.finish(result.err());
    }

    fn finish(&mut self, error: Option<&Error>) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let (received, sent) = (self.received.bytes.get(), self.sent.bytes.get());
        // As the proxy's own application sees it: outbound it sends what goes up, inbound what goes down.
        let (bytes_sent, bytes_received) = match self.story.direction {
            Direction::Outbound => (received, sent),
            Direction::Inbound => (sent, received),
        };
        let text = error.map(ToString::to_string);
        let end = End {
            bytes_sent,
            bytes_received,
            duration: self.started.elapsed(),
            error: text.as_deref(),
        };
        self.shared.log.access(&self.story.line(), &end);
        self.metrics
            .close(error.map_or(ResponseFlag::None, Error::flag));
    }
}

impl Drop for ConnectionRecord {
    fn drop(&mut self) {
        self.finish(Some(&Error::drained()));
    }
}

impl Story {
    fn line(&self) -> Line<'_> {
        Line {
            direction: self.direction,
            source: LineSource {
                address: self.source.address,
                workload: self.source.name(),
                namespace: known(self.source.namespace()),
                identity: self.source.identity.as_deref(),
                cluster: known(self.source.cluster()),
            },
            destination: Destination {
                address: self.destination.address,
                hbone_address: self.hbone_address.as_ref().map(|target| target as _),
                service: self.service.as_ref().map(|service| &*service.hostname),
                workload: self.destination.name(),
                namespace: known(self.destination.namespace()),
                identity: self.destination.identity.as_deref(),
                cluster: known(self.destination.cluster()),
            },
        }
    }

    fn labels(&self) -> Labels<'_> {
        let service = self.service.as_ref();
        let mutual = self.hbone_address.is_some();
        Labels {
            reporter: match self.direction {
                Direction::Outbound => Reporter::Source,
                Direction::Inbound => Reporter::Destination,
            },
            source: self.source.labels(),
            destination: SideLabels {
                // What the mesh says, even for plain TCP (spec/dataplane.md §16).
                ..self.destination.labels()
            },
            service: service.map_or_else(ServiceLabels::default, |service| ServiceLabels {
                hostname: &service.hostname,
                namespace: &service.namespace,
                name: &service.name,
            }),
            security_policy: if mutual {
                SecurityPolicy::MutualTls
            } else {
                SecurityPolicy::Unknown
            },
        }
    }
}

impl Party {
    /// The pod's name, or the canonical service that the peer claims.
    fn name(&self) -> Option<&str> {
        match &self.workload {
            Some(workload) => known(&workload.name).or_else(|| known(&workload.canonical_name)),
            None => known_text(&self.baggage.canonical_service),
        }
    }

    fn namespace(&self) -> &str {
        match &self.workload {
            Some(workload) => &workload.namespace,
            None => text(&self.baggage.namespace),
        }
    }

    fn cluster(&self) -> &str {
        match &self.workload {
            Some(workload) => &workload.cluster,
            None => text(&self.baggage.cluster),
        }
    }

    fn labels(&self) -> SideLabels<'_> {
        let principal = self.identity.as_deref().unwrap_or_default();
        if let Some(workload) = &self.workload {
            return SideLabels {
                workload: &workload.workload_name,
                canonical_service: &workload.canonical_name,
                canonical_revision: &workload.canonical_revision,
                namespace: &workload.namespace,
                principal,
                app: &workload.canonical_name,
                version: &workload.canonical_revision,
                cluster: &workload.cluster,
                region: &workload.locality.region,
                zone: &workload.locality.zone,
            };
        }
        let baggage = &self.baggage;
        SideLabels {
            workload: text(&baggage.workload),
            canonical_service: text(&baggage.canonical_service),
            canonical_revision: text(&baggage.canonical_revision),
            namespace: text(&baggage.namespace),
            principal,
            // Not the canonical service: an asymmetry of upstream's that dashboards know.
            app: text(&baggage.workload),
            version: text(&baggage.canonical_revision),
            cluster: text(&baggage.cluster),
            region: text(&baggage.region),
            zone: text(&baggage.zone),
        }
    }
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

fn known_text(value: &Option<String>) -> Option<&str> {
    known(text(value))
}

/// How a workload introduces itself to a peer (spec/dataplane.md §6.1).
pub(crate) fn baggage_of(workload: &Workload) -> Baggage {
    let value = |text: &str| known(text).map(str::to_owned);
    Baggage {
        cluster: value(&workload.cluster),
        namespace: value(&workload.namespace),
        workload_type: workload.workload_type.parse().ok(),
        workload: value(&workload.workload_name),
        canonical_service: value(&workload.canonical_name),
        canonical_revision: value(&workload.canonical_revision),
        region: value(&workload.locality.region),
        zone: value(&workload.locality.zone),
    }
}
