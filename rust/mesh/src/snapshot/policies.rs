//! Policies by key and by the namespace they are about.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Table;
use crate::authorization::{Authorization, Scope};
use crate::workload::Workload;

#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyIndex {
    pub(super) by_key: Table<Arc<str>, Arc<Authorization>>,
    /// Global policies stand under the empty namespace; workload-selector policies are found by key only. In the order
    /// of their keys, so that the same mesh gives the same answer with the same reason.
    by_namespace: HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<Authorization>>>,
}

impl PolicyIndex {
    /// The policies of a workload: its namespace's, the global ones, then those it names. What it names and nobody knows
    /// comes as its key.
    pub(crate) fn of<'a>(
        &'a self,
        workload: &'a Workload,
    ) -> impl Iterator<Item = Result<(&'a Arc<str>, &'a Arc<Authorization>), &'a Arc<str>>> + Clone
    {
        let scoped = |namespace: &str| {
            self.by_namespace
                .get(namespace)
                .into_iter()
                .flatten()
                .map(Ok)
        };
        let named = workload.authorization_policies.iter();
        scoped(&workload.namespace)
            .chain(scoped(""))
            .chain(named.map(|key| self.by_key.get_key_value(key).ok_or(key)))
    }

    pub(crate) fn insert(&mut self, key: &Arc<str>, policy: Authorization) {
        self.remove(key);
        let policy = Arc::new(policy);
        if let Some(namespace) = indexed_under(&policy) {
            let scoped = self.by_namespace.entry(namespace).or_default();
            scoped.insert(Arc::clone(key), Arc::clone(&policy));
        }
        self.by_key.insert(Arc::clone(key), policy);
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Authorization>> {
        let policy = self.by_key.remove(key)?;
        if let Some(namespace) = indexed_under(&policy)
            && let Some(scoped) = self.by_namespace.get_mut(&namespace)
        {
            scoped.remove(key);
            if scoped.is_empty() {
                self.by_namespace.remove(&namespace);
            }
        }
        Some(policy)
    }
}

fn indexed_under(policy: &Authorization) -> Option<Arc<str>> {
    match policy.scope {
        Scope::Global => Some("".into()),
        Scope::Namespace => Some(Arc::clone(&policy.namespace)),
        Scope::WorkloadSelector => None,
    }
}
