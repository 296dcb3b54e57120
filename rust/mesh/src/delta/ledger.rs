//! Names and versions held of one type, so that a new stream can go on where the last one ended (spec/control.md §4.5).
//!
//! Not the things themselves, which `store` has under names of its own. A hundred thousand names of eighty bytes take some
//! 10 MB: names stand one behind the other, a version that is istiod's (sixteen hexadecimal digits) takes eight bytes, and
//! the index has five bytes for each. Counterpart in Python, and what tests compare with: `ztunnel.testing.DictLedger`.

use std::collections::HashSet;
use std::hash::BuildHasher;

use hashbrown::HashTable;

use super::Response;
use crate::hash::Keyed;

/// What is held of one type.
#[derive(Debug, Default)]
pub struct Ledger {
    /// By name, where its record begins.
    index: HashTable<u32>,
    records: Vec<u8>,
    /// Bytes of records that nothing leads to any more.
    dead: usize,
    /// Bytes that `initial_resource_versions` would take.
    encoded: usize,
    hasher: Keyed,
}

/// A name and the version that is held of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held<'a> {
    /// The resource's name.
    pub name: &'a str,
    /// As the server wrote it.
    pub version: String,
}

/// A record as it stands in `records`: the length of the name, the name, what follows, and the version.
#[derive(Clone, Copy)]
struct Record<'a> {
    name: &'a str,
    version: Version<'a>,
    /// Bytes of it all.
    size: usize,
}

/// Istio's is a hash in hexadecimal digits; a server may write what it likes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Version<'a> {
    Hash(u64),
    Text(&'a str),
}

impl Ledger {
    /// One that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many names are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// What came is held in its version, except the `rejected`, of which nothing changes; what went is not.
    pub fn record<B: AsRef<[u8]>>(&mut self, response: &Response<B>, rejected: &[&str]) {
        let rejected: HashSet<&str, Keyed> = rejected.iter().copied().collect();
        for resource in response.resources() {
            if !rejected.contains(resource.name) {
                self.hold(resource.name, resource.version);
            }
        }
        for name in response.removed() {
            self.forget(name);
        }
    }

    /// Holds a name in a version.
    pub fn hold(&mut self, name: &str, version: &str) {
        let version = Version::of(version);
        if let Some(at) = self.find(name) {
            let old = record(&self.records, at);
            if old.version == version {
                return;
            }
            if let (Version::Hash(_), Version::Hash(hash)) = (old.version, version) {
                let end = at as usize + old.size;
                self.records[end - HASH..end].copy_from_slice(&hash.to_le_bytes());
                return;
            }
            self.forget(name);
        }
        self.add(name, version);
    }

    /// Does not hold a name any more.
    pub fn forget(&mut self, name: &str) {
        let hash = self.hasher.hash_one(name);
        let Self { index, records, .. } = self;
        let found = index.find_entry(hash, |at| record(records, *at).name == name);
        let Ok(found) = found else { return };
        let (at, _) = found.remove();
        let gone = record(records, at);
        self.dead += gone.size;
        self.encoded -= gone.encoded();
        if self.dead > self.records.len() / 4 + STEP {
            self.compact();
        }
    }

    /// All that is held, in the order of the names; `None` if `initial_resource_versions` would take more than `limit` bytes
    /// of a request.
    #[must_use]
    pub fn versions(&self, limit: usize) -> Option<Vec<Held<'_>>> {
        (self.encoded <= limit).then(|| {
            let mut held: Vec<_> = self.all().map(|record| record.held()).collect();
            held.sort_unstable();
            held
        })
    }

    /// What is held and not among the resources of `response`, in the order of the names.
    pub fn missing<B: AsRef<[u8]>>(&self, response: &Response<B>) -> Vec<&str> {
        let brought: HashSet<&str, Keyed> = response.resources().map(|r| r.name).collect();
        let names = self.all().map(|record| record.name);
        let mut missing: Vec<_> = names.filter(|name| !brought.contains(name)).collect();
        missing.sort_unstable();
        missing
    }

    /// Bytes that are taken, for whoever wants to know what a ledger costs.
    #[must_use]
    pub fn footprint(&self) -> usize {
        self.records.capacity() + self.index.allocation_size()
    }

    fn all(&self) -> impl Iterator<Item = Record<'_>> {
        self.index.iter().map(|at| record(&self.records, *at))
    }

    fn find(&self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let is_it = |at: &u32| record(&self.records, *at).name == name;
        self.index.find(hash, is_it).copied()
    }

    fn add(&mut self, name: &str, version: Version<'_>) {
        let size = record_size(name, version);
        // 4 GiB of names is no mesh. What is not held is only sent again after the next reconnect.
        let Ok(at) = u32::try_from(self.records.len()) else {
            return;
        };
        if self.records.capacity() - self.records.len() < size {
            // A twin of all of it, as a `Vec` grows, would be most of what a ledger costs.
            let room = self.records.len() / 16 + STEP;
            self.records.reserve_exact(size.max(room));
        }
        write(&mut self.records, name, version);
        let added = record(&self.records, at);
        self.encoded += added.encoded();
        let hash = self.hasher.hash_one(name);
        let Self {
            index,
            records,
            hasher,
            ..
        } = self;
        let again = |at: &u32| hasher.hash_one(record(records, *at).name);
        index.insert_unique(hash, at, again);
    }

    /// Moves what is alive together.
    fn compact(&mut self) {
        let alive = self.records.len() - self.dead;
        let mut records = Vec::with_capacity(alive);
        for at in &mut self.index {
            let kept = record(&self.records, *at);
            let begin = *at as usize;
            // No more than there was, which fitted.
            *at = records.len() as u32;
            records.extend_from_slice(&self.records[begin..begin + kept.size]);
        }
        let Self { index, hasher, .. } = self;
        index.shrink_to_fit(|at| hasher.hash_one(record(&records, *at).name));
        self.records = records;
        self.dead = 0;
    }
}

impl<'a> Record<'a> {
    fn held(self) -> Held<'a> {
        Held {
            name: self.name,
            version: self.version.to_string(),
        }
    }

    /// Bytes of this entry of a `map<string, string>`, with its own key and length: both parts are written even if empty.
    fn encoded(self) -> usize {
        let part = |length: usize| 1 + varint_size(length) + length;
        part(part(self.name.len()) + part(self.version.len()))
    }
}

impl<'a> Version<'a> {
    fn of(text: &'a str) -> Self {
        let digits = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        match u64::from_str_radix(text, 16) {
            Ok(hash) if text.len() == DIGITS && text.bytes().all(digits) => Self::Hash(hash),
            _ => Self::Text(text),
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Hash(_) => DIGITS,
            Self::Text(text) => text.len(),
        }
    }

    /// What stands between name and version: 0 for a hash, else the length of the text and one.
    const fn mark(self) -> usize {
        match self {
            Self::Hash(_) => 0,
            Self::Text(text) => text.len() + 1,
        }
    }
}

impl std::fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hash(hash) => write!(f, "{hash:0DIGITS$x}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

fn record_size(name: &str, version: Version<'_>) -> usize {
    let stored = match version {
        Version::Hash(_) => HASH,
        Version::Text(text) => text.len(),
    };
    varint_size(name.len()) + name.len() + varint_size(version.mark()) + stored
}

fn write(records: &mut Vec<u8>, name: &str, version: Version<'_>) {
    push_varint(records, name.len());
    records.extend_from_slice(name.as_bytes());
    push_varint(records, version.mark());
    match version {
        Version::Hash(hash) => records.extend_from_slice(&hash.to_le_bytes()),
        Version::Text(text) => records.extend_from_slice(text.as_bytes()),
    }
}

/// The record that begins at `at`, where `write` began one.
fn record(records: &[u8], at: u32) -> Record<'_> {
    let from = &records[at as usize..];
    let (length, rest) = take_varint(from);
    let (name, rest) = rest.split_at(length);
    let (version, rest) = match take_varint(rest) {
        (0, rest) => {
            let (hash, rest) = rest.split_first_chunk().expect("written whole");
            (Version::Hash(u64::from_le_bytes(*hash)), rest)
        }
        (mark, rest) => {
            let (text, rest) = rest.split_at(mark - 1);
            (Version::Text(as_text(text)), rest)
        }
    };
    Record {
        name: as_text(name),
        version,
        size: from.len() - rest.len(),
    }
}

fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("was a text when it was written")
}

fn push_varint(out: &mut Vec<u8>, mut number: usize) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take_varint(bytes: &[u8]) -> (usize, &[u8]) {
    let mut number = 0;
    for (index, byte) in bytes.iter().enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * index);
        if *byte < 0x80 {
            return (number, &bytes[index + 1..]);
        }
    }
    unreachable!("written whole")
}

const fn varint_size(number: usize) -> usize {
    let bits = usize::BITS - (number | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// A version of istiod's: XXH64 of the resource, in hexadecimal digits (spec/control.md §15).
const DIGITS: usize = 16;
const HASH: usize = 8;

/// Room that is had at once, and how much may lie idle however little there is.
const STEP: usize = 4096;
