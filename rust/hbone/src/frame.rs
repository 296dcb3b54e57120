//! Frames as bytes (RFC 9113 §4, §6): nine bytes of header, and the payloads we write ourselves.
//!
//! Knows nothing of streams' states or windows; `connection/receive.rs` reads with it, `connection/send.rs` writes.

use crate::error::ErrorCode;

/// Length of a frame header.
pub(crate) const HEADER: usize = 9;
/// The client's first bytes (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame size every peer takes before it says otherwise (RFC 9113 §6.5.2).
pub(crate) const DEFAULT_MAX_FRAME: u32 = 16_384;
/// Largest frame size a peer may announce (RFC 9113 §6.5.2).
pub(crate) const LARGEST_MAX_FRAME: u32 = (1 << 24) - 1;
/// Highest stream number, and the mask of the reserved bit (RFC 9113 §4.1).
pub(crate) const MAX_STREAM: u32 = (1 << 31) - 1;

/// Frame flags; one bit has several names, depending on the kind of frame.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
    pub(crate) const PADDED: u8 = 0x8;
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Identifiers of RFC 9113 §6.5.2.
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const ENABLE_PUSH: u16 = 2;
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
    pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Data,
    Headers,
    Priority,
    RstStream,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown(u8),
}

impl Kind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Data => 0,
            Self::Headers => 1,
            Self::Priority => 2,
            Self::RstStream => 3,
            Self::Settings => 4,
            Self::PushPromise => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::WindowUpdate => 8,
            Self::Continuation => 9,
            Self::Unknown(code) => code,
        }
    }
}

impl From<u8> for Kind {
    fn from(code: u8) -> Self {
        match code {
            0 => Self::Data,
            1 => Self::Headers,
            2 => Self::Priority,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::PushPromise,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::WindowUpdate,
            9 => Self::Continuation,
            other => Self::Unknown(other),
        }
    }
}

/// The nine bytes in front of every payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) length: u32,
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        Self {
            length: u32::from_be_bytes([0, l0, l1, l2]),
            kind: Kind::from(kind),
            flags,
            // The reserved bit is ignored on receipt (RFC 9113 §4.1).
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & MAX_STREAM,
        }
    }

    pub(crate) fn encode(self) -> [u8; HEADER] {
        debug_assert!(self.length <= LARGEST_MAX_FRAME, "length has 24 bits");
        let [_, l0, l1, l2] = self.length.to_be_bytes();
        let [s0, s1, s2, s3] = self.stream.to_be_bytes();
        [l0, l1, l2, self.kind.code(), self.flags, s0, s1, s2, s3]
    }

    pub(crate) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Header of a DATA frame whose payload the caller writes.
pub(crate) fn data_header(stream: u32, length: u32, end: bool) -> [u8; HEADER] {
    let flags = if end { flag::END_STREAM } else { 0 };
    FrameHeader {
        length,
        kind: Kind::Data,
        flags,
        stream,
    }
    .encode()
}

pub(crate) fn settings(out: &mut Vec<u8>, values: &[(u16, u32)]) {
    let length = u32::try_from(values.len() * 6).expect("a handful of settings");
    put(out, length, Kind::Settings, 0, 0);
    for (id, value) in values {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

pub(crate) fn settings_ack(out: &mut Vec<u8>) {
    put(out, 0, Kind::Settings, flag::ACK, 0);
}

pub(crate) fn ping(out: &mut Vec<u8>, payload: [u8; 8], ack: bool) {
    put(out, 8, Kind::Ping, if ack { flag::ACK } else { 0 }, 0);
    out.extend_from_slice(&payload);
}

pub(crate) fn rst_stream(out: &mut Vec<u8>, stream: u32, code: ErrorCode) {
    put(out, 4, Kind::RstStream, 0, stream);
    out.extend_from_slice(&u32::from(code).to_be_bytes());
}

pub(crate) fn window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put(out, 4, Kind::WindowUpdate, 0, stream);
    out.extend_from_slice(&increment.to_be_bytes());
}

/// `debug` is cut to what fits the smallest frame size a peer may have.
pub(crate) fn go_away(out: &mut Vec<u8>, last: u32, code: ErrorCode, debug: &str) {
    let debug = &debug.as_bytes()[..debug.len().min(DEFAULT_MAX_FRAME as usize - 8)];
    put(out, 8 + debug.len() as u32, Kind::GoAway, 0, 0);
    out.extend_from_slice(&last.to_be_bytes());
    out.extend_from_slice(&u32::from(code).to_be_bytes());
    out.extend_from_slice(debug);
}

/// One header block as HEADERS and as many CONTINUATION frames as the peer's frame size asks for.
pub(crate) fn headers(out: &mut Vec<u8>, stream: u32, block: &[u8], end: bool, max_frame: u32) {
    let mut kind = Kind::Headers;
    let mut flags = if end { flag::END_STREAM } else { 0 };
    let mut rest = block;
    loop {
        let (piece, behind) = rest.split_at(rest.len().min(max_frame as usize));
        if behind.is_empty() {
            flags |= flag::END_HEADERS;
        }
        put(out, piece.len() as u32, kind, flags, stream);
        out.extend_from_slice(piece);
        if behind.is_empty() {
            return;
        }
        (kind, flags, rest) = (Kind::Continuation, 0, behind);
    }
}

/// The settings of one SETTINGS payload, whose length is a multiple of six.
pub(crate) fn read_settings(payload: &[u8]) -> impl Iterator<Item = (u16, u32)> + '_ {
    payload.chunks_exact(6).map(|s| {
        (
            u16::from_be_bytes([s[0], s[1]]),
            u32::from_be_bytes([s[2], s[3], s[4], s[5]]),
        )
    })
}

/// The four bytes at `at` of a payload whose length was checked.
pub(crate) fn read_u32(payload: &[u8], at: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&payload[at..at + 4]);
    u32::from_be_bytes(bytes)
}

fn put(out: &mut Vec<u8>, length: u32, kind: Kind, flags: u8, stream: u32) {
    out.extend_from_slice(
        &FrameHeader {
            length,
            kind,
            flags,
            stream,
        }
        .encode(),
    );
}

#[cfg(test)]
mod tests;
