//! One line of a log, plain or JSON. Peers choose many of the values: whatever they contain, a line stays one
//! line, a field one field, and a terminal is told nothing but text.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::time::Duration;

use super::log::{Format, Level};
use super::time::Timestamp;

/// A field's value. Absent ones are left out of the line.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    Absent,
    /// Written bare in plain lines, as a string in JSON.
    Address(SocketAddr),
    /// `true` or `false`, never quoted.
    Flag(bool),
    /// As an address, for what has no type of its own; quoted after all if it is not one plain word.
    Bare(&'a dyn Display),
    /// Whole milliseconds with their unit, quoted in both.
    Milliseconds(Duration),
    Number(u64),
    /// Fields that `render` has made; their name is not looked at.
    Rendered(&'a str),
    /// The number of what the line happened in: behind the target in plain lines, an object in JSON.
    Span(u64),
    /// Quoted and escaped in both.
    Text(&'a str),
}

impl<'a> From<Option<&'a str>> for Value<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Value::Absent, Value::Text)
    }
}

/// The parts of a line.
pub(super) struct Record<'a> {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    /// Without our crate's name, which JSON puts in front (spec/control.md §13).
    pub(super) target: &'a str,
    pub(super) message: &'a str,
    pub(super) fields: &'a [(&'a str, Value<'a>)],
}

impl Record<'_> {
    /// Appends the line with its line feed.
    pub(super) fn write(&self, format: Format, out: &mut String) {
        let result = match format {
            Format::Json => self.write_json(out),
            // Envoy's are lines of the access log; others are as they are without.
            Format::Envoy | Format::Plain => self.write_plain(out),
        };
        debug_assert!(result.is_ok(), "only a broken Display can fail here");
        out.push('\n');
    }

    /// `time⇥level⇥target⇥message⇥k=v k=v`
    fn write_plain(&self, out: &mut String) -> fmt::Result {
        write!(out, "{}\t{}\t{}", self.at, self.level, self.target)?;
        let mut alone = true;
        for (name, value) in self.fields {
            match value {
                Value::Span(id) => write!(out, ":{name}{{id={id}}}")?,
                _ => alone = false,
            }
        }
        out.push('\t');
        Escaped(self.message).write_unquoted(out)?;
        let mut separator = '\t';
        if alone {
            out.push(separator);
        }
        for (name, value) in self.fields {
            if value.write_plain_field(separator, name, out)? {
                separator = ' ';
            }
        }
        Ok(())
    }

    fn write_json(&self, out: &mut String) -> fmt::Result {
        write!(
            out,
            r#"{{"level":"{}","time":"{}","scope":"#,
            self.level, self.at
        )?;
        let prefix = if is_special(self.target) || self.target == CRATE {
            ""
        } else {
            "ztunnel::"
        };
        write!(out, r#""{prefix}{}","message":"#, self.target)?;
        Escaped(self.message).write_json(out)?;
        for (name, value) in self.fields {
            value.write_json_field(name, out)?;
        }
        out.write_char('}')
    }
}

/// Fields as they stand in the middle of a line, to be written into many lines.
pub(super) fn render(fields: &[(&str, Value<'_>)], format: Format) -> String {
    let mut out = String::new();
    let result = fields.iter().try_for_each(|(name, value)| match format {
        Format::Json => value.write_json_field(name, &mut out),
        Format::Envoy | Format::Plain => value.write_plain_field(' ', name, &mut out).map(drop),
    });
    debug_assert!(result.is_ok(), "only a broken Display can fail here");
    out
}

impl Value<'_> {
    /// Says whether there was anything to write.
    fn write_plain_field(
        &self,
        separator: char,
        name: &str,
        out: &mut String,
    ) -> Result<bool, fmt::Error> {
        match self {
            Value::Absent | Value::Span(_) => return Ok(false),
            Value::Rendered(fields) => out.push_str(fields),
            _ => {
                out.push(separator);
                out.extend([name, "="]);
                self.write_plain(out)?;
            }
        }
        Ok(true)
    }

    fn write_json_field(&self, name: &str, out: &mut String) -> fmt::Result {
        match self {
            Value::Absent => Ok(()),
            Value::Rendered(fields) => out.write_str(fields),
            _ => {
                out.extend([",\"", name, "\":"]);
                self.write_json(out)
            }
        }
    }

    fn write_plain(&self, out: &mut String) -> fmt::Result {
        match self {
            Value::Absent => Ok(()),
            Value::Address(address) => write!(out, "{address}"),
            Value::Flag(flag) => write!(out, "{flag}"),
            Value::Milliseconds(duration) => write!(out, r#""{}ms""#, duration.as_millis()),
            Value::Rendered(fields) => out.write_str(fields),
            // Behind the target.
            Value::Span(_) => Ok(()),
            Value::Bare(value) => {
                let text = value.to_string();
                if is_plain_word(&text) {
                    out.write_str(cut(&text))
                } else {
                    Escaped(&text).write_plain(out)
                }
            }
            Value::Number(number) => write!(out, "{number}"),
            Value::Text(text) => Escaped(text).write_plain(out),
        }
    }

    fn write_json(&self, out: &mut String) -> fmt::Result {
        match self {
            Value::Absent => Ok(()),
            Value::Address(address) => write!(out, r#""{address}""#),
            Value::Flag(flag) => write!(out, "{flag}"),
            Value::Milliseconds(duration) => write!(out, r#""{}ms""#, duration.as_millis()),
            Value::Rendered(fields) => out.write_str(fields),
            Value::Span(id) => write!(out, r#"{{"id":{id}}}"#),
            Value::Bare(value) => Escaped(&value.to_string()).write_json(out),
            Value::Number(number) => write!(out, "{number}"),
            Value::Text(text) => Escaped(text).write_json(out),
        }
    }
}

/// A text between quotes, whatever it holds: one word of one line.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", cut(self.0))
    }
}

/// Text that may hold anything.
struct Escaped<'a>(&'a str);

impl Escaped<'_> {
    /// As Rust's `Debug`, which is what upstream's plain lines show: quotes, backslashes, control and other
    /// unprintable characters (direction overrides among them) are escaped.
    fn write_plain(&self, out: &mut String) -> fmt::Result {
        write!(out, "{:?}", cut(self.0))
    }

    /// For a message: no quotes around it, and those inside stay; still no line feeds and no escapes.
    fn write_unquoted(&self, out: &mut String) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '"' | '\'' | '\\' => out.push(c),
                _ => write!(out, "{}", c.escape_debug())?,
            }
        }
        Ok(())
    }

    /// RFC 8259 §7, and what terminals and line readers could trip over.
    fn write_json(&self, out: &mut String) -> fmt::Result {
        out.push('"');
        for c in cut(self.0).chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                _ if is_hostile(c) => write!(out, "\\u{:04x}", u32::from(c))?,
                _ => out.push(c),
            }
        }
        out.write_char('"')
    }
}

/// Control characters, line and paragraph separators, direction overrides. All below U+10000, as the four
/// digits of the escape need.
fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn is_plain_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

/// Targets that are no module of ours.
pub(super) fn is_special(target: &str) -> bool {
    matches!(target, "access" | "dns")
}

/// The crate itself, which speaks before and above its modules.
const CRATE: &str = "ztunnel";

/// A value's beginning, if it is too long for a log.
fn cut(text: &str) -> &str {
    if text.len() <= MAX_VALUE {
        return text;
    }
    let end = (0..=MAX_VALUE)
        .rev()
        .find(|&at| text.is_char_boundary(at))
        .unwrap_or(0);
    &text[..end]
}

/// Honest values are names, addresses and error sentences; a header list may hold 64 KiB of a peer's choice.
const MAX_VALUE: usize = 1024;

#[cfg(test)]
mod tests;
