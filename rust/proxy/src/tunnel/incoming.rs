//! What has come for a tunnel: decrypted where it lies, told to the engine, handed to streams and their applications.
//!
//! Not here: reading the socket (`driver.rs`), and what is held for an application that is slow (`slot.rs`). Counterpart:
//! `outgoing.rs`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;

use hbone::{Connection, Event, StreamId, StreamMap};

use super::slot::{Slot, StreamEnd};
use super::state::{Phase, Request, State, TunnelEnd, Wire};

impl State {
    /// Takes bytes from the socket. Returns how many were used; the rest is the start of a record.
    pub(super) fn ingest(&mut self, incoming: &mut [u8]) -> Result<usize, TunnelEnd> {
        self.wire.tell_time();
        let now = self.wire.now();
        self.wire.heard = now;
        let contested = self.wire.sharing.is_contested(now);
        self.wire.engine.contest(contested);
        let mut pieces = PIECES.take();
        let outcome = self.decrypt(incoming, &mut pieces);
        // What came before a failure is delivered all the same.
        self.deliver(incoming, &pieces);
        pieces.clear();
        pieces.shrink_to(PIECES_KEPT);
        PIECES.set(pieces);
        let (used, ready) = outcome?;
        if matches!(self.phase, Phase::Handshake) && !self.wire.tls.is_handshaking() {
            self.phase = Phase::Preface;
            self.established = true;
            self.wake_watchers();
        }
        if ready {
            self.phase = Phase::Open;
        }
        Ok(used)
    }

    /// Decrypts and parses `incoming` where it lies; notes in `pieces` where payload lies.
    fn decrypt(
        &mut self,
        incoming: &mut [u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<(usize, bool), TunnelEnd> {
        let Wire {
            engine,
            tls,
            outgoing,
            ..
        } = &mut self.wire;
        let mut streams = Streams {
            engine,
            slots: &mut self.slots,
            requests: &mut self.requests,
            pong: &mut self.pong,
            ready: false,
            pieces,
            start: incoming.as_ptr().addr(),
        };
        let (mut failure, mut records) = (None, Vec::new());
        let used = tls.receive(incoming, &mut records, &mut |plaintext: &[u8]| {
            if failure.is_none() {
                failure = streams.receive(plaintext).err();
            }
        });
        let ready = streams.ready;
        // The alert, too, if it failed.
        outgoing.put_sealed(&records);
        let used = used.map_err(TunnelEnd::Tls)?;
        match failure {
            Some(error) => Err(TunnelEnd::Http2(error)),
            None => Ok((used, ready)),
        }
    }

    /// Gives payload to its applications: all that one stream has in a row in one system call.
    fn deliver(&mut self, incoming: &[u8], pieces: &[Piece]) {
        let now = self.wire.now();
        for run in pieces.chunk_by(|one, next| one.stream == next.stream) {
            for run in run.chunks(PIECES_PER_WRITE) {
                let stream = run[0].stream;
                let mut slices = [IoSlice::new(&[]); PIECES_PER_WRITE];
                for (slice, piece) in slices.iter_mut().zip(run) {
                    *slice = IoSlice::new(&incoming[piece.bytes.clone()]);
                }
                let bytes = run.iter().map(|piece| piece.bytes.len()).sum();
                let gone = match self.slots.get_mut(&stream) {
                    Some(slot) => {
                        slot.habit.saw(bytes);
                        self.wire.sharing.saw(stream, slot.habit, now);
                        slot.offer(&slices[..run.len()])
                    }
                    None => bytes,
                };
                self.wire.engine.release(stream, gone);
            }
        }
    }
}

/// The part of the state that decrypted bytes touch, apart from the session that decrypts them.
struct Streams<'s> {
    engine: &'s mut Connection,
    slots: &'s mut StreamMap<Slot>,
    requests: &'s mut VecDeque<Request>,
    pong: &'s mut bool,
    ready: bool,
    pieces: &'s mut Vec<Piece>,
    /// Where the buffer begins that everything is decrypted in.
    start: usize,
}

/// Payload of one stream in the buffer it came in.
struct Piece {
    stream: StreamId,
    bytes: Range<usize>,
}

/// One system call takes so many; a read of 256 KiB has sixteen records of bulk.
const PIECES_PER_WRITE: usize = 20;
/// Small messages of many streams make many pieces; more than these are not kept room for.
const PIECES_KEPT: usize = 1024;

thread_local! {
    static PIECES: RefCell<Vec<Piece>> = const { RefCell::new(Vec::new()) };
}

impl Streams<'_> {
    fn receive(&mut self, mut plaintext: &[u8]) -> Result<(), hbone::Error> {
        loop {
            let received = self.engine.receive(plaintext)?;
            plaintext = &plaintext[received.consumed..];
            match received.event {
                Some(event) => self.handle(event),
                None => return Ok(()),
            }
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        match event {
            Event::Data { stream, bytes } => {
                let from = bytes.as_ptr().addr() - self.start;
                self.pieces.push(Piece {
                    stream,
                    bytes: from..from + bytes.len(),
                });
            }
            Event::Request { stream, head, end } => {
                let slot = self.slots.entry(stream).or_default();
                slot.finished = end;
                self.requests.push_back(Request { stream, head });
            }
            Event::Response { stream, head, end } => self.with(stream, |slot| {
                slot.response = Some(Box::new(head));
                slot.finished = end;
                slot.wake_reader();
            }),
            Event::End { stream } => self.with(stream, |slot| {
                slot.finished = true;
                slot.wake_reader();
            }),
            Event::Reset { stream, code, .. } => {
                self.with(stream, |slot| slot.cut(StreamEnd::Reset(code)));
            }
            Event::Sendable {
                stream: Some(stream),
            } => self.with(stream, Slot::wake_writer),
            Event::Sendable { stream: None } => {
                self.slots.values_mut().for_each(Slot::wake_writer);
            }
            Event::Pong { .. } => *self.pong = true,
            Event::Ready => self.ready = true,
            Event::StreamsAvailable | Event::GoAway { .. } => {}
        }
    }

    fn with(&mut self, stream: StreamId, change: impl FnOnce(&mut Slot)) {
        if let Some(slot) = self.slots.get_mut(&stream) {
            change(slot);
        }
    }
}
