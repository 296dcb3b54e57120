//! The worker's buffers for bytes on their way through.
//!
//! Buffers belong to the thread, not to the connection (decisions 5): a read is filled, transformed and drained before
//! the next task runs, so one buffer serves all connections and an idle one owns none. What has to wait for a socket
//! lies in a buffer that is lent for so long (`tunnel/outgoing.rs`).

use std::cell::RefCell;

/// Room for what a tunnel kept from its last read (during a handshake up to 64 KiB) and a read behind it.
pub(crate) const SCRATCH: usize = 64 * 1024 + READ;
/// Bytes asked of a socket at once. With 256 KiB instead of 128 KiB, here and in what is sent, bulk costs a quarter less
/// (bench/macro, B1: 0.71 against 0.55 CPU s/GiB); with 512 KiB hardly less again.
pub(crate) const READ: usize = 256 * 1024;
/// Size of a lent buffer.
pub(crate) const OUTGOING: usize = 448 * 1024;

/// Lent buffers that are kept for the next borrower. Tunnels with something to send at the same moment are few on one
/// thread; a burst of more gives its memory back.
const KEPT: usize = 4;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH]);
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Lends the buffer for one step. Its content is whatever the last borrower left.
///
/// # Panics
/// When called again from inside `use_it`: two borrowers at once would overwrite each other.
pub(crate) fn with<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| use_it(buffer))
}

/// Lends a buffer of at least `size` initialised bytes, until [`give_back`].
pub(crate) fn lend(size: usize) -> Vec<u8> {
    if size == OUTGOING
        && let Some(spare) = SPARE.with_borrow_mut(Vec::pop)
    {
        return spare;
    }
    vec![0; size]
}

/// Takes a buffer back: keeps a few of the usual size, frees the rest.
pub(crate) fn give_back(buffer: Vec<u8>) {
    if buffer.len() == OUTGOING {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < KEPT {
                spare.push(buffer);
            }
        });
    }
}
