//! HPACK (RFC 7541): header blocks to fields and back, for one direction of one connection each.
//!
//! Knows bytes and tables only. That a name is lower case, a pseudo header comes first or a list belongs to a
//! stream is `connect.rs`' and `connection.rs`' business; they see [`Decoder`] and [`Encoder`].
//!
//! What a peer can cost us is bounded: the dynamic table by the size we advertised, scratch space by the larger
//! of that and the list limit, and work by the block's length (spec/reliability.md T08).

mod decoder;
mod dynamic;
mod encoder;
mod huffman;
mod primitive;
mod static_table;

use std::fmt;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Size of a dynamic table before anybody says otherwise (RFC 9113 §6.5.2).
pub const DEFAULT_TABLE_SIZE: usize = 4096;

/// What one field costs beyond its bytes, in tables and in lists (RFC 7541 §4.1, RFC 9113 §6.5.2).
pub(crate) const FIELD_OVERHEAD: usize = 32;

/// What an encoder should do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Remember it: the next one like it costs a byte or two. For values that repeat on a connection.
    Index,
    /// Send it without remembering. For values that are new each time, which would only evict others.
    Plain,
    /// Send it so that no hop ever puts it into a table (RFC 7541 §7.1.3). For secrets.
    Never,
}

/// How large a decoded list was, counted as `SETTINGS_MAX_HEADER_LIST_SIZE` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a list that is too large reached the sink in part only"]
pub enum ListSize {
    /// Every field reached the sink.
    Within(usize),
    /// Past the limit. The sink saw a beginning of the list that must be thrown away; the decoder is in step
    /// with the peer, so only this list's stream is lost, not the connection.
    TooLarge {
        /// Size of the whole list.
        size: usize,
    },
}

/// Why a header block cannot be read. The tables are out of step from here on: the connection is over with
/// `COMPRESSION_ERROR` (RFC 9113 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A Huffman string holds the EOS symbol (RFC 7541 §5.2).
    HuffmanEos,
    /// A Huffman string ends with more than seven bits of padding, or with padding that is not ones.
    HuffmanPadding,
    /// The index is zero or points past both tables (RFC 7541 §2.3.3).
    IndexUnknown(usize),
    /// An integer is above 2³²−1 or spelled with more octets than that needs (RFC 7541 §5.1).
    IntegerTooLarge,
    /// A table size update came after a field, or is the third of its block (RFC 7541 §4.2).
    SizeUpdateMisplaced,
    /// We lowered the table size and the peer's next block did not follow (RFC 7541 §4.2).
    SizeUpdateMissing,
    /// The peer set its table larger than we allow (RFC 7541 §6.3).
    SizeUpdateTooLarge {
        /// What the peer wants.
        size: usize,
        /// What we advertised.
        limit: usize,
    },
    /// The block ends inside a field.
    Truncated,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HuffmanEos => f.write_str("Huffman string with the EOS symbol inside"),
            Self::HuffmanPadding => f.write_str("Huffman string with wrong padding"),
            Self::IndexUnknown(index) => write!(f, "no such index in the header tables: {index}"),
            Self::IntegerTooLarge => f.write_str("integer too large in a header block"),
            Self::SizeUpdateMisplaced => {
                f.write_str("header table size update not at the start of its block")
            }
            Self::SizeUpdateMissing => {
                f.write_str("header table size was lowered, but the next block has no size update")
            }
            Self::SizeUpdateTooLarge { size, limit } => {
                write!(f, "header table size update above {limit}: {size}")
            }
            Self::Truncated => f.write_str("header block ends inside a field"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
