//! The worker's pipes: lent to whoever has bytes for one, never more than a fixed number.
//!
//! A pipe belongs to nobody while it is empty. One that comes back with bytes in it, because its connection ended, is
//! closed: another connection must never see them. When there is none to lend, the borrower copies.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::time::{Duration, Instant};

use crate::sys::Pipe;

/// Bytes of one pipe. Measured against copying: 64 KiB cost a tenth more, 256 KiB half, 1 MiB two fifths, as a splice
/// wakes the receiver once however much it brings.
const CAPACITY: usize = 1024 * 1024;
/// Below this copying is cheaper: so small are the pipes of a user who has too many (pipe(7)).
const LEAST: usize = 256 * 1024;
/// Pipes of one worker at once, for what the kernel holds in them: 32 MiB. Only a receiver that is slower than its
/// sender keeps one for longer than a moment.
const MOST: usize = 32;
/// Empty pipes that are kept. A worker does one thing at a time: more are of use only when many receivers were slow.
const KEPT: usize = 8;
/// After the system gave no pipe, nobody asks it again for this long.
const REFUSED: Duration = Duration::from_secs(1);

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool::new()) };
}

struct Pool {
    idle: Vec<Pipe>,
    lent: usize,
    refused: Option<Instant>,
}

/// A pipe on loan; goes back when dropped.
pub(super) struct Lent(Option<Pipe>);

/// Lends an empty pipe; `None` if all are in use or the system gives none.
pub(super) fn lend() -> Option<Lent> {
    let pipe =
        POOL.with_borrow_mut(|pool| pool.take(Instant::now, || Pipe::open(CAPACITY).ok()))?;
    Some(Lent(Some(pipe)))
}

impl Pool {
    const fn new() -> Self {
        Self {
            idle: Vec::new(),
            lent: 0,
            refused: None,
        }
    }

    fn take(
        &mut self,
        now: impl Fn() -> Instant,
        open: impl FnOnce() -> Option<Pipe>,
    ) -> Option<Pipe> {
        let pipe = match self.idle.pop() {
            Some(pipe) => pipe,
            None if self.lent >= MOST || self.is_refused(&now) => return None,
            None => {
                let Some(pipe) = open().filter(|pipe| pipe.capacity() >= LEAST) else {
                    self.refused = Some(now());
                    return None;
                };
                pipe
            }
        };
        self.lent += 1;
        Some(pipe)
    }

    fn is_refused(&self, now: impl Fn() -> Instant) -> bool {
        self.refused
            .is_some_and(|at| now().saturating_duration_since(at) < REFUSED)
    }

    fn give_back(&mut self, pipe: Option<Pipe>) {
        self.lent -= 1;
        if self.idle.len() < KEPT {
            self.idle.extend(pipe.filter(|pipe| pipe.held() == 0));
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let pipe = self.0.take();
        // Failing means that the thread is ending, and the pipes with it.
        let _ = POOL.try_with(|pool| pool.borrow_mut().give_back(pipe));
    }
}

impl Deref for Lent {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        self.0.as_ref().expect("it is there until the drop")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Pipe {
        self.0.as_mut().expect("it is there until the drop")
    }
}

#[cfg(test)]
pub(super) mod tests;
