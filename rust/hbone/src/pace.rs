//! How long the peer is away: the round trip, measured by pings of our own.
//!
//! Windows grow by it (`flow.rs`). Counts in microseconds of the driver's clock, which it tells; there is no clock here.
//! What is kept is the shortest of the latest measurements: a ping that queued behind bulk says how long our own queue
//! was, and a window sized by that would make the queue longer still.

/// A ping's payload that measures; the driver never sees the answer.
pub(crate) const PROBE: [u8; 8] = *b"distance";

/// Time as the driver tells it, and what was measured with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pace {
    now: u64,
    /// When the probe that is under way was sent.
    sent: Option<u64>,
    /// When the last one was sent.
    last: Option<u64>,
    /// The shortest round trip, and when it was measured.
    shortest: Option<(u64, u64)>,
    contested: bool,
}

impl Pace {
    /// Between probes while bytes arrive: one small frame a second.
    const INTERVAL: u64 = 1_000_000;
    /// A shorter round trip than the path has now is forgotten after so long.
    const MEMORY: u64 = 60_000_000;

    pub(crate) fn tell(&mut self, now: u64) {
        self.now = self.now.max(now);
    }

    /// Whether somebody waits for answers beside others who have much to say.
    pub(crate) fn is_contested(&self) -> bool {
        self.contested
    }

    pub(crate) fn contest(&mut self, contested: bool) {
        self.contested = contested;
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Whether it is time to measure; then the caller sends [`PROBE`].
    pub(crate) fn probes(&mut self) -> bool {
        let due = self
            .last
            .is_none_or(|last| self.now - last >= Self::INTERVAL);
        // Nothing can be measured without a clock.
        if !due || self.sent.is_some() || self.now == 0 {
            return false;
        }
        (self.sent, self.last) = (Some(self.now), Some(self.now));
        true
    }

    /// The answer to [`PROBE`] has come.
    pub(crate) fn answered(&mut self) {
        let Some(sent) = self.sent.take() else {
            return;
        };
        let took = self.now - sent;
        let stale = |at: u64| self.now - at >= Self::MEMORY;
        if self
            .shortest
            .is_none_or(|(shortest, at)| took <= shortest || stale(at))
        {
            self.shortest = Some((took, self.now));
        }
    }

    /// The round trip, microseconds; 0 until it was measured.
    pub(crate) fn round_trip(&self) -> u64 {
        self.shortest.map_or(0, |(took, _)| took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_counts_until_it_is_old() {
        let mut pace = Pace::default();
        assert!(!pace.probes(), "no clock, no measurement");
        for (sent, answered, expected) in [
            (1_000_000, 1_000_300, 300),
            (3_000_000, 3_009_000, 300),
            (5_000_000, 5_000_200, 200),
            (70_000_000, 70_080_000, 80_000),
        ] {
            pace.tell(sent);
            assert!(pace.probes());
            assert!(!pace.probes(), "one at a time");
            pace.tell(answered);
            pace.answered();
            assert_eq!(pace.round_trip(), expected);
        }
    }

    #[test]
    fn an_answer_that_nobody_asked_for_says_nothing() {
        let mut pace = Pace::default();
        pace.tell(5);
        pace.answered();
        assert_eq!(pace.round_trip(), 0);
    }
}
