//! Things of the mesh spelled as pretty JSON at once: the library takes them apart, here is what stands between the parts.
//!
//! As `spaced.rs`, but with no JSON in between that would be read a second time: of a large mesh that is half of the work.

use std::io::{self, Write};
use std::ops::Range;

use serde::Serialize;
use serde_json::Serializer;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter};

use super::{AT_ONCE, MAX_DEPTH};

/// Appends a thing as a value that begins on a line of this depth. `None`, with half of it appended: a key is out of order,
/// given twice or written with an escape, it is too deep or too long. Those are others' to write.
pub(super) fn spell(item: &impl Serialize, depth: usize, text: &mut Vec<u8>) -> Option<()> {
    let most = text.len() + AT_ONCE;
    let mut serializer = Serializer::with_formatter(Bounded { text, most }, Spelling::at(depth));
    item.serialize(&mut serializer).ok()
}

/// Text up to a length: what is longer is written in parts.
struct Bounded<'t> {
    text: &'t mut Vec<u8>,
    most: usize,
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.text.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Where in a thing the library is.
struct Spelling {
    depth: usize,
    /// What ended last was inside of what is open: the bracket that closes it has a line of its own.
    filled: bool,
    /// A key is being written, the first of its object or another.
    key: Option<Which>,
    /// The last key of each object that is open, and behind them the one that is being written.
    keys: Vec<u8>,
    /// Where in them each lies.
    open: Vec<Range<usize>>,
}

#[derive(Clone, Copy)]
enum Which {
    First,
    Next,
}

impl Spelling {
    fn at(depth: usize) -> Self {
        Self {
            depth,
            filled: false,
            key: None,
            keys: Vec::with_capacity(KEYS),
            open: Vec::with_capacity(MAX_DEPTH),
        }
    }

    fn deeper<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.filled = false;
        if self.depth >= MAX_DEPTH {
            return Err(NOT_HERE.into());
        }
        out.write_all(bracket)
    }

    fn shallower<W: Write + ?Sized>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if std::mem::replace(&mut self.filled, true) {
            self.line(out, true)?;
        }
        out.write_all(bracket)
    }

    /// A new line, behind a comma unless something begins or ends with it.
    fn line<W: Write + ?Sized>(&self, out: &mut W, bare: bool) -> io::Result<()> {
        out.write_all(&LINE[usize::from(bare)..2 + 2 * self.depth])
    }
}

impl Formatter for Spelling {
    fn begin_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.deeper(out, b"[")
    }

    fn end_array<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        self.shallower(out, b"]")
    }

    fn begin_array_value<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.line(out, first)
    }

    fn end_array_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn begin_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        let end = self.keys.len();
        self.open.push(end..end);
        self.deeper(out, b"{")
    }

    fn end_object<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        if let Some(last) = self.open.pop() {
            self.keys.truncate(last.start);
        }
        self.shallower(out, b"}")
    }

    fn begin_object_key<W: Write + ?Sized>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.key = Some(if first { Which::First } else { Which::Next });
        self.line(out, first)
    }

    fn end_object_key<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        let (Some(which), Some(last)) = (self.key.take(), self.open.last_mut()) else {
            return Err(NOT_HERE.into());
        };
        let (before, now) = self.keys[last.start..].split_at(last.len());
        if matches!(which, Which::Next) && before >= now {
            return Err(NOT_HERE.into());
        }
        let length = now.len();
        self.keys.copy_within(last.end.., last.start);
        last.end = last.start + length;
        self.keys.truncate(last.end);
        Ok(())
    }

    fn begin_object_value<W: Write + ?Sized>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: Write + ?Sized>(&mut self, _: &mut W) -> io::Result<()> {
        self.filled = true;
        Ok(())
    }

    fn write_string_fragment<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.key.is_some() {
            self.keys.extend_from_slice(fragment.as_bytes());
        }
        out.write_all(fragment.as_bytes())
    }

    /// A port, which is a key, too.
    fn write_u16<W: Write + ?Sized>(&mut self, out: &mut W, value: u16) -> io::Result<()> {
        if self.key.is_none() {
            return CompactFormatter.write_u16(out, value);
        }
        let start = self.keys.len();
        CompactFormatter.write_u16(&mut self.keys, value)?;
        out.write_all(&self.keys[start..])
    }

    fn write_char_escape<W: Write + ?Sized>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if self.key.is_some() {
            return Err(NOT_HERE.into());
        }
        CompactFormatter.write_char_escape(out, escape)
    }
}

/// How it is said that others have to write a thing.
const NOT_HERE: io::ErrorKind = io::ErrorKind::InvalidData;

/// Room for the keys of what is open; more is made if it is needed.
const KEYS: usize = 256;

/// A comma, and the longest line's beginning.
const LINE: [u8; 2 + 2 * MAX_DEPTH] = {
    let mut line = [b' '; 2 + 2 * MAX_DEPTH];
    (line[0], line[1]) = (b',', b'\n');
    line
};
