//! A hash table of which two versions share what is the same in both.
//!
//! It is cut into shards behind `Arc`s: a copy copies the list of shards, a change copies the one shard it falls into.
//! With 100,000 workloads one change copies about 400 entries of an index instead of all of them.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

/// 2 KiB for the list, and a shard of a table of 100,000 still fits a first-level cache.
const SHARDS: usize = 256;

#[derive(Clone, Debug)]
pub(super) struct Table<K, V> {
    shards: Vec<Arc<HashMap<K, V>>>,
    /// Places keys in shards. Not the shards' own: the keys of a shard would share bits that its buckets need.
    hasher: RandomState,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            shards: vec![Arc::default(); SHARDS],
            hasher: RandomState::new(),
        }
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.shards[self.shard(key)].get(key)
    }

    pub(super) fn get_key_value<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        self.shards[self.shard(key)].get_key_value(key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.len()).sum()
    }

    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        // The remainder is below SHARDS, so it fits whatever usize is.
        (self.hasher.hash_one(key) % SHARDS as u64) as usize
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Table<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        let shard = self.shard(&key);
        Arc::make_mut(&mut self.shards[shard]).insert(key, value);
    }

    pub(super) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key);
        // What is not there must not cost a copy.
        self.shards[shard].contains_key(key).then_some(())?;
        Arc::make_mut(&mut self.shards[shard]).remove(key)
    }

    pub(super) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let shard = self.shard(key);
        self.shards[shard].contains_key(key).then_some(())?;
        Arc::make_mut(&mut self.shards[shard]).get_mut(key)
    }

    pub(super) fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        let shard = self.shard(&key);
        Arc::make_mut(&mut self.shards[shard])
            .entry(key)
            .or_default()
    }
}

#[cfg(test)]
mod tests;
