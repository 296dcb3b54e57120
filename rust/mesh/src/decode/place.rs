//! Where in a resource the reader is, and what was found wrong so far; the same for every encoding.
//!
//! A place is a chain on the stack and becomes a path (`rules[0][2].sourceIps[1]`) only when there is something to say.

use std::cell::{Cell, RefCell};
use std::fmt::{self, Display, Write};

use crate::address::excerpt;

/// Enough to repair a file by, few enough that hostile input cannot make the answer large.
const MAX_MISTAKES: usize = 16;

/// All lists and maps of one resource together. A service that names 60,000 endpoints and a policy of 10,000 rules stay
/// below; what an entry becomes is up to a hundred times larger than what it is on the wire, so that bytes are no bound.
pub(super) const MAX_ENTRIES: usize = 1 << 17;

/// A pod has one or two addresses, a service as many for each cluster; of a workload each is compared with each of the
/// last version's.
const MAX_ADDRESSES: usize = 4096;

/// What is wrong with a resource.
#[derive(Default)]
pub(super) struct Mistakes {
    told: RefCell<Vec<String>>,
    count: Cell<usize>,
    /// Entries of lists and maps that were admitted.
    entries: Cell<usize>,
}

impl Mistakes {
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    pub(super) fn into_reasons(self) -> Vec<String> {
        let (mut reasons, count) = (self.told.into_inner(), self.count.get());
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

    pub(super) fn index(&'p self, index: usize) -> Self {
        self.below(Step::Index(index))
    }

    pub(super) fn key(&'p self, key: &'p str) -> Self {
        self.below(Step::Key(key))
    }

    /// Whether a list or map with so many entries may be read; otherwise that is a mistake.
    pub(super) fn admit(&self, entries: usize) -> bool {
        let all = self.mistakes.entries.get().saturating_add(entries);
        self.mistakes.entries.set(all);
        if all > MAX_ENTRIES {
            self.note(format_args!("more than {MAX_ENTRIES} entries in all lists"));
        }
        all <= MAX_ENTRIES
    }

    /// Whether a workload or a service may have so many addresses; otherwise that is a mistake.
    pub(super) fn admit_addresses(&self, count: usize) -> bool {
        if count > MAX_ADDRESSES {
            self.note(format_args!("more than {MAX_ADDRESSES} entries: {count}"));
        }
        count <= MAX_ADDRESSES
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
        let mistakes = self.mistakes;
        mistakes.count.set(mistakes.count.get() + 1);
        let mut told = mistakes.told.borrow_mut();
        if told.len() < MAX_MISTAKES {
            let path = self.to_string();
            told.push(if path.is_empty() {
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
