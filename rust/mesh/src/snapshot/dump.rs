//! The mesh as `/config_dump` spells it (spec/control.md §11), thing by thing: a dump of a large mesh is written while it
//! is read, and never lies in memory whole.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{MeshSnapshot, sorted};
use crate::service::{Endpoint, Service};

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
        let mut list = vec![b'['];
        self.each(section, &mut |item| {
            if list.len() > 1 {
                list.push(b',');
            }
            list.extend_from_slice(&in_order(item));
            ControlFlow::Continue(())
        });
        list.push(b']');
        Some(list)
    }

    /// Shows the JSON of every item of one of [`Self::LISTS`], in the order of their keys, until `show` has enough. Keys
    /// within an item are in no order. Another name has no items.
    pub fn each(&self, section: &str, show: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        match section {
            "policies" => show_all(sorted(self.policies.values(), |p| p.key()), show),
            "services" => {
                let services = sorted(self.services.all(), |s| (&s.hostname, &s.namespace));
                let whole = services.into_iter().map(|service| WholeService {
                    service,
                    endpoints: Usable {
                        service,
                        endpoints: self.endpoints(service).collect(),
                    },
                });
                show_all(whole, show);
            }
            "workloads" => show_all(sorted(self.workloads.values(), |w| &w.uid), show),
            _ => {}
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

fn show_all<T: Serialize>(
    items: impl IntoIterator<Item = T>,
    show: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) {
    for item in items {
        if show(&json(&item)).is_break() {
            return;
        }
    }
}

/// The same with its keys in the order of the alphabet; one thing at a time, for a tree is far larger than its text.
fn in_order(text: &[u8]) -> Vec<u8> {
    json(&serde_json::from_slice::<Value>(text).expect("the library reads what it wrote"))
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("every key is a text and nothing in the types can fail")
}
