//! A workload in parts that were checked, and the one place where it is put together.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::place::Place;
use crate::address::{Locality, NamespacedHostname};
use crate::identity::TrustDomain;
use crate::workload::{
    ApplicationTunnel, GatewayAddress, HealthStatus, NetworkMode, PortMap, TunnelProtocol,
    WorkloadSpec,
};

/// A pod has one or two addresses, a service as many for each cluster; of a workload each is compared with each of the
/// last version's.
const MAX_ADDRESSES: usize = 4096;

/// What is known of a workload, with its texts still where they were read from.
pub(super) struct WorkloadParts<'t> {
    pub(super) uid: &'t str,
    pub(super) name: &'t str,
    pub(super) namespace: &'t str,
    pub(super) trust_domain: TrustDomain,
    pub(super) service_account: &'t str,
    pub(super) network: &'t str,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) protocol: TunnelProtocol,
    pub(super) network_mode: NetworkMode,
    pub(super) waypoint: Option<GatewayAddress>,
    pub(super) network_gateway: Option<GatewayAddress>,
    pub(super) application_tunnel: Option<ApplicationTunnel>,
    pub(super) native_tunnel: bool,
    pub(super) workload_name: &'t str,
    pub(super) workload_type: &'t str,
    pub(super) canonical_name: &'t str,
    pub(super) canonical_revision: &'t str,
    pub(super) hostname: &'t str,
    pub(super) node: &'t str,
    pub(super) cluster: &'t str,
    /// Region, zone, subzone.
    pub(super) locality: [&'t str; 3],
    pub(super) status: HealthStatus,
    pub(super) authorization_policies: Vec<&'t str>,
    pub(super) capacity: u32,
    pub(super) services: BTreeMap<NamespacedHostname, PortMap>,
}

impl WorkloadParts<'_> {
    pub(super) fn build(self) -> WorkloadSpec {
        let policies = self.authorization_policies.into_iter();
        let [region, zone, subzone] = self.locality.map(kept);
        WorkloadSpec {
            uid: kept(self.uid),
            name: kept(self.name),
            namespace: kept(self.namespace),
            trust_domain: self.trust_domain,
            service_account: kept(self.service_account),
            network: kept(self.network),
            addresses: self.addresses,
            protocol: self.protocol,
            network_mode: self.network_mode,
            waypoint: self.waypoint,
            network_gateway: self.network_gateway,
            application_tunnel: self.application_tunnel,
            native_tunnel: self.native_tunnel,
            workload_name: kept(self.workload_name),
            workload_type: kept(self.workload_type),
            canonical_name: kept(self.canonical_name),
            canonical_revision: kept(self.canonical_revision),
            hostname: kept(self.hostname),
            node: kept(self.node),
            cluster: kept(self.cluster),
            locality: Locality {
                region,
                zone,
                subzone,
            },
            status: self.status,
            authorization_policies: policies.map(kept).collect(),
            capacity: self.capacity,
            services: self.services.into(),
        }
    }
}

/// Whether a workload or a service may have so many addresses; otherwise that is a mistake.
pub(super) fn admit_addresses(count: usize, place: &Place<'_>) -> bool {
    if count > MAX_ADDRESSES {
        place.note(format_args!("more than {MAX_ADDRESSES} entries: {count}"));
    }
    count <= MAX_ADDRESSES
}

/// Most texts of most workloads are empty, and the empty one is shared by all.
fn kept(text: &str) -> Arc<str> {
    if text.is_empty() {
        return Arc::default();
    }
    text.into()
}
