//! JSON that is in order already, spaced out in one pass: a new line for each thing, and nothing is sorted or copied twice.

use std::ops::Range;

use super::{MAX_DEPTH, close, item};

/// An array or object that is open.
struct Level {
    bracket: u8,
    /// Members or items so far.
    len: usize,
    /// The last key, without its quotes.
    key: Range<usize>,
}

/// Appends a value that begins on a line of this depth. `None`, with half of it appended: a key is out of order, given
/// twice or written with an escape, it is too deep, or no JSON. Those are others' to write.
pub(super) fn space_out(json: &[u8], depth: usize, text: &mut Vec<u8>) -> Option<()> {
    let mut open: Vec<Level> = Vec::new();
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        match byte {
            b'{' | b'[' => {
                begin(&mut open, depth, text);
                text.push(*byte);
                let bracket = byte + 2; // `}` and `]` are two behind their counterparts
                let (len, key) = (0, 0..0);
                open.push(Level { bracket, len, key });
                (depth + open.len() < MAX_DEPTH).then_some(())?;
                at += 1;
            }
            b'}' | b']' => {
                let level = open.pop().filter(|level| level.bracket == *byte)?;
                close(text, level.len, depth + open.len(), *byte);
                at += 1;
            }
            b':' => {
                text.extend_from_slice(b": ");
                at += 1;
            }
            // The next thing makes it.
            b',' | b' ' | b'\n' | b'\r' | b'\t' => at += 1,
            b'"' => {
                let end = end_of_text(json, at)?;
                begin(&mut open, depth, text);
                if let Some(level) = open.last_mut().filter(|level| level.bracket == b'}')
                    && !text.ends_with(b": ")
                {
                    let key = at + 1..end - 1;
                    let is_first = level.len == 1;
                    let plain = !json[key.clone()].contains(&b'\\');
                    let next = is_first || json[level.key.clone()] < json[key.clone()];
                    (plain && next).then_some(())?;
                    level.key = key;
                }
                text.extend_from_slice(&json[at..end]);
                at = end;
            }
            _ => {
                begin(&mut open, depth, text);
                let is_end =
                    |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                let length = json[at..]
                    .iter()
                    .position(is_end)
                    .unwrap_or(json.len() - at);
                text.extend_from_slice(&json[at..at + length]);
                at += length;
            }
        }
    }
    open.is_empty().then_some(())
}

/// What stands before a key or an item; nothing before the value of a key, nor before the whole.
fn begin(open: &mut [Level], depth: usize, text: &mut Vec<u8>) {
    let inside = depth + open.len();
    if let Some(level) = open.last_mut()
        && !text.ends_with(b": ")
    {
        item(text, level.len, inside);
        level.len += 1;
    }
}

/// Behind the closing quote of the text that begins at `at`.
fn end_of_text(json: &[u8], at: usize) -> Option<usize> {
    let mut end = at + 1;
    loop {
        let stop = json
            .get(end..)?
            .iter()
            .position(|byte| matches!(byte, b'"' | b'\\'))?;
        end += stop + 1;
        if json[end - 1] == b'"' {
            return Some(end);
        }
        end += 1;
    }
}
