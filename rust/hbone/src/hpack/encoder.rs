//! Fields to header blocks (RFC 7541 §6), with the table its peer allows.

use super::dynamic::{DynamicTable, Found};
use super::primitive::{write_integer, write_string};
use super::static_table::STATIC_TABLE;
use super::{DEFAULT_TABLE_SIZE, FIELD_OVERHEAD, Index};

/// Writes the header blocks of one direction of a connection, in their order.
#[derive(Clone, Debug)]
pub struct Encoder {
    table: DynamicTable,
    pending: Option<SizeChange>,
}

/// Sizes the peer set since the last block: it must learn the smallest and the last (RFC 7541 §4.2).
#[derive(Clone, Copy, Debug)]
struct SizeChange {
    smallest: usize,
    last: usize,
}

impl Encoder {
    /// An encoder as a connection begins: the table has [`DEFAULT_TABLE_SIZE`] bytes and is empty.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            table: DynamicTable::new(DEFAULT_TABLE_SIZE),
            pending: None,
        }
    }

    /// The peer's `SETTINGS_HEADER_TABLE_SIZE` changed. We never use more than [`DEFAULT_TABLE_SIZE`]: memory
    /// per connection is ours to bound, and our few headers would not fill more.
    pub fn set_max_table(&mut self, size: usize) {
        let last = size.min(DEFAULT_TABLE_SIZE);
        let smallest = match self.pending {
            Some(change) => change.smallest,
            None => self.table.max(),
        };
        self.pending = Some(SizeChange {
            smallest: smallest.min(last),
            last,
        });
    }

    /// Starts a block: tells the peer of a table size that changed since the last one.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        let Some(SizeChange { smallest, last }) = self.pending.take() else {
            return;
        };
        if smallest < self.table.max() {
            self.size_update(smallest, out);
        }
        if last != self.table.max() {
            self.size_update(last, out);
        }
    }

    /// Appends one field.
    pub fn field(&mut self, name: &[u8], value: &[u8], index: Index, out: &mut Vec<u8>) {
        let known = self.find(name, value);
        let known_name = match (known, index) {
            (Known::Field(at), Index::Index | Index::Plain) => {
                return write_integer(at, INDEXED, 7, out);
            }
            (Known::Field(at) | Known::Name(at), _) => at,
            (Known::Nothing, _) => 0,
        };
        let size = name.len() + value.len() + FIELD_OVERHEAD;
        match index {
            // One that does not fit would only throw all others out.
            Index::Index if size <= self.table.max() => {
                write_integer(known_name, INCREMENTAL, 6, out);
                self.table.insert(name, value);
            }
            Index::Index | Index::Plain => write_integer(known_name, PLAIN, 4, out),
            Index::Never => write_integer(known_name, NEVER, 4, out),
        }
        if known_name == 0 {
            write_string(name, out);
        }
        write_string(value, out);
    }

    fn size_update(&mut self, size: usize, out: &mut Vec<u8>) {
        self.table.resize(size);
        write_integer(size, SIZE_UPDATE, 5, out);
    }

    fn find(&self, name: &[u8], value: &[u8]) -> Known {
        let fixed = find_static(name, value);
        if let Known::Field(_) = fixed {
            return fixed;
        }
        match (self.table.find(name, value), fixed) {
            (Some(Found::Field(age)), _) => Known::Field(age + STATIC_TABLE.len() + 1),
            (Some(Found::Name(age)), Known::Nothing) => Known::Name(age + STATIC_TABLE.len() + 1),
            _ => fixed,
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// What the tables hold of a field, with its index.
#[derive(Clone, Copy)]
enum Known {
    Field(usize),
    Name(usize),
    Nothing,
}

fn find_static(name: &[u8], value: &[u8]) -> Known {
    let mut known = Known::Nothing;
    for (at, entry) in STATIC_TABLE.iter().enumerate() {
        if entry.0 != name {
            continue;
        }
        if entry.1 == value {
            return Known::Field(at + 1);
        }
        if let Known::Nothing = known {
            known = Known::Name(at + 1);
        }
    }
    known
}

/// First octets of the representations of RFC 7541 §6.
const INDEXED: u8 = 0x80;
const INCREMENTAL: u8 = 0x40;
const SIZE_UPDATE: u8 = 0x20;
const NEVER: u8 = 0x10;
const PLAIN: u8 = 0x00;

#[cfg(test)]
mod tests;
