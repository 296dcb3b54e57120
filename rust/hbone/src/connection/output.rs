//! Control bytes on their way to the peer, first in, first out.
//!
//! Payload never passes here. Counts the answers a peer's frames ask for: one that asks and does not read would
//! otherwise fill our memory.

#[derive(Clone, Debug, Default)]
pub(super) struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Of the unsent bytes, those that answer the peer's frames.
    answers: usize,
}

impl Output {
    /// Kept between uses; larger bursts go back to the allocator.
    const KEPT: usize = 4096;

    /// For what we ourselves have to say.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// For what the peer makes us say.
    pub(super) fn answer(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.bytes.len();
        write(&mut self.bytes);
        self.answers += self.bytes.len() - before;
    }

    /// Bytes of answers that still wait; at most this many, exactly when nothing else waits.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(super) fn sent(&mut self, n: usize) {
        self.sent = (self.sent + n).min(self.bytes.len());
        self.answers = self.answers.min(self.bytes.len() - self.sent);
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(Self::KEPT);
            self.sent = 0;
        } else if self.sent > Self::KEPT && self.sent > self.bytes.len() / 2 {
            // Each byte moves at most once on average: half of them were sent since the last move.
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }
}
