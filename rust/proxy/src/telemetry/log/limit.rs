//! How often a class of messages may repeat: a pure count per second, time handed in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Classes are named by the code, so there are as many as it has such messages.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    classes: HashMap<&'static str, Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    passed: u32,
    suppressed: u64,
    /// The first that no report has told of. Not `began`, which a flood moves before anybody finds its second over.
    held_since: Option<Instant>,
}

/// What becomes of one more message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Held back, the first since the last report: somebody must remember to report.
    FirstHeld,
    Held,
    Passes,
}

impl Limiter {
    /// Whether one more passes, where `most` of its class do in a second.
    pub(super) fn admit(&mut self, class: &'static str, most: u32, now: Instant) -> Admission {
        let window = self.classes.entry(class).or_insert(Window {
            began: now,
            passed: 0,
            suppressed: 0,
            held_since: None,
        });
        if now.saturating_duration_since(window.began) >= PERIOD {
            window.began = now;
            window.passed = 0;
        }
        if window.passed < most {
            window.passed += 1;
            return Admission::Passes;
        }
        window.suppressed += 1;
        if window.held_since.is_none() {
            window.held_since = Some(now);
            Admission::FirstHeld
        } else {
            Admission::Held
        }
    }

    /// Classes that have held something back for a second; each message is told once.
    pub(super) fn report(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        let is_due = |since: Instant| now.saturating_duration_since(since) >= PERIOD;
        self.classes
            .iter_mut()
            .filter(|(_, window)| window.held_since.is_some_and(is_due))
            .map(|(class, window)| {
                window.held_since = None;
                (*class, std::mem::take(&mut window.suppressed))
            })
            .collect()
    }

    /// Whether anything waits to be reported.
    pub(super) fn is_holding(&self) -> bool {
        self.classes
            .values()
            .any(|window| window.held_since.is_some())
    }
}

pub(super) const PERIOD: Duration = Duration::from_secs(1);
/// Enough to see what happens, little enough to keep a disk (spec/reliability.md §8).
pub(super) const MOST: u32 = 10;
/// Of connections that are turned away at the door, for each reason. Each has a line of its own for who looks for it, as
/// upstream has; but anybody may knock, as often as he likes, and an attack shall not fill a disk (T18). Ten times as many
/// as of other messages, as many may honestly be wrong at once: 100 of the 500 pods that a node has at most, each second.
pub(super) const MOST_DENIED: u32 = 100;

#[cfg(test)]
mod tests;
