//! The live connections of one worker: who may still talk, and how each is told to stop.
//!
//! Inbound connections are registered before their first authorization, so that a policy change can never fall
//! between the decision and the registration (spec/dataplane.md §8.4).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use mesh::authorize::{ConnectionFacts, Verdict, authorize};
use mesh::snapshot::MeshSnapshot;

use crate::error::Error;

/// All live connections of a worker.
#[derive(Default)]
pub(crate) struct ConnectionTable {
    entries: RefCell<HashMap<u64, Entry>>,
    next: Cell<u64>,
    waiting: RefCell<Option<Waker>>,
}

struct Entry {
    /// What policy is asked about; outbound connections are not subject to it here.
    guarded: Option<Guarded>,
    switch: Rc<Switch>,
}

/// Whom an inbound connection reaches, and what is known of it.
#[derive(Clone, Debug)]
pub(crate) struct Guarded {
    pub(crate) workload: Arc<str>,
    pub(crate) facts: ConnectionFacts,
}

/// Set once, to end a connection.
#[derive(Default)]
struct Switch {
    reason: RefCell<Option<Error>>,
    waiting: RefCell<Option<Waker>>,
}

impl Switch {
    fn cut(&self, reason: Error) {
        let mut current = self.reason.borrow_mut();
        if current.is_none() {
            *current = Some(reason);
        }
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// A connection's place in the table; leaves it when dropped.
pub(crate) struct Registration {
    table: Rc<ConnectionTable>,
    key: u64,
    switch: Rc<Switch>,
}

impl Registration {
    /// Resolves when the connection has to end, with the reason.
    pub(crate) async fn cut(&self) -> Error {
        poll_fn(|context| {
            if let Some(reason) = &*self.switch.reason.borrow() {
                return Poll::Ready(reason.clone());
            }
            *self.switch.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// From now on policy changes are checked against these facts.
    pub(crate) fn guard(&self, guarded: Guarded) {
        if let Some(entry) = self.table.entries.borrow_mut().get_mut(&self.key) {
            entry.guarded = Some(guarded);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.table.entries.borrow_mut().remove(&self.key);
        if self.table.entries.borrow().is_empty()
            && let Some(waker) = self.table.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}

impl ConnectionTable {
    /// Enters a connection.
    pub(crate) fn register(self: &Rc<Self>) -> Registration {
        let key = self.next.get();
        self.next.set(key + 1);
        let switch = Rc::new(Switch::default());
        self.entries.borrow_mut().insert(
            key,
            Entry {
                guarded: None,
                switch: switch.clone(),
            },
        );
        Registration {
            table: self.clone(),
            key,
            switch,
        }
    }

    /// Ends every connection that policy no longer allows. Returns what was ended.
    pub(crate) fn recheck(&self, snapshot: &MeshSnapshot) -> Vec<Guarded> {
        let mut ended = Vec::new();
        for entry in self.entries.borrow().values() {
            let Some(guarded) = &entry.guarded else {
                continue;
            };
            // The workload as it is now, with policies that were attached since. One that left the mesh is not
            // a policy's matter: its own end ends the connection.
            let Some(workload) = snapshot.workload_by_uid(&guarded.workload) else {
                continue;
            };
            if let Verdict::Deny(_) = authorize(snapshot, workload, &guarded.facts).verdict {
                entry.switch.cut(Error::policy_changed());
                ended.push(guarded.clone());
            }
        }
        ended
    }

    /// Ends every connection.
    pub(crate) fn cut_all(&self, reason: &Error) {
        for entry in self.entries.borrow().values() {
            entry.switch.cut(reason.clone());
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Resolves when no connection is left.
    pub(crate) async fn emptied(&self) {
        poll_fn(|context| {
            if self.entries.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}
