//! Whether somebody who waits for answers shares the tunnel with bulk right now.
//!
//! Bulk alone moves as much at a time as pays off; beside an interactive stream it moves little, so that nobody queues
//! behind it for long. Counts messages and looks at no clock of its own.

use hbone::StreamId;

/// A message of no more than this is somebody's question or answer, not bulk.
pub(super) const SMALL: usize = 4 * 1024;
/// So many small messages in a row make a stream interactive: bulk, too, ends in one, and drains a socket now and then.
const ROW: u8 = 4;
/// For so long after its last message a stream counts, microseconds: a person's keystrokes are further apart, but then
/// one of them meets at most one large turn.
const RECENT: u64 = 20_000;

/// What one stream's messages have been like.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habit {
    small: u8,
}

impl Habit {
    /// A message of `bytes` went either way.
    pub(super) fn saw(&mut self, bytes: usize) {
        self.small = if bytes <= SMALL {
            self.small.saturating_add(1)
        } else {
            0
        };
    }

    /// The last message was small.
    pub(super) fn is_small(self) -> bool {
        self.small > 0
    }

    fn is_interactive(self) -> bool {
        self.small >= ROW
    }
}

/// The interactive streams that were heard of last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sharing {
    latest: Option<(StreamId, u64)>,
    /// Of another stream than the latest.
    before: Option<(StreamId, u64)>,
}

impl Sharing {
    /// `stream`, whose habit is known, said or heard something at `now`.
    pub(super) fn saw(&mut self, stream: StreamId, habit: Habit, now: u64) {
        if !habit.is_interactive() {
            return;
        }
        if self.latest.is_some_and(|(latest, _)| latest != stream) {
            self.before = self.latest;
        }
        self.latest = Some((stream, now));
    }

    /// Whether another stream than this waits for answers.
    pub(super) fn is_contested_for(&self, stream: StreamId, now: u64) -> bool {
        [self.latest, self.before]
            .into_iter()
            .flatten()
            .any(|(other, at)| other != stream && now.saturating_sub(at) <= RECENT)
    }

    /// Whether any stream waits for answers.
    pub(super) fn is_contested(&self, now: u64) -> bool {
        self.latest
            .is_some_and(|(_, at)| now.saturating_sub(at) <= RECENT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> StreamId {
        let mut client = hbone::Connection::new(hbone::Config::client());
        let head = hbone::RequestHead::connect("10.0.0.1:80", hbone::Fields::default());
        let opened: Vec<_> = (0..=number).map(|_| client.open(&head).unwrap()).collect();
        opened[number]
    }

    #[test]
    fn a_row_of_small_messages_makes_a_stream_interactive_and_a_large_one_ends_it() {
        let mut habit = Habit::default();
        for (bytes, interactive) in [
            (100, false),
            (100, false),
            (100, false),
            (100, true),
            (SMALL, true),
            (SMALL + 1, false),
            (1, false),
        ] {
            habit.saw(bytes);
            assert_eq!(habit.is_interactive(), interactive, "{bytes}");
        }
    }

    #[test]
    fn a_stream_contends_with_the_others_and_for_a_while_only() {
        let interactive = Habit { small: ROW };
        let (one, other) = (stream(0), stream(1));
        let mut sharing = Sharing::default();
        sharing.saw(one, Habit { small: 1 }, 0);
        assert!(!sharing.is_contested(0), "not interactive yet");
        sharing.saw(one, interactive, 1_000);
        assert!(sharing.is_contested_for(other, 1_000 + RECENT));
        assert!(!sharing.is_contested_for(other, 1_001 + RECENT));
        assert!(!sharing.is_contested_for(one, 1_000));
        sharing.saw(other, interactive, 2_000);
        sharing.saw(other, interactive, 3_000);
        assert!(sharing.is_contested_for(one, 3_000));
        assert!(
            sharing.is_contested_for(other, 3_000),
            "by the first, still"
        );
        assert!(!sharing.is_contested_for(other, 1_001 + RECENT));
    }
}
