//! Reading a JSON tree field by field, with every mistake noted at its path.
//!
//! A tree of our own, not `serde_json::Value`: it sees a key that is given twice (in a policy, the second silently
//! replacing the first would widen it) and borrows its texts. Knows nothing of the mesh; `objects.rs` does.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::place::Place;
use super::texts::bounded;
use crate::address::excerpt;

/// More than any object has (a workload: 25); finding fields and twins is quadratic.
const MAX_FIELDS: usize = 64;

/// A JSON value.
pub(super) enum Node<'a> {
    Bool(bool),
    List(Vec<Self>),
    Null,
    /// A number that is not a whole one from 0 to `u64::MAX`, as text.
    OtherNumber(String),
    Object(Vec<(Cow<'a, str>, Self)>),
    Text(Cow<'a, str>),
    Whole(u64),
}

impl Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "`{value}`"),
            Self::List(_) => f.write_str("a list"),
            Self::Null => f.write_str("null"),
            Self::OtherNumber(text) => write!(f, "the number {text}"),
            Self::Object(_) => f.write_str("a map"),
            Self::Text(text) => write!(f, "the text `{}`", excerpt(text)),
            Self::Whole(value) => write!(f, "the number {value}"),
        }
    }
}

/// A JSON object being read: each field is asked for once, what nobody asked for is a mistake.
pub(super) struct Fields<'n, 'p> {
    entries: &'n [(Cow<'n, str>, Node<'n>)],
    asked: Vec<&'static str>,
    place: &'p Place<'p>,
}

impl<'n, 'p> Fields<'n, 'p> {
    pub(super) fn open(node: &'n Node<'n>, place: &'p Place<'p>) -> Option<Self> {
        match node {
            Node::Object(entries) if entries.len() > MAX_FIELDS => {
                place.fault(format_args!("has too many fields: {}", entries.len()))
            }
            Node::Object(entries) => Some(Self {
                entries,
                asked: Vec::new(),
                place,
            }),
            other => place.fault(format_args!("expected a map, found {other}")),
        }
    }

    /// A field that may be absent.
    pub(super) fn take<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'n Node<'n>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        self.asked.push(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key == name)?;
        read(node, &self.place.field(name))
    }

    /// A field that may be absent or null.
    pub(super) fn take_nullable<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'n Node<'n>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        let null = matches!(
            self.entries.iter().find(|(key, _)| key == name),
            Some((_, Node::Null))
        );
        if null {
            self.asked.push(name);
            return None;
        }
        self.take(name, read)
    }

    /// A field that must be there.
    pub(super) fn need<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&'n Node<'n>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        if self.entries.iter().any(|(key, _)| key == name) {
            return self.take(name, read);
        }
        self.asked.push(name);
        self.place.fault(format_args!("missing field `{name}`"))
    }

    /// Looks for fields that nobody asked for and for fields given twice.
    pub(super) fn close(self) {
        for (index, (key, _)) in self.entries.iter().enumerate() {
            if !self.asked.contains(&&**key) {
                self.place.note(format_args!(
                    "unknown field `{}`; known are {}",
                    excerpt(key),
                    self.asked.join(", ")
                ));
            } else if self.entries[..index]
                .iter()
                .any(|(earlier, _)| earlier == key)
            {
                self.place
                    .note(format_args!("field `{key}` is given twice"));
            }
        }
    }
}

pub(super) fn boolean(node: &Node<'_>, place: &Place<'_>) -> Option<bool> {
    match node {
        Node::Bool(value) => Some(*value),
        other => place.fault(format_args!("expected true or false, found {other}")),
    }
}

pub(super) fn whole<T: TryFrom<u64>>(node: &Node<'_>, place: &Place<'_>) -> Option<T> {
    let most = u64::MAX >> (64 - 8 * size_of::<T>());
    match node {
        Node::Whole(value) => T::try_from(*value).ok(),
        _ => None,
    }
    .or_else(|| {
        place.fault(format_args!(
            "expected a whole number from 0 to {most}, found {node}"
        ))
    })
}

/// A text that is what `check` says.
pub(super) fn text<'n, T>(
    check: impl Fn(&'n str, &Place<'_>) -> Option<T>,
) -> impl Fn(&'n Node<'n>, &Place<'_>) -> Option<T> {
    move |node, place| match node {
        Node::Text(text) => check(text, place),
        other => place.fault(format_args!("expected a text, found {other}")),
    }
}

/// A text with a grammar of its own.
pub(super) fn parsed<T: FromStr<Err: Display>>(node: &Node<'_>, place: &Place<'_>) -> Option<T> {
    match node {
        Node::Text(text) => bounded(text, place)?
            .parse()
            .map_or_else(|cause| place.fault(cause), Some),
        other => place.fault(format_args!("expected a text, found {other}")),
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(
    node: &Node<'_>,
    place: &Place<'_>,
    words: &[(&str, T)],
) -> Option<T> {
    let found = match node {
        Node::Text(text) => words.iter().find(|(word, _)| word == text),
        _ => None,
    };
    found.map(|(_, value)| *value).or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        place.fault(format_args!(
            "expected one of {}, found {node}",
            known.join(", ")
        ))
    })
}

/// The entries of a list that could be read.
pub(super) fn list<'n, T>(
    node: &'n Node<'n>,
    place: &Place<'_>,
    read: impl Fn(&'n Node<'n>, &Place<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match node {
        Node::List(nodes) if !place.admit(nodes.len()) => None,
        Node::List(nodes) => Some(
            nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| read(node, &place.index(index)))
                .collect(),
        ),
        other => place.fault(format_args!("expected a list, found {other}")),
    }
}

/// A map whose keys mean something, in the shape of `C`; a key that reads the same as an earlier one is a mistake.
pub(super) fn map<'n, K, V>(
    node: &'n Node<'n>,
    place: &Place<'_>,
    read_key: impl Fn(&'n str) -> Result<K, String>,
    read: impl Fn(&'n Node<'n>, &Place<'_>) -> Option<V>,
) -> Option<BTreeMap<K, V>>
where
    K: Ord,
{
    let Node::Object(entries) = node else {
        return place.fault(format_args!("expected a map, found {node}"));
    };
    if !place.admit(entries.len()) {
        return None;
    }
    let mut map = BTreeMap::new();
    for (key, node) in entries {
        let place = place.key(key);
        let Some(key) = bounded(key, &place) else {
            continue;
        };
        match read_key(key) {
            Ok(key) if map.contains_key(&key) => place.note("is given twice"),
            Ok(key) => drop(read(node, &place).map(|value| map.insert(key, value))),
            Err(cause) => place.note(cause),
        }
    }
    Some(map)
}

impl<'de> Deserialize<'de> for Node<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Node::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Node::OtherNumber(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Node::OtherNumber(value.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Owned(text.into())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Node::Text(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = access.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = access.next_entry::<Node<'de>, Node<'de>>()? {
            // JSON's keys are texts; the reader below never gives anything else.
            if let Node::Text(key) = key {
                entries.push((key, node));
            }
        }
        Ok(Node::Object(entries))
    }
}
