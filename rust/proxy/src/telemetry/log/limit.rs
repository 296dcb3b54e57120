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
        if window.suppressed == 1 {
            Admission::FirstHeld
        } else {
            Admission::Held
        }
    }

    /// Classes whose second is over and which held something back; each is told once.
    pub(super) fn report(&mut self, now: Instant) -> Vec<(&'static str, u64)> {
        self.classes
            .iter_mut()
            .filter(|(_, window)| now.saturating_duration_since(window.began) >= PERIOD)
            .map(|(class, window)| (*class, std::mem::take(&mut window.suppressed)))
            .filter(|(_, suppressed)| *suppressed > 0)
            .collect()
    }

    /// Whether anything waits to be reported.
    pub(super) fn is_holding(&self) -> bool {
        self.classes.values().any(|window| window.suppressed > 0)
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
