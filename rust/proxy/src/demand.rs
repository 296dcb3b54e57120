//! Learning on demand: what a connection misses is asked of the control plane, and waited for a little.
//!
//! A key that nobody has is remembered for a while, so that traffic which leaves the mesh does not wait each time; so is one
//! that got no answer, for istiod gives none for a name that it has sent before (recorded). Everything is bounded: past the
//! bounds connections go on with what is known, as they do when nothing is learned on demand (spec/control.md §4.8,
//! spec/reliability.md F30).
//!
//! What is missed is `mesh::route`'s to say; the control side asks, and what it is told comes back through `data_plane.rs`.

use std::collections::hash_map::Entry as Slot;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh::snapshot::MeshSnapshot;
use mesh::workload::GatewayDestination;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::control::Event;
use crate::shared::Shared;
use crate::telemetry::log::Level;

/// Everything that was asked for, and what came of it.
pub(crate) struct Demand {
    /// How long one connection waits, for all that it misses together.
    patience: Duration,
    table: Mutex<Table>,
}

/// Who misses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// An application of ours.
    Application,
    /// A peer, which chooses what it asks for: it must not use up what our applications need.
    Peer,
}

#[derive(Default)]
struct Table {
    entries: HashMap<GatewayDestination, Entry>,
    /// Connections that wait, by who asked.
    waiting: [usize; 2],
    /// Keys that wait for an answer, by who asked.
    asked: [usize; 2],
}

enum Entry {
    /// Nobody has it, as far as is known.
    Absent { until: Instant },
    /// No answer yet. Dropping the sender is the answer: whoever waits looks again.
    Asked {
        since: Instant,
        asker: Asker,
        answer: watch::Sender<()>,
    },
}

/// What becomes of a wish.
enum Asked {
    /// It need not be waited for: it is not there, or too many wait.
    GoOn,
    /// It has been asked for just now.
    Now(watch::Receiver<()>),
    /// It had been asked for.
    Before(watch::Receiver<()>),
}

impl Demand {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            table: Mutex::default(),
        }
    }

    /// Until when a connection that begins to look now may wait.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.patience
    }

    /// Asks for what is missed and waits for it. False: looking again would find nothing else.
    pub(crate) async fn fetch(
        &self,
        shared: &Shared,
        key: &GatewayDestination,
        asker: Asker,
        deadline: Instant,
    ) -> bool {
        let Some(mut answer) = self.ask(shared, key, asker) else {
            return false;
        };
        // Asked for first, looked at then: what was applied between a look and a wish would be waited for in vain.
        if shared.mesh.load().knows(key) {
            self.answered(key, None);
            return true;
        }
        let Some(_waiting) = self.wait(asker) else {
            tell_full(shared, asker);
            return false;
        };
        // The sender sends nothing: it goes.
        if timeout_at(deadline, answer.changed()).await.is_err() {
            self.table().give_up(key, self.patience, Instant::now());
            let text = format!("no answer about {key} in time; connections go on without it");
            shared
                .log
                .repeating(Level::Warn, "demand", TARGET, &text, &[]);
        }
        true
    }

    /// Asks for what is missed, for the sake of those that come later.
    pub(crate) fn wish(&self, shared: &Shared, key: &GatewayDestination, asker: Asker) {
        let asked = self.ask(shared, key, asker);
        if asked.is_some() && shared.mesh.load().knows(key) {
            self.answered(key, None);
        }
    }

    /// Releases those whose wish `mesh` fulfils; then those that `answers` picks out of the keys which are still waited for:
    /// whatever was said of them, there is nothing more to come.
    pub(crate) fn settle(
        &self,
        mesh: &MeshSnapshot,
        answers: impl for<'k> FnOnce(&[&'k str]) -> Vec<&'k str>,
    ) {
        let asked = self.table().release(|key| mesh.knows(key), Instant::now());
        if asked.is_empty() {
            return;
        }
        // Without the lock: an answer may have a hundred thousand names.
        let texts: Vec<String> = asked.iter().map(ToString::to_string).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let answered: HashSet<&str> = answers(&texts).into_iter().collect();
        for (key, text) in asked.iter().zip(texts) {
            if answered.contains(text) {
                self.answered(key, Some(ABSENT));
            }
        }
    }

    /// Ends the waiting for a key; `absent`: for how long it is not asked for again.
    fn answered(&self, key: &GatewayDestination, absent: Option<Duration>) {
        self.table().answer(key, absent, Instant::now());
    }

    fn ask(
        &self,
        shared: &Shared,
        key: &GatewayDestination,
        asker: Asker,
    ) -> Option<watch::Receiver<()>> {
        let asked = self.table().ask(key, asker, self.patience, Instant::now());
        match asked {
            Asked::Before(answer) => Some(answer),
            Asked::GoOn => None,
            Asked::Now(answer) => {
                // Nobody is asked for what came a moment ago.
                if !shared.mesh.load().knows(key) {
                    shared.events.report(Event::ResourceWanted(key.to_string()));
                }
                Some(answer)
            }
        }
    }

    fn wait(&self, asker: Asker) -> Option<Waiting<'_>> {
        let mut table = self.table();
        let waiting = &mut table.waiting[asker as usize];
        if *waiting == asker.most_waiting() {
            return None;
        }
        *waiting += 1;
        let demand = self;
        Some(Waiting { demand, asker })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every change under the lock is whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that waits.
struct Waiting<'a> {
    demand: &'a Demand,
    asker: Asker,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.demand.table().waiting[self.asker as usize] -= 1;
    }
}

impl Table {
    fn ask(
        &mut self,
        key: &GatewayDestination,
        asker: Asker,
        patience: Duration,
        now: Instant,
    ) -> Asked {
        match self.entries.get(key) {
            Some(Entry::Absent { until }) if now < *until => return Asked::GoOn,
            // Whoever asked has given up; nobody need do so after him.
            Some(Entry::Asked { since, .. }) if now > *since + patience + GRACE => {
                self.answer(key, Some(UNANSWERED), now);
                return Asked::GoOn;
            }
            Some(Entry::Asked { answer, .. }) => return Asked::Before(answer.subscribe()),
            _ => {}
        }
        if self.asked[asker as usize] >= asker.most() {
            self.give_up_old(patience, now);
            if self.asked[asker as usize] >= asker.most() {
                return Asked::GoOn;
            }
        }
        if self.entries.len() >= MAX_ENTRIES {
            // To ask once too often is better than to take somebody for absent who is not.
            self.entries
                .retain(|_, entry| matches!(entry, Entry::Asked { .. }));
        }
        let (answer, receiver) = watch::channel(());
        let entry = Entry::Asked {
            since: now,
            asker,
            answer,
        };
        self.entries.insert(key.clone(), entry);
        self.asked[asker as usize] += 1;
        Asked::Now(receiver)
    }

    /// Somebody's patience has ended. Nobody else's has to with it: he may have spent it on something else before.
    fn give_up(&mut self, key: &GatewayDestination, patience: Duration, now: Instant) {
        if let Some(Entry::Asked { since, .. }) = self.entries.get(key)
            && now + GRACE >= *since + patience
        {
            self.answer(key, Some(UNANSWERED), now);
        }
    }

    /// Ends what nobody can be waiting for any more.
    fn give_up_old(&mut self, patience: Duration, now: Instant) {
        let old = |entry: &Entry| match entry {
            Entry::Absent { .. } => false,
            Entry::Asked { since, .. } => now > *since + patience + GRACE,
        };
        let entries = self.entries.iter().filter(|(_, entry)| old(entry));
        let keys: Vec<_> = entries.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.answer(&key, Some(UNANSWERED), now);
        }
    }

    /// Ends the waiting for those that are `known`, and gives the keys of the others.
    fn release(
        &mut self,
        known: impl Fn(&GatewayDestination) -> bool,
        now: Instant,
    ) -> Vec<GatewayDestination> {
        if self.asked == [0, 0] {
            return Vec::new();
        }
        let asked = self
            .entries
            .iter()
            .filter(|(_, entry)| matches!(entry, Entry::Asked { .. }));
        let keys: Vec<_> = asked.map(|(key, _)| key.clone()).collect();
        let (known, unknown): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| known(key));
        for key in known {
            self.answer(&key, None, now);
        }
        unknown
    }

    /// Ends the waiting for a key, by dropping the sender. `absent`: for how long it is not asked for again.
    fn answer(&mut self, key: &GatewayDestination, absent: Option<Duration>, now: Instant) {
        if let Slot::Occupied(mut slot) = self.entries.entry(key.clone())
            && let Entry::Asked { asker, .. } = slot.get()
        {
            self.asked[*asker as usize] -= 1;
            match absent {
                Some(absent) => {
                    let until = now + absent;
                    slot.insert(Entry::Absent { until });
                }
                None => drop(slot.remove()),
            }
        }
    }
}

impl Asker {
    /// Keys that may wait for an answer at once. istiod answers in milliseconds; a thousand unanswered ones are an outage.
    const fn most(self) -> usize {
        match self {
            Self::Application => 1024,
            Self::Peer => 64,
        }
    }

    /// Connections at once, any number of which may wait for the same.
    const fn most_waiting(self) -> usize {
        match self {
            Self::Application => 4096,
            Self::Peer => 1024,
        }
    }
}

fn tell_full(shared: &Shared, asker: Asker) {
    let whose = match asker {
        Asker::Application => "applications",
        Asker::Peer => "peers",
    };
    let most = asker.most_waiting();
    let text = format!(
        "more than {most} connections of {whose} wait for the control plane; the others go on without it"
    );
    shared
        .log
        .repeating(Level::Warn, "demand", TARGET, &text, &[]);
}

/// Of all entries. A scan of addresses would make any number of absent ones.
const MAX_ENTRIES: usize = 8192;

/// How long nobody is asked again for what nobody has. A pod that comes meanwhile is taken for a plain address; whatever
/// istiod pushes by itself is known at once all the same.
const ABSENT: Duration = Duration::from_secs(10);
/// The same where there was no answer: to wait again soon would slow down all that leaves the mesh during an outage.
const UNANSWERED: Duration = Duration::from_secs(30);

/// A wish is not taken for unanswered while the connection that made it may be about to say so itself.
const GRACE: Duration = Duration::from_secs(1);

const TARGET: &str = "xds::client";

#[cfg(test)]
mod tests;
