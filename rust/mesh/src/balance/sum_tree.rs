//! An ordered set of weighted things, of which two versions share what is the same in both.
//!
//! A tree with the entries in the order of their keys and the sum of the weights at every node: to find the entry on
//! which a number below the total falls takes as many steps as the tree is high, which is 3 for 10,000 entries; a
//! change copies that many nodes. Knows nothing of endpoints.

use std::slice;
use std::sync::Arc;

/// Entries of a leaf and children of a node, at most. A change copies one node of each level, a choice reads half of each:
/// 512 bytes of entries, and 3 levels for up to 32,768 of them.
const WIDTH: usize = 32;

/// What a thing is ordered by.
pub(super) trait Keyed {
    fn key(&self) -> &str;
}

#[derive(Clone, Debug)]
pub(super) struct SumTree<T> {
    root: Part<T>,
}

/// A node and what is in it.
#[derive(Debug)]
struct Part<T> {
    weight: u64,
    count: usize,
    node: Arc<Node<T>>,
}

/// None is empty but a root without entries; all leaves are equally deep.
#[derive(Clone, Debug)]
enum Node<T> {
    Branch(Vec<Part<T>>),
    Leaf(Vec<(u32, T)>),
}

impl<T: Clone + Keyed> Default for SumTree<T> {
    fn default() -> Self {
        Self {
            root: Part::of(Node::Leaf(Vec::new())),
        }
    }
}

impl<T: Clone + Keyed> SumTree<T> {
    pub(super) fn len(&self) -> usize {
        self.root.count
    }

    /// The sum of all weights.
    pub(super) fn weight(&self) -> u64 {
        self.root.weight
    }

    pub(super) fn get(&self, key: &str) -> Option<&T> {
        let mut part = &self.root;
        loop {
            match &*part.node {
                Node::Branch(parts) => part = &parts[way(parts, key)],
                Node::Leaf(entries) => {
                    let found = entries.binary_search_by(|(_, held)| held.key().cmp(key));
                    return found.ok().map(|at| &entries[at].1);
                }
            }
        }
    }

    /// The entry on which a number below the total weight falls, when each takes up as many as it weighs.
    pub(super) fn at(&self, mut number: u64) -> Option<&T> {
        let mut part = &self.root;
        loop {
            match &*part.node {
                Node::Branch(parts) => part = within(parts, |part| part.weight, &mut number)?,
                Node::Leaf(entries) => {
                    let found = within(entries, |(weight, _)| u64::from(*weight), &mut number);
                    return found.map(|(_, held)| held);
                }
            }
        }
    }

    pub(super) fn iter(&self) -> Iter<'_, T> {
        Iter {
            above: vec![slice::from_ref(&self.root).iter()],
            leaf: [].iter(),
        }
    }

    /// Puts `thing` in the place of the one with the same key, or adds it.
    pub(super) fn insert(&mut self, weight: u32, thing: T) {
        if let Some(right) = self.root.insert(weight, thing) {
            let left = self.root.clone();
            self.root = Part::of(Node::Branch(vec![left, right]));
        }
    }

    pub(super) fn remove(&mut self, key: &str) {
        // What is not there must not cost a copy.
        if self.get(key).is_none() {
            return;
        }
        self.root.remove(key);
        while let Node::Branch(parts) = &*self.root.node
            && let [only] = &parts[..]
        {
            self.root = only.clone();
        }
    }
}

impl<T: Clone + Keyed> Part<T> {
    fn of(node: Node<T>) -> Self {
        let mut part = Self {
            weight: 0,
            count: 0,
            node: Arc::new(node),
        };
        part.recount();
        part
    }

    fn recount(&mut self) {
        (self.weight, self.count) = match &*self.node {
            Node::Branch(parts) => (
                parts.iter().map(|part| part.weight).sum(),
                parts.iter().map(|part| part.count).sum(),
            ),
            Node::Leaf(entries) => (
                entries.iter().map(|(weight, _)| u64::from(*weight)).sum(),
                entries.len(),
            ),
        };
    }

    /// Gives the right half of a node that became too large.
    fn insert(&mut self, weight: u32, thing: T) -> Option<Self> {
        let right = match Arc::make_mut(&mut self.node) {
            Node::Branch(parts) => {
                let at = way(parts, thing.key());
                if let Some(right) = parts[at].insert(weight, thing) {
                    parts.insert(at + 1, right);
                }
                split(parts, at + 1).map(Node::Branch)
            }
            Node::Leaf(entries) => {
                let found = entries.binary_search_by(|(_, held)| held.key().cmp(thing.key()));
                match found {
                    Ok(at) => entries[at] = (weight, thing),
                    Err(at) => entries.insert(at, (weight, thing)),
                }
                split(entries, found.unwrap_or_else(|at| at)).map(Node::Leaf)
            }
        };
        self.recount();
        right.map(Self::of)
    }

    fn remove(&mut self, key: &str) {
        match Arc::make_mut(&mut self.node) {
            Node::Branch(parts) => {
                let at = way(parts, key);
                parts[at].remove(key);
                if parts[at].count == 0 {
                    parts.remove(at);
                } else if let Some(left) = mergeable(parts, at) {
                    let right = parts.remove(left + 1);
                    parts[left].absorb(&right);
                }
            }
            Node::Leaf(entries) => entries.retain(|(_, held)| held.key() != key),
        }
        self.recount();
    }

    fn absorb(&mut self, right: &Self) {
        match (Arc::make_mut(&mut self.node), &*right.node) {
            (Node::Branch(parts), Node::Branch(more)) => parts.extend_from_slice(more),
            (Node::Leaf(entries), Node::Leaf(more)) => entries.extend_from_slice(more),
            _ => unreachable!("neighbours are equally high"),
        }
        self.recount();
    }

    fn width(&self) -> usize {
        match &*self.node {
            Node::Branch(parts) => parts.len(),
            Node::Leaf(entries) => entries.len(),
        }
    }

    fn first_key(&self) -> &str {
        let mut part = self;
        loop {
            match &*part.node {
                Node::Branch(parts) => part = &parts[0],
                Node::Leaf(entries) => return entries.first().map_or("", |(_, held)| held.key()),
            }
        }
    }
}

/// By hand: no `T: Clone` needed.
impl<T> Clone for Part<T> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            ..*self
        }
    }
}

/// The right part of a list that became too large by what was put at `at`. What comes in order fills one node after the
/// other, so that all are full and not half full.
fn split<E>(list: &mut Vec<E>, at: usize) -> Option<Vec<E>> {
    let last = list.len() - 1;
    let middle = if at == last { last } else { list.len() / 2 };
    (list.len() > WIDTH).then(|| list.split_off(middle))
}

/// Which child holds `key`, or would.
fn way<T: Clone + Keyed>(parts: &[Part<T>], key: &str) -> usize {
    let after = parts.partition_point(|part| part.first_key() <= key);
    after.saturating_sub(1)
}

/// The one on which `number` falls; what lies before it is taken off the number.
fn within<'a, E>(list: &'a [E], weight: impl Fn(&E) -> u64, number: &mut u64) -> Option<&'a E> {
    list.iter()
        .find(|each| match number.checked_sub(weight(each)) {
            Some(rest) => {
                *number = rest;
                false
            }
            None => true,
        })
}

/// The left one of two neighbours, `at` among them, that are to become one: one is sparse, and both fit with room.
fn mergeable<T: Clone + Keyed>(parts: &[Part<T>], at: usize) -> Option<usize> {
    let fits = |left: &usize| {
        parts.get(left + 1).is_some_and(|right| {
            let (left, right) = (parts[*left].width(), right.width());
            left.min(right) < WIDTH / 4 && left + right <= WIDTH * 3 / 4
        })
    };
    [at.saturating_sub(1), at].into_iter().find(fits)
}

/// The things in the order of their keys.
pub(super) struct Iter<'a, T> {
    above: Vec<slice::Iter<'a, Part<T>>>,
    leaf: slice::Iter<'a, (u32, T)>,
}

impl<'a, T> Iterator for Iter<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some((_, thing)) = self.leaf.next() {
                return Some(thing);
            }
            match self.above.last_mut()?.next().map(|part| &*part.node) {
                Some(Node::Branch(parts)) => self.above.push(parts.iter()),
                Some(Node::Leaf(entries)) => self.leaf = entries.iter(),
                None => drop(self.above.pop()),
            }
        }
    }
}

#[cfg(test)]
mod tests;
