//! DATA as it comes in (RFC 9113 §6.1): counted when its header is read, handed out where it lies.

use super::receive::Reading;
use super::{Connection, Event};
use crate::error::{Error, ErrorCode, Reason};
use crate::flow::MAX_WINDOW;
use crate::frame::{self, FrameHeader, flag};
use crate::limits::{Flood, Work};
use crate::stream::{Ending, Half, StreamId};

impl Connection {
    /// A DATA frame begins; `padding` is its first byte, if it is padded.
    pub(super) fn data_begins(
        &mut self,
        header: FrameHeader,
        padding: Option<u8>,
    ) -> Result<(), Error> {
        let overhead = padding.map_or(0, |padding| u32::from(padding) + 1);
        let Some(length) = header.length.checked_sub(overhead) else {
            return Err(Error::protocol(Reason::Padding));
        };
        // All of the frame counts, padding too (RFC 9113 §6.9.1).
        if !self.receive_window.arrive(header.length) {
            return Err(Error::remote(
                ErrorCode::FlowControlError,
                Reason::FlowControl,
            ));
        }
        let (id, end) = (header.stream, header.has(flag::END_STREAM));
        if let Verdict::Reset(code) = self.judge_data(header, length)? {
            self.stream_error(id, code)?;
        }
        self.credit_padding(id, overhead);
        let padding = u32::from(padding.unwrap_or(0));
        if length > 0 {
            self.reading = Reading::Data {
                stream: id,
                left: length,
                padding,
                end,
            };
            return Ok(());
        }
        if end {
            self.data_ends(id);
        }
        self.skip(padding);
        Ok(())
    }

    /// A piece of payload that is not empty, of a frame with `left` bytes to come.
    pub(super) fn data_piece<'a>(
        &mut self,
        input: &'a [u8],
        id: u32,
        left: u32,
        padding: u32,
        end: bool,
    ) -> (usize, Option<Event<'a>>) {
        let taken = input.len().min(left as usize);
        let count = taken as u32;
        // The connection's window bounds what is in flight, the streams' windows bound what we hold: if held bytes
        // counted against both, a few readers that stall would stop every other stream (spec/reliability.md T11).
        self.credit_connection(count);
        let event = self.streams.get_mut(id).map(|stream| {
            stream.receive_window.hold(count);
            Event::Data {
                stream: StreamId(id),
                bytes: &input[..taken],
            }
        });
        if left > count {
            self.reading = Reading::Data {
                stream: id,
                left: left - count,
                padding,
                end,
            };
            return (taken, event);
        }
        if end {
            self.data_ends(id);
        }
        self.skip(padding);
        (taken, event)
    }

    fn judge_data(&mut self, header: FrameHeader, length: u32) -> Result<Verdict, Error> {
        let end = header.has(flag::END_STREAM);
        let Some(stream) = self.streams.get_mut(header.stream) else {
            return self.judge_stray_data(header);
        };
        let verdict = match stream.receiving {
            Half::Awaited => Verdict::Reset(ErrorCode::ProtocolError),
            Half::Ended => Verdict::Reset(ErrorCode::StreamClosed),
            Half::Open => {
                let fits = stream.receive_window.arrive(header.length);
                let promised = stream.count_content(length);
                if !fits {
                    Verdict::Reset(ErrorCode::FlowControlError)
                } else if !promised || end && !stream.is_content_complete() {
                    Verdict::Reset(ErrorCode::ProtocolError)
                } else {
                    Verdict::Deliver
                }
            }
        };
        if length > 0 {
            self.probe();
            self.budgets.worked(Work::Received);
        } else if !end {
            self.spend(Flood::EmptyFrame, 1)?;
        }
        Ok(verdict)
    }

    /// DATA on a stream that is not open: what it means depends on how the stream ended (RFC 9113 §5.1).
    fn judge_stray_data(&mut self, header: FrameHeader) -> Result<Verdict, Error> {
        let id = header.stream;
        if self.streams.is_idle(id) {
            return Err(Error::protocol(Reason::IdleStream(id)));
        }
        match self.streams.recall(id) {
            Some(Ending::Ended) => {
                return Err(Error::remote(
                    ErrorCode::StreamClosed,
                    Reason::StreamClosed(id),
                ));
            }
            Some(ending @ Ending::ResetByPeer) => {
                *ending = Ending::ResetByUs { left: MAX_WINDOW };
                return Ok(Verdict::Reset(ErrorCode::StreamClosed));
            }
            Some(Ending::ResetByUs { left }) if header.length > 0 => {
                let Some(rest) = left.checked_sub(header.length) else {
                    return Err(Error::remote(
                        ErrorCode::FlowControlError,
                        Reason::FlowControl,
                    ));
                };
                *left = rest;
            }
            Some(Ending::ResetByUs { .. }) | None => self.spend(Flood::StrayFrame, 1)?,
        }
        Ok(Verdict::Drop)
    }

    fn data_ends(&mut self, id: u32) {
        if self.streams.get(id).is_some() {
            self.end_received(id);
        }
    }

    fn credit_padding(&mut self, id: u32, bytes: u32) {
        if bytes == 0 {
            return;
        }
        if let Some(stream) = self.streams.get_mut(id)
            && let Some(increment) = stream.receive_window.give_back(bytes)
        {
            frame::window_update(self.output.bytes(), id, increment);
        }
        self.credit_connection(bytes);
    }

    fn credit_connection(&mut self, bytes: u32) {
        if let Some(increment) = self.receive_window.give_back(bytes)
            && self.failed.is_none()
        {
            frame::window_update(self.output.bytes(), 0, increment);
        }
    }
}

/// What becomes of a DATA frame.
enum Verdict {
    Deliver,
    /// Its stream is gone, so its pieces find no reader.
    Drop,
    /// Its stream will be gone.
    Reset(ErrorCode),
}
