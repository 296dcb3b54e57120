//! Frames that carry no payload of anybody's: SETTINGS, PING, GOAWAY, WINDOW_UPDATE, RST_STREAM, PRIORITY.

use super::{Connection, Event, Leaving, Role, Side};
use crate::error::{Error, ErrorCode, Reason};
use crate::flow::MAX_WINDOW;
use crate::frame::{self, FrameHeader, flag, setting};
use crate::limits::{Flood, Work};
use crate::pace::PROBE;
use crate::stream::{Ending, Half, StreamId};

/// What our graceful end asks the peer to echo: its answer proves that it has read the GOAWAY before it.
pub(super) const FAREWELL: [u8; 8] = *b"farewell";
/// A window with less than this may keep the driver from sending a frame of the smallest size limit.
const SHORT: usize = frame::DEFAULT_MAX_FRAME as usize;

impl Connection {
    pub(super) fn on_settings(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Error> {
        if header.has(flag::ACK) {
            return self.on_settings_ack();
        }
        if self.peer.ready {
            self.spend(Flood::Settings, 1)?;
        }
        let limit_before = self.peer_stream_limit();
        let is_first = !std::mem::replace(&mut self.peer.ready, true);
        for (id, value) in frame::read_settings(payload) {
            self.apply(id, value)?;
        }
        if is_first {
            self.events.push_back(Event::Ready);
        }
        if self.peer_stream_limit() > limit_before && self.config.role == Role::Client {
            self.streams_available();
        }
        self.output.answer(frame::settings_ack);
        Ok(())
    }

    fn on_settings_ack(&mut self) -> Result<(), Error> {
        let Some(left) = self.settings_unacknowledged.checked_sub(1) else {
            return Err(Error::protocol(Reason::SettingsAck));
        };
        let before = self.first_window();
        self.settings_unacknowledged = left;
        let by = before - self.first_window();
        if by > 0 {
            self.streams
                .all_mut()
                .for_each(|stream| stream.receive_window.shrink(by));
        }
        Ok(())
    }

    fn apply(&mut self, id: u16, value: u32) -> Result<(), Error> {
        let wrong = |code| Err(Error::remote(code, Reason::Setting { id, value }));
        match id {
            setting::HEADER_TABLE_SIZE => self.encoder.set_max_table(value as usize),
            // A server that turns push on is wrong at any value but 0, a client may say either (RFC 9113 §6.5.2).
            setting::ENABLE_PUSH if value > u32::from(self.config.role == Role::Server) => {
                return wrong(ErrorCode::ProtocolError);
            }
            setting::MAX_CONCURRENT_STREAMS => self.peer.max_streams = Some(value),
            setting::INITIAL_WINDOW_SIZE if value > MAX_WINDOW => {
                return wrong(ErrorCode::FlowControlError);
            }
            setting::INITIAL_WINDOW_SIZE => return self.change_windows(value),
            setting::MAX_FRAME_SIZE
                if !(frame::DEFAULT_MAX_FRAME..=frame::LARGEST_MAX_FRAME).contains(&value) =>
            {
                return wrong(ErrorCode::ProtocolError);
            }
            setting::MAX_FRAME_SIZE => self.peer.max_frame = value,
            // MAX_HEADER_LIST_SIZE is advice, and our heads are far below anybody's. Unknown ones are ignored.
            _ => {}
        }
        Ok(())
    }

    /// INITIAL_WINDOW_SIZE applies to open streams too, and may leave them below zero (RFC 9113 §6.9.2).
    fn change_windows(&mut self, initial: u32) -> Result<(), Error> {
        let by = i64::from(initial) - i64::from(self.peer.initial_window);
        self.peer.initial_window = initial;
        for stream in self.streams.all_mut() {
            stream.send_window.shift(by).map_err(|_| overflow())?;
        }
        if by > 0 {
            self.all_sendable();
        }
        Ok(())
    }

    pub(super) fn on_ping(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Error> {
        let mut echo = [0; 8];
        echo.copy_from_slice(payload);
        if !header.has(flag::ACK) {
            self.spend(Flood::Ping, 1)?;
            self.output.answer(|out| frame::ping(out, echo, true));
            return Ok(());
        }
        let Some(at) = self.pings.iter().position(|sent| *sent == echo) else {
            return self.spend(Flood::Ping, 1);
        };
        self.pings.remove(at);
        if echo == PROBE {
            // Not a heartbeat: these come every second, and budgets are refilled for what ten seconds may bring.
            self.pace.answered();
            return Ok(());
        }
        self.budgets.worked(Work::Heartbeat);
        if echo == FAREWELL && self.leaving == Leaving::Announced {
            self.leave(ErrorCode::NoError, "");
        } else {
            self.events.push_back(Event::Pong { payload: echo });
        }
        Ok(())
    }

    pub(super) fn on_go_away(&mut self, _: FrameHeader, payload: &[u8]) -> Result<(), Error> {
        self.spend(Flood::GoAway, 1)?;
        let last = frame::read_u32(payload, 0) & frame::MAX_STREAM;
        let code = ErrorCode::from(frame::read_u32(payload, 4));
        if self.peer_leaving.is_some_and(|before| last > before) {
            return Err(Error::protocol(Reason::GoAwayRaised));
        }
        self.peer_leaving = Some(last);
        let debug = String::from_utf8_lossy(&payload[8..]).into_owned();
        self.events.push_back(Event::GoAway {
            last: StreamId(last),
            code,
            debug,
        });
        if self.config.role == Role::Client {
            for id in self.streams.above(last) {
                self.close(id, Ending::ResetByPeer);
                self.report_reset(id, ErrorCode::RefusedStream, Side::Remote);
            }
        }
        Ok(())
    }

    pub(super) fn on_window_update(&mut self, id: u32, payload: &[u8]) -> Result<(), Error> {
        self.spend(Flood::WindowUpdate, 1)?;
        let increment = frame::read_u32(payload, 0) & MAX_WINDOW;
        if id == 0 {
            return self.open_connection_window(increment);
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return self.check_not_idle(id);
        };
        let before = stream.send_window.open();
        if increment == 0 {
            return self.stream_error(id, ErrorCode::ProtocolError);
        }
        if stream.send_window.shift(i64::from(increment)).is_err() {
            return self.stream_error(id, ErrorCode::FlowControlError);
        }
        if before < SHORT && stream.sending == Half::Open && self.sendable(StreamId(id)) > 0 {
            self.events.push_back(Event::Sendable {
                stream: Some(StreamId(id)),
            });
        }
        Ok(())
    }

    fn open_connection_window(&mut self, increment: u32) -> Result<(), Error> {
        if increment == 0 {
            return Err(Error::protocol(Reason::WindowUpdateZero));
        }
        let before = self.send_window.open();
        self.send_window
            .shift(i64::from(increment))
            .map_err(|_| overflow())?;
        if before < SHORT {
            self.all_sendable();
        }
        Ok(())
    }

    pub(super) fn on_rst_stream(&mut self, id: u32, payload: &[u8]) -> Result<(), Error> {
        let code = ErrorCode::from(frame::read_u32(payload, 0));
        let Some(stream) = self.streams.get(id) else {
            self.check_not_idle(id)?;
            // What the peer sends from here on was not in flight when we reset: it has said itself that nothing
            // follows, so it is no longer to be ignored.
            if let Some(ending @ Ending::ResetByUs { .. }) = self.streams.recall(id) {
                *ending = Ending::ResetByPeer;
            }
            return self.spend(Flood::StrayFrame, 1);
        };
        // Work begun for nothing: the sign of rapid reset. On a client this cannot be, it asks itself.
        if stream.sending == Half::Awaited {
            self.spend(Flood::PrematureReset, 1)?;
        }
        self.report_reset(id, code, Side::Remote);
        self.close(id, Ending::ResetByPeer);
        Ok(())
    }

    pub(super) fn on_priority(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Error> {
        self.spend(Flood::Priority, 1)?;
        let depends_on = frame::read_u32(payload, 0) & frame::MAX_STREAM;
        if depends_on != header.stream {
            return Ok(());
        }
        self.wrong_priority(
            header.stream,
            ErrorCode::ProtocolError,
            Reason::SelfDependency(header.stream),
        )
    }

    /// A stream error even so (RFC 9113 §6.3).
    pub(super) fn on_priority_of_wrong_size(&mut self, header: FrameHeader) -> Result<(), Error> {
        self.spend(Flood::Priority, 1)?;
        self.skip(header.length);
        let reason = Reason::FrameSize {
            kind: header.kind.code(),
            length: header.length,
        };
        self.wrong_priority(header.stream, ErrorCode::FrameSizeError, reason)
    }

    /// PRIORITY may name streams in any state. An idle one cannot be reset, so the connection pays for it; to one
    /// that has ended a reset does no harm.
    fn wrong_priority(&mut self, id: u32, code: ErrorCode, reason: Reason) -> Result<(), Error> {
        if self.streams.is_idle(id) {
            return Err(Error::remote(code, reason));
        }
        self.stream_error(id, code)
    }

    fn check_not_idle(&self, id: u32) -> Result<(), Error> {
        if self.streams.is_idle(id) {
            return Err(Error::protocol(Reason::IdleStream(id)));
        }
        Ok(())
    }

    /// Resets a stream for a mistake of the peer's, and tells the driver if it knew the stream.
    pub(super) fn stream_error(&mut self, id: u32, code: ErrorCode) -> Result<(), Error> {
        self.spend(Flood::ProvokedReset, 1)?;
        if let Some(left) = self.window_left(id) {
            self.report_reset(id, code, Side::Local);
            self.close(id, Ending::ResetByUs { left });
        }
        self.output.answer(|out| frame::rst_stream(out, id, code));
        Ok(())
    }

    /// What the peer may still send on an open stream.
    pub(super) fn window_left(&self, id: u32) -> Option<u32> {
        let stream = self.streams.get(id)?;
        Some(u32::try_from(stream.receive_window.available()).unwrap_or(0))
    }

    /// Removes a stream; its place may be free for another.
    pub(super) fn close(&mut self, id: u32, ending: Ending) {
        let was_full = self.streams.len() >= self.peer_stream_limit();
        if let Some(stream) = self.streams.get(id) {
            self.growth.put_back(stream.receive_window.grown());
        }
        self.streams.remove(id, ending);
        if was_full && self.can_open() {
            self.streams_available();
        }
    }

    fn report_reset(&mut self, id: u32, code: ErrorCode, by: Side) {
        self.events.push_back(Event::Reset {
            stream: StreamId(id),
            code,
            by,
        });
    }

    fn streams_available(&mut self) {
        self.tell_once(Event::StreamsAvailable);
    }

    fn all_sendable(&mut self) {
        if self.streams.len() > 0 {
            self.tell_once(Event::Sendable { stream: None });
        }
    }

    /// One frame can say the same thing a hundred times.
    fn tell_once(&mut self, event: Event<'static>) {
        if !self.events.contains(&event) {
            self.events.push_back(event);
        }
    }
}

fn overflow() -> Error {
    Error::remote(ErrorCode::FlowControlError, Reason::WindowOverflow)
}
