//! How well endpoints suit a client: what they have in common with it, in the order of a service's preferences.
//!
//! Endpoints with the same values of the first preference make a part of their pool, those of them with the same values of
//! the second a part of that, and so on. To find the best is to follow the client's own values down, one look-up for each
//! preference, until there is no such part; the one endpoint is then drawn by going down `balance/sum_tree.rs`. None of it
//! takes longer for 10,000 endpoints than for ten. A table for each client (alias tables) would draw a little faster, and
//! would have to be made anew after each change of an endpoint.

use std::sync::Arc;

use super::sum_tree::{Entry, SumTree, Sums};
use crate::service::LoadBalancerScope::{self, Network};
use crate::snapshot::Number;
use crate::workload::Workload;

impl LoadBalancerScope {
    /// A workload's value of it. Two empty ones are equal like any others.
    pub(super) fn of(self, workload: &Workload) -> &Arc<str> {
        match self {
            Self::Cluster => &workload.cluster,
            Self::Network => &workload.network,
            Self::Node => &workload.site.node,
            Self::Region => &workload.site.locality.region,
            Self::Subzone => &workload.site.locality.subzone,
            Self::Zone => &workload.site.locality.zone,
        }
    }
}

/// The endpoints of a pool, by the values of a service's preferences.
#[derive(Clone, Debug)]
pub(super) struct Ranked {
    all: Level,
    /// By the preferences after the first, if that is the network: a client without an endpoint in its own network is
    /// ranked by the others, whatever network they are in (spec/dataplane.md §10.4).
    anywhere: Option<Level>,
}

/// The endpoints of a pool that suit a client best, and how well.
pub(super) struct Best<'a> {
    pub(super) rank: usize,
    pub(super) level: &'a Level,
}

/// What an endpoint scores that matches every preference.
pub(super) fn full_rank(scopes: &[LoadBalancerScope]) -> usize {
    match scopes {
        [Network, rest @ ..] => scopes.len() + rest.len(),
        _ => scopes.len(),
    }
}

/// What one endpoint scores, by the words of spec/dataplane.md §10.4. Who explains asks; the choice goes down the tree.
pub(super) fn rank(scopes: &[LoadBalancerScope], source: &Workload, workload: &Workload) -> usize {
    let matches = |scope: &&LoadBalancerScope| scope.of(source) == scope.of(workload);
    let walk = |scopes: &[LoadBalancerScope]| scopes.iter().take_while(matches).count();
    match scopes {
        [Network, rest @ ..] if matches(&&Network) => scopes.len() + walk(rest),
        [Network, rest @ ..] => walk(rest),
        _ => walk(scopes),
    }
}

impl Ranked {
    pub(super) fn new(scopes: &[LoadBalancerScope]) -> Self {
        let anywhere = match scopes {
            [Network, rest @ ..] => Some(Level::new(rest)),
            _ => None,
        };
        Self {
            all: Level::new(scopes),
            anywhere,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.sums().count == 0
    }

    pub(super) fn numbers(&self) -> Box<dyn Iterator<Item = Number> + '_> {
        self.all.numbers()
    }

    pub(super) fn put(
        &mut self,
        scopes: &[LoadBalancerScope],
        workload: &Workload,
        number: Number,
    ) {
        self.change(scopes, workload, &|members| {
            members.change(&number, || number, |_| {})
        });
    }

    pub(super) fn take(
        &mut self,
        scopes: &[LoadBalancerScope],
        workload: &Workload,
        number: Number,
    ) {
        self.change(scopes, workload, &|members| members.remove(&number));
    }

    fn change(&mut self, scopes: &[LoadBalancerScope], workload: &Workload, change: Change<'_>) {
        self.all.change(scopes, workload, change);
        if let Some(anywhere) = &mut self.anywhere {
            anywhere.change(&scopes[1..], workload, change);
        }
    }

    pub(super) fn best(&self, scopes: &[LoadBalancerScope], source: &Workload) -> Best<'_> {
        let Some(anywhere) = &self.anywhere else {
            return self.all.best(scopes, source);
        };
        match self.all.part(&source.network) {
            Some(near) => {
                let Best { rank, level } = near.best(&scopes[1..], source);
                Best {
                    rank: scopes.len() + rank,
                    level,
                }
            }
            None => anywhere.best(&scopes[1..], source),
        }
    }
}

/// What is done to the list of endpoints that are alike in all that counts.
type Change<'a> = &'a dyn Fn(&mut SumTree<Number>);

/// Endpoints that have the values of some preferences in common.
#[derive(Clone, Debug)]
pub(super) enum Level {
    /// By the value of the next preference.
    Split(SumTree<Part>),
    /// By capacity: no preference is left.
    Weighed(SumTree<Weighed>),
}

#[derive(Clone, Debug)]
pub(super) struct Part {
    value: Arc<str>,
    below: Level,
}

/// Endpoints that weigh the same.
#[derive(Clone, Debug)]
pub(super) struct Weighed {
    capacity: u32,
    members: SumTree<Number>,
}

impl Level {
    fn new(scopes: &[LoadBalancerScope]) -> Self {
        if scopes.is_empty() {
            Self::Weighed(SumTree::default())
        } else {
            Self::Split(SumTree::default())
        }
    }

    pub(super) fn sums(&self) -> Sums {
        match self {
            Self::Split(parts) => parts.sums(),
            Self::Weighed(groups) => groups.sums(),
        }
    }

    /// The endpoint on which a number below the weight falls.
    pub(super) fn at(&self, mut number: u64) -> Option<Number> {
        let mut level = self;
        loop {
            match level {
                Self::Split(parts) => {
                    let (part, rest) = parts.at(number)?;
                    (level, number) = (&part.below, rest);
                }
                Self::Weighed(groups) => {
                    let (group, rest) = groups.at(number)?;
                    let turn = rest / u64::from(group.capacity.max(1));
                    return group.members.at(turn).map(|(number, _)| *number);
                }
            }
        }
    }

    fn part(&self, value: &str) -> Option<&Self> {
        match self {
            Self::Split(parts) => parts.get(value).map(|part| &part.below),
            Self::Weighed(_) => None,
        }
    }

    fn best(&self, scopes: &[LoadBalancerScope], source: &Workload) -> Best<'_> {
        let mut best = Best {
            rank: 0,
            level: self,
        };
        for scope in scopes {
            match best.level.part(scope.of(source)) {
                Some(level) => best.level = level,
                None => break,
            }
            best.rank += 1;
        }
        best
    }

    /// Changes the list that a workload belongs to. A part without endpoints goes.
    fn change(&mut self, scopes: &[LoadBalancerScope], workload: &Workload, change: Change<'_>) {
        match (self, scopes) {
            (Self::Split(parts), [scope, rest @ ..]) => {
                let value = scope.of(workload);
                let new = || Part {
                    value: Arc::clone(value),
                    below: Self::new(rest),
                };
                parts.change(&**value, new, |part| {
                    part.below.change(rest, workload, change);
                });
            }
            (Self::Weighed(groups), _) => {
                let new = || Weighed {
                    capacity: workload.capacity,
                    members: SumTree::default(),
                };
                groups.change(&workload.capacity, new, |group| change(&mut group.members));
            }
            (Self::Split(_), []) => unreachable!("a level is split by a preference"),
        }
    }

    fn numbers(&self) -> Box<dyn Iterator<Item = Number> + '_> {
        match self {
            Self::Split(parts) => Box::new(parts.iter().flat_map(|part| part.below.numbers())),
            Self::Weighed(groups) => {
                Box::new(groups.iter().flat_map(|g| g.members.iter().copied()))
            }
        }
    }
}

impl Entry for Part {
    type Key = str;
    const LEAF: usize = 32;

    fn key(&self) -> &str {
        &self.value
    }

    fn sums(&self) -> Sums {
        self.below.sums()
    }
}

impl Entry for Weighed {
    type Key = u32;
    const LEAF: usize = 32;

    fn key(&self) -> &u32 {
        &self.capacity
    }

    fn sums(&self) -> Sums {
        let sums = self.members.sums();
        Sums {
            weight: sums.weight * u64::from(self.capacity),
            idle: if self.capacity == 0 { sums.count } else { 0 },
            ..sums
        }
    }
}

#[cfg(test)]
mod tests;
