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
///      + returned   released, not told to the peer yet (told in steps of half a window)
/// ```
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
}

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
        // Half a window before WINDOW_UPDATE: smaller steps send a frame per read.
        if self.returned == 0 || self.returned < self.size / 2 {
            return None;
        }
        let increment = self.returned + self.grow(growth, pace);
        self.returned = 0;
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

    fn grow(&mut self, growth: &mut Growth, pace: &Pace) -> u32 {
        self.drained = self.drained.saturating_add(self.returned);
        if self.drained < self.size {
            return 0;
        }
        let took = pace
            .now()
            .saturating_sub(std::mem::replace(&mut self.marked, pace.now()));
        let drained = std::mem::take(&mut self.drained);
        let window_took = took * u64::from(self.size) / u64::from(drained);
        // Held back by the window it takes a round trip to drain one; a quarter more for what else takes time.
        let held_back = window_took * 4 <= pace.round_trip() * 5;
        let bulk = self.size < BULK && took > 0 && window_took <= BULK_TIME;
        // Credit is told when half of it was taken: of the other half, most should be on its way, not here.
        let behind = self.held > self.size / 4;
        if pace.round_trip() == 0 || behind || !(held_back || bulk) {
            return 0;
        }
        let more = growth.take(self.size.min(self.max - self.size));
        self.size += more;
        self.grown += more;
        more
    }
}

/// What the streams of a connection may still grow by, all together.
///
/// A stream that has earned a large window and then stalls makes us hold that much. Without a common bound a hundred
/// such streams would hold 400 MiB; so growth is shared out, and a stream that ends leaves its share to others.
#[derive(Clone, Debug)]
pub(crate) struct Growth(u32);

impl Growth {
    /// Half of the connection's window: two streams at full size, or many at a little more than they start with.
    pub(crate) fn of(connection_window: u32) -> Self {
        Self(connection_window / 2)
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
