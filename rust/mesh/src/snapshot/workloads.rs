//! Workloads by uid, by address and by name.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashTable;

use super::hash_index::{Entry, HashIndex, entry, hash_of, number_of};
use super::slab::{Numbers, Slab};
use crate::hash::Keyed;
use crate::workload::{NetworkMode, TunnelProtocol, Workload};

/// A workload's number, its own for as long as it is known.
pub(crate) type Number = u32;

#[derive(Clone, Debug, Default)]
pub(crate) struct WorkloadIndex {
    /// By number, which is how the indexes and the services' endpoints name them.
    all: Slab<Arc<Workload>>,
    count: usize,
    by_uid: HashIndex,
    /// By the address alone, so that a look-up needs no owned network name; few addresses repeat over networks.
    by_address: HashIndex,
    by_name: HashIndex,
    hasher: Keyed,
    arrivals: Arrivals,
}

/// What a batch brings, until all of it goes into the indexes at once.
#[derive(Clone, Debug, Default)]
struct Arrivals {
    /// Each workload of the batch, by the hash of its uid.
    by_uid: HashTable<Entry>,
    by_address: Vec<Entry>,
    by_name: Vec<Entry>,
}

impl Arrivals {
    fn number(&self, hash: u32, is: impl Fn(&Number) -> bool) -> Option<Number> {
        let found = (self.by_uid).find(spread(hash), |held| {
            hash_of(*held) == hash && is(&number_of(*held))
        });
        found.copied().map(number_of)
    }

    fn add(&mut self, hash: u32, number: Number) {
        let spread_of = |entry: &Entry| spread(hash_of(*entry));
        (self.by_uid).insert_unique(spread(hash), entry(hash, number), spread_of);
    }
}

/// A table goes by the first and the last bits of 64.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << u32::BITS | u64::from(hash)
}

impl WorkloadIndex {
    pub(crate) fn by_uid(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.by_number(self.number(uid)?)
    }

    pub(crate) fn by_number(&self, number: Number) -> Option<&Arc<Workload>> {
        self.all.get(number)
    }

    pub(crate) fn number(&self, uid: &str) -> Option<Number> {
        let is = |number: &Number| self.all.get(*number).is_some_and(|w| *w.uid == *uid);
        let hash = self.hash(uid);
        let found = self.by_uid.get(hash).find(is);
        found.or_else(|| self.arrivals.number(hash, is))
    }

    pub(super) fn by_address(&self, network: &str, address: IpAddr) -> Option<&Arc<Workload>> {
        let found = self.by_address.get(self.hash(&address));
        // max_by_key gives the last of equals: an address that was given to a new pod means the new one.
        found
            .filter_map(|number| self.all.get(number))
            .filter(|w| w.addresses.contains(&address) && *w.network == *network)
            .max_by_key(|workload| rank(workload))
    }

    /// Those of a name, the last one learned first.
    pub(super) fn by_name(&self, name: &str) -> impl Iterator<Item = &Arc<Workload>> {
        let found = self.by_name.get(self.hash(name)).rev();
        found
            .filter_map(|number| self.all.get(number))
            .filter(move |workload| workload.name() == name)
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.all.values()
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Puts a workload in the place of the one of the same uid, which is `held`, and gives its number. As if that had been
    /// removed first: it is the last one learned under its addresses and its name. By these it is found once the batch is
    /// [settled](Self::settle).
    pub(crate) fn insert(
        &mut self,
        workload: &Arc<Workload>,
        held: Option<Number>,
        numbers: &mut Numbers,
    ) -> Number {
        let uid = self.hash(&*workload.uid);
        let number = held.unwrap_or_else(|| numbers.take());
        if held.is_some() && self.arrivals.number(uid, |n| *n == number).is_some() {
            // Twice in a batch, by two names.
            self.settle();
        }
        match held.and_then(|held| self.all.get(held).cloned()) {
            None => self.count += 1,
            Some(old) => {
                let kept = |address: &IpAddr| addresses(workload).contains(address);
                for address in addresses(&old).iter().filter(|a| !kept(a)) {
                    self.by_address.remove(self.hash(address), number);
                }
                if old.name() != workload.name() {
                    self.by_name.remove(self.hash(old.name()), number);
                }
            }
        }
        self.arrivals.add(uid, number);
        let own = self.arrivals.by_address.len();
        for address in addresses(workload) {
            let entry = entry(self.hash(address), number);
            if !self.arrivals.by_address[own..].contains(&entry) {
                self.arrivals.by_address.push(entry);
            }
        }
        // Any number may have no name, and none of them is asked for by it.
        if !workload.name().is_empty() {
            let entry = entry(self.hash(workload.name()), number);
            self.arrivals.by_name.push(entry);
        }
        self.all.set(number, Arc::clone(workload));
        number
    }

    /// Ends a batch.
    pub(crate) fn settle(&mut self) {
        let mut arrivals = std::mem::take(&mut self.arrivals);
        self.by_uid.put_last(&mut arrivals.by_uid.drain().collect());
        self.by_address.put_last(&mut arrivals.by_address);
        self.by_name.put_last(&mut arrivals.by_name);
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.arrivals.by_uid.is_empty()
    }

    /// Forgets a workload. Its number is free for another one: the caller has taken it out of its services.
    pub(crate) fn remove(&mut self, uid: &str, numbers: &mut Numbers) {
        if !self.is_settled() {
            self.settle();
        }
        let Some(number) = self.number(uid) else {
            return;
        };
        let Some(workload) = self.all.get(number).cloned() else {
            return;
        };
        self.by_uid.remove(self.hash(uid), number);
        for address in addresses(&workload) {
            self.by_address.remove(self.hash(address), number);
        }
        self.by_name.remove(self.hash(workload.name()), number);
        self.all.clear(number);
        self.count -= 1;
        numbers.give_back(number);
    }

    /// The upper half: the lower one may be what the standard library's tables go by.
    fn hash<T: Hash + ?Sized>(&self, key: &T) -> u32 {
        (self.hasher.hash_one(key) >> u32::BITS) as u32
    }
}

/// Those by which it is found.
fn addresses(workload: &Workload) -> &[IpAddr] {
    match workload.network_mode {
        NetworkMode::HostNetwork => &[],
        NetworkMode::Standard => &workload.addresses,
    }
}

fn rank(workload: &Workload) -> u8 {
    let pod = if workload.uid.contains("//Pod/") {
        2
    } else {
        0
    };
    pod + u8::from(workload.protocol == TunnelProtocol::Hbone)
}
