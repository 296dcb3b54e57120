//! Two engines and the wire between them, in memory.
//!
//! A `Peer` is an engine with the few lines of driver that every driver needs; a `Pair` is a client and a server.
//! What a peer heard is kept as owned `Heard`, with neighbouring DATA joined, so that it does not depend on how the
//! bytes were cut.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each test file uses its own part"
)]

use hbone::{
    Config, Connection, Error, ErrorCode, Event, Fields, RequestHead, ResponseHead, Side, StreamId,
};

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    Request(u32, RequestHead, bool),
    Response(u32, ResponseHead, bool),
    Data(u32, Vec<u8>),
    End(u32),
    Reset(u32, ErrorCode, Side),
    Sendable(Option<u32>),
    StreamsAvailable,
    GoAway(u32, ErrorCode, String),
    Pong([u8; 8]),
    Ready,
}

impl From<Event<'_>> for Heard {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::Request { stream, head, end } => Self::Request(stream.value(), head, end),
            Event::Response { stream, head, end } => Self::Response(stream.value(), head, end),
            Event::Data { stream, bytes } => Self::Data(stream.value(), bytes.to_vec()),
            Event::End { stream } => Self::End(stream.value()),
            Event::Reset { stream, code, by } => Self::Reset(stream.value(), code, by),
            Event::Sendable { stream } => Self::Sendable(stream.map(StreamId::value)),
            Event::StreamsAvailable => Self::StreamsAvailable,
            Event::GoAway { last, code, debug } => Self::GoAway(last.value(), code, debug),
            Event::Pong { payload } => Self::Pong(payload),
            Event::Ready => Self::Ready,
        }
    }
}

/// An engine, what it heard, and what it has to say.
#[derive(Clone, Debug)]
pub struct Peer {
    pub engine: Connection,
    pub heard: Vec<Heard>,
    pub wire: Vec<u8>,
    pub failed: Option<Error>,
    /// Whether DATA is released as soon as it is heard.
    pub reads: bool,
    ids: Vec<StreamId>,
}

impl Peer {
    pub fn new(config: Config) -> Self {
        Self {
            engine: Connection::new(config),
            heard: Vec::new(),
            wire: Vec::new(),
            failed: None,
            reads: true,
            ids: Vec::new(),
        }
    }

    pub fn open(&mut self, authority: &str) -> StreamId {
        let id = self
            .engine
            .open(&connect(authority))
            .expect("a stream can be opened");
        self.ids.push(id);
        id
    }

    /// The handle of a stream that was opened or heard of.
    pub fn id(&self, number: u32) -> StreamId {
        *self
            .ids
            .iter()
            .rev()
            .find(|id| id.value() == number)
            .expect("a known stream")
    }

    /// Sends what the windows let go, in frames as large as allowed; says how much that was.
    pub fn write(&mut self, stream: StreamId, bytes: &[u8], end: bool) -> usize {
        let mut sent = 0;
        while sent < bytes.len() {
            let len = (bytes.len() - sent)
                .min(self.engine.sendable(stream))
                .min(self.engine.max_data());
            if len == 0 {
                break;
            }
            let last = end && sent + len == bytes.len();
            let header = self
                .engine
                .send(stream, len, last)
                .expect("within the window");
            self.flush();
            self.wire.extend_from_slice(&header);
            self.wire.extend_from_slice(&bytes[sent..sent + len]);
            sent += len;
        }
        sent
    }

    pub fn flush(&mut self) {
        let n = self.engine.output().len();
        self.wire.extend_from_slice(self.engine.output());
        self.engine.output_sent(n);
    }

    pub fn take_wire(&mut self) -> Vec<u8> {
        self.flush();
        std::mem::take(&mut self.wire)
    }

    /// Takes bytes from the wire, as one piece.
    pub fn hear(&mut self, mut input: &[u8]) {
        loop {
            let received = match self.engine.receive(input) {
                Ok(received) => received,
                Err(error) => {
                    self.failed = Some(error);
                    return;
                }
            };
            input = &input[received.consumed..];
            let Some(event) = received.event else {
                assert!(input.is_empty(), "no event, so everything was consumed");
                return;
            };
            self.note(event);
        }
    }

    fn note(&mut self, event: Event<'_>) {
        match &event {
            Event::Request { stream, .. } => self.ids.push(*stream),
            Event::Data { bytes: [], .. } => panic!("DATA is never empty"),
            Event::Data { stream, bytes } if self.reads => {
                self.engine.release(*stream, bytes.len())
            }
            _ => {}
        }
        let heard = Heard::from(event);
        if let (Heard::Data(stream, more), Some(Heard::Data(before, bytes))) =
            (&heard, self.heard.last_mut())
            && stream == before
        {
            bytes.extend_from_slice(more);
        } else {
            self.heard.push(heard);
        }
    }

    /// What was heard since the last time.
    pub fn news(&mut self) -> Vec<Heard> {
        std::mem::take(&mut self.heard)
    }

    /// All bytes heard on a stream.
    pub fn bytes_of(&self, stream: u32) -> Vec<u8> {
        let pieces = self.heard.iter().filter_map(|heard| match heard {
            Heard::Data(id, bytes) if *id == stream => Some(bytes.as_slice()),
            _ => None,
        });
        pieces.flatten().copied().collect()
    }
}

/// How the wire cuts its bytes.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Whole,
    Into(usize),
    /// Pieces of changing size, from a seed.
    Random(u64),
}

#[derive(Clone, Debug)]
pub struct Pair {
    pub client: Peer,
    pub server: Peer,
    /// How long bytes are on their way, microseconds; no clock runs while it is 0.
    pub one_way: u64,
    now: u64,
    cut: Cut,
}

impl Pair {
    pub fn new(cut: Cut) -> Self {
        Self::with(Config::client(), Config::server(), cut)
    }

    pub fn with(client: Config, server: Config, cut: Cut) -> Self {
        Self {
            client: Peer::new(client),
            server: Peer::new(server),
            one_way: 0,
            now: 0,
            cut,
        }
    }

    /// Prefaces and SETTINGS exchanged.
    pub fn ready(cut: Cut) -> Self {
        let mut pair = Self::new(cut);
        pair.run();
        assert_eq!(pair.client.news()[0], Heard::Ready);
        assert_eq!(pair.server.news()[0], Heard::Ready);
        pair
    }

    /// A tunnel through which bytes can flow.
    pub fn tunnel(&mut self) -> (StreamId, StreamId) {
        let ours = self.client.open("10.0.0.7:8080");
        self.run();
        let theirs = self.server.id(ours.value());
        self.server
            .engine
            .respond(theirs, &ResponseHead::status(200), false)
            .unwrap();
        self.run();
        self.client.news();
        self.server.news();
        (ours, theirs)
    }

    /// Carries bytes both ways until nobody has anything to say.
    pub fn run(&mut self) {
        loop {
            let (up, down) = (self.client.take_wire(), self.server.take_wire());
            if up.is_empty() && down.is_empty() {
                return;
            }
            self.pass(self.one_way);
            self.cut.carry(&up, &mut self.server);
            self.cut.carry(&down, &mut self.client);
        }
    }

    /// Lets time go by, microseconds.
    pub fn pass(&mut self, time: u64) {
        self.now += time;
        for peer in [&mut self.client, &mut self.server] {
            peer.engine.tell_time(self.now);
        }
    }

    /// Sends all of `bytes` up, however often the window closes.
    pub fn upload(&mut self, stream: StreamId, mut bytes: &[u8], end: bool) {
        while !bytes.is_empty() {
            let sent = self.client.write(stream, bytes, end);
            assert!(sent > 0, "the window opens again while the server reads");
            bytes = &bytes[sent..];
            self.run();
        }
    }
}

impl Cut {
    pub fn carry(&mut self, mut bytes: &[u8], to: &mut Peer) {
        while !bytes.is_empty() {
            let size = match self {
                Self::Whole => bytes.len(),
                Self::Into(size) => *size,
                Self::Random(seed) => {
                    *seed ^= *seed << 13;
                    *seed ^= *seed >> 7;
                    *seed ^= *seed << 17;
                    (*seed % 23) as usize * (*seed % 41) as usize + 1
                }
            };
            let (piece, rest) = bytes.split_at(size.min(bytes.len()));
            to.hear(piece);
            bytes = rest;
        }
    }
}

pub const CUTS: [Cut; 4] = [Cut::Whole, Cut::Into(1), Cut::Into(7), Cut::Random(0x5eed)];

pub fn connect(authority: &str) -> RequestHead {
    let fields = Fields::new()
        .with(
            "baggage",
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=default",
        )
        .with("forwarded", "for=\"10.0.0.1:4711\"")
        .with(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        );
    RequestHead::connect(authority, fields)
}

/// Bytes that differ from place to place.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect()
}

/// A frame as bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The frames in some bytes: kind, flags, stream, payload.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    bytes = bytes.strip_prefix(preface).unwrap_or(bytes);
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let length = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        frames.push((bytes[3], bytes[4], stream, bytes[9..9 + length].to_vec()));
        bytes = &bytes[9 + length..];
    }
    assert!(bytes.is_empty(), "whole frames only");
    frames
}

/// A header block that leaves no trace in any table.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    use hbone::hpack::{Encoder, Index};
    let mut encoder = Encoder::new();
    let mut out = Vec::new();
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), Index::Plain, &mut out);
    }
    out
}

/// A CONNECT in one HEADERS frame; `flags` 4 is END_HEADERS, 5 END_STREAM too.
pub fn connect_frame(stream: u32, flags: u8) -> Vec<u8> {
    let block = block(&[(":method", "CONNECT"), (":authority", "10.0.0.7:80")]);
    frame(1, flags, stream, &block)
}

/// A server whose client has sent its preface and SETTINGS.
pub fn server() -> Peer {
    let mut server = Peer::new(Config::server());
    server.hear(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    server.hear(&frame(4, 0, 0, &[]));
    server.take_wire();
    assert_eq!(server.news(), [Heard::Ready]);
    server
}

/// A client whose server has sent its SETTINGS.
pub fn client() -> Peer {
    let mut client = Peer::new(Config::client());
    client.hear(&frame(4, 0, 0, &[]));
    client.take_wire();
    assert_eq!(client.news(), [Heard::Ready, Heard::StreamsAvailable]);
    client
}
