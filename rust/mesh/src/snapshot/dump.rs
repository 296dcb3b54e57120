//! The mesh as `/config_dump` spells it (spec/control.md §11).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MeshSnapshot, sorted};
use crate::balance::EndpointSet;
use crate::service::Service;

impl MeshSnapshot {
    /// One section as JSON: `workloads`, `services`, `policies` or `stagedServices`; `None` for another name.
    #[must_use]
    pub fn dump(&self, section: &str) -> Option<Vec<u8>> {
        match section {
            "policies" => Some(json(&sorted(self.policies.values(), |p| {
                (&p.namespace, &p.name)
            }))),
            "services" => {
                let services = sorted(self.services.all(), |s| (&s.hostname, &s.namespace));
                let whole = services.into_iter().map(|service| WholeService {
                    service,
                    endpoints: self.services.endpoints(service),
                });
                Some(json(&whole.collect::<Vec<_>>()))
            }
            "stagedServices" => Some(json(&self.services.staged().collect::<BTreeMap<_, _>>())),
            "workloads" => Some(json(&sorted(self.workloads.by_uid.values(), |w| &w.uid))),
            _ => None,
        }
    }
}

/// A service with its endpoints.
#[derive(Serialize)]
struct WholeService<'a> {
    #[serde(flatten)]
    service: &'a Service,
    endpoints: Option<&'a EndpointSet>,
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("every key is a text and nothing in the types can fail")
}
