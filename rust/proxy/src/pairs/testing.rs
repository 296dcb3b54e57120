//! Workloads, services and a worker's pairs, for the tests of this folder and of `connection`.

use std::sync::Arc;

use mesh::address::Locality;
use mesh::identity::TrustDomain;
use mesh::service::{Service, Visibility};
use mesh::workload::{HealthStatus, NetworkMode, TunnelProtocol, Workload, WorkloadSpec};

use super::*;
use crate::telemetry::log::{Filter, Format, Losses, Output, Settings};
use crate::telemetry::metrics::Metrics;

pub(crate) fn workload(name: &str) -> Arc<Workload> {
    let spec = WorkloadSpec {
        uid: format!("cluster1//Pod/shop/{name}").into(),
        name: format!("{name}-pod").into(),
        namespace: "shop".into(),
        trust_domain: TrustDomain::parse("cluster.local").unwrap(),
        service_account: name.into(),
        network: "".into(),
        addresses: Vec::new(),
        protocol: TunnelProtocol::Hbone,
        network_mode: NetworkMode::default(),
        waypoint: None,
        network_gateway: None,
        application_tunnel: None,
        native_tunnel: false,
        workload_name: name.into(),
        workload_type: "deployment".into(),
        canonical_name: format!("{name}-service").into(),
        canonical_revision: "v1".into(),
        hostname: "".into(),
        node: "node".into(),
        cluster: "cluster1".into(),
        locality: Locality {
            region: "r1".into(),
            zone: "z1".into(),
            subzone: "".into(),
        },
        status: HealthStatus::Healthy,
        authorization_policies: Vec::new(),
        capacity: 1,
        services: Default::default(),
    };
    Arc::new(spec.into())
}

pub(crate) fn service(name: &str) -> Arc<Service> {
    Arc::new(Service {
        name: name.into(),
        namespace: "shop".into(),
        hostname: format!("{name}.shop.svc.cluster.local").into(),
        vips: Vec::new(),
        cidr_vips: Vec::new(),
        ports: Default::default(),
        endpoints: Default::default(),
        subject_alt_names: Vec::new(),
        waypoint: None,
        weighted_waypoints: Vec::new(),
        load_balancer: None,
        ip_families: None,
        canonical: false,
        visibility: Visibility::default(),
    })
}

/// A worker's pairs, with the metrics they count in and a log that lets through what `filter` says.
pub(crate) fn pairs(filter: &str, output: Output) -> (Metrics, Pairs, Logger) {
    let losses = Arc::<Losses>::default();
    let settings = Settings {
        format: Format::Plain,
        access: None,
        output,
        filter: filter.parse::<Filter>().unwrap(),
    };
    let log = Logger::start(settings, losses.clone()).unwrap();
    let metrics = Metrics::new("test", losses);
    let pairs = Pairs::new(Rc::new(metrics.recorder()), log.clone());
    (metrics, pairs, log)
}
