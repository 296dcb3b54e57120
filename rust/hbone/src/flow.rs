//! Flow control (RFC 9113 §6.9): how much may go out, how much may come in.
//!
//! A receive window grows when it is what holds the peer back: when it was drained in hardly more than a round trip. So a
//! long fat link is filled, and on a short one the window stays small, and with it the queue that it lets build up.
//!
//! One `SendWindow` and one `ReceiveWindow` per stream and one pair for the connection. Counts only; the frames
//! that carry the counts are written in `connection/send.rs`.

use crate::pace::Pace;

/// Window every peer starts with before SETTINGS (RFC 9113 §6.9.2).
pub(crate) const DEFAULT_WINDOW: u32 = 65_535;
/// Largest window (RFC 9113 §6.9.1).
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;
/// A stream that drains its window quickly earns one of this size, however near the peer is: both ends then move enough
/// at a time that system calls and wake-ups no longer count (bench/macro, B1).
const BULK: u32 = 1 << 20;
/// What a stream's window counts for while somebody in the same connection waits for answers: all of it may be in front of
/// them.
const CONTESTED: u32 = 64 * 1024;
/// Quickly is a window in so many microseconds: 50 MB/s at the size that windows start with.
const BULK_TIME: u64 = 5_000;

/// What the peer lets us send.
#[derive(Clone, Debug)]
pub(crate) struct SendWindow(i64);

/// The window passed 2^31-1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Overflow;

impl SendWindow {
    pub(crate) fn new(size: u32) -> Self {
        Self(i64::from(size))
    }

    /// Bytes that may go now; a window below zero (a shrunk INITIAL_WINDOW_SIZE) lets none go.
    pub(crate) fn open(&self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }

    pub(crate) fn take(&mut self, bytes: u32) {
        self.0 -= i64::from(bytes);
    }

    /// WINDOW_UPDATE adds; a changed INITIAL_WINDOW_SIZE adds or takes (RFC 9113 §6.9.2).
    pub(crate) fn shift(&mut self, by: i64) -> Result<(), Overflow> {
        let next = self.0 + by;
        if next > i64::from(MAX_WINDOW) {
            return Err(Overflow);
        }
        self.0 = next;
        Ok(())
    }
}

/// What we let the peer send.
///
/// Every byte of the window is in one of four places:
/// ```text
/// size = available  the peer may send it
///      + (bytes of a frame that is just arriving)
///      + held       handed to the application, not released yet
///      + returned   released, not told to the peer yet (told in steps of an eighth)
/// ```
/// A window that is made smaller, for a while or for good, is so by what is not told.
#[derive(Clone, Debug)]
pub(crate) struct ReceiveWindow {
    size: u32,
    max: u32,
    available: i64,
    held: u32,
    returned: u32,
    grown: u32,
    /// Released since `marked`, a time in microseconds: how fast a window is drained.
    drained: u32,
    marked: u64,
    trial: Trial,
}

/// Whether the last growth has to prove itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Trial {
    #[default]
    None,
    /// Grown; the window that drains now was sent before that. Bytes a millisecond were so many before.
    Grown { rate: u32 },
    /// The window that drains now tells.
    Counts { rate: u32 },
    /// It changed nothing; the next attempt is not before this time, milliseconds.
    Failed { until: u32 },
}

/// A window that did not help is tried again so much later, milliseconds: the path or its load may have changed.
const REST: u64 = 2_000;

impl ReceiveWindow {
    /// A window that starts at `size` and grows to `max` while the application keeps up.
    pub(crate) fn new(size: u32, max: u32) -> Self {
        let size = size.min(MAX_WINDOW);
        let max = max.clamp(size, MAX_WINDOW);
        Self {
            size,
            max,
            available: i64::from(size),
            held: 0,
            returned: 0,
            grown: 0,
            drained: 0,
            marked: 0,
            trial: Trial::None,
        }
    }

    /// A frame of `bytes` begins to arrive. False: the peer sent more than it was allowed.
    #[must_use]
    pub(crate) fn arrive(&mut self, bytes: u32) -> bool {
        if i64::from(bytes) > self.available {
            return false;
        }
        self.available -= i64::from(bytes);
        true
    }

    /// Arrived bytes go to the application.
    pub(crate) fn hold(&mut self, bytes: u32) {
        self.held += bytes;
    }

    /// The application is done with `bytes`. Some: time to tell the peer so much. The window may grow by what
    /// `growth` has left, if `pace` says that it is too small for the distance.
    pub(crate) fn release(&mut self, bytes: u32, growth: &mut Growth, pace: &Pace) -> Option<u32> {
        let bytes = bytes.min(self.held);
        self.held -= bytes;
        self.returned += bytes;
        self.due(growth, pace)
    }

    /// Arrived bytes that never reach the application: padding, and DATA of a stream that is gone.
    pub(crate) fn give_back(&mut self, bytes: u32) -> Option<u32> {
        self.returned += bytes;
        self.due(&mut Growth::none(), &Pace::default())
    }

    fn due(&mut self, growth: &mut Growth, pace: &Pace) -> Option<u32> {
        // Steps of less than an eighth of a window would be a frame for each small read. Half a window would be enough for
        // the frames, but records do not divide it: a sender far away would have half a window for each round trip.
        let (size, step) = if pace.is_contested() {
            let size = self.size.min(CONTESTED);
            (size, size / 2)
        } else {
            (self.size, self.size / 8)
        };
        // Most frames end here.
        if self.returned < step {
            return None;
        }
        // What the window was made smaller by is never told: forget it.
        let untold = (i64::from(self.size) - self.available - i64::from(self.held)).max(0);
        self.returned = self.returned.min(u32::try_from(untold).unwrap_or(u32::MAX));
        let room = i64::from(size) - self.available - i64::from(self.held);
        let told = i64::from(self.returned).min(room);
        if told <= 0 || told < i64::from(step) {
            return None;
        }
        // At most `returned`, by the line above.
        let told = told as u32;
        let increment = told + self.grow(told, growth, pace);
        self.returned -= told;
        self.available += i64::from(increment);
        Some(increment)
    }

    /// Our own smaller INITIAL_WINDOW_SIZE has reached the peer.
    pub(crate) fn shrink(&mut self, by: u32) {
        self.size = self.size.saturating_sub(by);
        self.available -= i64::from(by);
    }

    /// What the peer may still send.
    pub(crate) fn available(&self) -> i64 {
        self.available
    }

    /// What this window has grown by; it goes back into the connection's [`Growth`] when the stream ends.
    pub(crate) fn grown(&self) -> u32 {
        self.grown
    }

    fn grow(&mut self, told: u32, growth: &mut Growth, pace: &Pace) -> u32 {
        self.drained = self.drained.saturating_add(told);
        if self.drained < self.size || pace.is_contested() {
            return 0;
        }
        let since = std::mem::replace(&mut self.marked, pace.now());
        let took = pace.now().saturating_sub(since);
        let drained = std::mem::take(&mut self.drained);
        // The first window says nothing: nobody knows when its stream began to send.
        if since == 0 || took == 0 {
            return 0;
        }
        let rate = u32::try_from(u64::from(drained) * 1000 / took).unwrap_or(u32::MAX);
        if self.is_on_trial(rate, growth, pace) {
            return 0;
        }
        let window_took = took.saturating_mul(u64::from(self.size)) / u64::from(drained);
        // Held back by the window it takes a round trip to drain one, and as much again where processors are busy.
        let held_back = pace.round_trip() > 0 && window_took <= pace.round_trip().saturating_mul(2);
        let bulk = self.size < BULK && window_took <= BULK_TIME;
        // Credit is told when half of it was taken: of the other half, most should be on its way, not here.
        let behind = self.held > self.size / 4;
        if behind || !(held_back || bulk) {
            return 0;
        }
        let more = growth.take(self.size.min(self.max - self.size));
        if self.size >= BULK && more > 0 {
            self.trial = Trial::Grown { rate };
        }
        self.size += more;
        self.grown += more;
        more
    }

    /// Judges the last growth once a window has been sent and drained under it. Where bytes come hardly faster, it was not
    /// the window that held them back but our own queue that made the round trip long: it is taken back.
    fn is_on_trial(&mut self, rate: u32, growth: &mut Growth, pace: &Pace) -> bool {
        match self.trial {
            Trial::None => false,
            Trial::Grown { rate: before } => {
                self.trial = Trial::Counts { rate: before };
                true
            }
            Trial::Counts { rate: before } if u64::from(rate) * 5 < u64::from(before) * 6 => {
                // It had doubled, or less where the most was reached.
                let back = (self.size / 2).min(self.grown);
                self.size -= back;
                self.grown -= back;
                growth.put_back(back);
                let until = pace.now() / 1000 + REST;
                self.trial = Trial::Failed {
                    until: u32::try_from(until).unwrap_or(u32::MAX),
                };
                true
            }
            Trial::Counts { .. } => {
                self.trial = Trial::None;
                false
            }
            Trial::Failed { until } if pace.now() / 1000 < u64::from(until) => true,
            Trial::Failed { .. } => {
                self.trial = Trial::None;
                false
            }
        }
    }
}

/// What the streams of a connection may still grow by, all together.
///
/// A stream that has earned a large window and then stalls makes us hold that much. Without a common bound a hundred
/// such streams would hold 400 MiB; so growth is shared out, and a stream that ends leaves its share to others.
#[derive(Clone, Debug)]
pub(crate) struct Growth(u32);

impl Growth {
    /// A quarter of the connection's window: one stream at full size, five of bulk, or many at a little more than they
    /// start with. All that a hundred readers may make us hold after they have stopped is in it.
    pub(crate) fn of(connection_window: u32) -> Self {
        Self(connection_window / 4)
    }

    pub(crate) fn none() -> Self {
        Self(0)
    }

    fn take(&mut self, wanted: u32) -> u32 {
        let taken = wanted.min(self.0);
        self.0 -= taken;
        taken
    }

    pub(crate) fn put_back(&mut self, share: u32) {
        self.0 = self.0.saturating_add(share);
    }
}

#[cfg(test)]
mod tests;
