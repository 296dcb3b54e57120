//! One HTTP/2 connection, either end of it: bytes in, events out, control bytes out.
//!
//! ```text
//!   socket ──bytes──▶ receive() ──Event──▶ driver            receive.rs  frames, their order and size
//!                        │                                   heads.rs    header blocks → requests, responses, ends
//!                        │                                   data.rs     DATA, in place
//!                        │                                   control.rs  SETTINGS PING GOAWAY WINDOW_UPDATE RST …
//!   socket ◀─bytes── output() ◀── open respond finish …      send.rs     what the driver asks for
//!   socket ◀─[header ‖ payload]── send()                     streams.rs  who is open, who was
//! ```
//! Not here: sockets, time, payload. DATA is handed out in the buffer it came in, and goes out as a nine-byte
//! header that the driver puts in front of its own bytes. The whole state is plain data.
//!
//! Floods are bounded by `limits.rs`, malformed streams are reset here without the driver's help, and a connection
//! error ends in `Err` with its GOAWAY already in the output. Driven by `proxy::tunnel`.

mod control;
mod data;
mod heads;
mod output;
mod receive;
mod send;
mod streams;

use std::collections::VecDeque;

use crate::connect::{RequestHead, ResponseHead};
use crate::error::{Error, ErrorCode};
use crate::flow::{DEFAULT_WINDOW, Growth, MAX_WINDOW, ReceiveWindow, SendWindow};
use crate::frame::{self, setting};
use crate::hpack;
use crate::limits::{Budgets, HEADER_TABLE, Limits};
use crate::pace::Pace;
use crate::stream::StreamId;
use output::Output;
use receive::{Block, Reading};
use streams::Streams;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Opens streams.
    Client,
    /// Answers them.
    Server,
}

/// What a connection is set up with; values of spec/dataplane.md §4.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which end we are.
    pub role: Role,
    /// A stream's receive window at first (SETTINGS_INITIAL_WINDOW_SIZE).
    pub stream_window: u32,
    /// What it may grow to, where it is what holds the peer back ([`Connection::tell_time`]).
    pub stream_window_max: u32,
    /// The connection's receive window: 4 of the largest stream windows, so that one reader that stalls leaves
    /// room for the others. Never below the protocol's 65,535.
    pub connection_window: u32,
    /// Largest frame we take (SETTINGS_MAX_FRAME_SIZE).
    pub max_frame_size: u32,
    /// Largest header list we take, counted with 32 on top of each field.
    pub max_header_list: u32,
    /// Server: how many streams a client may have open.
    pub max_concurrent_streams: Option<u32>,
    /// Client: how many streams to open before the server has said how many it takes.
    pub assumed_peer_streams: u32,
    /// What a peer may do before it is told ENHANCE_YOUR_CALM.
    pub limits: Limits,
}

impl Config {
    /// The opening side.
    pub fn client() -> Self {
        Self {
            role: Role::Client,
            stream_window: 262_144,
            stream_window_max: 4 << 20,
            connection_window: 16 << 20,
            max_frame_size: 1 << 20,
            max_header_list: 16_384,
            max_concurrent_streams: None,
            assumed_peer_streams: 100,
            limits: Limits::default(),
        }
    }

    /// The answering side.
    pub fn server() -> Self {
        Self {
            role: Role::Server,
            max_header_list: 65_536,
            max_concurrent_streams: Some(200),
            ..Self::client()
        }
    }

    fn clamped(mut self) -> Self {
        self.stream_window = self.stream_window.min(MAX_WINDOW);
        self.stream_window_max = self.stream_window_max.clamp(self.stream_window, MAX_WINDOW);
        self.connection_window = self.connection_window.clamp(DEFAULT_WINDOW, MAX_WINDOW);
        self.max_frame_size = self
            .max_frame_size
            .clamp(frame::DEFAULT_MAX_FRAME, frame::LARGEST_MAX_FRAME);
        self
    }

    fn settings(&self) -> Vec<(u16, u32)> {
        let mut settings = vec![
            (setting::INITIAL_WINDOW_SIZE, self.stream_window),
            (setting::MAX_FRAME_SIZE, self.max_frame_size),
            (setting::MAX_HEADER_LIST_SIZE, self.max_header_list),
        ];
        match (self.role, self.max_concurrent_streams) {
            (Role::Client, _) => settings.insert(0, (setting::ENABLE_PUSH, 0)),
            (Role::Server, Some(most)) => {
                settings.insert(0, (setting::MAX_CONCURRENT_STREAMS, most))
            }
            (Role::Server, None) => {}
        }
        settings
    }
}

/// Something the peer did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Server: a well-formed request of any method. `end`: nothing will follow it.
    Request {
        /// Its stream.
        stream: StreamId,
        /// What is asked.
        head: RequestHead,
        /// END_STREAM came with it; no `End` follows.
        end: bool,
    },
    /// Client: the final answer.
    Response {
        /// Its stream.
        stream: StreamId,
        /// The answer.
        head: ResponseHead,
        /// END_STREAM came with it; no `End` follows.
        end: bool,
    },
    /// Payload, where it lies in the input. Never empty. Every byte must be given to [`Connection::release`] once,
    /// also when it is thrown away.
    Data {
        /// Its stream.
        stream: StreamId,
        /// A piece of a frame, or all of it.
        bytes: &'a [u8],
    },
    /// The peer will send nothing more on this stream.
    End {
        /// The stream.
        stream: StreamId,
    },
    /// The stream is over at once, both ways.
    Reset {
        /// The stream.
        stream: StreamId,
        /// Why.
        code: ErrorCode,
        /// `Local`: the engine reset it for a mistake of the peer's. The driver's own resets are not reported.
        by: Side,
    },
    /// A window that was short of a frame (16 KiB) opened: of this stream, or of all (None).
    Sendable {
        /// The stream, or None for any.
        stream: Option<StreamId>,
    },
    /// Client: streams can be opened that could not before.
    StreamsAvailable,
    /// The peer takes no new streams. Client: every stream above `last` follows as `Reset` with REFUSED_STREAM and
    /// may be tried again elsewhere.
    GoAway {
        /// The last stream the peer has or might have acted on.
        last: StreamId,
        /// Why.
        code: ErrorCode,
        /// What the peer says of it, for the log; peer's text, at most 256 bytes.
        debug: String,
    },
    /// The answer to our ping.
    Pong {
        /// What we sent.
        payload: [u8; 8],
    },
    /// The peer's first SETTINGS arrived: it speaks HTTP/2.
    Ready,
}

/// Who reset a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We did.
    Local,
    /// The peer did.
    Remote,
}

/// What one call of [`Connection::receive`] made of its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Bytes taken from the front of the input.
    pub consumed: usize,
    /// What they meant. None: the whole input was taken and nothing is left to report.
    pub event: Option<Event<'a>>,
}

/// One HTTP/2 connection.
#[derive(Clone, Debug)]
pub struct Connection {
    config: Config,
    failed: Option<Error>,
    /// Our farewell.
    leaving: Leaving,
    /// The peer's farewell: the last stream it acts on.
    peer_leaving: Option<u32>,
    peer: PeerSettings,
    /// Our SETTINGS that the peer has not acknowledged yet.
    settings_unacknowledged: u32,
    reading: Reading,
    /// A frame header or payload that has come in part; never DATA.
    partial: Vec<u8>,
    /// A header block whose CONTINUATION is still to come.
    block: Option<Block>,
    /// What there is to report beyond the one event that `receive` returns. Bounded by the open streams.
    events: VecDeque<Event<'static>>,
    streams: Streams,
    decoder: hpack::Decoder,
    encoder: hpack::Encoder,
    send_window: SendWindow,
    receive_window: ReceiveWindow,
    /// What streams may still add to their windows.
    growth: Growth,
    budgets: Budgets,
    /// How far away the peer is.
    pace: Pace,
    /// Our pings that wait for their answers.
    pings: VecDeque<[u8; 8]>,
    output: Output,
}

impl Connection {
    /// A connection whose first bytes (preface, SETTINGS, window) wait in [`Self::output`].
    pub fn new(config: Config) -> Self {
        let config = config.clamped();
        let mut output = Output::default();
        let out = output.bytes();
        let reading = match config.role {
            Role::Client => {
                out.extend_from_slice(frame::PREFACE);
                Reading::Header
            }
            Role::Server => Reading::Preface { matched: 0 },
        };
        frame::settings(out, &config.settings());
        if config.connection_window > DEFAULT_WINDOW {
            frame::window_update(out, 0, config.connection_window - DEFAULT_WINDOW);
        }
        Self {
            failed: None,
            leaving: Leaving::No,
            peer_leaving: None,
            peer: PeerSettings::default(),
            settings_unacknowledged: 1,
            reading,
            partial: Vec::new(),
            block: None,
            events: VecDeque::new(),
            streams: Streams::new(config.role),
            decoder: hpack::Decoder::new(HEADER_TABLE as usize),
            encoder: hpack::Encoder::new(),
            send_window: SendWindow::new(DEFAULT_WINDOW),
            receive_window: ReceiveWindow::new(config.connection_window, config.connection_window),
            growth: Growth::of(config.connection_window),
            budgets: Budgets::new(config.limits.clone()),
            pace: Pace::default(),
            pings: VecDeque::new(),
            output,
            config,
        }
    }

    /// Takes a prefix of `input` and reports at most one event; call again with the rest until there is none.
    ///
    /// Also gives what calls like [`Self::reset`] left to report, so an empty input can have events.
    ///
    /// # Errors
    /// The connection is over and its GOAWAY is in [`Self::output`]. Every later call returns the same.
    pub fn receive<'a>(&mut self, input: &'a [u8]) -> Result<Received<'a>, Error> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let mut consumed = 0;
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Received {
                    consumed,
                    event: Some(event),
                });
            }
            let rest = &input[consumed..];
            if rest.is_empty() {
                return Ok(Received {
                    consumed,
                    event: None,
                });
            }
            match self.step(rest) {
                Ok((taken, None)) => consumed += taken,
                Ok((taken, event)) => {
                    return Ok(Received {
                        consumed: consumed + taken,
                        event,
                    });
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    /// Whether the peer has begun a frame (other than DATA) or a header block and not finished it. A peer may pause
    /// between frames for as long as it likes, but not here: whoever has a clock bounds it.
    pub fn awaits_rest(&self) -> bool {
        // DATA is the one kind of frame that may come as slowly as its application speaks.
        let within = matches!(
            self.reading,
            Reading::Payload { .. } | Reading::PadLength { .. } | Reading::Skip { .. }
        );
        within || self.block.is_some() || !self.partial.is_empty()
    }

    /// Control bytes to send, in order, before anything that [`Self::send`] announces.
    ///
    /// To be taken as fast as the socket takes them and no faster: what waits here is bounded, what a driver hoards
    /// is not.
    pub fn output(&self) -> &[u8] {
        self.output.unsent()
    }

    /// The first `n` bytes of [`Self::output`] are on their way.
    pub fn output_sent(&mut self, n: usize) {
        self.output.sent(n);
    }

    /// Streams that are open now, at least in one direction.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether [`Self::open`] would succeed.
    pub fn can_open(&self) -> bool {
        self.check_open().is_ok()
    }

    /// How many streams the server lets us have open.
    pub fn peer_stream_limit(&self) -> usize {
        let limit = if self.peer.ready {
            self.peer.max_streams
        } else {
            Some(self.config.assumed_peer_streams)
        };
        limit.map_or(usize::MAX, |limit| limit as usize)
    }

    /// Whether either side has said GOAWAY, or the connection failed.
    pub fn is_going_away(&self) -> bool {
        self.failed.is_some() || self.leaving != Leaving::No || self.peer_leaving.is_some()
    }

    /// Whether the peer may not have read yet that we take no new streams, so that requests are on their way: after
    /// [`Self::shut_down`] of a server, until the peer has answered it.
    pub fn awaits_farewell(&self) -> bool {
        self.failed.is_none() && self.leaving == Leaving::Announced
    }

    /// Which end we are.
    pub fn role(&self) -> Role {
        self.config.role
    }

    /// The last stream of the peer's that we act on; never more than an earlier GOAWAY said.
    fn last_taken(&self) -> u32 {
        match self.leaving {
            Leaving::Final { last } => last,
            Leaving::No | Leaving::Announced => self.streams.last_peer(),
        }
    }

    /// Ends the connection for good: GOAWAY with the reason, then the same error for ever.
    fn fail(&mut self, error: Error) -> Error {
        let last = self.last_taken();
        frame::go_away(
            self.output.bytes(),
            last,
            error.code,
            &error.reason.to_string(),
        );
        self.streams = Streams::new(self.config.role);
        self.events.clear();
        self.partial = Vec::new();
        self.block = None;
        self.failed = Some(error.clone());
        error
    }
}

/// What the peer has announced; before that, what RFC 9113 §6.5.2 assumes.
#[derive(Clone, Debug)]
struct PeerSettings {
    /// The first SETTINGS arrived.
    ready: bool,
    initial_window: u32,
    max_frame: u32,
    max_streams: Option<u32>,
}

impl Default for PeerSettings {
    fn default() -> Self {
        Self {
            ready: false,
            initial_window: DEFAULT_WINDOW,
            max_frame: frame::DEFAULT_MAX_FRAME,
            max_streams: None,
        }
    }
}

/// How far our own farewell is (RFC 9113 §6.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    /// GOAWAY with the highest stream and a PING are out: requests still on their way are taken.
    Announced,
    /// GOAWAY with the last stream is out: requests above it are ignored.
    Final {
        last: u32,
    },
}

#[cfg(test)]
mod tests;
