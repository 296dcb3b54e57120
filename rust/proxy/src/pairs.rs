//! What all connections between the same two workloads have in common: labels, log texts, counters, made once.
//!
//! One cache per worker, so nothing is locked. A pair is found by the identity of what the mesh holds: a workload
//! that changed is another object, so nothing in here goes stale. Counterpart: `connection.rs`, one of its
//! connections.

use std::cell::{OnceCell, RefCell};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

use hbone::Fields;
use hbone::headers::Baggage;
use mesh::identity::Identity;
use mesh::service::Service;
use mesh::workload::Workload;

use crate::recent::Recent;
use crate::telemetry::access_log::{Direction, Parties, Party};
use crate::telemetry::log::Logger;
use crate::telemetry::{
    ConnectionMetrics, Labels, Recorder, Reporter, SecurityPolicy, ServiceLabels, SideLabels,
};

/// A worker's pairs.
pub(crate) struct Pairs {
    recorder: Rc<Recorder>,
    log: Logger,
    hasher: RandomState,
    /// By hash; another pair of the same hash, should there ever be one, takes its place.
    kept: RefCell<Recent<u64, Rc<Pair>>>,
}

/// Who is connected, as far as labels and logs can tell; borrowed, for a look-up that allocates nothing.
#[derive(Clone, Copy)]
pub(crate) struct Between<'a> {
    pub(crate) direction: Direction,
    pub(crate) source: Option<&'a Arc<Workload>>,
    pub(crate) destination: Option<&'a Arc<Workload>>,
    pub(crate) service: Option<&'a Service>,
    /// Through mutual TLS.
    pub(crate) tunnelled: bool,
    /// What the peer's certificate proves, and what it says of itself: inbound that is the source, outbound whoever a
    /// gateway has led us to.
    pub(crate) peer: Option<(Option<&'a Identity>, &'a Fields)>,
}

/// Two workloads, the service between them, and what their connections share.
pub(crate) struct Pair {
    key: Key,
    pub(crate) metrics: Rc<ConnectionMetrics>,
    pub(crate) log: Logger,
    /// Only made when a line is written.
    parties: OnceCell<Parties>,
    introduction: OnceCell<Box<str>>,
}

/// The owned form of [`Between`]. Its pointers keep what they point at, so no address is ever used twice.
struct Key {
    direction: Direction,
    source: Option<Arc<Workload>>,
    destination: Option<Arc<Workload>>,
    service: Option<ServiceName>,
    tunnelled: bool,
    identity: Option<Identity>,
    /// As it came, for comparison, and as it was read.
    said: Vec<u8>,
    baggage: Baggage,
}

/// A service without its endpoints, which change all the time and matter to no label.
struct ServiceName {
    hostname: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
}

impl Pairs {
    pub(crate) fn new(recorder: Rc<Recorder>, log: Logger) -> Self {
        Self {
            recorder,
            log,
            hasher: RandomState::new(),
            kept: RefCell::new(Recent::new(GENERATION)),
        }
    }

    /// The pair that a connection belongs to.
    pub(crate) fn find(&self, between: &Between<'_>) -> Rc<Pair> {
        let hash = self.hasher.hash_one(between);
        let mut kept = self.kept.borrow_mut();
        let fits = |pair: &Rc<Pair>| pair.key.is(between) && pair.metrics.is_current();
        if let Some(pair) = kept.get(&hash).filter(fits) {
            return pair;
        }
        let key = Key::of(between);
        let keep = key.said.len() <= MAX_SAID;
        let source = key.identity_of_source().unwrap_or_default();
        let destination = key.principal_of_destination().unwrap_or_default();
        let metrics = self
            .recorder
            .connections(&key.labels(&source, &destination));
        let pair = Rc::new(Pair {
            key,
            metrics: Rc::new(metrics),
            log: self.log.clone(),
            parties: OnceCell::new(),
            introduction: OnceCell::new(),
        });
        if keep {
            kept.insert(hash, pair.clone());
        }
        pair
    }
}

impl Between<'_> {
    /// What the peer says of itself, if that counts: of a source the mesh knows better, of who is behind a gateway not.
    fn said(&self) -> impl Iterator<Item = &[u8]> {
        let unknown = match self.direction {
            Direction::Inbound => self.source.is_none(),
            Direction::Outbound => true,
        };
        let fields = self.peer.map(|(_, fields)| fields).filter(|_| unknown);
        fields.into_iter().flat_map(|fields| fields.all(BAGGAGE))
    }

    fn identity(&self) -> Option<&Identity> {
        self.peer.and_then(|(identity, _)| identity)
    }
}

impl Hash for Between<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.direction as u8, self.tunnelled).hash(state);
        self.source.map(Arc::as_ptr).hash(state);
        self.destination.map(Arc::as_ptr).hash(state);
        let service = self.service.map(|service| Arc::as_ptr(&service.hostname));
        service.map(<*const str>::cast::<u8>).hash(state);
        self.identity().hash(state);
        for header in self.said() {
            header.hash(state);
        }
    }
}

impl Key {
    fn of(between: &Between<'_>) -> Self {
        let mut said = Vec::new();
        for header in between.said() {
            said.extend_from_slice(header);
            said.push(SEPARATOR);
        }
        Self {
            direction: between.direction,
            source: between.source.cloned(),
            destination: between.destination.cloned(),
            service: between.service.map(|service| ServiceName {
                hostname: service.hostname.clone(),
                namespace: service.namespace.clone(),
                name: service.name.clone(),
            }),
            tunnelled: between.tunnelled,
            identity: between.identity().cloned(),
            said,
            baggage: Baggage::parse(between.said()).unwrap_or_default(),
        }
    }

    fn is(&self, between: &Between<'_>) -> bool {
        self.direction == between.direction
            && self.tunnelled == between.tunnelled
            && is_same(self.source.as_ref(), between.source)
            && is_same(self.destination.as_ref(), between.destination)
            && match (&self.service, between.service) {
                (None, None) => true,
                (Some(ours), Some(theirs)) => ours.is(theirs),
                _ => false,
            }
            && self.identity.as_ref() == between.identity()
            && self.has_said(between.said())
    }

    fn has_said<'a>(&self, headers: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut rest = self.said.as_slice();
        for header in headers {
            let Some(behind) = rest
                .strip_prefix(header)
                .and_then(|rest| rest.strip_prefix(&[SEPARATOR]))
            else {
                return false;
            };
            rest = behind;
        }
        rest.is_empty()
    }

    fn identity_of_source(&self) -> Option<String> {
        match self.direction {
            Direction::Inbound => self.identity.as_ref().map(Identity::to_string),
            Direction::Outbound => self.identity_of(self.source.as_ref()),
        }
    }

    /// What the mesh says, even where nobody asked for its proof (recorded from upstream: plain TCP has it too).
    fn principal_of_destination(&self) -> Option<String> {
        let behind_gateway = match self.direction {
            Direction::Inbound => None,
            Direction::Outbound => self.identity.as_ref(),
        };
        let named = self
            .destination
            .as_ref()
            .map(|workload| workload.identity());
        let named = behind_gateway.cloned().or(named)?;
        Some(named.to_string())
    }

    /// Of who is behind a gateway, if that was proven, and not the gateway's.
    fn identity_of_destination(&self) -> Option<String> {
        let behind = match self.direction {
            Direction::Inbound => None,
            Direction::Outbound => self.identity.as_ref().map(Identity::to_string),
        };
        behind.or_else(|| self.identity_of(self.destination.as_ref()))
    }

    /// What somebody behind a gateway has said of itself; silence leaves the gateway's labels (spec/dataplane.md §20.2
    /// item 10).
    fn claimed_destination(&self) -> Option<&Baggage> {
        let behind = self.direction == Direction::Outbound && self.baggage != Baggage::default();
        behind.then_some(&self.baggage)
    }

    /// Proven by a handshake, or not worth naming.
    fn identity_of(&self, workload: Option<&Arc<Workload>>) -> Option<String> {
        let workload = workload.filter(|_| self.tunnelled)?;
        Some(workload.identity().to_string())
    }

    fn labels<'a>(&'a self, source_identity: &'a str, destination_identity: &'a str) -> Labels<'a> {
        Labels {
            reporter: match self.direction {
                Direction::Outbound => Reporter::Source,
                Direction::Inbound => Reporter::Destination,
            },
            source: match &self.source {
                Some(workload) => labels_of(workload, source_identity),
                None => claimed_labels(&self.baggage, source_identity),
            },
            // What the mesh says, even for plain TCP (spec/dataplane.md §16).
            destination: match (self.claimed_destination(), &self.destination) {
                (Some(baggage), _) => claimed_labels(baggage, destination_identity),
                (None, Some(workload)) => labels_of(workload, destination_identity),
                (None, None) => SideLabels::default(),
            },
            service: match &self.service {
                Some(service) => ServiceLabels {
                    hostname: &service.hostname,
                    namespace: &service.namespace,
                    name: &service.name,
                },
                None => ServiceLabels::default(),
            },
            security_policy: if self.tunnelled {
                SecurityPolicy::MutualTls
            } else {
                SecurityPolicy::Unknown
            },
            // Only read where it counts: of a source that the mesh does not know, and of who is behind a gateway.
            claimed: self.baggage != Baggage::default(),
        }
    }
}

impl ServiceName {
    fn is(&self, service: &Service) -> bool {
        Arc::ptr_eq(&self.hostname, &service.hostname)
            && Arc::ptr_eq(&self.namespace, &service.namespace)
            && Arc::ptr_eq(&self.name, &service.name)
    }
}

impl Pair {
    pub(crate) fn direction(&self) -> Direction {
        self.key.direction
    }

    /// Both sides as the access log names them.
    pub(crate) fn parties(&self) -> &Parties {
        self.parties.get_or_init(|| {
            let key = &self.key;
            let source_identity = key.identity_of_source();
            let destination_identity = key.identity_of_destination();
            let source = match &key.source {
                Some(workload) => party_of(workload),
                None => claimed_party(&key.baggage),
            };
            let destination = match key.claimed_destination() {
                Some(baggage) => Some(far_party(baggage)),
                None => key.destination.as_deref().map(party_of),
            };
            let source = Party {
                identity: source_identity.as_deref(),
                ..source
            };
            let destination = Party {
                identity: destination_identity.as_deref(),
                ..destination.unwrap_or_default()
            };
            let service = key.service.as_ref().map(|service| &*service.hostname);
            let format = self.log.access_format();
            Parties::render(&source, &destination, service, key.direction, format)
        })
    }

    /// How our side introduces itself to the peer: the value of `baggage` (spec/dataplane.md §6.1).
    pub(crate) fn introduction(&self) -> &str {
        self.introduction.get_or_init(|| {
            let ours = match self.key.direction {
                Direction::Outbound => &self.key.source,
                Direction::Inbound => &self.key.destination,
            };
            let baggage = ours.as_deref().map(baggage_of).unwrap_or_default();
            baggage.encode().into()
        })
    }
}

fn is_same(ours: Option<&Arc<Workload>>, theirs: Option<&Arc<Workload>>) -> bool {
    match (ours, theirs) {
        (None, None) => true,
        (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
        _ => false,
    }
}

fn party_of(workload: &Workload) -> Party<'_> {
    Party {
        // The pod's name; failing that, the canonical service.
        workload: known(workload.name()).or_else(|| known(&workload.canonical_name)),
        namespace: known(&workload.namespace),
        identity: None,
        cluster: known(&workload.cluster),
    }
}

fn claimed_party(baggage: &Baggage) -> Party<'_> {
    Party {
        workload: known(text(&baggage.canonical_service)),
        namespace: known(text(&baggage.namespace)),
        identity: None,
        cluster: known(text(&baggage.cluster)),
    }
}

/// By its workload's name, as it may have no pod's (spec/dataplane.md §15.2).
fn far_party(baggage: &Baggage) -> Party<'_> {
    let claimed = claimed_party(baggage);
    Party {
        workload: known(text(&baggage.workload)).or(claimed.workload),
        ..claimed
    }
}

/// A workload as labels have it.
pub(crate) fn labels_of<'a>(workload: &'a Workload, principal: &'a str) -> SideLabels<'a> {
    SideLabels {
        workload: workload.workload_name(),
        canonical_service: &workload.canonical_name,
        canonical_revision: &workload.canonical_revision,
        namespace: &workload.namespace,
        principal,
        app: &workload.canonical_name,
        version: &workload.canonical_revision,
        cluster: &workload.cluster,
        region: &workload.site.locality.region,
        zone: &workload.site.locality.zone,
    }
}

fn claimed_labels<'a>(baggage: &'a Baggage, principal: &'a str) -> SideLabels<'a> {
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

fn baggage_of(workload: &Workload) -> Baggage {
    let value = |text: &str| known(text).map(str::to_owned);
    Baggage {
        cluster: value(&workload.cluster),
        namespace: value(&workload.namespace),
        workload_type: workload.workload_type.parse().ok(),
        workload: value(workload.workload_name()),
        canonical_service: value(&workload.canonical_name),
        canonical_revision: value(&workload.canonical_revision),
        region: value(&workload.site.locality.region),
        zone: value(&workload.site.locality.zone),
    }
}

fn known(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn text(value: &Option<String>) -> &str {
    value.as_deref().unwrap_or_default()
}

const BAGGAGE: &str = "baggage";
/// Between headers; no header value holds one (RFC 9113 §8.2.1).
const SEPARATOR: u8 = 0;

/// Pairs in a generation, two of which are kept: what 250 pods that each talk to a handful of others have at once. A
/// pair has some 2 KiB with its texts, so the worst is 4 MiB a worker.
const GENERATION: usize = 1024;
/// Honest baggage has some 300 bytes. Longer ones are read again each time, so that nobody fills our memory with it.
const MAX_SAID: usize = 2048;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
