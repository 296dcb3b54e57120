//! How late the control side is: its event loop says when it turns, and whether it hangs is seen from here.
//!
//! Told by a clock that goes on when Python does not (spec/reliability.md T44). Traffic does not wait for that loop;
//! certificates and configuration do.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What the loop has said.
#[derive(Debug, Default)]
pub(super) struct ControlLoop(Mutex<Option<Heard>>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    /// When it has to be heard again.
    due: Instant,
    /// The latest it was, in this minute and in the one before: a scrape comes every fifteen seconds or every sixty.
    minute: Instant,
    worst: [Duration; 2],
}

impl ControlLoop {
    /// It has turned, so much later than it wanted to, and will again in `period`.
    pub(super) fn beat(&self, now: Instant, late: Duration, period: Duration) {
        let mut heard = self.lock();
        let before = heard.unwrap_or(Heard {
            due: now,
            minute: now,
            worst: [Duration::ZERO; 2],
        });
        let Heard {
            mut minute,
            worst: [mut worst, mut older],
            ..
        } = before.at(now);
        worst = worst.max(late);
        if now.saturating_duration_since(minute) >= MINUTE {
            (older, worst, minute) = (worst, late, now);
        }
        *heard = Some(Heard {
            due: now + period,
            minute,
            worst: [worst, older],
        });
    }

    /// The longest that it was late in the last minute or two, or is now; `None` if nobody has ever beaten.
    pub(super) fn lag(&self, now: Instant) -> Option<Duration> {
        let heard = (*self.lock())?;
        let overdue = now.saturating_duration_since(heard.due);
        let [worst, older] = heard.at(now).worst;
        Some(overdue.max(worst).max(older))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    /// As it looks now: what is long ago is forgotten, also if nobody beats any more.
    fn at(self, now: Instant) -> Self {
        if now.saturating_duration_since(self.minute) < 2 * MINUTE {
            return self;
        }
        Self {
            minute: now,
            worst: [Duration::ZERO; 2],
            ..self
        }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
