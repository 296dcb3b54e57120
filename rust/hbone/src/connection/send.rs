//! What the driver asks for: streams, answers, payload, ends, credit, farewells.

use super::control::FAREWELL;
use super::{Connection, Event, Leaving, Role};
use crate::connect::{RequestHead, ResponseHead};
use crate::error::{ErrorCode, OpenError, UseError};
use crate::frame::{self, HEADER, MAX_STREAM};
use crate::limits::Work;
use crate::pace::PROBE;
use crate::stream::{Ending, Half, Stream, StreamId};

impl Connection {
    /// Client: asks for a tunnel. DATA may follow at once; whether it should before the answer is the driver's call.
    ///
    /// # Errors
    /// No stream can be opened here now; see [`OpenError`].
    pub fn open(&mut self, head: &RequestHead) -> Result<StreamId, OpenError> {
        self.check_open()?;
        let mut block = Vec::with_capacity(512);
        head.encode(&mut self.encoder, &mut block);
        let stream = Stream::requested(self.new_receive_window(), self.new_send_window());
        let id = self.streams.open_local(stream);
        frame::headers(self.output.bytes(), id, &block, false, self.peer.max_frame);
        Ok(StreamId(id))
    }

    pub(super) fn check_open(&self) -> Result<(), OpenError> {
        if self.failed.is_some() || self.config.role == Role::Server {
            Err(OpenError::Closed)
        } else if self.is_going_away() {
            Err(OpenError::GoingAway)
        } else if !self.streams.has_number() {
            Err(OpenError::Exhausted)
        } else if self.streams.len() >= self.peer_stream_limit() {
            Err(OpenError::Full)
        } else {
            Ok(())
        }
    }

    /// Server: answers a request, once. `end`: nothing will follow.
    ///
    /// # Errors
    /// The stream is gone or answered already.
    pub fn respond(
        &mut self,
        stream: StreamId,
        head: &ResponseHead,
        end: bool,
    ) -> Result<(), UseError> {
        self.check_alive()?;
        let id = stream.0;
        let entry = self.streams.get_mut(id).ok_or(UseError::NoStream)?;
        if entry.sending != Half::Awaited {
            return Err(UseError::NotWritable);
        }
        entry.sending = if end { Half::Ended } else { Half::Open };
        let mut block = Vec::with_capacity(512);
        head.encode(&mut self.encoder, &mut block);
        let max_frame = self.peer.max_frame;
        // An answer: a peer that asks for ever and never reads must not fill our memory with it.
        self.output
            .answer(|out| frame::headers(out, id, &block, end, max_frame));
        self.budgets.worked(Work::Answered);
        self.close_if_ended(id);
        Ok(())
    }

    /// Payload bytes that flow control lets go on this stream now; may exceed one frame. 0 if it is not writable.
    pub fn sendable(&self, stream: StreamId) -> usize {
        match self.streams.get(stream.0) {
            Some(entry) if entry.sending == Half::Open => {
                entry.send_window.open().min(self.send_window.open())
            }
            _ => 0,
        }
    }

    /// Largest payload of one DATA frame: the peer's MAX_FRAME_SIZE.
    pub fn max_data(&self) -> usize {
        self.peer.max_frame as usize
    }

    /// Takes `len` bytes from the windows and returns the frame header to put right in front of them, behind all
    /// of [`Self::output`], before anything else is asked of this connection: a stream opened between would overtake
    /// the end of this one. `end`: nothing will follow.
    ///
    /// # Errors
    /// `len` is 0 or above [`Self::max_data`] or [`Self::sendable`], or the stream cannot be written.
    pub fn send(
        &mut self,
        stream: StreamId,
        len: usize,
        end: bool,
    ) -> Result<[u8; HEADER], UseError> {
        let sendable = self.sendable(stream);
        if sendable < len || len == 0 || len > self.max_data() {
            return Err(self.why_not(stream, len, sendable));
        }
        // At most max_data, which has 24 bits.
        let bytes = len as u32;
        self.send_window.take(bytes);
        self.budgets.worked(Work::Sent(bytes));
        if let Some(entry) = self.streams.get_mut(stream.0) {
            entry.send_window.take(bytes);
            if end {
                entry.sending = Half::Ended;
                self.close_if_ended(stream.0);
            }
        }
        Ok(frame::data_header(stream.0, bytes, end))
    }

    /// Ends our direction with an empty DATA frame.
    ///
    /// # Errors
    /// The stream is gone, not answered, or ended already.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), UseError> {
        self.check_alive()?;
        let entry = self.streams.get_mut(stream.0).ok_or(UseError::NoStream)?;
        if entry.sending != Half::Open {
            return Err(UseError::NotWritable);
        }
        entry.sending = Half::Ended;
        let header = frame::data_header(stream.0, 0, true);
        self.output.bytes().extend_from_slice(&header);
        self.close_if_ended(stream.0);
        Ok(())
    }

    /// Ends a stream at once, both ways. Nothing happens if it is gone. What the peer has in flight is dropped.
    pub fn reset(&mut self, stream: StreamId, code: ErrorCode) {
        let Some(left) = self.window_left(stream.0) else {
            return;
        };
        self.close(stream.0, Ending::ResetByUs { left });
        self.events
            .retain(|event| event_stream(event) != Some(stream));
        self.output
            .answer(|out| frame::rst_stream(out, stream.0, code));
    }

    /// The application is done with `n` bytes it was given on this stream; the peer hears of it in steps of an eighth of
    /// the window. Nothing happens if the stream is gone.
    pub fn release(&mut self, stream: StreamId, n: usize) {
        let bytes = u32::try_from(n).unwrap_or(u32::MAX);
        if let Some(entry) = self.streams.get_mut(stream.0)
            && let Some(increment) =
                entry
                    .receive_window
                    .release(bytes, &mut self.growth, &self.pace)
            && entry.receiving != Half::Ended
        {
            frame::window_update(self.output.bytes(), stream.0, increment);
        }
    }

    /// What the driver's clock says, microseconds from anywhere; windows grow by it, and never if nobody tells.
    pub fn tell_time(&mut self, now: u64) {
        self.pace.tell(now);
    }

    /// Says whether a stream of this connection waits for answers: while it does, windows let less of the others' bytes be on
    /// their way in front of it.
    pub fn contest(&mut self, contested: bool) {
        self.pace.contest(contested);
    }

    /// Measures the way to the peer now and then while bytes come from there.
    pub(super) fn probe(&mut self) {
        if self.pace.probes() {
            self.ping(PROBE);
        }
    }

    /// Asks the peer to answer; `Event::Pong` says that it did.
    pub fn ping(&mut self, payload: [u8; 8]) {
        if self.failed.is_none() {
            self.pings.push_back(payload);
            frame::ping(self.output.bytes(), payload, false);
        }
    }

    /// Graceful end. Server: requests on their way are still taken; when the peer has read this, the engine itself
    /// says which one was the last. Client: opens nothing more. Open streams go on.
    pub fn shut_down(&mut self) {
        if self.failed.is_some() || self.leaving != Leaving::No {
            return;
        }
        if self.config.role == Role::Client {
            return self.leave(ErrorCode::NoError, "");
        }
        self.leaving = Leaving::Announced;
        frame::go_away(self.output.bytes(), MAX_STREAM, ErrorCode::NoError, "");
        self.ping(FAREWELL);
    }

    /// Takes no new streams from now on and says why. Open ones go on until the driver ends the connection.
    pub fn go_away(&mut self, code: ErrorCode, debug: &str) {
        if self.failed.is_none() {
            self.leave(code, debug);
        }
    }

    pub(super) fn leave(&mut self, code: ErrorCode, debug: &str) {
        let last = self.last_taken();
        self.leaving = Leaving::Final { last };
        frame::go_away(self.output.bytes(), last, code, debug);
    }

    fn check_alive(&self) -> Result<(), UseError> {
        if self.failed.is_some() {
            Err(UseError::Closed)
        } else {
            Ok(())
        }
    }

    fn why_not(&self, stream: StreamId, len: usize, sendable: usize) -> UseError {
        match self.streams.get(stream.0) {
            _ if self.failed.is_some() => UseError::Closed,
            None => UseError::NoStream,
            Some(entry) if entry.sending != Half::Open => UseError::NotWritable,
            Some(_) if len == 0 || len > self.max_data() => UseError::FrameSize(len),
            Some(_) => UseError::Window { len, sendable },
        }
    }
}

fn event_stream(event: &Event<'_>) -> Option<StreamId> {
    match event {
        Event::Request { stream, .. }
        | Event::Response { stream, .. }
        | Event::Data { stream, .. }
        | Event::End { stream }
        | Event::Reset { stream, .. } => Some(*stream),
        Event::Sendable { stream } => *stream,
        Event::StreamsAvailable | Event::GoAway { .. } | Event::Pong { .. } | Event::Ready => None,
    }
}
