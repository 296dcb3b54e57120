//! The fields of workloads and services as JSON; `protobuf/objects.rs` has them as Istio's messages.
//!
//! Defaults are those of XDS ingestion (spec/control.md §5.1), not the local file's missing ones: an empty trust domain
//! would make an identity that nothing can prove.

use std::net::IpAddr;
use std::sync::Arc;

use super::json::{Fields, Node, boolean, choice, list, map, parsed, text, whole};
use super::place::Place;
use super::texts::{self, bounded};
use crate::address::{NamespacedHostname, NetworkAddress, parse_ip};
use crate::service::{
    CidrVip, Endpoint, Endpoints, HealthPolicy, IpFamilies, LoadBalancer, LoadBalancerMode,
    LoadBalancerScope, Service, SubjectAltName, Visibility, WeightedWaypoint,
};
use crate::workload::{
    ApplicationProtocol, ApplicationTunnel, GatewayAddress, GatewayDestination, HealthStatus,
    NetworkMode, PortMap, ServicePorts, TunnelProtocol, WorkloadParts,
};

pub(super) fn workload<'n>(node: &'n Node<'n>, place: &Place<'_>) -> Option<WorkloadParts<'n>> {
    let mut o = Fields::open(node, place)?;
    let uid = o.need("uid", text(texts::name));
    let namespace = o.need("namespace", text(texts::path_segment));
    let addresses = o.need("workloadIps", addresses);
    let parts = WorkloadParts {
        uid: uid.unwrap_or_default(),
        name: o.take("name", text(bounded)).unwrap_or_default(),
        namespace: namespace.unwrap_or_default(),
        trust_domain: o
            .take("trustDomain", text(texts::trust_domain))
            .or_else(|| texts::trust_domain("", place))?,
        service_account: o
            .take("serviceAccount", text(texts::service_account))
            .unwrap_or("default"),
        network: o.take("network", text(bounded)).unwrap_or_default(),
        addresses: addresses.unwrap_or_default(),
        protocol: o.take("protocol", protocol).unwrap_or_default(),
        network_mode: o.take("networkMode", network_mode).unwrap_or_default(),
        waypoint: o.take_nullable("waypoint", gateway),
        network_gateway: o.take_nullable("networkGateway", gateway),
        application_tunnel: o.take_nullable("applicationTunnel", application_tunnel),
        native_tunnel: o.take("nativeTunnel", boolean).unwrap_or_default(),
        workload_name: o.take("workloadName", text(bounded)).unwrap_or_default(),
        workload_type: o.take("workloadType", text(bounded)).unwrap_or_default(),
        canonical_name: o.take("canonicalName", text(bounded)).unwrap_or_default(),
        canonical_revision: o
            .take("canonicalRevision", text(bounded))
            .unwrap_or_default(),
        hostname: o.take("hostname", text(bounded)).unwrap_or_default(),
        node: o.take("node", text(bounded)).unwrap_or_default(),
        cluster: o
            .take("clusterId", text(texts::cluster))
            .or_else(|| texts::cluster("", place))?,
        locality: o.take_nullable("locality", locality).unwrap_or_default(),
        status: o.take("status", status).unwrap_or_default(),
        authorization_policies: o
            .take("authorizationPolicies", policy_keys)
            .unwrap_or_default(),
        capacity: o.take("capacity", whole).unwrap_or(1),
        services: o.take("services", workload_services).unwrap_or_default(),
    };
    o.close();
    Some(parts)
}

pub(super) fn service(node: &Node<'_>, place: &Place<'_>) -> Option<Service> {
    let mut o = Fields::open(node, place)?;
    let service = Service {
        name: o.need("name", text(bounded)).unwrap_or_default().into(),
        namespace: o
            .need("namespace", text(texts::key_part))
            .unwrap_or_default()
            .into(),
        hostname: o
            .need("hostname", text(texts::key_part))
            .unwrap_or_default()
            .into(),
        vips: o.need("vips", network_addresses).unwrap_or_default(),
        cidr_vips: o.take("cidrVips", cidr_vips).unwrap_or_default(),
        ports: o.need("ports", ports).unwrap_or_default(),
        endpoints: o.take("endpoints", endpoints).unwrap_or_default(),
        subject_alt_names: o.take("subjectAltNames", alt_names).unwrap_or_default(),
        waypoint: o.take_nullable("waypoint", gateway),
        weighted_waypoints: o
            .take("weightedWaypoints", weighted_waypoints)
            .unwrap_or_default(),
        load_balancer: o.take_nullable("loadBalancer", load_balancer),
        ip_families: o.take_nullable("ipFamilies", ip_families),
        canonical: o.take("canonical", boolean).unwrap_or_default(),
        visibility: o.take("visibility", visibility).unwrap_or_default(),
    };
    o.close();
    Some(service)
}

fn addresses(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<IpAddr>> {
    let ip = text(|text, place: &Place<'_>| {
        parse_ip(text).map_or_else(|cause| place.fault(cause), Some)
    });
    list(node, place, ip).filter(|list| place.admit_addresses(list.len()))
}

fn network_addresses(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<NetworkAddress>> {
    list(node, place, parsed).filter(|list| place.admit_addresses(list.len()))
}

fn protocol(node: &Node<'_>, place: &Place<'_>) -> Option<TunnelProtocol> {
    choice(
        node,
        place,
        &[
            ("HBONE", TunnelProtocol::Hbone),
            ("TCP", TunnelProtocol::Tcp),
        ],
    )
}

fn network_mode(node: &Node<'_>, place: &Place<'_>) -> Option<NetworkMode> {
    let words = [
        ("HostNetwork", NetworkMode::HostNetwork),
        ("Standard", NetworkMode::Standard),
    ];
    choice(node, place, &words)
}

fn status(node: &Node<'_>, place: &Place<'_>) -> Option<HealthStatus> {
    let words = [
        ("Healthy", HealthStatus::Healthy),
        ("Unhealthy", HealthStatus::Unhealthy),
    ];
    choice(node, place, &words)
}

fn policy_keys<'n>(node: &'n Node<'n>, place: &Place<'_>) -> Option<Vec<&'n str>> {
    list(node, place, text(texts::name))
}

/// Region, zone, subzone.
fn locality<'n>(node: &'n Node<'n>, place: &Place<'_>) -> Option<[&'n str; 3]> {
    let mut o = Fields::open(node, place)?;
    let locality =
        ["region", "zone", "subzone"].map(|field| o.need(field, text(bounded)).unwrap_or_default());
    o.close();
    Some(locality)
}

fn gateway(node: &Node<'_>, place: &Place<'_>) -> Option<GatewayAddress> {
    let mut o = Fields::open(node, place)?;
    let destination = o.need("destination", destination);
    let port = o.need("hboneMtlsPort", whole);
    o.close();
    Some(GatewayAddress {
        destination: destination?,
        hbone_mtls_port: port?,
    })
}

/// The address form is tried first (spec/control.md §3).
fn destination(node: &Node<'_>, place: &Place<'_>) -> Option<GatewayDestination> {
    let text = text(bounded)(node, place)?;
    if let Ok(address) = text.parse() {
        return Some(GatewayDestination::Address(address));
    }
    text.parse().map_or_else(
        |_| {
            place.fault(format_args!(
                "expected network/ip or namespace/hostname, found {node}"
            ))
        },
        |hostname| Some(GatewayDestination::Hostname(hostname)),
    )
}

fn application_tunnel(node: &Node<'_>, place: &Place<'_>) -> Option<ApplicationTunnel> {
    let mut o = Fields::open(node, place)?;
    let protocol = o.need("protocol", application_protocol);
    let port = o.take_nullable("port", whole).filter(|port| *port != 0);
    o.close();
    Some(ApplicationTunnel {
        protocol: protocol?,
        port,
    })
}

fn application_protocol(node: &Node<'_>, place: &Place<'_>) -> Option<ApplicationProtocol> {
    let words = [
        ("NONE", ApplicationProtocol::None),
        ("PROXY", ApplicationProtocol::Proxy),
    ];
    choice(node, place, &words)
}

fn ports(node: &Node<'_>, place: &Place<'_>) -> Option<PortMap> {
    map(node, place, port, whole).map(PortMap::from)
}

fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err("expected a port from 1 to 65535".into()),
    }
}

fn workload_services<'n>(node: &'n Node<'n>, place: &Place<'_>) -> Option<Vec<ServicePorts<'n>>> {
    let name = |key| NamespacedHostname::split(key).map_err(|e| e.to_string());
    let ports = |node: &'n Node<'n>, place: &Place<'_>| {
        Some(map(node, place, port, whole)?.into_iter().collect())
    };
    Some(map(node, place, name, ports)?.into_iter().collect())
}

fn endpoints(node: &Node<'_>, place: &Place<'_>) -> Option<Endpoints> {
    let endpoints = map(node, place, |key| Ok(Arc::<str>::from(key)), endpoint)?;
    for (key, endpoint) in &endpoints {
        if *key != endpoint.workload_uid {
            place.note(format_args!(
                "key `{}` and workloadUid `{}` differ",
                crate::address::excerpt(key),
                crate::address::excerpt(&endpoint.workload_uid)
            ));
        }
    }
    Some(endpoints)
}

fn endpoint(node: &Node<'_>, place: &Place<'_>) -> Option<Arc<Endpoint>> {
    let mut o = Fields::open(node, place)?;
    let workload_uid = o.need("workloadUid", text(texts::name));
    let port = o.need("port", ports);
    let status = o.take("status", status).unwrap_or_default();
    o.close();
    Some(Arc::new(Endpoint {
        workload_uid: workload_uid?.into(),
        port: port?,
        status,
    }))
}

fn cidr_vips(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<CidrVip>> {
    list(node, place, |node, place| {
        let mut o = Fields::open(node, place)?;
        let network = o.need("network", text(bounded));
        let cidr = o.need("cidr", parsed);
        o.close();
        Some(CidrVip {
            network: network?.into(),
            cidr: cidr?,
        })
    })
    .filter(|list| place.admit_addresses(list.len()))
}

fn alt_names(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<SubjectAltName>> {
    let name = |text: &str, place: &Place<'_>| bounded(text, place).map(SubjectAltName::new);
    list(node, place, text(name))
}

fn weighted_waypoints(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<WeightedWaypoint>> {
    list(node, place, |node, place| {
        let mut o = Fields::open(node, place)?;
        let destination = o.need("destination", gateway);
        let weight = o.need("weight", whole);
        o.close();
        Some(WeightedWaypoint {
            destination: destination?,
            weight: weight?,
        })
    })
}

fn load_balancer(node: &Node<'_>, place: &Place<'_>) -> Option<LoadBalancer> {
    let mut o = Fields::open(node, place)?;
    let routing_preferences = o.need("routingPreferences", scopes);
    let mode = o.need("mode", mode);
    let health_policy = o.need("healthPolicy", health_policy);
    o.close();
    Some(LoadBalancer {
        routing_preferences: routing_preferences?,
        mode: mode?,
        health_policy: health_policy?,
    })
}

fn scopes(node: &Node<'_>, place: &Place<'_>) -> Option<Vec<LoadBalancerScope>> {
    list(node, place, |node, place| {
        let words = [
            ("Cluster", LoadBalancerScope::Cluster),
            ("Network", LoadBalancerScope::Network),
            ("Node", LoadBalancerScope::Node),
            ("Region", LoadBalancerScope::Region),
            ("Subzone", LoadBalancerScope::Subzone),
            ("Zone", LoadBalancerScope::Zone),
        ];
        choice(node, place, &words)
    })
}

fn mode(node: &Node<'_>, place: &Place<'_>) -> Option<LoadBalancerMode> {
    let words = [
        ("Failover", LoadBalancerMode::Failover),
        ("Passthrough", LoadBalancerMode::Passthrough),
        ("Standard", LoadBalancerMode::Standard),
        ("Strict", LoadBalancerMode::Strict),
    ];
    choice(node, place, &words)
}

fn health_policy(node: &Node<'_>, place: &Place<'_>) -> Option<HealthPolicy> {
    let words = [
        ("AllowAll", HealthPolicy::AllowAll),
        ("OnlyHealthy", HealthPolicy::OnlyHealthy),
    ];
    choice(node, place, &words)
}

fn ip_families(node: &Node<'_>, place: &Place<'_>) -> Option<IpFamilies> {
    let words = [
        ("Dual", IpFamilies::Dual),
        ("IPv4", IpFamilies::IPv4),
        ("IPv6", IpFamilies::IPv6),
    ];
    choice(node, place, &words)
}

fn visibility(node: &Node<'_>, place: &Place<'_>) -> Option<Visibility> {
    let words = [
        ("Namespace", Visibility::Namespace),
        ("Public", Visibility::Public),
    ];
    choice(node, place, &words)
}
