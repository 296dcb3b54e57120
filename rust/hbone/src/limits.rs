//! Every limit of the engine, with its reason.
//!
//! There is no clock here, so a flood is "much of something that brings nothing forward": each kind of frame that
//! costs us work and the peer nothing draws on a budget, and real work refills it — DATA in either direction,
//! requests answered, streams that ended in order, and the answer to a ping of ours (which the driver sends by its
//! clock, so that a budget is a rate without our knowing the time). DATA with payload is never counted: thousands
//! of one-byte frames toward a reader that stalls are what a tunnel is for; flow control bounds them.
//!
//! Sizes were chosen so that an honest peer stays a factor of ten away and a hostile one costs at most a few
//! milliseconds (spec/reliability.md §4.1 T05–T08).

use std::fmt;

/// How much of each thing a peer may do before it is told ENHANCE_YOUR_CALM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests reset before we answered (rapid reset, CVE-2023-44487), above those that were answered.
    /// Clients that lose patience do it too: 100 a second between two pings 10 s apart.
    pub premature_resets: u32,
    /// Streams we had to reset because of the peer's frames (MadeYouReset, CVE-2025-8671). Each is a bug or an
    /// attack; a buggy peer gets a hundred.
    pub provoked_resets: u32,
    /// Streams refused past MAX_CONCURRENT_STREAMS. A client may open hundreds before it has read our SETTINGS.
    pub refused_streams: u32,
    /// SETTINGS: honest peers send one, some a second one. Every one asks for an answer.
    pub settings: u32,
    /// PING: keepalive, and bandwidth probes once per round trip while DATA flows. Every one asks for an answer.
    pub pings: u32,
    /// PRIORITY: deprecated, ignored; old clients send a handful per stream.
    pub priorities: u32,
    /// Frames of unknown kind, and one more for each 16 KiB of their payload: ignored, extensions may try them.
    pub unknown_frames: u32,
    /// DATA without payload and without END_STREAM, header frames without content, interim responses.
    pub empty_frames: u32,
    /// WINDOW_UPDATE: naive peers send two per DATA frame they read, hence refilled by what we send.
    pub window_updates: u32,
    /// Frames on streams that ended: they crossed our RST_STREAM; DATA is bounded by its window instead.
    pub stray_frames: u32,
    /// GOAWAY: a graceful peer sends two.
    pub go_aways: u32,
    /// CONTINUATION frames in one header block: 256 KiB in the smallest frames a peer must take is 16.
    pub continuations: u32,
    /// Fields in one head, above any that HBONE uses (about 6) and equal to Envoy's own default: each costs an
    /// allocation, however few bytes of HPACK name it.
    pub fields: u32,
    /// Bytes of answers (PONG, SETTINGS ACK, RST_STREAM, a server's response heads) that wait unsent because the
    /// peer does not read: 200 streams with the largest answers of ours, twice, or 15,000 PONGs. The driver
    /// should stop reading long before; this is the net under it.
    pub unsent_answers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            premature_resets: 1000,
            provoked_resets: 100,
            refused_streams: 1000,
            settings: 100,
            pings: 1000,
            priorities: 1000,
            unknown_frames: 1000,
            empty_frames: 1000,
            window_updates: 10_000,
            stray_frames: 1000,
            go_aways: 100,
            continuations: 128,
            fields: 100,
            unsent_answers: 256 * 1024,
        }
    }
}

/// An encoded header block may be this many times the list it is allowed to decode to: what a peer that codes
/// badly (Huffman longer than the text) could need; above it we cannot keep the HPACK state in step and give up.
pub(crate) const BLOCK_PER_LIST: u32 = 4;
/// SETTINGS payload: a hundred settings, of which six are defined. Each may touch every open stream.
pub(crate) const SETTINGS_PAYLOAD: u32 = 6 * 100;
/// GOAWAY payload we keep: the fixed part and enough debug text for a log line; the rest is skipped.
pub(crate) const GO_AWAY_KEPT: u32 = 8 + 256;
/// HPACK table of either side (dataplane.md §4: the default). A larger one only helps an attacker.
pub(crate) const HEADER_TABLE: u32 = 4096;

/// What a peer did too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flood {
    /// CONTINUATION frames, or a header block past all bounds.
    Continuation,
    /// Frames without content.
    EmptyFrame,
    /// GOAWAY.
    GoAway,
    /// PING.
    Ping,
    /// Requests reset before they were answered.
    PrematureReset,
    /// PRIORITY.
    Priority,
    /// Mistakes that made us reset a stream.
    ProvokedReset,
    /// Streams past the limit.
    RefusedStream,
    /// SETTINGS.
    Settings,
    /// Frames on ended streams.
    StrayFrame,
    /// Frames of unknown kind.
    UnknownFrame,
    /// Requests that want answers from a peer that does not read them.
    UnsentAnswers,
    /// WINDOW_UPDATE.
    WindowUpdate,
}

impl fmt::Display for Flood {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Continuation => "header block",
            Self::EmptyFrame => "empty frame",
            Self::GoAway => "GOAWAY",
            Self::Ping => "PING",
            Self::PrematureReset => "rapid reset",
            Self::Priority => "PRIORITY",
            Self::ProvokedReset => "stream error",
            Self::RefusedStream => "refused stream",
            Self::Settings => "SETTINGS",
            Self::StrayFrame => "stray frame",
            Self::UnknownFrame => "unknown frame",
            Self::UnsentAnswers => "unread answer",
            Self::WindowUpdate => "WINDOW_UPDATE",
        })
    }
}

/// Something that brought the tunnel forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// A request was answered.
    Answered,
    /// A stream ended in order, both ways.
    Completed,
    /// The peer answered our own ping: time has passed.
    Heartbeat,
    /// A DATA frame with payload arrived.
    Received,
    /// A DATA frame of so many bytes left.
    Sent(u32),
}

/// What is left of each budget.
#[derive(Clone, Debug)]
pub(crate) struct Budgets {
    left: Limits,
    full: Limits,
}

impl Budgets {
    pub(crate) fn new(full: Limits) -> Self {
        Self {
            left: full.clone(),
            full,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.full
    }

    /// Draws on a budget. False: it is empty.
    #[must_use]
    pub(crate) fn spend(&mut self, flood: Flood, cost: u32) -> bool {
        let Some((left, _)) = self.pair(flood) else {
            return false;
        };
        match left.checked_sub(cost) {
            Some(rest) => {
                *left = rest;
                true
            }
            None => false,
        }
    }

    pub(crate) fn worked(&mut self, work: Work) {
        match work {
            Work::Answered => self.refill(Flood::PrematureReset, 1),
            Work::Completed => {
                self.refill(Flood::ProvokedReset, 1);
                self.refill(Flood::RefusedStream, 1);
                self.refill(Flood::Priority, 16);
                self.refill(Flood::StrayFrame, 4);
                self.refill(Flood::WindowUpdate, 4);
                self.refill(Flood::EmptyFrame, 4);
                self.refill(Flood::UnknownFrame, 1);
            }
            Work::Heartbeat => self.left = self.full.clone(),
            Work::Received => {
                self.refill(Flood::Ping, 1);
                self.refill(Flood::EmptyFrame, 1);
            }
            Work::Sent(bytes) => {
                self.refill(Flood::Ping, 1);
                // Two per KiB and a few for the frame itself: a reader may return a frame in small pieces.
                self.refill(Flood::WindowUpdate, 8 + bytes / 512);
            }
        }
    }

    fn refill(&mut self, flood: Flood, by: u32) {
        if let Some((left, full)) = self.pair(flood) {
            *left = left.saturating_add(by).min(full);
        }
    }

    fn pair(&mut self, flood: Flood) -> Option<(&mut u32, u32)> {
        let (left, full) = (&mut self.left, &self.full);
        Some(match flood {
            Flood::EmptyFrame => (&mut left.empty_frames, full.empty_frames),
            Flood::GoAway => (&mut left.go_aways, full.go_aways),
            Flood::Ping => (&mut left.pings, full.pings),
            Flood::PrematureReset => (&mut left.premature_resets, full.premature_resets),
            Flood::Priority => (&mut left.priorities, full.priorities),
            Flood::ProvokedReset => (&mut left.provoked_resets, full.provoked_resets),
            Flood::RefusedStream => (&mut left.refused_streams, full.refused_streams),
            Flood::Settings => (&mut left.settings, full.settings),
            Flood::StrayFrame => (&mut left.stray_frames, full.stray_frames),
            Flood::UnknownFrame => (&mut left.unknown_frames, full.unknown_frames),
            Flood::WindowUpdate => (&mut left.window_updates, full.window_updates),
            // Counted per header block, and by size: no budget over time.
            Flood::Continuation | Flood::UnsentAnswers => return None,
        })
    }
}

#[cfg(test)]
mod tests;
