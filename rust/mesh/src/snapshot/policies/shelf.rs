//! Policies of one scope and kind, by what must be true of a connection that they match.
//!
//! Exact names and ports are one look-up, blocks and patterns one for each length that occurs. What has no such term is
//! asked always. Two versions of a shelf share what is the same in both.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;

use super::Held;
use crate::address::Cidr;
use crate::authorization::{ServiceAccountMatch, StringMatch, Subject, Term, terms};
use crate::snapshot::Table;

type Slot = Arc<Vec<Arc<Held>>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    /// By key.
    all: RedBlackTreeMapSync<Arc<str>, Arc<Held>>,
    always: Slot,
    /// Under `ns/<namespace>/sa/<account>`, which is how a principal ends.
    accounts: Table<Arc<str>, Slot>,
    destinations: Blocks,
    namespaces: Texts,
    ports: Table<u16, Slot>,
    principals: Texts,
    sources: Blocks,
}

impl Shelf {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// In the order of their keys.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.all.values().map(|held| &**held)
    }

    /// Adds those that may match, in the order of their keys.
    pub(super) fn candidates<'a>(&'a self, subject: &Subject<'_>, found: &mut Vec<&'a Held>) {
        if self.is_empty() {
            return;
        }
        let mut candidates: Vec<&'a Held> = Vec::new();
        let mut add = |slot: Option<&'a Slot>| {
            candidates.extend(
                slot.into_iter()
                    .flat_map(|slot| slot.iter())
                    .map(|held| &**held),
            );
        };
        add(Some(&self.always));
        add(self.ports.get(&subject.destination_port));
        self.sources.look_up(subject.source_ip, &mut add);
        self.destinations.look_up(subject.destination_ip, &mut add);
        let namespace = subject.account.map_or("", |(namespace, _)| namespace);
        self.namespaces.look_up(namespace, &mut add);
        if let (Some(principal), Some((namespace, account))) = (subject.principal, subject.account)
        {
            self.principals.look_up(principal, &mut add);
            let length = "ns//sa/".len() + namespace.len() + account.len();
            let start = principal.len().checked_sub(length);
            let account = start.and_then(|start| principal.get(start..));
            add(account.and_then(|account| self.accounts.get(account)));
        }
        // Several terms may lead to one policy, which is asked once.
        candidates.sort_by(|a, b| a.0.cmp(&b.0));
        candidates.dedup_by(|a, b| std::ptr::eq(*a, *b));
        found.extend(candidates);
    }

    pub(super) fn insert(&mut self, held: &Arc<Held>) {
        self.all.insert_mut(Arc::clone(&held.0), Arc::clone(held));
        match terms(&held.1) {
            None => push(&mut self.always, held),
            Some(terms) => terms.into_iter().for_each(|term| self.put(term, held)),
        }
    }

    pub(super) fn remove(&mut self, held: &Arc<Held>) {
        self.all.remove_mut(&held.0);
        match terms(&held.1) {
            None => Arc::make_mut(&mut self.always).retain(|other| !Arc::ptr_eq(other, held)),
            Some(terms) => terms.into_iter().for_each(|term| self.take(term, held)),
        }
    }

    fn put(&mut self, term: Term<'_>, held: &Arc<Held>) {
        match term {
            Term::Account(account) => push(self.accounts.or_default(&key(account)), held),
            Term::Destination(block) => self.destinations.put(block, held),
            Term::Namespace(pattern) => self.namespaces.put(pattern, held),
            Term::Port(port) => push(self.ports.or_default(&port), held),
            Term::Principal(pattern) => self.principals.put(pattern, held),
            Term::Source(block) => self.sources.put(block, held),
        }
    }

    fn take(&mut self, term: Term<'_>, held: &Arc<Held>) {
        match term {
            Term::Account(account) => take(&mut self.accounts, &*key(account), held),
            Term::Destination(block) => self.destinations.take(block, held),
            Term::Namespace(pattern) => self.namespaces.take(pattern, held),
            Term::Port(port) => take(&mut self.ports, &port, held),
            Term::Principal(pattern) => self.principals.take(pattern, held),
            Term::Source(block) => self.sources.take(block, held),
        }
    }
}

/// Policies by what a text is, how it begins or how it ends.
#[derive(Clone, Debug, Default)]
struct Texts {
    exact: Table<Arc<str>, Slot>,
    prefixes: Table<Arc<str>, Slot>,
    prefix_lengths: Lengths<usize>,
    suffixes: Table<Arc<str>, Slot>,
    suffix_lengths: Lengths<usize>,
}

impl Texts {
    fn look_up<'a>(&'a self, text: &str, add: &mut impl FnMut(Option<&'a Slot>)) {
        add(self.exact.get(text));
        // A length within a character is that of no prefix of this text.
        for length in self.prefix_lengths.up_to(text.len()) {
            add(text.get(..length).and_then(|text| self.prefixes.get(text)));
        }
        for length in self.suffix_lengths.up_to(text.len()) {
            let end = text.get(text.len() - length..);
            add(end.and_then(|end| self.suffixes.get(end)));
        }
    }

    fn put(&mut self, pattern: &StringMatch, held: &Arc<Held>) {
        let (table, lengths, text) = self.place(pattern);
        lengths.into_iter().for_each(|l| l.add(text.len()));
        push(table.or_default(text), held);
    }

    fn take(&mut self, pattern: &StringMatch, held: &Arc<Held>) {
        let (table, lengths, text) = self.place(pattern);
        lengths.into_iter().for_each(|l| l.drop(text.len()));
        take(table, &**text, held);
    }

    /// Where a pattern is kept: in which table, with which lengths, under which text.
    fn place<'a>(&mut self, pattern: &'a StringMatch) -> Place<'_, 'a> {
        match pattern {
            StringMatch::Exact(text) => (&mut self.exact, None, text),
            StringMatch::Prefix(text) => (&mut self.prefixes, Some(&mut self.prefix_lengths), text),
            StringMatch::Suffix(text) => (&mut self.suffixes, Some(&mut self.suffix_lengths), text),
            StringMatch::Presence => unreachable!("presence is no term"),
        }
    }
}

type Place<'t, 'a> = (
    &'t mut Table<Arc<str>, Slot>,
    Option<&'t mut Lengths<usize>>,
    &'a Arc<str>,
);

/// Policies by the block that an address lies in.
#[derive(Clone, Debug, Default)]
struct Blocks {
    by_block: Table<Cidr, Slot>,
    prefixes: Lengths<u8>,
}

impl Blocks {
    fn look_up<'a>(&'a self, address: IpAddr, add: &mut impl FnMut(Option<&'a Slot>)) {
        let width = if address.is_ipv4() { 32 } else { 128 };
        for prefix in self.prefixes.up_to(width) {
            add(self.by_block.get(&Cidr::masked(address, prefix)));
        }
    }

    fn put(&mut self, block: Cidr, held: &Arc<Held>) {
        self.prefixes.add(block.prefix());
        push(self.by_block.or_default(&block), held);
    }

    fn take(&mut self, block: Cidr, held: &Arc<Held>) {
        self.prefixes.drop(block.prefix());
        take(&mut self.by_block, &block, held);
    }
}

/// How often each length occurs: only these are worth a look-up.
#[derive(Clone, Debug, Default)]
struct Lengths<L>(BTreeMap<L, usize>);

impl<L: Ord + Copy> Lengths<L> {
    fn up_to(&self, longest: L) -> impl Iterator<Item = L> {
        self.0.range(..=longest).map(|(length, _)| *length)
    }

    fn add(&mut self, length: L) {
        *self.0.entry(length).or_default() += 1;
    }

    fn drop(&mut self, length: L) {
        if let Some(count) = self.0.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&length);
            }
        }
    }
}

/// A policy whose rules share a term stands under it once.
fn push(slot: &mut Slot, held: &Arc<Held>) {
    if !slot.last().is_some_and(|last| Arc::ptr_eq(last, held)) {
        Arc::make_mut(slot).push(Arc::clone(held));
    }
}

fn take<K, Q>(table: &mut Table<K, Slot>, key: &Q, held: &Arc<Held>)
where
    K: Hash + Eq + Clone + Borrow<Q>,
    Q: Hash + Eq + ?Sized,
{
    if let Some(slot) = table.get_mut(key) {
        Arc::make_mut(slot).retain(|other| !Arc::ptr_eq(other, held));
        if slot.is_empty() {
            table.remove(key);
        }
    }
}

fn key(account: &ServiceAccountMatch) -> Arc<str> {
    format!("ns/{}/sa/{}", account.namespace, account.service_account).into()
}
