//! The worker's one buffer for bytes on their way through.
//!
//! Buffers belong to the thread, not to the connection (decisions 5): every read is filled, transformed and drained
//! before the next task runs, so one buffer serves all connections and an idle one owns none.

use std::cell::RefCell;

/// Room for a partial TLS record that a tunnel kept from its last read, and 64 KiB behind it.
pub(crate) const SCRATCH: usize = 96 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
}

/// Lends the buffer. Its content is whatever the last borrower left.
///
/// # Panics
/// When called again from inside `use_it`: two borrowers at once would overwrite each other.
pub(crate) fn with<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}
