//! Reading a JSON tree field by field, with every mistake noted at its path.
//!
//! A tree of our own, not `serde_json::Value`: it sees a key that is given twice (in a policy, the second silently
//! replacing the first would widen it) and borrows its texts. Knows nothing of the mesh; `objects.rs` does.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::address::excerpt;

/// Enough to repair a file by, few enough that hostile input cannot make the answer large.
const MAX_MISTAKES: usize = 16;

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

/// What is wrong with a resource.
#[derive(Default)]
pub(super) struct Mistakes(RefCell<(Vec<String>, usize)>);

impl Mistakes {
    pub(super) fn count(&self) -> usize {
        self.0.borrow().1
    }

    pub(super) fn into_reasons(self) -> Vec<String> {
        let (mut reasons, count) = self.0.into_inner();
        if count > reasons.len() {
            reasons.push(format!("and {} more mistakes", count - reasons.len()));
        }
        reasons
    }
}

/// Where in the tree we are; rendered only when there is something to say.
pub(super) struct Place<'p> {
    above: Option<&'p Self>,
    step: Step<'p>,
    mistakes: &'p Mistakes,
}

enum Step<'p> {
    Field(&'p str),
    Index(usize),
    Key(&'p str),
    Root,
}

impl<'p> Place<'p> {
    pub(super) fn root(mistakes: &'p Mistakes) -> Self {
        Self {
            above: None,
            step: Step::Root,
            mistakes,
        }
    }

    pub(super) fn field(&'p self, name: &'p str) -> Self {
        self.below(Step::Field(name))
    }

    pub(super) fn mistakes(&self) -> usize {
        self.mistakes.count()
    }

    /// Notes a mistake here and gives `None`, so that a reader can end with it.
    pub(super) fn fault<T>(&self, cause: impl Display) -> Option<T> {
        self.note(cause);
        None
    }

    /// Notes a mistake here.
    pub(super) fn note(&self, cause: impl Display) {
        let (reasons, count) = &mut *self.mistakes.0.borrow_mut();
        *count += 1;
        if reasons.len() < MAX_MISTAKES {
            let path = self.to_string();
            reasons.push(if path.is_empty() {
                cause.to_string()
            } else {
                format!("{path}: {cause}")
            });
        }
    }

    fn below(&'p self, step: Step<'p>) -> Self {
        Self {
            above: Some(self),
            step,
            mistakes: self.mistakes,
        }
    }
}

impl Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            above.fmt(f)?;
            if matches!(self.step, Step::Field(_)) && !matches!(above.step, Step::Root) {
                f.write_char('.')?;
            }
        }
        match &self.step {
            Step::Field(name) => f.write_str(name),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Key(key) => write!(f, "[{:?}]", excerpt(key)),
            Step::Root => Ok(()),
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
        read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
    ) -> Option<T> {
        self.asked.push(name);
        let (_, node) = self.entries.iter().find(|(key, _)| key == name)?;
        read(node, &self.place.field(name))
    }

    /// A field that may be absent or null.
    pub(super) fn take_nullable<T>(
        &mut self,
        name: &'static str,
        read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
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
        read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
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

pub(super) fn text(node: &Node<'_>, place: &Place<'_>) -> Option<Arc<str>> {
    match node {
        Node::Text(text) => Some((&**text).into()),
        other => place.fault(format_args!("expected a text, found {other}")),
    }
}

/// A text that must not be empty.
pub(super) fn name(node: &Node<'_>, place: &Place<'_>) -> Option<Arc<str>> {
    match text(node, place) {
        Some(text) if text.is_empty() => place.fault("must not be empty"),
        text => text,
    }
}

/// A text with a grammar of its own.
pub(super) fn parsed<T: FromStr<Err: Display>>(node: &Node<'_>, place: &Place<'_>) -> Option<T> {
    match node {
        Node::Text(text) => text.parse().map_or_else(|cause| place.fault(cause), Some),
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
pub(super) fn list<T>(
    node: &Node<'_>,
    place: &Place<'_>,
    read: impl Fn(&Node<'_>, &Place<'_>) -> Option<T>,
) -> Option<Vec<T>> {
    match node {
        Node::List(nodes) => Some(
            nodes
                .iter()
                .enumerate()
                .filter_map(|(index, node)| read(node, &place.below(Step::Index(index))))
                .collect(),
        ),
        other => place.fault(format_args!("expected a list, found {other}")),
    }
}

/// A map whose keys mean something, in the shape of `C`; a key that reads the same as an earlier one is a mistake.
pub(super) fn map<K, V>(
    node: &Node<'_>,
    place: &Place<'_>,
    read_key: impl Fn(&str) -> Result<K, String>,
    read: impl Fn(&Node<'_>, &Place<'_>) -> Option<V>,
) -> Option<BTreeMap<K, V>>
where
    K: Ord,
{
    let Node::Object(entries) = node else {
        return place.fault(format_args!("expected a map, found {node}"));
    };
    let mut map = BTreeMap::new();
    for (key, node) in entries {
        let place = place.below(Step::Key(key));
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
