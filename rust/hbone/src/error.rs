//! What can go wrong, whose fault it was, and what the peer is told.
//!
//! ```text
//! Error      the connection is over        (fault, code for GOAWAY, reason for the log)
//! OpenError  no new stream can be opened   (the caller tries another connection)
//! UseError   the caller asked for something this stream cannot do
//! ```
//! A malformed stream is none of these: the engine resets it and reports `Event::Reset { by: Side::Local }`.

use thiserror::Error;

use crate::hpack;
use crate::limits::Flood;

/// The connection is over: a GOAWAY with `code` is in the output, nothing else will be accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("http/2 {}: {reason} ({code})", match fault { Fault::Local => "gave up", Fault::Remote => "peer misbehaved" })]
pub struct Error {
    /// Whose fault it was.
    pub fault: Fault,
    /// What the peer is told.
    pub code: ErrorCode,
    /// What the operator is told.
    pub reason: Reason,
}

impl Error {
    pub(crate) fn remote(code: ErrorCode, reason: Reason) -> Self {
        Self {
            fault: Fault::Remote,
            code,
            reason,
        }
    }

    pub(crate) fn protocol(reason: Reason) -> Self {
        Self::remote(ErrorCode::ProtocolError, reason)
    }

    pub(crate) fn flood(flood: Flood) -> Self {
        Self::remote(ErrorCode::EnhanceYourCalm, Reason::Flood(flood))
    }
}

/// Whose fault an end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Ours.
    Local,
    /// The peer's.
    Remote,
}

/// Why a connection ended.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    /// A header block did not decode (RFC 7541).
    #[error("{0}")]
    Compression(hpack::Error),
    /// HEADERS or CONTINUATION out of order (RFC 9113 §4.3, §6.10).
    #[error("a header block was interrupted or never begun")]
    ContinuationOrder,
    /// Too much of something that brings nothing forward.
    #[error("{0} flood")]
    Flood(Flood),
    /// More DATA than the window allowed (RFC 9113 §6.9.1).
    #[error("data past the flow-control window")]
    FlowControl,
    /// A frame's length does not fit its kind, or passes our MAX_FRAME_SIZE (RFC 9113 §4.2).
    #[error("frame of {length} bytes, kind {kind:#04x}, has a length that is not allowed")]
    FrameSize {
        /// Frame type on the wire.
        kind: u8,
        /// Payload length on the wire.
        length: u32,
    },
    /// A GOAWAY raised the last stream of an earlier one (RFC 9113 §6.8).
    #[error("GOAWAY raised its last stream")]
    GoAwayRaised,
    /// A frame on a stream that nobody opened (RFC 9113 §5.1).
    #[error("frame on idle stream {0}")]
    IdleStream(u32),
    /// The first bytes are not an HTTP/2 preface (RFC 9113 §3.4).
    #[error("not HTTP/2: no connection preface")]
    NotHttp2,
    /// Padding as long as the frame or longer (RFC 9113 §6.1).
    #[error("padding longer than the frame")]
    Padding,
    /// PUSH_PROMISE: as client we turned it off, to a server it is never allowed (RFC 9113 §8.4).
    #[error("PUSH_PROMISE is not allowed")]
    Push,
    /// A PRIORITY makes an idle stream depend on itself (RFC 7540 §5.3.1).
    #[error("stream {0} depends on itself")]
    SelfDependency(u32),
    /// A setting holds a value that is not allowed (RFC 9113 §6.5.2).
    #[error("setting {id:#06x} has value {value}")]
    Setting {
        /// Setting identifier on the wire.
        id: u16,
        /// Its value.
        value: u32,
    },
    /// SETTINGS acknowledgements nobody waits for.
    #[error("acknowledged settings that were never sent")]
    SettingsAck,
    /// A frame for a stream on stream 0, or for the connection on another (RFC 9113 §6).
    #[error("frame kind {kind:#04x} is not allowed on stream {stream}")]
    StreamZero {
        /// Frame type on the wire.
        kind: u8,
        /// Stream on the wire.
        stream: u32,
    },
    /// A frame on a stream both sides had ended (RFC 9113 §5.1).
    #[error("frame on closed stream {0}")]
    StreamClosed(u32),
    /// A request on a stream number that was passed over or used before (RFC 9113 §5.1.1).
    #[error("stream {0} is opened out of order")]
    StreamOrder(u32),
    /// A window grown past 2^31-1 (RFC 9113 §6.9.1).
    #[error("flow-control window overflow")]
    WindowOverflow,
    /// WINDOW_UPDATE of nothing on the connection (RFC 9113 §6.9).
    #[error("WINDOW_UPDATE of zero")]
    WindowUpdateZero,
}

/// No stream can be opened on this connection now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum OpenError {
    /// The connection is over.
    #[error("connection is closed")]
    Closed,
    /// Every stream number is used up; take a new connection.
    #[error("stream numbers are used up")]
    Exhausted,
    /// The peer's limit is reached; `Event::StreamsAvailable` will say when it is not.
    #[error("the peer's limit of concurrent streams is reached")]
    Full,
    /// One side said GOAWAY; take a new connection.
    #[error("connection is going away")]
    GoingAway,
}

/// The caller asked for something that this stream cannot do now.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum UseError {
    /// The connection is over.
    #[error("connection is closed")]
    Closed,
    /// More than the peer's frame size, or nothing at all.
    #[error("a DATA frame of {0} bytes is not allowed")]
    FrameSize(usize),
    /// The stream ended, was reset, or never was.
    #[error("no such stream")]
    NoStream,
    /// Not answered yet, answered twice, or already ended by us.
    #[error("stream is not writable in this state")]
    NotWritable,
    /// More than `sendable` said.
    #[error("{len} bytes exceed the window of {sendable}")]
    Window {
        /// What was asked.
        len: usize,
        /// What the windows let go.
        sendable: usize,
    },
}

/// Error codes of RFC 9113 §7, total over `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 0x0
    NoError,
    /// 0x1
    ProtocolError,
    /// 0x2
    InternalError,
    /// 0x3
    FlowControlError,
    /// 0x4
    SettingsTimeout,
    /// 0x5
    StreamClosed,
    /// 0x6
    FrameSizeError,
    /// 0x7
    RefusedStream,
    /// 0x8
    Cancel,
    /// 0x9
    CompressionError,
    /// 0xa
    ConnectError,
    /// 0xb
    EnhanceYourCalm,
    /// 0xc
    InadequateSecurity,
    /// 0xd
    Http11Required,
    /// A code no RFC names; treated like INTERNAL_ERROR by those who care (RFC 9113 §7).
    Unknown(u32),
}

impl ErrorCode {
    const NAMED: [(Self, &'static str); 14] = [
        (Self::NoError, "NO_ERROR"),
        (Self::ProtocolError, "PROTOCOL_ERROR"),
        (Self::InternalError, "INTERNAL_ERROR"),
        (Self::FlowControlError, "FLOW_CONTROL_ERROR"),
        (Self::SettingsTimeout, "SETTINGS_TIMEOUT"),
        (Self::StreamClosed, "STREAM_CLOSED"),
        (Self::FrameSizeError, "FRAME_SIZE_ERROR"),
        (Self::RefusedStream, "REFUSED_STREAM"),
        (Self::Cancel, "CANCEL"),
        (Self::CompressionError, "COMPRESSION_ERROR"),
        (Self::ConnectError, "CONNECT_ERROR"),
        (Self::EnhanceYourCalm, "ENHANCE_YOUR_CALM"),
        (Self::InadequateSecurity, "INADEQUATE_SECURITY"),
        (Self::Http11Required, "HTTP_1_1_REQUIRED"),
    ];
}

impl From<u32> for ErrorCode {
    fn from(value: u32) -> Self {
        usize::try_from(value)
            .ok()
            .and_then(|index| Self::NAMED.get(index))
            .map_or(Self::Unknown(value), |(code, _)| *code)
    }
}

impl From<ErrorCode> for u32 {
    fn from(code: ErrorCode) -> Self {
        if let ErrorCode::Unknown(value) = code {
            return value;
        }
        let index = ErrorCode::NAMED
            .iter()
            .position(|(named, _)| *named == code);
        // Every variant but Unknown stands in NAMED at its own number (tested).
        Self::try_from(index.unwrap_or(2)).unwrap_or(2)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(value) => write!(out, "code {value:#x}"),
            named => {
                let index = u32::from(*named) as usize;
                out.write_str(Self::NAMED[index].1)
            }
        }
    }
}

#[cfg(test)]
mod tests;
