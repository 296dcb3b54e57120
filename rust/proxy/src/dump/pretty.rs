//! JSON made pretty as upstream's `/config_dump` is: two spaces, one thing a line, the keys of every object in order.
//!
//! Works on the text. Nothing is taken apart further than into its members, and strings and numbers stay as they are. What
//! has its keys in order already is not even that: it is only spaced out, in one pass (`pretty/spaced.rs`). Most things of
//! the mesh are, and they are no text before (`pretty/spelled.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use serde::Serialize;
use serde_json::value::RawValue;

use spaced::space_out;
use spelled::spell;

mod spaced;
mod spelled;

/// Where the text goes.
pub(super) trait Out {
    fn text(&mut self) -> &mut Vec<u8>;

    /// Between two things: the text so far may be taken away. `Break` if nobody wants more.
    fn breathe(&mut self) -> ControlFlow<()>;
}

/// Writes one thing that begins on a line of this depth.
pub(super) fn thing(item: &impl Serialize, depth: usize, out: &mut impl Out) -> ControlFlow<()> {
    let before = out.text().len();
    if spell(item, depth, out.text()).is_some() {
        return out.breathe();
    }
    out.text().truncate(before);
    // What is dumped has texts for keys, and nothing in it can fail.
    value(&serde_json::to_vec(item).unwrap_or_default(), depth, out)
}

/// Writes one value that begins on a line of this depth. What is not JSON, or nested deeper than anything that is dumped,
/// is written as it came.
pub(super) fn value(json: &[u8], depth: usize, out: &mut impl Out) -> ControlFlow<()> {
    let json = json.trim_ascii();
    let before = out.text().len();
    if json.len() <= AT_ONCE && space_out(json, depth, out.text()).is_some() {
        return out.breathe();
    }
    out.text().truncate(before);
    match json.first() {
        Some(b'{') if depth < MAX_DEPTH => {
            if let Ok(members) = serde_json::from_slice::<BTreeMap<String, &RawValue>>(json) {
                return object(&members, depth, out);
            }
        }
        Some(b'[') if depth < MAX_DEPTH => {
            if let Ok(items) = serde_json::from_slice::<Vec<&RawValue>>(json) {
                return array(&items, depth, out);
            }
        }
        _ => {}
    }
    out.text().extend_from_slice(json);
    out.breathe()
}

fn object(
    members: &BTreeMap<String, &RawValue>,
    depth: usize,
    out: &mut impl Out,
) -> ControlFlow<()> {
    out.text().push(b'{');
    for (index, (key, member_value)) in members.iter().enumerate() {
        member(out.text(), index, key, depth + 1);
        value(member_value.get().as_bytes(), depth + 1, out)?;
    }
    close(out.text(), members.len(), depth, b'}');
    ControlFlow::Continue(())
}

fn array(items: &[&RawValue], depth: usize, out: &mut impl Out) -> ControlFlow<()> {
    out.text().push(b'[');
    for (index, item_value) in items.iter().enumerate() {
        item(out.text(), index, depth + 1);
        value(item_value.get().as_bytes(), depth + 1, out)?;
    }
    close(out.text(), items.len(), depth, b']');
    ControlFlow::Continue(())
}

/// What stands before the value of an object's member.
pub(super) fn member(text: &mut Vec<u8>, index: usize, key: &str, depth: usize) {
    item(text, index, depth);
    // A text always has a JSON spelling.
    text.extend_from_slice(&serde_json::to_vec(key).unwrap_or_default());
    text.extend_from_slice(b": ");
}

/// What stands before an array's item.
pub(super) fn item(text: &mut Vec<u8>, index: usize, depth: usize) {
    if index > 0 {
        text.push(b',');
    }
    line(text, depth);
}

/// The end of what has so many members or items.
pub(super) fn close(text: &mut Vec<u8>, len: usize, depth: usize, bracket: u8) {
    if len > 0 {
        line(text, depth);
    }
    text.push(bracket);
}

fn line(text: &mut Vec<u8>, depth: usize) {
    text.push(b'\n');
    let spaces = 2 * depth.min(MAX_DEPTH);
    text.extend_from_slice(&[b' '; 2 * MAX_DEPTH][..spaces]);
}

/// A policy's rules, the deepest thing that there is, are eight deep. The bound is for what is given by mistake.
const MAX_DEPTH: usize = 32;

/// What is longer is written in parts, so that the text may be taken away between them.
const AT_ONCE: usize = 16 * 1024;

#[cfg(test)]
mod tests;
