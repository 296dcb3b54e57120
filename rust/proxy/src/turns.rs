//! A pace for work that holds a worker up: so much of it, then everybody else first.
//!
//! A flight of a handshake is 100 us of arithmetic and more in one piece. A thousand that arrive at once would run one
//! after the other, and every stream of the worker would wait for the last. Whoever is about to work on one waits here
//! for its turn; between turns the worker looks at its sockets and runs what is ready there. Nobody waits while there
//! is no storm, and nobody is turned away: deadlines are the callers'.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::sync::Semaphore;
use tokio::task::yield_now;

use crate::tasks::spawn_local;

/// A worker's turns for one kind of work.
pub(crate) struct Turns {
    /// What may begin before the worker looks at its sockets; first come, first served.
    left: Semaphore,
    taken: Cell<usize>,
}

impl Turns {
    /// `each` pieces of work in a turn.
    pub(crate) fn new(each: usize) -> Rc<Self> {
        Rc::new(Self {
            left: Semaphore::new(each),
            taken: Cell::new(0),
        })
    }

    /// Waits until a piece of work may begin.
    pub(crate) async fn take(self: &Rc<Self>) {
        let Ok(permit) = self.left.acquire().await else {
            unreachable!("it is never closed");
        };
        permit.forget();
        if self.taken.replace(self.taken.get() + 1) == 0 {
            let turns = self.clone();
            spawn_local(async move {
                // Woken only after the sockets have been looked at.
                yield_now().await;
                turns.left.add_permits(turns.taken.take());
            });
        }
    }
}

/// One task's way to its turns, for those who poll.
pub(crate) struct Turn {
    turns: Rc<Turns>,
    waiting: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Turn {
    pub(crate) fn of(turns: &Rc<Turns>) -> Self {
        Self {
            turns: turns.clone(),
            waiting: None,
        }
    }

    /// Ready when a piece of work may begin; the next piece asks again.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let turns = &self.turns;
        let waiting = self.waiting.get_or_insert_with(|| {
            let turns = turns.clone();
            Box::pin(async move { turns.take().await })
        });
        ready!(waiting.as_mut().poll(context));
        self.waiting = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
