//! An ordered set of weighted things, of which two versions share what is the same in both.
//!
//! A tree with the entries in the order of their keys and the sum of the weights at every node: to find the entry on
//! which a number below the total falls takes as many steps as the tree is high, which is 3 for 10,000 entries; a
//! change copies that many nodes. Knows nothing of endpoints.

use std::borrow::Borrow;
use std::ops::Add;
use std::slice;
use std::sync::Arc;

/// Children of a branch, at most. A change copies one node of each level, a choice reads half of each.
const WIDTH: usize = 32;

/// What a tree can hold.
pub(super) trait Entry: Clone {
    /// What they are ordered by.
    type Key: Ord + ?Sized;
    /// Entries of a leaf, at most; the smaller they are, the more.
    const LEAF: usize;

    fn key(&self) -> &Self::Key;

    fn sums(&self) -> Sums;

    /// Those of a leaf.
    fn sums_of(entries: &[Self]) -> Sums {
        (entries.iter()).fold(Sums::default(), |sums, entry| sums + entry.sums())
    }

    /// The entry on which a number falls, if all entries weigh 1 and are one: nothing has to be added up then.
    fn directly(_: &[Self], _: u64) -> Option<&Self> {
        None
    }
}

/// What is known of many things together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) weight: u64,
    pub(super) count: u32,
    /// How many of them weigh nothing.
    pub(super) idle: u32,
}

impl Add for Sums {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            weight: self.weight + other.weight,
            count: self.count + other.count,
            idle: self.idle + other.idle,
        }
    }
}

/// A number is a thing that weighs 1.
impl Entry for u32 {
    type Key = Self;
    const LEAF: usize = 128;

    fn key(&self) -> &Self {
        self
    }

    fn sums(&self) -> Sums {
        Sums {
            weight: 1,
            count: 1,
            idle: 0,
        }
    }

    /// What comes one by one must not count all each time.
    fn sums_of(entries: &[Self]) -> Sums {
        Sums {
            weight: entries.len() as u64,
            count: Self::try_from(entries.len()).expect("a leaf is small"),
            idle: 0,
        }
    }

    fn directly(entries: &[Self], number: u64) -> Option<&Self> {
        entries.get(usize::try_from(number).ok()?)
    }
}

#[derive(Clone, Debug)]
pub(super) struct SumTree<E> {
    root: Part<E>,
}

/// A node and what is in it.
#[derive(Debug)]
struct Part<E> {
    sums: Sums,
    node: Arc<Node<E>>,
}

/// None is empty but a root without entries; all leaves are equally deep.
#[derive(Clone, Debug)]
enum Node<E> {
    Branch(Vec<Part<E>>),
    Leaf(Vec<E>),
}

impl<E: Entry> Default for SumTree<E> {
    fn default() -> Self {
        Self {
            root: Part::of(Node::Leaf(Vec::new())),
        }
    }
}

impl<E: Entry> SumTree<E> {
    pub(super) fn sums(&self) -> Sums {
        self.root.sums
    }

    pub(super) fn get(&self, key: &E::Key) -> Option<&E> {
        let mut part = &self.root;
        loop {
            match &*part.node {
                Node::Branch(parts) => part = &parts[way(parts, key)],
                Node::Leaf(entries) => return place(entries, key).ok().map(|at| &entries[at]),
            }
        }
    }

    /// The entry on which a number below the total weight falls, when each takes up as many as it weighs, and how far into
    /// it the number falls.
    pub(super) fn at(&self, mut number: u64) -> Option<(&E, u64)> {
        let mut part = &self.root;
        loop {
            match &*part.node {
                Node::Branch(parts) => {
                    part = within(parts, |part| part.sums.weight, &mut number)?;
                }
                Node::Leaf(entries) => {
                    if let Some(found) = E::directly(entries, number) {
                        return Some((found, 0));
                    }
                    let found = within(entries, |entry| entry.sums().weight, &mut number);
                    return found.map(|found| (found, number));
                }
            }
        }
    }

    pub(super) fn iter(&self) -> Iter<'_, E> {
        Iter {
            above: vec![slice::from_ref(&self.root).iter()],
            leaf: [].iter(),
        }
    }

    /// Changes the entry of a key, which is made first if there is none. What is nothing afterwards is taken out.
    pub(super) fn change<K>(
        &mut self,
        key: &K,
        new: impl FnOnce() -> E,
        change: impl FnOnce(&mut E),
    ) where
        K: Borrow<E::Key> + ?Sized,
    {
        let key = key.borrow();
        let (right, is_something) = self.root.change(key, new, change);
        if let Some(right) = right {
            let left = self.root.clone();
            self.root = Part::of(Node::Branch(vec![left, right]));
        }
        if !is_something {
            self.remove(key);
        }
    }

    pub(super) fn remove(&mut self, key: &E::Key) {
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

impl<E: Entry> Part<E> {
    fn of(node: Node<E>) -> Self {
        let mut part = Self {
            sums: Sums::default(),
            node: Arc::new(node),
        };
        part.recount();
        part
    }

    fn recount(&mut self) {
        let none = Sums::default();
        self.sums = match &*self.node {
            Node::Branch(parts) => parts.iter().fold(none, |sums, part| sums + part.sums),
            Node::Leaf(entries) => E::sums_of(entries),
        };
    }

    /// Gives the right half of a node that became too large, and whether the changed entry is something.
    fn change(
        &mut self,
        key: &E::Key,
        new: impl FnOnce() -> E,
        change: impl FnOnce(&mut E),
    ) -> (Option<Self>, bool) {
        let (right, is_something) = match Arc::make_mut(&mut self.node) {
            Node::Branch(parts) => {
                let at = way(parts, key);
                let (right, is_something) = parts[at].change(key, new, change);
                if let Some(right) = right {
                    parts.insert(at + 1, right);
                }
                (split(parts, at + 1, WIDTH).map(Node::Branch), is_something)
            }
            Node::Leaf(entries) => {
                let found = place(entries, key);
                let at = found.unwrap_or_else(|at| {
                    // A leaf that was copied to be changed has no room, and need not get twice what it has.
                    if entries.len() == entries.capacity() {
                        entries.reserve_exact((entries.len() / 4).max(1));
                    }
                    entries.insert(at, new());
                    at
                });
                change(&mut entries[at]);
                let is_something = entries[at].sums().count > 0;
                (split(entries, at, E::LEAF).map(Node::Leaf), is_something)
            }
        };
        self.recount();
        (right.map(Self::of), is_something)
    }

    fn remove(&mut self, key: &E::Key) {
        match Arc::make_mut(&mut self.node) {
            Node::Branch(parts) => {
                let at = way(parts, key);
                parts[at].remove(key);
                if parts[at].width() == 0 {
                    parts.remove(at);
                } else if let Some(left) = mergeable(parts, at) {
                    let right = parts.remove(left + 1);
                    parts[left].absorb(&right);
                }
            }
            Node::Leaf(entries) => {
                if let Ok(at) = place(entries, key) {
                    entries.remove(at);
                }
            }
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

    fn most(&self) -> usize {
        match &*self.node {
            Node::Branch(_) => WIDTH,
            Node::Leaf(_) => E::LEAF,
        }
    }

    /// `None` for a root without entries.
    fn first_key(&self) -> Option<&E::Key> {
        let mut part = self;
        loop {
            match &*part.node {
                Node::Branch(parts) => part = parts.first()?,
                Node::Leaf(entries) => return entries.first().map(E::key),
            }
        }
    }
}

/// By hand: no `E: Clone` needed.
impl<E> Clone for Part<E> {
    fn clone(&self) -> Self {
        Self {
            node: Arc::clone(&self.node),
            ..*self
        }
    }
}

/// The right part of a list that became too large by what was put at `at`. What comes in order fills one node after the
/// other, so that all are full and not half full.
fn split<E>(list: &mut Vec<E>, at: usize, most: usize) -> Option<Vec<E>> {
    let last = list.len() - 1;
    let middle = if at == last { last } else { list.len() / 2 };
    (list.len() > most).then(|| list.split_off(middle))
}

/// Where the entry of a key is in a leaf, or would be.
fn place<E: Entry>(entries: &[E], key: &E::Key) -> Result<usize, usize> {
    entries.binary_search_by(|held| held.key().cmp(key))
}

/// Which child holds `key`, or would.
fn way<E: Entry>(parts: &[Part<E>], key: &E::Key) -> usize {
    let after = parts.partition_point(|part| part.first_key().is_some_and(|first| first <= key));
    after.saturating_sub(1)
}

/// The one on which `number` falls; what lies before it is taken off the number.
fn within<'a, T>(list: &'a [T], weight: impl Fn(&T) -> u64, number: &mut u64) -> Option<&'a T> {
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
fn mergeable<E: Entry>(parts: &[Part<E>], at: usize) -> Option<usize> {
    let fits = |left: &usize| {
        parts.get(left + 1).is_some_and(|right| {
            let (left, right, most) = (parts[*left].width(), right.width(), right.most());
            left.min(right) < most / 4 && left + right <= most * 3 / 4
        })
    };
    [at.saturating_sub(1), at].into_iter().find(fits)
}

/// The entries in the order of their keys.
pub(super) struct Iter<'a, E> {
    above: Vec<slice::Iter<'a, Part<E>>>,
    leaf: slice::Iter<'a, E>,
}

impl<'a, E> Iterator for Iter<'a, E> {
    type Item = &'a E;

    fn next(&mut self) -> Option<&'a E> {
        loop {
            if let Some(thing) = self.leaf.next() {
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
