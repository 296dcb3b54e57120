//! Things by number, of which two versions share what is the same in both.
//!
//! Everything else names a thing by its number, which takes four bytes and costs no reference count: a change of one
//! thing copies one leaf of references here, and nothing at all where only its number stands. Numbers are given out by
//! [`Numbers`], the lowest free one first, so that the tree stays as small as what is in it.

use std::array;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::slice;
use std::sync::Arc;

/// A change copies one leaf of references and one branch for each level: 3 levels hold 131,072 things.
const LEAF: usize = 1 << LEAF_BITS;
const LEAF_BITS: u32 = 5;
const FAN: usize = 1 << FAN_BITS;
const FAN_BITS: u32 = 6;

#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    root: Option<Node<T>>,
    /// Levels of branches above the leaves.
    height: u32,
}

/// None is empty.
#[derive(Clone, Debug)]
enum Node<T> {
    Branch(Arc<[Option<Self>; FAN]>),
    Leaf(Arc<[Option<T>; LEAF]>),
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            root: None,
            height: 0,
        }
    }
}

impl<T: Clone> Slab<T> {
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        let mut shift = width(self.height);
        if u64::from(number) >> shift != 0 {
            return None;
        }
        let mut node = self.root.as_ref()?;
        loop {
            match node {
                Node::Branch(parts) => {
                    shift -= FAN_BITS;
                    node = parts[slot(number, shift)].as_ref()?;
                }
                Node::Leaf(things) => return things[number as usize % LEAF].as_ref(),
            }
        }
    }

    /// In the order of their numbers.
    pub(crate) fn values(&self) -> Values<'_, T> {
        Values {
            above: self
                .root
                .iter()
                .map(|root| slice::from_ref(root).iter())
                .map(Level::Root)
                .collect(),
            leaf: [].iter(),
        }
    }

    pub(crate) fn set(&mut self, number: u32, thing: T) {
        while u64::from(number) >> width(self.height) != 0 {
            if let Some(root) = self.root.take() {
                let mut parts = array::from_fn(|_| None);
                parts[0] = Some(root);
                self.root = Some(Node::Branch(Arc::new(parts)));
            }
            self.height += 1;
        }
        set(&mut self.root, number, width(self.height), thing);
    }

    pub(crate) fn clear(&mut self, number: u32) {
        // What is not there must not cost a copy.
        if self.get(number).is_none() {
            return;
        }
        clear(&mut self.root, number, width(self.height));
        while let Some(Node::Branch(parts)) = &self.root
            && parts[1..].iter().all(Option::is_none)
        {
            self.root = parts[0].clone();
            self.height -= 1;
        }
        if self.root.is_none() {
            self.height = 0;
        }
    }
}

/// How many bits of a number a tree of this height tells apart.
fn width(height: u32) -> u32 {
    LEAF_BITS + height * FAN_BITS
}

fn slot(number: u32, shift: u32) -> usize {
    (number >> shift) as usize % FAN
}

fn set<T: Clone>(node: &mut Option<Node<T>>, number: u32, shift: u32, thing: T) {
    let node = node.get_or_insert_with(|| match shift {
        LEAF_BITS => Node::Leaf(Arc::new(array::from_fn(|_| None))),
        _ => Node::Branch(Arc::new(array::from_fn(|_| None))),
    });
    match node {
        Node::Branch(parts) => {
            let shift = shift - FAN_BITS;
            let part = &mut Arc::make_mut(parts)[slot(number, shift)];
            set(part, number, shift, thing);
        }
        Node::Leaf(things) => Arc::make_mut(things)[number as usize % LEAF] = Some(thing),
    }
}

fn clear<T: Clone>(node: &mut Option<Node<T>>, number: u32, shift: u32) {
    let empty = match node {
        None => return,
        Some(Node::Branch(parts)) => {
            let (shift, parts) = (shift - FAN_BITS, Arc::make_mut(parts));
            clear(&mut parts[slot(number, shift)], number, shift);
            parts.iter().all(Option::is_none)
        }
        Some(Node::Leaf(things)) => {
            let things = Arc::make_mut(things);
            things[number as usize % LEAF] = None;
            things.iter().all(Option::is_none)
        }
    };
    if empty {
        *node = None;
    }
}

pub(crate) struct Values<'a, T> {
    above: Vec<Level<'a, T>>,
    leaf: slice::Iter<'a, Option<T>>,
}

enum Level<'a, T> {
    Root(slice::Iter<'a, Node<T>>),
    Branch(slice::Iter<'a, Option<Node<T>>>),
}

impl<'a, T> Iterator for Values<'a, T> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        loop {
            if let Some(thing) = self.leaf.by_ref().flatten().next() {
                return Some(thing);
            }
            let next = match self.above.last_mut()? {
                Level::Root(nodes) => nodes.next(),
                Level::Branch(parts) => parts.flatten().next(),
            };
            match next {
                Some(Node::Branch(parts)) => self.above.push(Level::Branch(parts.iter())),
                Some(Node::Leaf(things)) => self.leaf = things.iter(),
                None => drop(self.above.pop()),
            }
        }
    }
}

/// Which numbers are free. The writer's alone.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    /// All from here on are.
    next: u32,
    free: BinaryHeap<Reverse<u32>>,
}

impl Numbers {
    /// # Panics
    /// All 2³² are taken, for which there is no memory.
    pub(crate) fn take(&mut self) -> u32 {
        if let Some(Reverse(number)) = self.free.pop() {
            return number;
        }
        let number = self.next;
        self.next = number.checked_add(1).expect("fewer than 2^32 things");
        number
    }

    pub(crate) fn give_back(&mut self, number: u32) {
        self.free.push(Reverse(number));
        if self.free.len() == self.next as usize {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests;
