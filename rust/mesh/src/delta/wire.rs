//! Protobuf's wire format, as far as an envelope needs it: fields with a length, all others passed over.
//!
//! Borrows, so that a message of 200 MiB costs nothing but itself. The messages inside, which are small and all of which is
//! wanted, are prost's (`decode/protobuf.rs`). A field of a known number and an unexpected type is passed over like an
//! unknown one, as protobuf's own libraries do; groups, which no proto3 message has, are not.

use std::fmt;

/// A field: its number, and its bytes if it has a length.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) bytes: Option<&'a [u8]>,
}

/// The fields of a message in their order; nothing after a mistake.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A field says that it goes on after the end of its message.
    EndsAfterMessage {
        /// The field's number.
        field: u64,
    },
    /// A text is not UTF-8.
    NotText {
        /// The field's number.
        field: u64,
        /// The first byte that is wrong.
        at: usize,
    },
    /// A number goes on after the end of its message.
    NumberEnds,
    /// A number has more than ten bytes, which 64 bits take (protobuf.dev, "Base 128 Varints").
    NumberTooLong,
    /// More names than any mesh has.
    TooMany(usize),
    /// Groups, or a type that nobody has given a meaning.
    WireType(u8),
    /// Fields are counted from 1.
    ZerothField,
}

impl<'a> Fields<'a> {
    pub(super) const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let key = self.varint()?;
        let number = key >> 3;
        if number == 0 {
            return Err(Malformed::ZerothField);
        }
        let passed = |bytes: Option<&'a [u8]>| {
            bytes.map(|_| Field {
                number,
                bytes: None,
            })
        };
        let field = match (key & 7) as u8 {
            0 => {
                self.varint()?;
                return Ok(Field {
                    number,
                    bytes: None,
                });
            }
            1 => passed(self.take(8)),
            2 => {
                let length = self.varint()?;
                self.take(length).map(|bytes| Field {
                    number,
                    bytes: Some(bytes),
                })
            }
            5 => passed(self.take(4)),
            other => return Err(Malformed::WireType(other)),
        };
        field.ok_or(Malformed::EndsAfterMessage { field: number })
    }

    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(length).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for index in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed::NumberEnds)?;
            self.rest = rest;
            // What does not fit into 64 bits is cut off, as everywhere.
            value |= u64::from(byte & 0x7f) << (7 * index);
            if *byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::NumberTooLong)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// A `string`.
pub(super) fn text(field: u64, bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|cause| Malformed::NotText {
        field,
        at: cause.valid_up_to(),
    })
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndsAfterMessage { field } => write!(f, "field {field} ends after its message"),
            Self::NotText { field, at } => write!(f, "field {field} is not UTF-8 from byte {at}"),
            Self::NumberEnds => f.write_str("ends within a number"),
            Self::NumberTooLong => f.write_str("a number of more than 64 bits"),
            Self::TooMany(limit) => write!(f, "more than {limit} names"),
            Self::WireType(other) => write!(f, "a field of wire type {other}"),
            Self::ZerothField => f.write_str("a field of number 0"),
        }
    }
}
