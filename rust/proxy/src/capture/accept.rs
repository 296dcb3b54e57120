//! What an accept loop does about errors: it never ends, and it does not spin.
//!
//! Running out of descriptors or memory passes; the connection that could not be taken waits in the kernel
//! (spec/reliability.md U1, U2). Used by every accept loop of the crate.

use std::io;
use std::time::Duration;

/// The state of one loop: how long to wait after the next error.
#[derive(Debug)]
pub struct AcceptPause {
    next: Duration,
}

impl AcceptPause {
    #[must_use]
    pub fn new() -> Self {
        Self { next: SHORTEST }
    }

    /// A connection was accepted.
    pub fn succeeded(&mut self) {
        self.next = SHORTEST;
    }

    /// How long to wait before accepting again; `None` if only that one connection is lost, as its client went
    /// away while it was waiting.
    pub fn failed(&mut self, error: &io::Error) -> Option<Duration> {
        use io::ErrorKind as Kind;
        if matches!(
            error.kind(),
            Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted
        ) {
            return None;
        }
        Some(self.exhausted())
    }

    /// Something is used up and has to be given back first: how long to wait.
    pub fn exhausted(&mut self) -> Duration {
        let pause = self.next;
        self.next = LONGEST.min(pause * 2);
        pause
    }
}

impl Default for AcceptPause {
    fn default() -> Self {
        Self::new()
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
/// Twice a second is soon enough for clients and costs nothing.
const LONGEST: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
