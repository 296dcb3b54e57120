//! The live connections of one worker: who may still talk, and how each is told to stop.
//!
//! Inbound connections are registered before their first authorization, so that a policy change can never fall
//! between the decision and the registration (spec/dataplane.md §8.4).

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::Error;

mod census;
mod inquiries;
mod recheck;
mod story;
#[cfg(test)]
mod testing;

pub(crate) use census::{Census, Side as CensusSide};
pub(crate) use inquiries::{Inquiries, Inquiry};
use story::Story;
pub(crate) use story::{Dialled, Guarded};

/// All live connections of a worker.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    places: RefCell<Vec<Place>>,
    /// The first of the vacant places, which are chained.
    vacant: Cell<Option<u32>>,
    live: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

/// Room for one connection, used again by the next when it has ended. An idle connection costs as much memory as
/// this has bytes, so the rare parts are boxed.
enum Place {
    Taken(Entry),
    Vacant { next: Option<u32> },
}

#[derive(Default)]
struct Entry {
    /// Who speaks to whom, as soon as that is known.
    story: Option<Box<Story>>,
    waiting: Option<Waker>,
    /// Set once, to end the connection.
    cut: Option<Cut>,
}

/// Why a connection has to end although neither side wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The proxy ends, and waited long enough.
    Drained,
    /// A policy no longer allows it.
    PolicyChanged,
}

/// A connection's place in the table; leaves it when dropped.
pub(crate) struct Registration {
    table: Rc<ConnectionTable>,
    /// Ours alone until we are dropped.
    place: u32,
}

impl Registration {
    /// Resolves when the connection has to end, with the reason.
    pub(crate) fn cut(&self) -> impl Future<Output = Error> {
        poll_fn(|context| self.poll_cut(context).map(Cut::error))
    }

    /// The same for a request that came through a tunnel.
    pub(crate) fn cut_in_tunnel(&self) -> impl Future<Output = Error> {
        poll_fn(|context| self.poll_cut(context).map(Cut::error_in_tunnel))
    }

    fn poll_cut(&self, context: &Context<'_>) -> Poll<Cut> {
        self.table.with(self.place, |entry| match entry.cut {
            Some(cut) => Poll::Ready(cut),
            None => {
                let known = entry.waiting.as_ref();
                if !known.is_some_and(|waker| waker.will_wake(context.waker())) {
                    entry.waiting = Some(context.waker().clone());
                }
                Poll::Pending
            }
        })
    }

    /// From now on policy changes are checked against these facts.
    pub(crate) fn guard(&self, guarded: Guarded) {
        self.tell(Story::Inbound(guarded));
    }

    /// Where an application's connection goes; for operators only, as policy is the other end's business.
    pub(crate) fn describe(&self, dialled: Dialled) {
        self.tell(Story::Outbound(dialled));
    }

    fn tell(&self, story: Story) {
        let story = Some(Box::new(story));
        self.table.with(self.place, |entry| entry.story = story);
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.leave(self.place);
    }
}

impl ConnectionTable {
    /// Enters a connection.
    pub(crate) fn register(self: &Rc<Self>) -> Registration {
        let mut places = self.places.borrow_mut();
        let entry = Place::Taken(Entry::default());
        let place = match self.vacant.get() {
            Some(place) => {
                let before = std::mem::replace(&mut places[place as usize], entry);
                let Place::Vacant { next } = before else {
                    unreachable!("only vacant places are chained");
                };
                self.vacant.set(next);
                place
            }
            None => {
                places.push(entry);
                u32::try_from(places.len() - 1).expect("descriptors run out long before")
            }
        };
        self.live.set(self.live.get() + 1);
        Registration {
            table: self.clone(),
            place,
        }
    }

    /// Ends every connection.
    pub(crate) fn cut_all(&self, cut: Cut) {
        self.each(|entry| entry.cut(cut));
    }

    pub(crate) fn len(&self) -> usize {
        self.live.get()
    }

    /// Resolves when no connection is left.
    pub(crate) async fn emptied(&self) {
        poll_fn(|context| {
            if self.len() == 0 {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn with<T>(&self, place: u32, action: impl FnOnce(&mut Entry) -> T) -> T {
        match &mut self.places.borrow_mut()[place as usize] {
            Place::Taken(entry) => action(entry),
            Place::Vacant { .. } => unreachable!("a registration's place is its own"),
        }
    }

    fn each(&self, mut action: impl FnMut(&mut Entry)) {
        for place in &mut *self.places.borrow_mut() {
            if let Place::Taken(entry) = place {
                action(entry);
            }
        }
    }

    /// The same for `count` places from `start` on, or fewer if `action` has enough. Gives where to go on, `None` at the end:
    /// who has much to do per connection lets others have the worker in between. What comes or goes meanwhile may be met or
    /// not.
    fn some(
        &self,
        start: usize,
        count: usize,
        mut action: impl FnMut(&mut Entry) -> ControlFlow<()>,
    ) -> Option<usize> {
        let mut places = self.places.borrow_mut();
        let mut end = start.saturating_add(count);
        for (at, place) in places.iter_mut().enumerate().take(end).skip(start) {
            if let Place::Taken(entry) = place
                && action(entry).is_break()
            {
                end = at + 1;
                break;
            }
        }
        (end < places.len()).then_some(end)
    }

    fn leave(&self, place: u32) {
        let next = self.vacant.replace(Some(place));
        let vacant = Place::Vacant { next };
        let entry = std::mem::replace(&mut self.places.borrow_mut()[place as usize], vacant);
        // Not while the table is borrowed: what a waker holds may have places here too.
        drop(entry);
        self.live.set(self.live.get() - 1);
        if self.live.get() == 0 {
            self.shrink();
            if let Some(waker) = self.waiting.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Gives the room of a burst back, once nobody is left in it.
    fn shrink(&self) {
        let mut places = self.places.borrow_mut();
        if places.len() > KEPT {
            *places = Vec::new();
            self.vacant.set(None);
        }
    }
}

impl Entry {
    fn cut(&mut self, cut: Cut) {
        self.cut.get_or_insert(cut);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }
}

impl Cut {
    fn error(self) -> Error {
        match self {
            Self::Drained => Error::drained(),
            Self::PolicyChanged => Error::policy_changed(),
        }
    }

    fn error_in_tunnel(self) -> Error {
        match self {
            Self::Drained => Error::drained_in_tunnel(),
            Self::PolicyChanged => Error::policy_changed(),
        }
    }
}

/// Places that stay when all are empty: connections that come one at a time shall not make a table each.
const KEPT: usize = 64;

#[cfg(test)]
mod tests;
