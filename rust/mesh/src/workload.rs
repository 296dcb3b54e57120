//! A pod or virtual machine in the mesh.
//!
//! Data only; its spelling in JSON is that of `/config_dump` (spec/control.md §11), reading it is `decode`'s.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::address::{Locality, NamespacedHostname, NetworkAddress};
use crate::identity::{Identity, TrustDomain};

/// Service port → target port. A target of 0 means "the endpoint says" (a named port).
pub type PortMap = BTreeMap<u16, u16>;

/// A pod or virtual machine in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// Unique in the mesh, for example `Kubernetes//Pod/ns/name`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub uid: Arc<str>,
    /// The pod's name.
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Who vouches for it.
    pub trust_domain: TrustDomain,
    /// Kubernetes service account.
    pub service_account: Arc<str>,
    /// The network in which its addresses mean something.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub network: Arc<str>,
    /// Its addresses, canonical, in the order given: the first of a family is preferred.
    #[serde(rename = "workloadIps")]
    pub addresses: Vec<IpAddr>,
    /// How it wants to be reached.
    pub protocol: TunnelProtocol,
    /// Whether its addresses are its own or its node's.
    pub network_mode: NetworkMode,
    /// The L7 hop in front of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waypoint: Option<GatewayAddress>,
    /// The way in from other networks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_gateway: Option<GatewayAddress>,
    /// How bytes are handed to the application; set for waypoints that sit behind us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub application_tunnel: Option<ApplicationTunnel>,
    /// Ends tunnels itself; no effect on routing (spec/dataplane.md §2.2).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub native_tunnel: bool,
    /// The owning controller's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub workload_name: Arc<str>,
    /// The owning controller's kind, lower case.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub workload_type: Arc<str>,
    /// Label for metrics.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub canonical_name: Arc<str>,
    /// Label for metrics.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub canonical_revision: Arc<str>,
    /// A name to resolve when there are no addresses.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hostname: Arc<str>,
    /// The node it runs on.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub node: Arc<str>,
    /// The cluster it belongs to.
    #[serde(rename = "clusterId")]
    pub cluster: Arc<str>,
    /// Where it runs.
    #[serde(skip_serializing_if = "is_default")]
    pub locality: Locality,
    /// Whether it may get traffic.
    pub status: HealthStatus,
    /// Keys (`namespace/name`) of the workload-selector policies that apply to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub authorization_policies: Vec<Arc<str>>,
    /// Its weight among the endpoints of a service; 0 is never chosen.
    pub capacity: u32,
    /// The services it is an endpoint of, with the target port for each service port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", serialize_with = "keys")]
    pub services: BTreeMap<NamespacedHostname, PortMap>,
}

impl Workload {
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
    /// What goes in front of the bytes.
    pub protocol: ApplicationProtocol,
    /// The port to use instead of the one asked for.
    pub port: Option<u16>,
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

/// The dump lists a workload's services by name; their ports stand at the services.
fn keys<S: Serializer>(
    services: &BTreeMap<NamespacedHostname, PortMap>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(services.keys())
}
