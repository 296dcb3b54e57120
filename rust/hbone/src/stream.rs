//! One stream's life inside a tunnel (RFC 9113 §5.1).
//!
//! ```text
//!                 request head                 response head              END_STREAM
//!   (idle) ─────────────────────▶ Awaited ───────────────────▶ Open ─────────────────────▶ Ended
//!                                    └──────────── head with END_STREAM ──────────────────▲
//!
//!   Each direction walks this line by itself; the request direction begins in Open (or Ended).
//!   Both Ended, or RST_STREAM from either side: the stream is removed and remembered in `Closed`.
//! ```
//! Knows the states and the two windows and nothing of frames or who we are; `connection` feeds it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use crate::flow::{ReceiveWindow, SendWindow};

/// A stream's number on its connection (RFC 9113 §5.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u32);

impl StreamId {
    /// The number as on the wire.
    pub fn value(self) -> u32 {
        self.0
    }
}

/// Something kept for each of a connection's streams.
pub type StreamMap<T> = HashMap<StreamId, T, BuildHasherDefault<NumberHasher>>;

/// Spreads stream numbers over a table. Not keyed: a peer that picks colliding numbers has at most
/// MAX_CONCURRENT_STREAMS of them in the table.
#[derive(Clone, Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing; rotated, because the table looks at the low bits and odd times odd is odd.
        let mixed = (self.0 ^ u64::from(number)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = mixed.rotate_left(32);
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// How far one direction of a stream has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// The response head is still to come.
    Awaited,
    /// DATA may flow.
    Open,
    /// END_STREAM has passed.
    Ended,
}

#[derive(Clone, Debug)]
pub(crate) struct Stream {
    pub(crate) receiving: Half,
    pub(crate) sending: Half,
    pub(crate) receive_window: ReceiveWindow,
    pub(crate) send_window: SendWindow,
    /// What `content-length` still promises; None when nothing was promised or CONNECT makes it void.
    pub(crate) content_left: Option<u64>,
}

impl Stream {
    /// A request of ours went out.
    pub(crate) fn requested(receive_window: ReceiveWindow, send_window: SendWindow) -> Self {
        let (receiving, sending) = (Half::Awaited, Half::Open);
        Self {
            receiving,
            sending,
            receive_window,
            send_window,
            content_left: None,
        }
    }

    /// A request of the peer's came in.
    pub(crate) fn accepted(receive_window: ReceiveWindow, send_window: SendWindow) -> Self {
        let (receiving, sending) = (Half::Open, Half::Awaited);
        Self {
            receiving,
            sending,
            receive_window,
            send_window,
            content_left: None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.receiving == Half::Ended && self.sending == Half::Ended
    }

    /// DATA of `bytes` came. False: more than `content-length` promised.
    #[must_use]
    pub(crate) fn count_content(&mut self, bytes: u32) -> bool {
        match &mut self.content_left {
            None => true,
            Some(left) if *left < u64::from(bytes) => false,
            Some(left) => {
                *left -= u64::from(bytes);
                true
            }
        }
    }

    /// END_STREAM now would break no promise of `content-length`.
    pub(crate) fn is_content_complete(&self) -> bool {
        self.content_left.is_none_or(|left| left == 0)
    }
}

/// How a stream ended: decides what late frames on it mean (RFC 9113 §5.1, "closed").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Both sides said END_STREAM: the peer may send nothing more.
    Ended,
    /// The peer reset it: the peer may send nothing more.
    ResetByPeer,
    /// We reset it: what the peer had sent before it knew is ignored, up to `left` bytes of DATA.
    ResetByUs {
        /// The window the peer still had.
        left: u32,
    },
}

/// The streams that ended most recently.
#[derive(Clone, Debug, Default)]
pub(crate) struct Closed {
    recent: VecDeque<(u32, Ending)>,
}

impl Closed {
    /// Several times the concurrent streams a peer may have: what it still had in flight when a stream ended
    /// arrives before that many others have ended. 12 KiB when full, nothing on a quiet connection.
    const REMEMBERED: usize = 1024;

    pub(crate) fn remember(&mut self, id: u32, ending: Ending) {
        if self.recent.len() == Self::REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((id, ending));
    }

    pub(crate) fn recall(&mut self, id: u32) -> Option<&mut Ending> {
        self.recent
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == id)
            .map(|(_, ending)| ending)
    }
}

#[cfg(test)]
mod tests;
