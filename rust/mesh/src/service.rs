//! A service: a hostname, its virtual addresses, its ports and the workloads behind it.
//!
//! Data only; choosing among services is `snapshot`'s, choosing among endpoints is `balance`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::address::{Cidr, NamespacedHostname, NetworkAddress};
use crate::identity::Identity;
use crate::workload::{GatewayAddress, HealthStatus, PortMap};

/// The endpoints of a service by workload uid.
pub type Endpoints = BTreeMap<Arc<str>, Arc<Endpoint>>;

/// A name that stands for a set of workloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Short name.
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Fully qualified name.
    pub hostname: Arc<str>,
    /// Its virtual addresses.
    pub vips: Vec<NetworkAddress>,
    /// Blocks of addresses that all mean this service.
    pub cidr_vips: Vec<CidrVip>,
    /// Which ports it has.
    pub ports: PortMap,
    /// The workloads behind it that it names itself; most name it instead, and
    /// [`crate::snapshot::MeshSnapshot::endpoints`] has all of them, healthy or not: health is looked at when one is
    /// chosen, so that a change of `health_policy` takes effect at once (spec/dataplane.md §20.2 item 11).
    pub endpoints: Endpoints,
    /// Names that its endpoints' certificates may carry instead of the workload's own.
    pub subject_alt_names: Vec<SubjectAltName>,
    /// The L7 hop in front of it.
    pub waypoint: Option<GatewayAddress>,
    /// Several L7 hops, one of which is drawn per connection.
    pub weighted_waypoints: Vec<WeightedWaypoint>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Which address families may be used.
    pub ip_families: Option<IpFamilies>,
    /// The one to take when several namespaces claim the same name.
    pub canonical: bool,
    /// Which clients see it.
    pub visibility: Visibility,
}

impl Service {
    /// The name under which it is stored.
    #[must_use]
    pub fn key(&self) -> NamespacedHostname {
        NamespacedHostname {
            namespace: Arc::clone(&self.namespace),
            hostname: Arc::clone(&self.hostname),
        }
    }

    /// Whether a client of this namespace sees it; a client of no known namespace sees everything.
    #[must_use]
    pub fn visible_to(&self, namespace: Option<&str>) -> bool {
        match self.visibility {
            Visibility::Namespace => namespace.is_none_or(|ns| *ns == *self.namespace),
            Visibility::Public => true,
        }
    }

    /// Whether connections keep the destination they asked for.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.mode() == LoadBalancerMode::Passthrough
    }

    /// Whether an endpoint of this health may be chosen.
    pub(crate) fn takes(&self, status: HealthStatus) -> bool {
        let policy = self.load_balancer.as_ref().map(|lb| lb.health_policy);
        status == HealthStatus::Healthy || policy == Some(HealthPolicy::AllowAll)
    }

    /// Whether connections may use this address of an endpoint.
    pub(crate) fn allows_family(&self, address: IpAddr) -> bool {
        match self.ip_families {
            None | Some(IpFamilies::Dual) => true,
            Some(IpFamilies::IPv4) => address.is_ipv4(),
            Some(IpFamilies::IPv6) => address.is_ipv6(),
        }
    }

    /// How an endpoint is chosen.
    pub(crate) fn mode(&self) -> LoadBalancerMode {
        self.load_balancer
            .as_ref()
            .map_or(LoadBalancerMode::Standard, |lb| lb.mode)
    }
}

/// One workload behind a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// Service port → this workload's port, where it differs from the service's own map.
    #[serde(serialize_with = "in_order_of_texts")]
    pub port: PortMap,
    /// Whether it may get traffic.
    pub status: HealthStatus,
    /// Which workload.
    pub workload_uid: Arc<str>,
}

/// As a dump has them: its keys are texts, and 443 is before 80.
pub(crate) fn in_order_of_texts<S: Serializer>(
    ports: &PortMap,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut ports: Vec<(u16, u16)> = ports.iter().map(|(port, own)| (*port, *own)).collect();
    // The decimal digits in front, as far as there are any: the rest is zeros, which are before every digit there is.
    let key = |(port, _): &(u16, u16)| {
        let digits = port.checked_ilog10().unwrap_or_default();
        (u32::from(*port) * 10_u32.pow(4 - digits), digits)
    };
    ports.sort_unstable_by_key(key);
    serializer.collect_map(ports)
}

/// A block of addresses in a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct CidrVip {
    /// The block.
    pub cidr: Cidr,
    /// The network in which the block means something.
    pub network: Arc<str>,
}

/// A name that a certificate may carry: as written, and as an identity if it is one.
///
/// What is not a SPIFFE ID is kept for the dump only; no certificate can match it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectAltName {
    text: Arc<str>,
    identity: Option<Identity>,
}

impl SubjectAltName {
    /// Reads a name; every text is accepted.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            identity: Identity::parse(text).ok(),
        }
    }

    /// The identity, if the text is one.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }
}

impl Serialize for SubjectAltName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// One of several L7 hops.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct WeightedWaypoint {
    /// Who it is.
    pub destination: GatewayAddress,
    /// Its share of the connections.
    pub weight: u32,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancer {
    /// Whether unhealthy endpoints are chosen too.
    pub health_policy: HealthPolicy,
    /// What the preferences mean.
    pub mode: LoadBalancerMode,
    /// What an endpoint should have in common with the client, the most important first.
    pub routing_preferences: Vec<LoadBalancerScope>,
}

/// What an endpoint can have in common with the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the names are Istio's and say it all")]
pub enum LoadBalancerScope {
    Cluster,
    Network,
    Node,
    Region,
    Subzone,
    Zone,
}

/// What the preferences mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum LoadBalancerMode {
    /// The best match, whatever it is.
    Failover,
    /// No endpoint is chosen: the connection keeps its destination.
    Passthrough,
    /// All endpoints are equal.
    #[default]
    Standard,
    /// Only endpoints that match every preference.
    Strict,
}

/// Whether unhealthy endpoints are chosen too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum HealthPolicy {
    /// They are.
    AllowAll,
    /// They are not.
    #[default]
    OnlyHealthy,
}

/// Which address families a service uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[expect(missing_docs, reason = "the names are Istio's and say it all")]
pub enum IpFamilies {
    Dual,
    IPv4,
    IPv6,
}

/// Which clients see a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Visibility {
    /// Those of its namespace.
    Namespace,
    /// All.
    #[default]
    Public,
}
