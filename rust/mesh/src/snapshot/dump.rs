//! The mesh as `/config_dump` spells it (spec/control.md §11).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{MeshSnapshot, sorted};

impl MeshSnapshot {
    /// One section as JSON: `workloads`, `services`, `policies` or `stagedServices`; `None` for another name.
    #[must_use]
    pub fn dump(&self, section: &str) -> Option<Vec<u8>> {
        match section {
            "policies" => Some(json(&sorted(self.policies.by_key.values(), |p| {
                (&p.namespace, &p.name)
            }))),
            "services" => Some(json(&sorted(self.services.all(), |s| {
                (&s.hostname, &s.namespace)
            }))),
            "stagedServices" => Some(json(&self.services.staged().collect::<BTreeMap<_, _>>())),
            "workloads" => Some(json(&sorted(self.workloads.by_uid.values(), |w| &w.uid))),
            _ => None,
        }
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("every key is a text and nothing in the types can fail")
}
