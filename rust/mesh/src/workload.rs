//! A pod or virtual machine in the mesh.
//!
//! Data only; its spelling in JSON is that of `/config_dump` (spec/control.md §11), reading it is `decode`'s.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::address::{Locality, NamespacedHostname, NetworkAddress};
use crate::identity::{Identity, TrustDomain};
use crate::sorted::SortedMap;

mod addresses;
mod interner;
mod parts;

pub use addresses::Addresses;
pub(crate) use interner::Interner;
pub(crate) use parts::{ServicePorts, WorkloadParts, in_order};

/// Service port → target port. A target of 0 means "the endpoint says" (a named port).
pub type PortMap = SortedMap<u16, u16>;

/// A pod or virtual machine in the mesh: what is its own, and by [`Deref`] what it has in common with others
/// ([`Profile`]).
///
/// There may be a million of them, so a field of its own is worth a thought: the uid, the addresses and two words, which
/// with their counters fill a block of the allocator's to the byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Unique in the mesh, for example `Kubernetes//Pod/ns/name`.
    pub uid: Arc<str>,
    /// Its addresses, canonical, in the order given: the first of a family is preferred.
    pub addresses: Addresses,
    /// Where it runs.
    pub site: Arc<Site>,
    profile: Arc<Profile>,
}

/// Where workloads run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The node.
    pub node: Arc<str>,
    /// Where that is.
    pub locality: Locality,
}

/// What the pods of a deployment have in common; of each there is one ([`crate::store::MeshStore`] sees to it).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// Kubernetes service account.
    pub service_account: Arc<str>,
    /// The network in which its addresses mean something.
    pub network: Arc<str>,
    /// How it wants to be reached.
    pub protocol: TunnelProtocol,
    /// Whether its addresses are its own or its node's.
    pub network_mode: NetworkMode,
    /// The L7 hop in front of it.
    pub waypoint: Option<GatewayAddress>,
    /// The way in from other networks.
    pub network_gateway: Option<GatewayAddress>,
    /// How bytes are handed to the application; set for waypoints that sit behind us.
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Ends tunnels itself; no effect on routing (spec/dataplane.md §2.2).
    pub native_tunnel: bool,
    /// The owning controller's kind, lower case.
    pub workload_type: Arc<str>,
    /// Label for metrics.
    pub canonical_name: Arc<str>,
    /// Label for metrics.
    pub canonical_revision: Arc<str>,
    /// A name to resolve when there are no addresses.
    pub hostname: Arc<str>,
    /// The cluster it belongs to.
    pub cluster: Arc<str>,
    /// Keys (`namespace/name`) of the workload-selector policies that apply to it.
    pub authorization_policies: Vec<Arc<str>>,
    /// The services it is an endpoint of, with the target port for each service port.
    pub services: SortedMap<NamespacedHostname, PortMap>,
    /// Its weight among the endpoints of a service; 0 is never chosen.
    pub capacity: u32,
    /// Whether it may get traffic.
    pub status: HealthStatus,
    /// One more than where in the uid the name begins, which is how uids end; for those of a namespace it is the same.
    name_at: Option<NonZeroU16>,
    /// Of a workload whose uid does not end in its name.
    own_name: Option<Arc<str>>,
    /// The owning controller's name, of a workload whose own name is another one. istiod gives pods as their own
    /// controllers (spec/istio.md A3.7), which must not make a profile of each.
    controller: Option<Arc<str>>,
}

/// A workload as it is described: every field in one place. This is what is made by hand; a [`Workload`] is made from it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields are those of `Workload` and `Profile`"
)]
pub struct WorkloadSpec {
    pub uid: Arc<str>,
    pub name: Arc<str>,
    pub namespace: Arc<str>,
    pub trust_domain: TrustDomain,
    pub service_account: Arc<str>,
    pub network: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub protocol: TunnelProtocol,
    pub network_mode: NetworkMode,
    pub waypoint: Option<GatewayAddress>,
    pub network_gateway: Option<GatewayAddress>,
    pub application_tunnel: Option<ApplicationTunnel>,
    pub native_tunnel: bool,
    pub workload_name: Arc<str>,
    pub workload_type: Arc<str>,
    pub canonical_name: Arc<str>,
    pub canonical_revision: Arc<str>,
    pub hostname: Arc<str>,
    pub node: Arc<str>,
    pub cluster: Arc<str>,
    pub locality: Locality,
    pub status: HealthStatus,
    pub authorization_policies: Vec<Arc<str>>,
    pub capacity: u32,
    pub services: SortedMap<NamespacedHostname, PortMap>,
}

impl Workload {
    /// The pod's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.name_at {
            Some(at) => &self.uid[usize::from(at.get()) - 1..],
            None => self.profile.own_name.as_deref().unwrap_or_default(),
        }
    }

    /// The owning controller's name.
    #[must_use]
    pub fn workload_name(&self) -> &str {
        self.controller.as_deref().unwrap_or_else(|| self.name())
    }

    /// Whom a certificate of this workload names.
    #[must_use]
    pub fn identity(&self) -> Identity {
        Identity {
            trust_domain: self.trust_domain.clone(),
            namespace: Arc::clone(&self.namespace),
            service_account: Arc::clone(&self.service_account),
        }
    }
}

impl Profile {
    /// The target port for each port of a service that it says it is an endpoint of.
    pub(crate) fn ports_of(&self, namespace: &str, hostname: &str) -> Option<&PortMap> {
        self.services
            .find(|name| (&*name.namespace, &*name.hostname).cmp(&(namespace, hostname)))
    }
}

impl Deref for Workload {
    type Target = Profile;

    fn deref(&self) -> &Profile {
        &self.profile
    }
}

impl From<WorkloadSpec> for Workload {
    /// Shares nothing with other workloads; the store makes its own in a way that does.
    fn from(spec: WorkloadSpec) -> Self {
        Interner::default().workload((&spec).into())
    }
}

/// As `/config_dump` spells it.
impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Spelled {
            uid: &self.uid,
            name: self.name(),
            namespace: &self.namespace,
            trust_domain: &self.trust_domain,
            service_account: &self.service_account,
            network: &self.network,
            addresses: &self.addresses,
            protocol: self.protocol,
            network_mode: self.network_mode,
            waypoint: self.waypoint.as_ref(),
            network_gateway: self.network_gateway.as_ref(),
            application_tunnel: self.application_tunnel.as_ref(),
            native_tunnel: self.native_tunnel,
            workload_name: self.workload_name(),
            workload_type: &self.workload_type,
            canonical_name: &self.canonical_name,
            canonical_revision: &self.canonical_revision,
            hostname: &self.hostname,
            node: &self.site.node,
            cluster: &self.cluster,
            locality: Place::of(&self.site.locality),
            status: self.status,
            authorization_policies: &self.authorization_policies,
            capacity: self.capacity,
            services: self.services.keys().collect(),
        }
        .serialize(serializer)
    }
}

/// The dump lists a workload's services by name; their ports stand at the services.
///
/// Fields in the order of their names, here and in what they hold: a dump that is in order need not be sorted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spelled<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    application_tunnel: Option<&'a ApplicationTunnel>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    authorization_policies: &'a [Arc<str>],
    #[serde(skip_serializing_if = "str::is_empty")]
    canonical_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    canonical_revision: &'a str,
    capacity: u32,
    #[serde(rename = "clusterId")]
    cluster: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    locality: Option<Place<'a>>,
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    native_tunnel: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    network: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_gateway: Option<&'a GatewayAddress>,
    network_mode: NetworkMode,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    protocol: TunnelProtocol,
    service_account: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    services: Vec<&'a NamespacedHostname>,
    status: HealthStatus,
    trust_domain: &'a TrustDomain,
    #[serde(skip_serializing_if = "str::is_empty")]
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<&'a GatewayAddress>,
    #[serde(rename = "workloadIps")]
    addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "str::is_empty")]
    workload_name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    workload_type: &'a str,
}

/// A locality that is somewhere.
#[derive(Serialize)]
struct Place<'a> {
    region: &'a str,
    subzone: &'a str,
    zone: &'a str,
}

impl<'a> Place<'a> {
    fn of(locality: &'a Locality) -> Option<Self> {
        let Locality {
            region,
            zone,
            subzone,
        } = locality;
        (!is_default(locality)).then_some(Self {
            region,
            subzone,
            zone,
        })
    }
}

/// How a workload wants to be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum TunnelProtocol {
    /// Through a tunnel: mutual TLS, HTTP/2 CONNECT.
    #[serde(rename = "HBONE")]
    Hbone,
    /// As plain TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// Whether a workload's addresses are its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum NetworkMode {
    /// They are the node's, so an address says nothing about which workload is meant.
    HostNetwork,
    /// They are its own.
    #[default]
    Standard,
}

/// Whether a workload may get traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum HealthStatus {
    /// It may.
    #[default]
    Healthy,
    /// Only when the service takes all comers ([`crate::service::HealthPolicy::AllowAll`]).
    Unhealthy,
}

/// A waypoint or a network gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAddress {
    /// Who it is.
    pub destination: GatewayDestination,
    /// The port on which it takes tunnels.
    pub hbone_mtls_port: u16,
}

/// How a gateway is named.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GatewayDestination {
    /// By address.
    Address(NetworkAddress),
    /// By the hostname of a service or workload.
    Hostname(NamespacedHostname),
}

impl fmt::Display for GatewayDestination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Hostname(hostname) => hostname.fmt(f),
        }
    }
}

crate::address::serialize_as_text!(GatewayDestination);

/// How the receiving side hands bytes to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct ApplicationTunnel {
    /// The port to use instead of the one asked for.
    pub port: Option<u16>,
    /// What goes in front of the bytes.
    pub protocol: ApplicationProtocol,
}

/// What goes in front of the bytes handed to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum ApplicationProtocol {
    /// Nothing.
    #[serde(rename = "NONE")]
    None,
    /// A PROXY v2 header (spec/dataplane.md §3.8).
    #[serde(rename = "PROXY")]
    Proxy,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
