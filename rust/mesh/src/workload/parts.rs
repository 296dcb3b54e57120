//! A workload in parts that were checked, with its texts still where they were read from.
//!
//! What a reader ends with and [`super::Interner`] begins with: nothing of it is copied that is there already.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::num::NonZeroU16;

use super::{
    ApplicationTunnel, GatewayAddress, HealthStatus, NetworkMode, PortMap, Profile, TunnelProtocol,
    WorkloadSpec,
};
use crate::address::NamespacedHostname;
use crate::identity::TrustDomain;
use crate::sorted::SortedMap;

/// The fields of [`super::Workload`] and [`Profile`].
pub(crate) struct WorkloadParts<'t> {
    pub(crate) uid: &'t str,
    pub(crate) name: &'t str,
    pub(crate) namespace: &'t str,
    pub(crate) trust_domain: TrustDomain,
    pub(crate) service_account: &'t str,
    pub(crate) network: &'t str,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) protocol: TunnelProtocol,
    pub(crate) network_mode: NetworkMode,
    pub(crate) waypoint: Option<GatewayAddress>,
    pub(crate) network_gateway: Option<GatewayAddress>,
    pub(crate) application_tunnel: Option<ApplicationTunnel>,
    pub(crate) native_tunnel: bool,
    pub(crate) workload_name: &'t str,
    pub(crate) workload_type: &'t str,
    pub(crate) canonical_name: &'t str,
    pub(crate) canonical_revision: &'t str,
    pub(crate) hostname: &'t str,
    pub(crate) node: &'t str,
    pub(crate) cluster: &'t str,
    /// Region, zone, subzone.
    pub(crate) locality: [&'t str; 3],
    pub(crate) status: HealthStatus,
    pub(crate) authorization_policies: Vec<&'t str>,
    pub(crate) capacity: u32,
    /// In the order of their names, none twice.
    pub(crate) services: Vec<ServicePorts<'t>>,
}

/// A service, as namespace and hostname, and the target port for each port of it, in the order of these and none twice.
pub(crate) type ServicePorts<'t> = ((&'t str, &'t str), Vec<(u16, u16)>);

/// Brings entries into the order of their keys; of entries with the same key the last one counts.
pub(crate) fn in_order<K: Ord + Copy, V>(entries: &mut Vec<(K, V)>) {
    if entries.is_sorted_by(|(a, _), (b, _)| a < b) {
        return;
    }
    entries.reverse();
    entries.sort_by_key(|(key, _)| *key);
    entries.dedup_by_key(|(key, _)| *key);
}

impl WorkloadParts<'_> {
    /// One more than where in the uid the name begins, if the uid ends in it and is not too long; else the name.
    pub(super) fn named(&self) -> (Option<NonZeroU16>, Option<&str>) {
        let at = self.uid.len().checked_sub(self.name.len());
        let at = at.filter(|_| self.uid.ends_with(self.name));
        let at = at.and_then(|at| NonZeroU16::new(u16::try_from(at + 1).ok()?));
        (at, at.is_none().then_some(self.name))
    }

    /// The controller's name, if it is another one than the workload's.
    pub(super) fn controller(&self) -> Option<&str> {
        (self.workload_name != self.name).then_some(self.workload_name)
    }

    /// A hash of what makes the profile, but for the name.
    pub(super) fn hash_profile(&self, state: &mut impl Hasher) {
        for text in [
            self.namespace,
            self.trust_domain.as_str(),
            self.service_account,
            self.network,
            self.workload_type,
            self.canonical_name,
            self.canonical_revision,
            self.hostname,
            self.cluster,
        ] {
            text.hash(state);
        }
        self.controller().hash(state);
        (self.protocol, self.network_mode, self.native_tunnel).hash(state);
        (&self.waypoint, &self.network_gateway).hash(state);
        (self.application_tunnel, &self.authorization_policies).hash(state);
        (&self.services, self.capacity, self.status).hash(state);
    }

    /// Whether this is what the profile of these parts would be.
    pub(super) fn make(
        &self,
        profile: &Profile,
        (at, own): (Option<NonZeroU16>, Option<&str>),
    ) -> bool {
        // Taken apart, so that a field that is added is not forgotten here.
        let Profile {
            namespace,
            trust_domain,
            service_account,
            network,
            protocol,
            network_mode,
            waypoint,
            network_gateway,
            application_tunnel,
            native_tunnel,
            workload_type,
            canonical_name,
            canonical_revision,
            hostname,
            cluster,
            authorization_policies,
            services,
            capacity,
            status,
            name_at,
            own_name,
            controller,
        } = profile;
        let policies = authorization_policies.iter().map(|key| &**key);
        **namespace == *self.namespace
            && *trust_domain == self.trust_domain
            && **service_account == *self.service_account
            && **network == *self.network
            && *protocol == self.protocol
            && *network_mode == self.network_mode
            && *waypoint == self.waypoint
            && *network_gateway == self.network_gateway
            && *application_tunnel == self.application_tunnel
            && *native_tunnel == self.native_tunnel
            && controller.as_deref() == self.controller()
            && **workload_type == *self.workload_type
            && **canonical_name == *self.canonical_name
            && **canonical_revision == *self.canonical_revision
            && **hostname == *self.hostname
            && **cluster == *self.cluster
            && policies.eq(self.authorization_policies.iter().copied())
            && are(services, &self.services)
            && *capacity == self.capacity
            && *status == self.status
            && *name_at == at
            && own_name.as_deref() == own
    }
}

fn are(services: &SortedMap<NamespacedHostname, PortMap>, parts: &[ServicePorts<'_>]) -> bool {
    let is = |((held, ports), ((namespace, hostname), own)): (
        (&NamespacedHostname, &PortMap),
        &ServicePorts<'_>,
    )| {
        *held.hostname == **hostname
            && *held.namespace == **namespace
            && pairs(ports).eq(own.iter().copied())
    };
    services.len() == parts.len() && services.iter().zip(parts).all(is)
}

fn pairs(ports: &PortMap) -> impl Iterator<Item = (u16, u16)> {
    ports.iter().map(|(service, target)| (*service, *target))
}

impl<'t> From<&'t WorkloadSpec> for WorkloadParts<'t> {
    fn from(spec: &'t WorkloadSpec) -> Self {
        let locality = &spec.locality;
        let services = spec.services.iter();
        Self {
            uid: &spec.uid,
            name: &spec.name,
            namespace: &spec.namespace,
            trust_domain: spec.trust_domain.clone(),
            service_account: &spec.service_account,
            network: &spec.network,
            addresses: spec.addresses.clone(),
            protocol: spec.protocol,
            network_mode: spec.network_mode,
            waypoint: spec.waypoint.clone(),
            network_gateway: spec.network_gateway.clone(),
            application_tunnel: spec.application_tunnel,
            native_tunnel: spec.native_tunnel,
            workload_name: &spec.workload_name,
            workload_type: &spec.workload_type,
            canonical_name: &spec.canonical_name,
            canonical_revision: &spec.canonical_revision,
            hostname: &spec.hostname,
            node: &spec.node,
            cluster: &spec.cluster,
            locality: [&locality.region, &locality.zone, &locality.subzone],
            status: spec.status,
            authorization_policies: spec
                .authorization_policies
                .iter()
                .map(|key| &**key)
                .collect(),
            capacity: spec.capacity,
            services: services
                .map(|(name, ports)| ((&*name.namespace, &*name.hostname), pairs(ports).collect()))
                .collect(),
        }
    }
}

/// What was read, for tests to look at.
#[cfg(test)]
impl From<WorkloadParts<'_>> for WorkloadSpec {
    fn from(parts: WorkloadParts<'_>) -> Self {
        let [region, zone, subzone] = parts.locality.map(Into::into);
        let services = parts.services.into_iter();
        Self {
            uid: parts.uid.into(),
            name: parts.name.into(),
            namespace: parts.namespace.into(),
            trust_domain: parts.trust_domain,
            service_account: parts.service_account.into(),
            network: parts.network.into(),
            addresses: parts.addresses,
            protocol: parts.protocol,
            network_mode: parts.network_mode,
            waypoint: parts.waypoint,
            network_gateway: parts.network_gateway,
            application_tunnel: parts.application_tunnel,
            native_tunnel: parts.native_tunnel,
            workload_name: parts.workload_name.into(),
            workload_type: parts.workload_type.into(),
            canonical_name: parts.canonical_name.into(),
            canonical_revision: parts.canonical_revision.into(),
            hostname: parts.hostname.into(),
            node: parts.node.into(),
            cluster: parts.cluster.into(),
            locality: crate::address::Locality {
                region,
                zone,
                subzone,
            },
            status: parts.status,
            authorization_policies: parts
                .authorization_policies
                .into_iter()
                .map(Into::into)
                .collect(),
            capacity: parts.capacity,
            services: services
                .map(|((namespace, hostname), ports)| {
                    let name = NamespacedHostname {
                        namespace: namespace.into(),
                        hostname: hostname.into(),
                    };
                    (name, ports.into_iter().collect())
                })
                .collect(),
        }
    }
}
