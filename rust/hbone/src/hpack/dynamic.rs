//! The dynamic table (RFC 7541 §2.3.2 and §4), the same for both directions.
//!
//! All text lies in one buffer, oldest entry first; entries are places in it. So an insertion copies bytes but
//! allocates nothing once the buffer has grown, and a full table costs at most three times its size.

use std::collections::VecDeque;

use super::FIELD_OVERHEAD;

/// Fields a peer may refer to by number, newest first.
#[derive(Clone, Debug)]
pub(super) struct DynamicTable {
    text: Vec<u8>,
    entries: VecDeque<Entry>,
    size: usize,
    max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: usize,
    name: usize,
    value: usize,
}

impl DynamicTable {
    pub(super) const fn new(max: usize) -> Self {
        Self {
            text: Vec::new(),
            entries: VecDeque::new(),
            size: 0,
            max,
        }
    }

    pub(super) const fn max(&self) -> usize {
        self.max
    }

    /// Evicts what does not fit any more.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(max);
        self.compact();
    }

    /// Name and value of the entry inserted `age` entries before the newest.
    pub(super) fn get(&self, age: usize) -> Option<(&[u8], &[u8])> {
        self.entries.get(age).map(|entry| self.text_of(entry))
    }

    /// The youngest entry with this name and value, or else with this name.
    pub(super) fn find(&self, name: &[u8], value: &[u8]) -> Option<Found> {
        let mut same_name = None;
        for (age, entry) in self.entries.iter().enumerate() {
            if entry.name != name.len() || self.text_of(entry).0 != name {
                continue;
            }
            if self.text_of(entry).1 == value {
                return Some(Found::Field(age));
            }
            same_name = same_name.or(Some(Found::Name(age)));
        }
        same_name
    }

    /// Adds an entry; one larger than the table leaves it empty, which is not an error (RFC 7541 §4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        if self.make_room(name.len(), value.len()) {
            self.text.extend_from_slice(name);
            self.text.extend_from_slice(value);
            self.compact();
        }
    }

    /// As `insert`, with the name of the entry `age`, which may be evicted on the way (RFC 7541 §4.4).
    pub(super) fn insert_named_as(&mut self, age: usize, value: &[u8]) {
        let Some(&Entry { start, name, .. }) = self.entries.get(age) else {
            return;
        };
        if self.make_room(name, value.len()) {
            // Evicting forgets places, not text: the bytes are there until `compact`.
            self.text.extend_from_within(start..start + name);
            self.text.extend_from_slice(value);
            self.compact();
        }
    }

    /// Evicts for, and enters, an entry whose text the caller appends next. False: it is too large.
    fn make_room(&mut self, name: usize, value: usize) -> bool {
        let size = name + value + FIELD_OVERHEAD;
        let fits = size <= self.max;
        self.evict(self.max.saturating_sub(size));
        if fits {
            let start = self.text.len();
            self.entries.push_front(Entry { start, name, value });
            self.size += size;
        } else {
            self.evict(0);
            self.compact();
        }
        fits
    }

    fn evict(&mut self, target: usize) {
        while self.size > target
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.name + oldest.value + FIELD_OVERHEAD;
        }
    }

    /// Drops evicted text once it is as much as the table may hold, so that each byte moves about once.
    fn compact(&mut self) {
        let Some(oldest) = self.entries.back() else {
            self.text.clear();
            self.text.shrink_to(self.max);
            return;
        };
        let dead = oldest.start;
        if dead >= self.max {
            self.text.drain(..dead);
            self.entries
                .iter_mut()
                .for_each(|entry| entry.start -= dead);
        }
    }

    /// Bytes the table keeps allocated and the size the standard gives its contents.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        let entries = self.entries.capacity() * size_of::<Entry>();
        (self.text.capacity() + entries, self.size)
    }

    fn text_of(&self, entry: &Entry) -> (&[u8], &[u8]) {
        self.text[entry.start..entry.start + entry.name + entry.value].split_at(entry.name)
    }
}

/// What `find` met, with its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Name and value.
    Field(usize),
    /// The name only.
    Name(usize),
}

#[cfg(test)]
mod tests;
