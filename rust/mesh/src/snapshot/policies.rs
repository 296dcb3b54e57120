//! Policies by key, and by the connections that they may match.
//!
//! A decision does not ask every policy of a workload: it looks up those of which something is true (`shelf.rs`), and asks
//! these in the order of their keys, so that the same mesh gives the same answer with the same reason.

use std::sync::Arc;

use super::Table;
use crate::authorization::{Action, Authorization, Scope, Subject};
use crate::workload::Workload;

mod shelf;

use shelf::Shelf;

/// A policy and its key.
pub(crate) type Held = (Arc<str>, Arc<Authorization>);

#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyIndex {
    by_key: Table<Arc<str>, Arc<Held>>,
    /// Global policies stand under the empty namespace; workload-selector policies are found by key only.
    scopes: Table<Arc<str>, Arc<Shelves>>,
}

/// The policies of one scope, one shelf for each kind.
type Shelves = [Shelf; 4];

/// What becomes of a connection that a policy matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) action: Action,
    pub(crate) dry_run: bool,
}

impl Kind {
    fn of(policy: &Authorization) -> Self {
        Self {
            action: policy.action,
            dry_run: policy.dry_run,
        }
    }

    fn shelf(self) -> usize {
        usize::from(self.action == Action::Deny) * 2 + usize::from(self.dry_run)
    }
}

impl PolicyIndex {
    pub(super) fn get(&self, key: &str) -> Option<&Arc<Authorization>> {
        self.by_key.get(key).map(|held| &held.1)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Authorization>> {
        self.by_key.values().map(|held| &held.1)
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The policies that apply to a workload.
    pub(crate) fn of<'a>(&'a self, workload: &'a Workload) -> Applying<'a> {
        let scopes = [&*workload.namespace, ""];
        Applying {
            index: self,
            scopes: scopes.map(|namespace| self.scopes.get(namespace).map(|shelves| &**shelves)),
            workload,
        }
    }

    pub(crate) fn insert(&mut self, key: &Arc<str>, policy: Authorization) {
        self.remove(key);
        let held = Arc::new((Arc::clone(key), Arc::new(policy)));
        if let Some(scope) = indexed_under(&held.1) {
            let shelves = Arc::make_mut(self.scopes.or_default(&scope));
            shelves[Kind::of(&held.1).shelf()].insert(&held);
        }
        self.by_key.insert(Arc::clone(key), held);
    }

    pub(crate) fn remove(&mut self, key: &str) -> Option<Arc<Authorization>> {
        let held = self.by_key.remove(key)?;
        if let Some(scope) = indexed_under(&held.1)
            && let Some(shelves) = self.scopes.get_mut(&scope)
        {
            let shelves = Arc::make_mut(shelves);
            shelves[Kind::of(&held.1).shelf()].remove(&held);
            if shelves.iter().all(Shelf::is_empty) {
                self.scopes.remove(&scope);
            }
        }
        Some(Arc::clone(&held.1))
    }
}

/// The policies that apply to one workload: its namespace's, the global ones, then those it names.
pub(crate) struct Applying<'a> {
    index: &'a PolicyIndex,
    scopes: [Option<&'a Shelves>; 2],
    workload: &'a Workload,
}

impl<'a> Applying<'a> {
    /// Those of a kind, in their order; of a scope's only those that may match `subject`, if one is given.
    pub(crate) fn of_kind(&self, kind: Kind, subject: Option<&Subject<'_>>) -> Vec<&'a Held> {
        let mut found = Vec::new();
        for shelf in self.shelves(kind) {
            match subject {
                Some(subject) => shelf.candidates(subject, &mut found),
                None => found.extend(shelf.all()),
            }
        }
        found.extend(self.named(kind));
        found
    }

    /// Whether there are any of a kind.
    pub(crate) fn has_kind(&self, kind: Kind) -> bool {
        let mut shelves = self.shelves(kind);
        shelves.any(|shelf| !shelf.is_empty()) || self.named(kind).next().is_some()
    }

    /// What the workload names and nobody knows.
    pub(crate) fn unknown(&self) -> impl Iterator<Item = &'a Arc<str>> {
        let (index, named) = (self.index, self.workload.authorization_policies.iter());
        named.filter(|key| index.by_key.get(&***key).is_none())
    }

    fn shelves(&self, kind: Kind) -> impl Iterator<Item = &'a Shelf> {
        let scopes = self.scopes.into_iter().flatten();
        scopes.map(move |shelves| &shelves[kind.shelf()])
    }

    fn named(&self, kind: Kind) -> impl Iterator<Item = &'a Held> {
        let (index, keys) = (self.index, self.workload.authorization_policies.iter());
        let named = keys.filter_map(|key| index.by_key.get(key).map(|held| &**held));
        named.filter(move |(_, policy)| Kind::of(policy) == kind)
    }
}

fn indexed_under(policy: &Authorization) -> Option<Arc<str>> {
    match policy.scope {
        Scope::Global => Some("".into()),
        Scope::Namespace => Some(Arc::clone(&policy.namespace)),
        Scope::WorkloadSelector => None,
    }
}
