//! Numbers by the hash of what they are found under, of which two versions share what is the same in both.
//!
//! Eight bytes an entry and no key: who looks up compares with the thing itself, which has to be looked at anyway. Several
//! numbers may stand under one hash, in the order in which they came.
//!
//! A tree over the leading bits of the hash. A branch has 64 slots, and neighbours that hold little share one leaf, so that
//! leaves are half full at least but for luck; a full one is split in two. To add or to remove copies one leaf of plain
//! words and the branches above it.

use std::ops::Range;
use std::sync::Arc;

/// Entries of a leaf, at most: half a kilobyte is copied for a change, and the 32 bytes around a leaf count for little.
const LEAF: usize = 64;
const FAN: usize = 1 << FAN_BITS;
const FAN_BITS: u32 = 6;

#[derive(Clone, Debug)]
pub(super) struct HashIndex {
    root: Node,
}

/// Neighbouring slots of a branch with the same leaf: 1, 2, 4 … 32 of them, beginning at a multiple of that.
#[derive(Clone, Debug)]
enum Node {
    Branch(Arc<[Self; FAN]>),
    Leaf(Leaf),
}

/// (hash, number) in one word.
pub(super) type Entry = u64;

/// In the order of the hashes, and of the same hash in the order in which they came.
type Leaf = Arc<[Entry]>;

impl Default for HashIndex {
    fn default() -> Self {
        Self {
            root: Node::Leaf(Leaf::default()),
        }
    }
}

impl HashIndex {
    /// The numbers under a hash, the last one added last.
    pub(super) fn get(&self, hash: u32) -> impl DoubleEndedIterator<Item = u32> + Clone + '_ {
        let (mut node, mut shift) = (&self.root, u32::BITS);
        let leaf = loop {
            match node {
                Node::Branch(slots) => {
                    shift -= FAN_BITS;
                    node = &slots[slot(hash, shift)];
                }
                Node::Leaf(leaf) => break leaf,
            }
        };
        leaf[under(leaf, hash)]
            .iter()
            .map(|entry| number_of(*entry))
    }

    /// Puts numbers under their hashes, each last; what was there already moves. None may be there twice. A node is copied
    /// once for all of them, not for each.
    pub(super) fn put_last(&mut self, new: &mut Vec<Entry>) {
        // Stable: those of a hash stay in their order.
        new.sort_by_key(|entry| hash_of(*entry));
        let mut last = None;
        new.retain(|entry| {
            let hash = hash_of(*entry);
            let first = last.replace(hash) != Some(hash);
            // The only one under a hash most of the time, and then nothing need be copied.
            !(first && self.get(hash).next_back() == Some(number_of(*entry)))
        });
        if !new.is_empty() {
            add(&mut self.root, u32::BITS, new);
        }
    }

    pub(super) fn remove(&mut self, hash: u32, number: u32) {
        if self.get(hash).any(|held| held == number) {
            remove(&mut self.root, u32::BITS, entry(hash, number));
        }
    }
}

pub(super) fn entry(hash: u32, number: u32) -> Entry {
    u64::from(hash) << u32::BITS | u64::from(number)
}

pub(super) fn hash_of(entry: Entry) -> u32 {
    (entry >> u32::BITS) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
pub(super) fn number_of(entry: Entry) -> u32 {
    entry as u32
}

fn slot(hash: u32, shift: u32) -> usize {
    (hash >> shift) as usize % FAN
}

/// The entries of a hash.
fn under(leaf: &[u64], hash: u32) -> Range<usize> {
    let first = leaf.partition_point(|entry| hash_of(*entry) < hash);
    let same = leaf[first..].iter().take_while(|e| hash_of(**e) == hash);
    first..first + same.count()
}

/// Puts entries, sorted, into a node; `shift` bits of the hash are not used up by the branches above.
fn add(node: &mut Node, shift: u32, new: &[Entry]) {
    match node {
        Node::Leaf(leaf) => {
            let entries = merged(leaf, new);
            *node = if entries.len() <= LEAF || shift < FAN_BITS {
                Node::Leaf(entries.into())
            } else {
                branch(&entries, shift)
            };
        }
        Node::Branch(slots) => {
            let (shift, slots) = (shift - FAN_BITS, Arc::make_mut(slots));
            let mut rest = new;
            while let Some(first) = rest.first() {
                let at = slot(hash_of(*first), shift);
                let range = shared(slots, at);
                let end = rest.partition_point(|entry| slot(hash_of(*entry), shift) < range.end);
                let own;
                (own, rest) = rest.split_at(end);
                match &mut slots[at] {
                    Node::Leaf(leaf) => {
                        let entries = merged(leaf, own);
                        fill(slots, range, &entries, shift);
                    }
                    branch @ Node::Branch(_) => add(branch, shift, own),
                }
            }
        }
    }
}

/// The entries of a leaf and new ones; of the same hash the new ones come last, and what is among them not before.
fn merged(mut leaf: &[Entry], mut new: &[Entry]) -> Vec<Entry> {
    let mut all = Vec::with_capacity(leaf.len() + new.len());
    while let Some(first) = new.first() {
        let hash = hash_of(*first);
        let own;
        (own, new) = new.split_at(under(new, hash).end);
        let held = under(leaf, hash);
        all.extend_from_slice(&leaf[..held.start]);
        if !held.is_empty() {
            let mut moved = own.to_vec();
            moved.sort_unstable();
            let stays = |entry: &&Entry| moved.binary_search(entry).is_err();
            all.extend(leaf[held.clone()].iter().filter(stays));
        }
        all.extend_from_slice(own);
        leaf = &leaf[held.end..];
    }
    all.extend_from_slice(leaf);
    all
}

fn branch(entries: &[Entry], shift: u32) -> Node {
    let mut slots = std::array::from_fn(|_| Node::Leaf(Leaf::default()));
    fill(&mut slots, 0..FAN, entries, shift - FAN_BITS);
    Node::Branch(Arc::new(slots))
}

/// Puts entries into the slots of a range: into one leaf, or into two halves of the range.
fn fill(slots: &mut [Node; FAN], range: Range<usize>, entries: &[Entry], shift: u32) {
    if entries.len() <= LEAF || range.len() == 1 && shift < FAN_BITS {
        slots[range].fill(Node::Leaf(entries.into()));
    } else if range.len() == 1 {
        slots[range.start] = branch(entries, shift);
    } else {
        let middle = range.start + range.len() / 2;
        let left = entries.partition_point(|entry| slot(hash_of(*entry), shift) < middle);
        fill(slots, range.start..middle, &entries[..left], shift);
        fill(slots, middle..range.end, &entries[left..], shift);
    }
}

/// The slots that share the leaf at `at`. All of a doubled range are looked at: leaves without entries may be one.
fn shared(slots: &[Node; FAN], at: usize) -> Range<usize> {
    let same = |slot: &Node| match (slot, &slots[at]) {
        (Node::Leaf(a), Node::Leaf(b)) => Arc::ptr_eq(a, b),
        _ => false,
    };
    let mut range = at..at + 1;
    while range.len() < FAN {
        let double = doubled(&range);
        if !slots[double.clone()].iter().all(same) {
            break;
        }
        range = double;
    }
    range
}

/// The range twice as large that a range is half of.
fn doubled(range: &Range<usize>) -> Range<usize> {
    let length = range.len() * 2;
    let start = range.start / length * length;
    start..start + length
}

fn remove(node: &mut Node, shift: u32, entry: u64) {
    match node {
        Node::Leaf(leaf) => *leaf = leaf.iter().copied().filter(|e| *e != entry).collect(),
        Node::Branch(slots) => {
            let (shift, all) = (shift - FAN_BITS, Arc::make_mut(slots));
            let at = slot(hash_of(entry), shift);
            let mut range = shared(all, at);
            remove(&mut all[at], shift, entry);
            while let Node::Leaf(mut leaf) = all[at].clone() {
                all[range.clone()].fill(Node::Leaf(Arc::clone(&leaf)));
                if range.len() == FAN {
                    *node = Node::Leaf(leaf);
                    return;
                }
                let double = doubled(&range);
                let other = if double.start == range.start {
                    range.end
                } else {
                    double.start
                };
                let Node::Leaf(more) = &all[other] else {
                    return;
                };
                if leaf.len() + more.len() > LEAF / 2 || shared(all, other).len() < range.len() {
                    return;
                }
                let (left, right) = if other < at {
                    (more, &leaf)
                } else {
                    (&leaf, more)
                };
                leaf = left.iter().chain(&**right).copied().collect();
                all[at] = Node::Leaf(leaf);
                range = double;
            }
        }
    }
}

#[cfg(test)]
mod tests;
