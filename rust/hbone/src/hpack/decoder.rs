//! Header blocks to fields (RFC 7541 §3 and §6).

use super::dynamic::DynamicTable;
use super::primitive::{read_integer, read_string};
use super::static_table::STATIC_TABLE;
use super::{DEFAULT_TABLE_SIZE, Error, FIELD_OVERHEAD, ListSize};

/// Reads the header blocks of one direction of a connection, in their order.
#[derive(Clone, Debug)]
pub struct Decoder {
    table: DynamicTable,
    limit: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// A decoder whose peer may use a table of up to `max_table` bytes from its first block on.
    ///
    /// That is [`DEFAULT_TABLE_SIZE`] on every connection: another size is advertised in SETTINGS and comes
    /// into force with their acknowledgement, by [`Decoder::set_max_table`].
    #[must_use]
    pub const fn new(max_table: usize) -> Self {
        Self {
            table: DynamicTable::new(max_table),
            limit: max_table,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// The peer acknowledged a `SETTINGS_HEADER_TABLE_SIZE`. If its table is larger now than it may be, its
    /// next block must begin with the size update that says so.
    pub const fn set_max_table(&mut self, max_table: usize) {
        self.limit = max_table;
    }

    /// Reads one whole block (HEADERS and its CONTINUATIONs) and gives each field to `sink`.
    ///
    /// Past `max_list` bytes, with 32 counted on top of each field, `sink` is not called any more but the table
    /// is kept in step: see [`ListSize::TooLarge`].
    ///
    /// # Errors
    /// The connection cannot go on: its tables differ from now on.
    pub fn decode(
        &mut self,
        block: &[u8],
        max_list: usize,
        sink: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<ListSize, Error> {
        let mut input = self.size_updates(block)?;
        let mut list = List {
            size: 0,
            max: max_list,
            sink,
        };
        while let Some(&first) = input.first() {
            match first {
                0x80.. => self.indexed(&mut input, &mut list)?,
                0x40..0x80 => self.literal(&mut input, 6, Remember::Yes, &mut list)?,
                0x20..0x40 => return Err(Error::SizeUpdateMisplaced),
                // Never-indexed (0x10) differs only for a hop that encodes the field again: we are none.
                0x00..0x20 => self.literal(&mut input, 4, Remember::No, &mut list)?,
            }
        }
        let size = list.size;
        self.forget_scratch();
        Ok(if size > max_list {
            ListSize::TooLarge { size }
        } else {
            ListSize::Within(size)
        })
    }

    fn size_updates<'a>(&mut self, mut input: &'a [u8]) -> Result<&'a [u8], Error> {
        // Two, because a size that went down and up again between blocks is told as both (RFC 7541 §4.2).
        for _ in 0..2 {
            if !matches!(input.first(), Some(0x20..0x40)) {
                break;
            }
            let size = read_integer(&mut input, 5)?;
            if size > self.limit {
                let limit = self.limit;
                return Err(Error::SizeUpdateTooLarge { size, limit });
            }
            self.table.resize(size);
        }
        if self.table.max() > self.limit {
            return Err(Error::SizeUpdateMissing);
        }
        Ok(input)
    }

    fn indexed(&self, input: &mut &[u8], list: &mut List<'_, impl Sink>) -> Result<(), Error> {
        let (name, value) = match Place::of(read_integer(input, 7)?) {
            Place::Literal => return Err(Error::IndexUnknown(0)),
            Place::Static(name, value) => (name, value),
            Place::Dynamic(age) => entry(&self.table, age)?,
        };
        list.add((name, name.len()), (value, value.len()));
        Ok(())
    }

    fn literal(
        &mut self,
        input: &mut &[u8],
        bits: u32,
        remember: Remember,
        list: &mut List<'_, impl Sink>,
    ) -> Result<(), Error> {
        // Longer than both limits means: neither shown nor remembered, so its text is not needed.
        let keep = list.max.max(self.table.max());
        let place = Place::of(read_integer(input, bits)?);
        let (name, name_len) = match place {
            Place::Literal => read_string(input, &mut self.name, keep)?,
            Place::Static(name, _) => (name, name.len()),
            Place::Dynamic(_) => (&[][..], 0),
        };
        let (value, value_len) = read_string(input, &mut self.value, keep)?;
        if let Place::Dynamic(age) = place {
            let (name, _) = entry(&self.table, age)?;
            list.add((name, name.len()), (value, value_len));
            if remember == Remember::Yes {
                self.table.insert_named_as(age, value);
            }
        } else {
            list.add((name, name_len), (value, value_len));
            if remember == Remember::Yes {
                self.table.insert(name, value);
            }
        }
        Ok(())
    }

    /// Bytes kept between blocks.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.table.held().0 + self.name.capacity() + self.value.capacity()
    }

    /// A connection lives for hours and sees a block now and then: a large one must not stay in memory.
    fn forget_scratch(&mut self) {
        for scratch in [&mut self.name, &mut self.value] {
            scratch.clear();
            scratch.shrink_to(SCRATCH);
        }
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_TABLE_SIZE)
    }
}

/// The list under way.
struct List<'a, S> {
    size: usize,
    max: usize,
    sink: &'a mut S,
}

impl<S: Sink> List<'_, S> {
    /// Counts a field and shows it if the list is within its limit. Each text comes with its full length,
    /// as an overlong one is not kept whole.
    fn add(&mut self, name: (&[u8], usize), value: (&[u8], usize)) {
        let field = name
            .1
            .saturating_add(value.1)
            .saturating_add(FIELD_OVERHEAD);
        self.size = self.size.saturating_add(field);
        if self.size <= self.max {
            (self.sink)(name.0, value.0);
        }
    }
}

trait Sink: FnMut(&[u8], &[u8]) {}
impl<F: FnMut(&[u8], &[u8])> Sink for F {}

/// Where an index points.
#[derive(Clone, Copy)]
enum Place {
    Literal,
    Static(&'static [u8], &'static [u8]),
    Dynamic(usize),
}

impl Place {
    fn of(index: usize) -> Self {
        let Some(index) = index.checked_sub(1) else {
            return Self::Literal;
        };
        match STATIC_TABLE.get(index) {
            Some((name, value)) => Self::Static(name, value),
            None => Self::Dynamic(index - STATIC_TABLE.len()),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Remember {
    Yes,
    No,
}

fn entry(table: &DynamicTable, age: usize) -> Result<(&[u8], &[u8]), Error> {
    let index = age + STATIC_TABLE.len() + 1;
    table.get(age).ok_or(Error::IndexUnknown(index))
}

/// Kept for the next block: room for our own longest header, `baggage`, as it usually is.
const SCRATCH: usize = 512;

#[cfg(test)]
mod tests;
