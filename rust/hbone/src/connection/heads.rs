//! Header blocks as they come in: gathered, decoded, judged (RFC 9113 §4.3, §6.2, §6.10, §8).
//!
//! A block is decoded whatever becomes of its stream, because the HPACK table must stay in step.

use super::receive::Block;
use super::{Connection, Event, Leaving, Role};
use crate::connect::{HeadReader, Malformed, ResponseHead};
use crate::error::{Error, ErrorCode, Reason};
use crate::flow::{DEFAULT_WINDOW, ReceiveWindow, SendWindow};
use crate::frame::{self, FrameHeader, flag};
use crate::hpack::ListSize;
use crate::limits::{Flood, Work};
use crate::stream::{Ending, Half, Stream, StreamId};

impl Connection {
    pub(super) fn on_headers(&mut self, header: FrameHeader, payload: &[u8]) -> Result<(), Error> {
        let (fragment, depends_on) = strip(header, payload)?;
        let mut block = Block {
            stream: header.stream,
            end: header.has(flag::END_STREAM),
            self_dependent: depends_on == Some(header.stream),
            bytes: Vec::new(),
            continuations: 0,
        };
        if header.has(flag::END_HEADERS) {
            return self.block_complete(&block, fragment);
        }
        block.bytes.extend_from_slice(fragment);
        self.block = Some(block);
        Ok(())
    }

    pub(super) fn on_continuation(
        &mut self,
        header: FrameHeader,
        payload: &[u8],
    ) -> Result<(), Error> {
        // `check_order` lets CONTINUATION through only behind an open block.
        let Some(mut block) = self.block.take() else {
            return Ok(());
        };
        block.bytes.extend_from_slice(payload);
        block.continuations += 1;
        if header.has(flag::END_HEADERS) {
            let bytes = std::mem::take(&mut block.bytes);
            return self.block_complete(&block, &bytes);
        }
        self.block = Some(block);
        Ok(())
    }

    fn block_complete(&mut self, block: &Block, bytes: &[u8]) -> Result<(), Error> {
        let target = self.target_of(block.stream)?;
        let mut reader = HeadReader::new(self.budgets.limits().fields);
        // Nothing of a list that nobody reads reaches the reader.
        let most = if target.is_read() {
            self.config.max_header_list
        } else {
            0
        };
        let size = self
            .decoder
            .decode(bytes, most as usize, &mut |name, value| {
                reader.field(name, value)
            })
            .map_err(|cause| {
                Error::remote(ErrorCode::CompressionError, Reason::Compression(cause))
            })?;
        let too_large = matches!(size, ListSize::TooLarge { .. }) || reader.is_too_large();
        match target {
            Target::Ignored => self.spend(Flood::StrayFrame, 1),
            Target::Misplaced => self.stream_error(block.stream, ErrorCode::StreamClosed),
            Target::Refused => self.refuse(block.stream, ErrorCode::RefusedStream),
            Target::Request if too_large => self.answer_431(block),
            Target::Request => self.on_request(block, reader),
            Target::Response | Target::Trailers if too_large => {
                self.stream_error(block.stream, ErrorCode::ProtocolError)
            }
            Target::Response => self.on_response(block, reader),
            Target::Trailers => self.on_trailers(block, reader),
        }
    }

    /// What a header block on this stream is.
    fn target_of(&mut self, id: u32) -> Result<Target, Error> {
        if let Some(stream) = self.streams.get(id) {
            return Ok(match (stream.receiving, self.config.role) {
                (Half::Ended, _) => Target::Misplaced,
                (Half::Awaited, _) => Target::Response,
                (Half::Open, _) => Target::Trailers,
            });
        }
        if self.streams.is_idle(id) {
            return self.target_of_new(id);
        }
        match self.streams.recall(id) {
            Some(Ending::Ended) => Err(Error::remote(
                ErrorCode::StreamClosed,
                Reason::StreamClosed(id),
            )),
            Some(ending @ Ending::ResetByPeer) => {
                *ending = Ending::ResetByUs { left: 0 };
                Ok(Target::Misplaced)
            }
            Some(Ending::ResetByUs { .. }) => Ok(Target::Ignored),
            None if self.config.role == Role::Server => {
                Err(Error::protocol(Reason::StreamOrder(id)))
            }
            None => Ok(Target::Ignored),
        }
    }

    fn target_of_new(&mut self, id: u32) -> Result<Target, Error> {
        if self.config.role == Role::Client || id.is_multiple_of(2) {
            return Err(Error::protocol(Reason::IdleStream(id)));
        }
        self.streams.use_peer_number(id);
        let most = self.config.max_concurrent_streams.unwrap_or(u32::MAX) as usize;
        Ok(if matches!(self.leaving, Leaving::Final { .. }) {
            // Sent before the client saw our GOAWAY, which told it that this one is not acted on.
            self.streams.remember(
                id,
                Ending::ResetByUs {
                    left: self.first_window(),
                },
            );
            Target::Ignored
        } else if self.streams.len() >= most {
            Target::Refused
        } else {
            Target::Request
        })
    }

    fn on_request(&mut self, block: &Block, reader: HeadReader) -> Result<(), Error> {
        let id = block.stream;
        let promised = reader.content_length();
        let head = match reader.request() {
            Ok(head) if !block.self_dependent => head,
            Ok(_) | Err(Malformed(_)) => return self.refuse(id, ErrorCode::ProtocolError),
        };
        let mut stream = Stream::accepted(self.new_receive_window(), self.new_send_window());
        // CONNECT has no content, whatever its content-length says (RFC 9110 §9.3.6).
        stream.content_left = promised.filter(|_| !head.is_connect());
        if block.end {
            stream.receiving = Half::Ended;
            if !stream.is_content_complete() {
                return self.refuse(id, ErrorCode::ProtocolError);
            }
        }
        self.streams.open_peer(id, stream);
        self.events.push_back(Event::Request {
            stream: StreamId(id),
            head,
            end: block.end,
        });
        Ok(())
    }

    fn on_response(&mut self, block: &Block, reader: HeadReader) -> Result<(), Error> {
        let id = block.stream;
        let promised = reader.content_length();
        let head = match reader.response() {
            Ok(head) if !block.self_dependent => head,
            Ok(_) | Err(Malformed(_)) => return self.stream_error(id, ErrorCode::ProtocolError),
        };
        if head.status < 200 {
            self.spend(Flood::EmptyFrame, 1)?;
            return if block.end {
                self.stream_error(id, ErrorCode::ProtocolError)
            } else {
                Ok(())
            };
        }
        let Some(stream) = self.streams.get_mut(id) else {
            return Ok(());
        };
        stream.receiving = if block.end { Half::Ended } else { Half::Open };
        // A tunnel's content-length means nothing (RFC 9110 §9.3.6), and 304 describes what it does not send.
        stream.content_left = promised.filter(|_| head.status >= 300 && head.status != 304);
        if block.end && !stream.is_content_complete() {
            return self.stream_error(id, ErrorCode::ProtocolError);
        }
        self.events.push_back(Event::Response {
            stream: StreamId(id),
            head,
            end: block.end,
        });
        self.close_if_ended(id);
        Ok(())
    }

    fn on_trailers(&mut self, block: &Block, reader: HeadReader) -> Result<(), Error> {
        let id = block.stream;
        let is_complete = self
            .streams
            .get(id)
            .is_some_and(Stream::is_content_complete);
        let is_fine = block.end && is_complete && !block.self_dependent;
        if !is_fine || reader.trailers().is_err() {
            return self.stream_error(id, ErrorCode::ProtocolError);
        }
        self.end_received(id);
        Ok(())
    }

    /// A request that the application never hears of.
    fn refuse(&mut self, id: u32, code: ErrorCode) -> Result<(), Error> {
        let flood = match code {
            ErrorCode::RefusedStream => Flood::RefusedStream,
            _ => Flood::ProvokedReset,
        };
        self.spend(flood, 1)?;
        self.streams.remember(
            id,
            Ending::ResetByUs {
                left: self.first_window(),
            },
        );
        self.output.answer(|out| frame::rst_stream(out, id, code));
        Ok(())
    }

    /// Too large to read, small enough to stay in step: the answer RFC 6585 §5 has for it, and no more of it.
    fn answer_431(&mut self, block: &Block) -> Result<(), Error> {
        self.spend(Flood::ProvokedReset, 1)?;
        self.streams.remember(
            block.stream,
            Ending::ResetByUs {
                left: self.first_window(),
            },
        );
        let mut bytes = Vec::new();
        ResponseHead::status(431).encode(&mut self.encoder, &mut bytes);
        let max_frame = self.peer.max_frame;
        self.output.answer(|out| {
            frame::headers(out, block.stream, &bytes, true, max_frame);
            frame::rst_stream(out, block.stream, ErrorCode::NoError);
        });
        Ok(())
    }

    /// The peer's direction of an open stream has ended.
    pub(super) fn end_received(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(id) {
            stream.receiving = Half::Ended;
            self.events.push_back(Event::End {
                stream: StreamId(id),
            });
            self.close_if_ended(id);
        }
    }

    pub(super) fn close_if_ended(&mut self, id: u32) {
        if self.streams.get(id).is_some_and(Stream::is_closed) {
            self.budgets.worked(Work::Completed);
            self.close(id, Ending::Ended);
        }
    }

    pub(super) fn new_send_window(&self) -> SendWindow {
        SendWindow::new(self.peer.initial_window)
    }

    /// A client may use the protocol's default window until our SETTINGS have reached it (RFC 9113 §6.9.2).
    pub(super) fn first_window(&self) -> u32 {
        if self.settings_unacknowledged > 0 {
            self.config.stream_window.max(DEFAULT_WINDOW)
        } else {
            self.config.stream_window
        }
    }

    pub(super) fn new_receive_window(&self) -> ReceiveWindow {
        ReceiveWindow::new(self.first_window(), self.config.stream_window_max)
    }
}

/// What a header block is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Its stream is gone and the peer could not know.
    Ignored,
    /// Its stream has ended and the peer knew.
    Misplaced,
    /// One stream too many.
    Refused,
    Request,
    Response,
    Trailers,
}

impl Target {
    fn is_read(self) -> bool {
        matches!(self, Self::Request | Self::Response | Self::Trailers)
    }
}

/// A HEADERS payload without padding and priority, and the stream it depends on (RFC 9113 §6.2).
fn strip(header: FrameHeader, payload: &[u8]) -> Result<(&[u8], Option<u32>), Error> {
    let mut rest = payload;
    let mut padding = 0;
    if header.has(flag::PADDED) {
        let (first, behind) = rest
            .split_first()
            .ok_or_else(|| Error::protocol(Reason::Padding))?;
        (padding, rest) = (usize::from(*first), behind);
    }
    let mut depends_on = None;
    if header.has(flag::PRIORITY) {
        if rest.len() < 5 {
            let reason = Reason::FrameSize {
                kind: header.kind.code(),
                length: header.length,
            };
            return Err(Error::remote(ErrorCode::FrameSizeError, reason));
        }
        depends_on = Some(frame::read_u32(rest, 0) & frame::MAX_STREAM);
        rest = &rest[5..];
    }
    let length = rest
        .len()
        .checked_sub(padding)
        .ok_or_else(|| Error::protocol(Reason::Padding))?;
    Ok((&rest[..length], depends_on))
}
