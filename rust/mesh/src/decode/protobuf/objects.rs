//! The fields of `istio.workload`'s messages; `../objects.rs` has them as JSON.

use std::net::IpAddr;
use std::sync::Arc;

use prost::bytes::Bytes;

use super::super::place::Place;
use super::super::texts::{self, bounded};
use super::{block, choice, ip, list, messages, port, text};
use crate::address::{NamespacedHostname, NetworkAddress};
use crate::service::{
    CidrVip, Endpoints, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode,
    LoadBalancerScope, Service, SubjectAltName, Visibility, WeightedWaypoint,
};
use crate::workload::{
    ApplicationProtocol, ApplicationTunnel, GatewayAddress, GatewayDestination, HealthStatus,
    NetworkMode, ServicePorts, TunnelProtocol, WorkloadParts, in_order,
};

pub(super) fn workload<'m>(
    m: &'m messages::Workload,
    place: &Place<'_>,
) -> Option<WorkloadParts<'m>> {
    let said = |bytes, field| text(bounded)(bytes, &place.field(field)).unwrap_or_default();
    let trust_domain = text(texts::trust_domain)(&m.trust_domain, &place.field("trust_domain"));
    let account = &place.field("service_account");
    let gateway = |said: &Option<_>, field| gateway(said.as_ref()?, &place.field(field));
    let parts = WorkloadParts {
        uid: text(texts::name)(&m.uid, &place.field("uid")).unwrap_or_default(),
        name: said(&m.name, "name"),
        namespace: text(texts::path_segment)(&m.namespace, &place.field("namespace"))
            .unwrap_or_default(),
        trust_domain: trust_domain.or_else(|| texts::trust_domain("", place))?,
        service_account: text(texts::service_account)(&m.service_account, account)
            .unwrap_or_default(),
        network: said(&m.network, "network"),
        addresses: addresses(&m.addresses, &place.field("addresses")).unwrap_or_default(),
        protocol: protocol(m.tunnel_protocol, &place.field("tunnel_protocol")).unwrap_or_default(),
        network_mode: network_mode(m.network_mode, &place.field("network_mode"))
            .unwrap_or_default(),
        waypoint: gateway(&m.waypoint, "waypoint"),
        network_gateway: gateway(&m.network_gateway, "network_gateway"),
        application_tunnel: m
            .application_tunnel
            .and_then(|m| application_tunnel(m, &place.field("application_tunnel"))),
        native_tunnel: m.native_tunnel,
        workload_name: said(&m.workload_name, "workload_name"),
        workload_type: workload_type(m.workload_type),
        canonical_name: said(&m.canonical_name, "canonical_name"),
        canonical_revision: said(&m.canonical_revision, "canonical_revision"),
        hostname: said(&m.hostname, "hostname"),
        node: said(&m.node, "node"),
        cluster: text(texts::cluster)(&m.cluster_id, &place.field("cluster_id"))
            .unwrap_or_default(),
        locality: m
            .locality
            .as_ref()
            .map(|m| locality(m, &place.field("locality")))
            .unwrap_or_default(),
        status: status(m.status, &place.field("status")).unwrap_or_default(),
        authorization_policies: list(
            &m.authorization_policies,
            &place.field("authorization_policies"),
            text(texts::name),
        )
        .unwrap_or_default(),
        capacity: m.capacity.unwrap_or(1),
        services: services(&m.services, &place.field("services")).unwrap_or_default(),
    };
    Some(parts)
}

pub(super) fn service(m: &messages::Service, place: &Place<'_>) -> Option<Service> {
    let part = |bytes, field| text(texts::key_part)(bytes, &place.field(field)).unwrap_or_default();
    let (vips, cidr_vips) =
        service_addresses(&m.addresses, &place.field("addresses")).unwrap_or_default();
    Some(Service {
        name: text(bounded)(&m.name, &place.field("name"))
            .unwrap_or_default()
            .into(),
        namespace: part(&m.namespace, "namespace").into(),
        hostname: part(&m.hostname, "hostname").into(),
        vips,
        cidr_vips,
        ports: ports(&m.ports, &place.field("ports"))
            .unwrap_or_default()
            .into_iter()
            .collect(),
        endpoints: Endpoints::new(),
        subject_alt_names: list(
            &m.subject_alt_names,
            &place.field("subject_alt_names"),
            text(|text, place| bounded(text, place).map(SubjectAltName::new)),
        )
        .unwrap_or_default(),
        waypoint: m
            .waypoint
            .as_ref()
            .and_then(|m| gateway(m, &place.field("waypoint"))),
        weighted_waypoints: list(
            &m.weighted_waypoints,
            &place.field("weighted_waypoints"),
            weighted_waypoint,
        )
        .unwrap_or_default(),
        load_balancer: m
            .load_balancing
            .as_ref()
            .and_then(|m| load_balancer(m, &place.field("load_balancing"))),
        ip_families: ip_families(m.ip_families, &place.field("ip_families")).flatten(),
        canonical: m.canonical,
        visibility: visibility(m.visibility),
    })
}

fn addresses(entries: &[Bytes], place: &Place<'_>) -> Option<Vec<IpAddr>> {
    let read = |bytes: &Bytes, place: &Place<'_>| ip(bytes, place).map(|ip| ip.to_canonical());
    list(entries, place, read).filter(|list| place.admit_addresses(list.len()))
}

/// An address of a service with a length that is not the whole address is a block (spec/control.md §5.2).
fn service_addresses(
    entries: &[messages::NetworkAddress],
    place: &Place<'_>,
) -> Option<(Vec<NetworkAddress>, Vec<CidrVip>)> {
    if !place.admit(entries.len()) || !place.admit_addresses(entries.len()) {
        return None;
    }
    let (mut vips, mut cidr_vips) = (Vec::with_capacity(entries.len()), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let place = place.index(index);
        let Some((network, address)) = network_ip(entry, &place) else {
            continue;
        };
        let whole = if address.is_ipv4() { 32 } else { 128 };
        match entry.length.filter(|length| *length != whole) {
            None => vips.push(NetworkAddress {
                network,
                address: address.to_canonical(),
            }),
            Some(length) => {
                let cidr = block(address, length, &place.field("length"));
                cidr_vips.extend(cidr.map(|cidr| CidrVip { network, cidr }));
            }
        }
    }
    Some((vips, cidr_vips))
}

/// A network and an address as it is written. A slash would end the network's name where they are written as one text.
fn network_ip(m: &messages::NetworkAddress, place: &Place<'_>) -> Option<(Arc<str>, IpAddr)> {
    let at = place.field("network");
    let network = match text(bounded)(&m.network, &at) {
        Some(text) if text.contains('/') => at.fault("must not contain a slash"),
        text => text,
    };
    let address = ip(&m.address, &place.field("address"));
    Some((network?.into(), address?))
}

/// A map: of entries with the same key the last one counts, and that of a port too, for a Kubernetes service has one port
/// 53 for TCP and one for UDP.
fn services<'m>(
    entries: &'m [messages::ServicesEntry],
    place: &Place<'_>,
) -> Option<Vec<ServicePorts<'m>>> {
    if !place.admit(entries.len()) {
        return None;
    }
    let mut services = Vec::with_capacity(entries.len());
    for entry in entries {
        let Some(key) = text(bounded)(&entry.key, place) else {
            continue;
        };
        let place = place.key(key);
        let named = entry.value.as_ref().map_or(&[][..], |list| &list.ports);
        let ports = ports(named, &place.field("ports"));
        match NamespacedHostname::split(key) {
            Ok(key) => services.push((key, ports.unwrap_or_default())),
            Err(cause) => place.note(cause),
        }
    }
    in_order(&mut services);
    Some(services)
}

fn ports(entries: &[messages::Port], place: &Place<'_>) -> Option<Vec<(u16, u16)>> {
    let read = |m: &messages::Port, place: &Place<'_>| {
        let service = port(m.service_port, 1, &place.field("service_port"));
        let target = port(m.target_port, 0, &place.field("target_port"));
        Some((service?, target?))
    };
    let mut ports = list(entries, place, read)?;
    in_order(&mut ports);
    Some(ports)
}

fn gateway(m: &messages::GatewayAddress, place: &Place<'_>) -> Option<GatewayAddress> {
    let destination = match &m.destination {
        Some(messages::Destination::Hostname(m)) => {
            let place = place.field("hostname");
            let part = |bytes, field| text(texts::key_part)(bytes, &place.field(field));
            let (namespace, hostname) = (
                part(&m.namespace, "namespace"),
                part(&m.hostname, "hostname"),
            );
            namespace.zip(hostname).map(|(namespace, hostname)| {
                GatewayDestination::Hostname(NamespacedHostname {
                    namespace: namespace.into(),
                    hostname: hostname.into(),
                })
            })
        }
        Some(messages::Destination::Address(m)) => {
            network_ip(m, &place.field("address")).map(|(network, address)| {
                GatewayDestination::Address(NetworkAddress {
                    network,
                    address: address.to_canonical(),
                })
            })
        }
        None => place.fault("has no destination"),
    };
    let port = port(m.hbone_mtls_port, 0, &place.field("hbone_mtls_port"));
    Some(GatewayAddress {
        destination: destination?,
        hbone_mtls_port: port?,
    })
}

fn weighted_waypoint(
    m: &messages::WeightedWaypoint,
    place: &Place<'_>,
) -> Option<WeightedWaypoint> {
    let place = place.field("destination");
    let Some(destination) = &m.destination else {
        return place.fault("is missing");
    };
    Some(WeightedWaypoint {
        destination: gateway(destination, &place)?,
        weight: m.weight,
    })
}

fn application_tunnel(
    m: messages::ApplicationTunnel,
    place: &Place<'_>,
) -> Option<ApplicationTunnel> {
    let known = [
        (0, "NONE", ApplicationProtocol::None),
        (1, "PROXY", ApplicationProtocol::Proxy),
    ];
    let protocol = choice(m.protocol, &place.field("protocol"), &known);
    let port = port(m.port, 0, &place.field("port"));
    Some(ApplicationTunnel {
        protocol: protocol?,
        port: port.filter(|port| *port != 0),
    })
}

/// Region, zone, subzone.
fn locality<'m>(m: &'m messages::Locality, place: &Place<'_>) -> [&'m str; 3] {
    let said = |bytes, field| text(bounded)(bytes, &place.field(field)).unwrap_or_default();
    [
        said(&m.region, "region"),
        said(&m.zone, "zone"),
        said(&m.subzone, "subzone"),
    ]
}

/// Istio's own mutual TLS (LEGACY_ISTIO_MTLS, 2) is not spoken.
fn protocol(number: i32, place: &Place<'_>) -> Option<TunnelProtocol> {
    let known = [
        (0, "NONE", TunnelProtocol::Tcp),
        (1, "HBONE", TunnelProtocol::Hbone),
    ];
    choice(number, place, &known)
}

fn network_mode(number: i32, place: &Place<'_>) -> Option<NetworkMode> {
    let known = [
        (0, "STANDARD", NetworkMode::Standard),
        (1, "HOST_NETWORK", NetworkMode::HostNetwork),
    ];
    choice(number, place, &known)
}

fn status(number: i32, place: &Place<'_>) -> Option<HealthStatus> {
    let known = [
        (0, "HEALTHY", HealthStatus::Healthy),
        (1, "UNHEALTHY", HealthStatus::Unhealthy),
    ];
    choice(number, place, &known)
}

/// A label, no more: one that is not known yet is the first (spec/control.md §5.1).
fn workload_type(number: i32) -> &'static str {
    match number {
        1 => "cronjob",
        2 => "pod",
        3 => "job",
        _ => "deployment",
    }
}

fn load_balancer(m: &messages::LoadBalancing, place: &Place<'_>) -> Option<LoadBalancer> {
    let modes = [
        (0, "UNSPECIFIED_MODE", LoadBalancerMode::Standard),
        (1, "STRICT", LoadBalancerMode::Strict),
        (2, "FAILOVER", LoadBalancerMode::Failover),
        (3, "PASSTHROUGH", LoadBalancerMode::Passthrough),
    ];
    let policies = [
        (0, "ONLY_HEALTHY", HealthPolicy::OnlyHealthy),
        (1, "ALLOW_ALL", HealthPolicy::AllowAll),
    ];
    let preferences = &place.field("routing_preference");
    let routing_preferences = list(&m.routing_preference, preferences, scope);
    let mode = choice(m.mode, &place.field("mode"), &modes);
    let health_policy = choice(m.health_policy, &place.field("health_policy"), &policies);
    Some(LoadBalancer {
        routing_preferences: routing_preferences?,
        mode: mode?,
        health_policy: health_policy?,
    })
}

fn scope(number: &i32, place: &Place<'_>) -> Option<LoadBalancerScope> {
    let known = [
        (1, "REGION", LoadBalancerScope::Region),
        (2, "ZONE", LoadBalancerScope::Zone),
        (3, "SUBZONE", LoadBalancerScope::Subzone),
        (4, "NODE", LoadBalancerScope::Node),
        (5, "CLUSTER", LoadBalancerScope::Cluster),
        (6, "NETWORK", LoadBalancerScope::Network),
    ];
    choice(*number, place, &known)
}

fn ip_families(number: i32, place: &Place<'_>) -> Option<Option<IpFamilies>> {
    let known = [
        (0, "AUTOMATIC", None),
        (1, "IPV4_ONLY", Some(IpFamilies::IPv4)),
        (2, "IPV6_ONLY", Some(IpFamilies::IPv6)),
        (3, "DUAL", Some(IpFamilies::Dual)),
    ];
    choice(number, place, &known)
}

/// One that is not known yet is the widest (spec/control.md §5.2): it says who finds a service, not who may use it.
fn visibility(number: i32) -> Visibility {
    match number {
        1 => Visibility::Namespace,
        _ => Visibility::Public,
    }
}
