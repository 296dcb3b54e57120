//! A hash table of which two versions share what is the same in both.
//!
//! A copy counts one reference; a change copies the few nodes on the way to the entry, however large the table. A thin
//! face on `rpds`' hash trie: a list of 256 shards, which stood here before, copied 2 KiB of references for each index
//! and a 256th of it for each change.

use std::borrow::Borrow;
use std::hash::Hash;

use rpds::HashTrieMapSync;

use crate::hash::Keyed;

/// Children of a node. A change copies one node of each level: with the library's 64, two of 64 references each in a table
/// of 10,000. With 16 a change of the mesh takes 12 µs instead of 14, and a look-up as long as before (bench/micro).
const DEGREE: u8 = 16;

#[derive(Clone, Debug)]
pub(super) struct Table<K: Hash + Eq, V>(HashTrieMapSync<K, V, Keyed>);

impl<K: Hash + Eq, V> Default for Table<K, V> {
    fn default() -> Self {
        Self(HashTrieMapSync::new_with_hasher_and_degree_and_ptr_kind(
            Keyed::default(),
            DEGREE,
        ))
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.0.get(key)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.values()
    }

    pub(super) fn len(&self) -> usize {
        self.0.size()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Table<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.insert_mut(key, value);
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let held = self.0.get(key).cloned()?;
        self.0.remove_mut(key);
        Some(held)
    }

    pub(super) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        // What is not there must not cost a copy.
        self.0.get(key)?;
        self.0.get_mut(key)
    }

    pub(super) fn or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if self.0.get(key).is_none() {
            self.0.insert_mut(key.clone(), V::default());
        }
        self.0.get_mut(key).expect("it is there now")
    }
}

#[cfg(test)]
mod tests;
