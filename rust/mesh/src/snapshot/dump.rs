//! The mesh as `/config_dump` spells it (spec/control.md §11), key by key in upstream's order, which is the alphabet's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::ser::Error;
use serde::{Serialize, Serializer};

use super::{MeshSnapshot, sorted};
use crate::service::{Endpoint, Service};

impl MeshSnapshot {
    /// One section as JSON: `workloads`, `services`, `policies` or `stagedServices`; `None` for another name.
    #[must_use]
    pub fn dump(&self, section: &str) -> Option<Vec<u8>> {
        match section {
            "policies" => {
                let policies = sorted(self.policies.values(), |p| p.key());
                Some(json(policies.into_iter().map(InOrder)))
            }
            "services" => {
                let services = sorted(self.services.all(), |s| (&s.hostname, &s.namespace));
                let whole = services.into_iter().map(|service| WholeService {
                    service,
                    endpoints: Usable {
                        service,
                        endpoints: self.endpoints(service).collect(),
                    },
                });
                Some(json(whole.map(InOrder)))
            }
            "stagedServices" => {
                let staged = self.services.staged(&self.workloads);
                let by_name = staged.map(|(name, list)| {
                    let by_uid = list.into_iter().map(|e| (Arc::clone(&e.workload_uid), e));
                    (
                        name.to_string(),
                        InOrder(by_uid.collect::<BTreeMap<_, _>>()),
                    )
                });
                Some(json_map(by_name.collect()))
            }
            "workloads" => {
                let workloads = sorted(self.workloads.values(), |w| &w.uid);
                Some(json(workloads.into_iter().map(InOrder)))
            }
            _ => None,
        }
    }
}

/// A service with its endpoints.
#[derive(Serialize)]
struct WholeService<'a> {
    #[serde(flatten)]
    service: &'a Service,
    endpoints: Usable<'a>,
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

/// An object with its keys in the order of the alphabet; one at a time, for a tree is far larger than its text.
struct InOrder<T>(T);

impl<T: Serialize> Serialize for InOrder<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tree = serde_json::to_value(&self.0).map_err(S::Error::custom)?;
        tree.serialize(serializer)
    }
}

fn json(list: impl Iterator<Item = impl Serialize>) -> Vec<u8> {
    let mut text = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut text);
    serializer.collect_seq(list).expect(CANNOT_FAIL);
    text
}

fn json_map(map: BTreeMap<String, impl Serialize>) -> Vec<u8> {
    serde_json::to_vec(&map).expect(CANNOT_FAIL)
}

const CANNOT_FAIL: &str = "every key is a text and nothing in the types can fail";
