//! The mesh as `/config_dump` spells it (spec/control.md §11), thing by thing: a dump of a large mesh is written while it
//! is read, and never lies in memory whole.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{MeshSnapshot, sorted, sorted_by_text};
use crate::address::NetworkAddress;
use crate::service::{
    CidrVip, Endpoint, IpFamilies, LoadBalancer, Service, SubjectAltName, Visibility,
    WeightedWaypoint, in_order_of_texts,
};
use crate::workload::{GatewayAddress, PortMap};

impl MeshSnapshot {
    /// The sections that are lists.
    pub const LISTS: [&str; 3] = ["policies", "services", "workloads"];

    /// The sections that are tables, and small ones.
    pub const TABLES: [&str; 1] = ["stagedServices"];

    /// One section as JSON, key by key in upstream's order, which is the alphabet's; `None` for a name that is in
    /// neither [`Self::LISTS`] nor [`Self::TABLES`].
    #[must_use]
    pub fn dump(&self, section: &str) -> Option<Vec<u8>> {
        if section == "stagedServices" {
            let staged = self.services.staged(&self.workloads);
            let by_name = staged.map(|(name, list)| {
                let by_uid = list.into_iter().map(|e| (Arc::clone(&e.workload_uid), e));
                (name.to_string(), by_uid.collect::<BTreeMap<_, _>>())
            });
            return Some(in_order(&json(&by_name.collect::<BTreeMap<_, _>>())));
        }
        if !Self::LISTS.contains(&section) {
            return None;
        }
        let mut list = List(vec![b'[']);
        // It has never enough.
        let _ = self.each(section, &mut list);
        list.0.push(b']');
        Some(list.0)
    }

    /// Shows every item of one of [`Self::LISTS`], in the order of their keys, until `show` has enough. Keys within a
    /// workload or a service are mostly in order, within a policy not. Another name has no items.
    pub fn each(&self, section: &str, show: &mut impl Show) -> ControlFlow<()> {
        match section {
            "policies" => show_all(sorted(self.policies.values(), |p| p.key()), show),
            "services" => {
                let services = sorted(self.services.all(), |s| (&s.hostname, &s.namespace));
                let whole = services.into_iter().map(|service| {
                    let endpoints = self.endpoints(service).collect();
                    WholeService::of(service, Some(endpoints))
                });
                show_all(whole, show)
            }
            "workloads" => show_all(sorted_by_text(self.workloads.values(), |w| &w.uid), show),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Who is shown the things of a list, one by one: as what can be spelled, so that nobody has to read a text of them again.
pub trait Show {
    /// Takes the next one. `Break` when it has enough.
    fn show(&mut self, item: &impl Serialize) -> ControlFlow<()>;
}

/// A service, with its endpoints or without; its fields in the order of their names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WholeService<'a> {
    canonical: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    cidr_vips: &'a [CidrVip],
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<Usable<'a>>,
    hostname: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_families: Option<IpFamilies>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<&'a LoadBalancer>,
    name: &'a str,
    namespace: &'a str,
    #[serde(serialize_with = "in_order_of_texts")]
    ports: &'a PortMap,
    subject_alt_names: &'a [SubjectAltName],
    vips: &'a [NetworkAddress],
    visibility: Visibility,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<&'a GatewayAddress>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    weighted_waypoints: &'a [WeightedWaypoint],
}

impl<'a> WholeService<'a> {
    fn of(service: &'a Service, endpoints: Option<Vec<Endpoint>>) -> Self {
        Self {
            canonical: service.canonical,
            cidr_vips: &service.cidr_vips,
            endpoints: endpoints.map(|endpoints| Usable { service, endpoints }),
            hostname: &service.hostname,
            ip_families: service.ip_families,
            load_balancer: service.load_balancer.as_ref(),
            name: &service.name,
            namespace: &service.namespace,
            ports: &service.ports,
            subject_alt_names: &service.subject_alt_names,
            vips: &service.vips,
            visibility: service.visibility,
            waypoint: service.waypoint.as_ref(),
            weighted_waypoints: &service.weighted_waypoints,
        }
    }
}

/// As it was declared, without the endpoints, which are its view's.
impl Serialize for Service {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        WholeService::of(self, None).serialize(serializer)
    }
}

/// The endpoints that may be chosen. Upstream holds no others; ours are kept, so that a change of the service's health
/// policy finds them (spec/dataplane.md §20.2 item 11), and left out here.
struct Usable<'a> {
    service: &'a Service,
    endpoints: Vec<Endpoint>,
}

impl Serialize for Usable<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let usable = self
            .endpoints
            .iter()
            .filter(|endpoint| self.service.takes(endpoint.status));
        serializer.collect_map(usable.map(|endpoint| (&*endpoint.workload_uid, endpoint)))
    }
}

fn show_all<T: Serialize>(
    items: impl IntoIterator<Item = T>,
    show: &mut impl Show,
) -> ControlFlow<()> {
    items.into_iter().try_for_each(|item| show.show(&item))
}

/// A list's JSON, its end missing.
struct List(Vec<u8>);

impl Show for List {
    fn show(&mut self, item: &impl Serialize) -> ControlFlow<()> {
        if self.0.len() > 1 {
            self.0.push(b',');
        }
        self.0.extend_from_slice(&in_order(&json(item)));
        ControlFlow::Continue(())
    }
}

/// The same with its keys in the order of the alphabet; one thing at a time, for a tree is far larger than its text.
fn in_order(text: &[u8]) -> Vec<u8> {
    json(&serde_json::from_slice::<Value>(text).expect("the library reads what it wrote"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect(UNFAILING)
}

const UNFAILING: &str = "every key is a text and nothing in the types can fail";
