//! Bytes that were received for an application which has not taken them yet.
//!
//! Each stream's are bounded by the window that its peer was given; all of a worker's together by [`BUDGET`], past which
//! tunnels that hold more than [`SHARE`] are read no further until applications have taken enough (`driver.rs`).

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What a worker may hold, bytes. Several hundred streams that stall at their first window, or sixteen that had earned
/// the largest: beyond that a node's memory is worth more than the tunnels of those who do not read.
pub(super) const BUDGET: usize = 64 * 1024 * 1024;

/// What a tunnel may hold even then.
pub(super) const SHARE: usize = 128 * 1024;

thread_local! {
    static TOTAL: Cell<usize> = const { Cell::new(0) };
    /// Drivers that wait for the total to fall; at most one per tunnel.
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
    static LIMIT: Cell<usize> = const { Cell::new(BUDGET) };
    /// Bytes that were held and given since memory was last returned, and whether any came since the last look.
    static PASSED: Cell<usize> = const { Cell::new(0) };
    static STIRRED: Cell<bool> = const { Cell::new(false) };
}

/// Passed through here they leave holes between what stays.
const BURST: usize = 4 * 1024 * 1024;

/// Whether much was held since this was last true, and nothing since the last look: the moment to return memory.
pub(crate) fn is_over_a_burst() -> bool {
    let quiet = !STIRRED.replace(false);
    let over = quiet && PASSED.get() >= BURST;
    if over {
        PASSED.set(0);
    }
    over
}

/// Whether this worker holds all that it may.
pub(super) fn is_exhausted() -> bool {
    TOTAL.get() >= LIMIT.get()
}

/// Wakes `waker` once there is room again.
pub(super) fn wait(waker: &Waker) {
    WAITING.with_borrow_mut(|waiting| {
        if !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    });
}

fn took(n: usize) {
    TOTAL.set(TOTAL.get() + n);
    PASSED.set(PASSED.get().saturating_add(n));
    STIRRED.set(true);
}

fn gave(n: usize) {
    if n == 0 {
        return;
    }
    let before = TOTAL.get();
    TOTAL.set(before - n);
    STIRRED.set(true);
    // Half of it free, so that readers do not wake for every byte.
    let low = LIMIT.get() / 2;
    if before >= low && before - n < low || before == n {
        for waker in WAITING.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_returned_once_after_much_was_held_and_only_when_it_is_quiet() {
        let mut held = Held::default();
        held.push(&vec![1; BURST - 1]);
        held.clear();
        assert!(!is_over_a_burst(), "just now");
        assert!(!is_over_a_burst(), "too little");
        held.push(&[1]);
        assert!(!is_over_a_burst(), "just now");
        assert!(is_over_a_burst());
        assert!(!is_over_a_burst(), "once");
    }
}

#[cfg(test)]
pub(super) fn set_limit(limit: usize) {
    LIMIT.set(limit);
}

#[cfg(test)]
pub(super) fn total() -> usize {
    TOTAL.get()
}

/// One stream's held bytes. Owns no memory while empty.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    start: usize,
}

impl Held {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        // Compact first: a reader that keeps slightly behind would otherwise grow the buffer without end.
        if self.start > 0 && self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
        took(bytes.len());
    }

    pub(super) fn advance(&mut self, n: usize) {
        gave(n);
        self.start += n;
        if self.start == self.bytes.len() {
            (self.bytes, self.start) = (Vec::new(), 0);
        }
    }

    /// Moves as much as fits into `buffer`.
    pub(super) fn take(&mut self, buffer: &mut [u8]) -> usize {
        let taken = self.len().min(buffer.len());
        buffer[..taken].copy_from_slice(&self.as_slice()[..taken]);
        self.advance(taken);
        taken
    }

    pub(super) fn clear(&mut self) -> usize {
        let held = self.len();
        self.advance(held);
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        gave(self.len());
    }
}
