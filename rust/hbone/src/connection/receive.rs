//! Bytes to frames: their order, their size, and whole payloads of all but DATA.
//!
//! Every state awaits at least one byte, so `receive` ends. A payload that lies whole in the input is read there;
//! one that comes in pieces is gathered in `partial`, bounded by `keep`.

use super::{Connection, Event};
use crate::error::{Error, ErrorCode, Reason};
use crate::frame::{FrameHeader, HEADER, Kind, PREFACE, flag};
use crate::limits::{BLOCK_PER_LIST, Flood, GO_AWAY_KEPT, SETTINGS_PAYLOAD};

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading {
    /// The client's preface, of which so many bytes have come.
    Preface { matched: usize },
    /// A frame header.
    Header,
    /// A payload to gather: `keep` bytes of it, and the rest to skip.
    Payload { header: FrameHeader, keep: u32 },
    /// The first byte of a padded DATA frame.
    PadLength { header: FrameHeader },
    /// Payload of DATA. A stream that is gone by then is dropped piece by piece.
    Data {
        stream: u32,
        left: u32,
        padding: u32,
        end: bool,
    },
    /// Bytes without meaning.
    Skip { left: u32 },
}

/// A header block whose CONTINUATION is still to come.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    pub(super) end: bool,
    pub(super) self_dependent: bool,
    pub(super) bytes: Vec<u8>,
    pub(super) continuations: u32,
}

/// Kept between uses of a gathering buffer: connections live for hours and large payloads are rare.
const KEPT: usize = 1024;

impl Connection {
    /// Takes at least one byte of a non-empty input.
    pub(super) fn step<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        match self.reading {
            Reading::Data {
                stream,
                left,
                padding,
                end,
            } => Ok(self.data_piece(input, stream, left, padding, end)),
            Reading::Header => self.header_piece(input),
            Reading::Payload { header, keep } => self.payload_piece(input, header, keep),
            Reading::PadLength { header } => {
                self.data_begins(header, Some(input[0]))?;
                Ok((1, None))
            }
            Reading::Preface { matched } => self.preface_piece(input, matched),
            Reading::Skip { left } => {
                let taken = input.len().min(left as usize);
                self.skip(left - taken as u32);
                Ok((taken, None))
            }
        }
    }

    fn preface_piece<'a>(
        &mut self,
        input: &'a [u8],
        matched: usize,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let expected = &PREFACE[matched..];
        let taken = input.len().min(expected.len());
        if input[..taken] != expected[..taken] {
            return Err(Error::protocol(Reason::NotHttp2));
        }
        self.reading = match matched + taken {
            all if all == PREFACE.len() => Reading::Header,
            matched => Reading::Preface { matched },
        };
        Ok((taken, None))
    }

    fn header_piece<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Error> {
        if self.partial.is_empty()
            && let Some((bytes, rest)) = input.split_first_chunk::<HEADER>()
        {
            self.frame_begins(FrameHeader::parse(bytes))?;
            return self.whole_payload(rest);
        }
        let taken = input.len().min(HEADER - self.partial.len());
        self.partial.extend_from_slice(&input[..taken]);
        if let Some(bytes) = self.partial.first_chunk::<HEADER>() {
            let header = FrameHeader::parse(bytes);
            self.partial.clear();
            self.frame_begins(header)?;
        }
        Ok((taken, None))
    }

    /// The short way: header and payload lie in one piece, so nothing is gathered. DATA goes out at once.
    fn whole_payload<'a>(&mut self, rest: &'a [u8]) -> Result<(usize, Option<Event<'a>>), Error> {
        match self.reading {
            Reading::Data {
                stream,
                left,
                padding,
                end,
            } if !rest.is_empty() => {
                let (taken, event) = self.data_piece(rest, stream, left, padding, end);
                Ok((HEADER + taken, event))
            }
            Reading::Payload { header, keep } if rest.len() >= keep as usize => {
                self.payload_complete(header, keep, &rest[..keep as usize])?;
                Ok((HEADER + keep as usize, None))
            }
            _ => Ok((HEADER, None)),
        }
    }

    fn payload_piece<'a>(
        &mut self,
        input: &'a [u8],
        header: FrameHeader,
        keep: u32,
    ) -> Result<(usize, Option<Event<'a>>), Error> {
        let taken = input.len().min(keep as usize - self.partial.len());
        self.partial.extend_from_slice(&input[..taken]);
        if self.partial.len() == keep as usize {
            let mut payload = std::mem::take(&mut self.partial);
            self.payload_complete(header, keep, &payload)?;
            payload.clear();
            payload.shrink_to(KEPT);
            self.partial = payload;
        }
        Ok((taken, None))
    }

    fn payload_complete(
        &mut self,
        header: FrameHeader,
        keep: u32,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.skip(header.length - keep);
        match header.kind {
            Kind::Headers => self.on_headers(header, payload),
            Kind::Continuation => self.on_continuation(header, payload),
            Kind::Priority => self.on_priority(header, payload),
            Kind::RstStream => self.on_rst_stream(header.stream, payload),
            Kind::Settings => self.on_settings(header, payload),
            Kind::Ping => self.on_ping(header, payload),
            Kind::GoAway => self.on_go_away(header, payload),
            Kind::WindowUpdate => self.on_window_update(header.stream, payload),
            // `frame_begins` gives these no payload to gather.
            Kind::Data | Kind::PushPromise | Kind::Unknown(_) => Ok(()),
        }
    }

    pub(super) fn skip(&mut self, left: u32) {
        self.reading = if left == 0 {
            Reading::Header
        } else {
            Reading::Skip { left }
        };
    }

    /// Judges a frame by its header alone and sets what is read next.
    fn frame_begins(&mut self, header: FrameHeader) -> Result<(), Error> {
        self.check_order(header)?;
        check_stream(header)?;
        let keep = match header.kind {
            Kind::Data if header.has(flag::PADDED) => {
                exactly(header, header.length >= 1)?;
                self.reading = Reading::PadLength { header };
                return Ok(());
            }
            Kind::Data => return self.data_begins(header, None),
            Kind::Headers | Kind::Continuation => self.check_block(header)?,
            Kind::Priority if header.length != 5 => return self.on_priority_of_wrong_size(header),
            Kind::Priority => 5,
            Kind::RstStream | Kind::WindowUpdate => exactly(header, header.length == 4)?,
            Kind::Settings if header.has(flag::ACK) => exactly(header, header.length == 0)?,
            Kind::Settings if header.length > SETTINGS_PAYLOAD => {
                return Err(Error::flood(Flood::Settings));
            }
            Kind::Settings => exactly(header, header.length.is_multiple_of(6))?,
            Kind::PushPromise => return Err(Error::protocol(Reason::Push)),
            Kind::Ping => exactly(header, header.length == 8)?,
            Kind::GoAway => exactly(header, header.length >= 8)?.min(GO_AWAY_KEPT),
            Kind::Unknown(_) => {
                self.spend(Flood::UnknownFrame, 1 + header.length / 16_384)?;
                self.skip(header.length);
                return Ok(());
            }
        };
        self.reading = Reading::Payload { header, keep };
        // An empty payload awaits no byte.
        if keep == 0 {
            self.payload_complete(header, 0, &[])
        } else {
            Ok(())
        }
    }

    fn check_order(&self, header: FrameHeader) -> Result<(), Error> {
        if self.output.answers() > self.budgets.limits().unsent_answers {
            return Err(Error::flood(Flood::UnsentAnswers));
        }
        let is_settings = header.kind == Kind::Settings && !header.has(flag::ACK);
        if !self.peer.ready && !is_settings {
            return Err(Error::protocol(Reason::NotHttp2));
        }
        if header.length > self.config.max_frame_size {
            return Err(wrong_size(header));
        }
        let expected = self.block.as_ref().map(|block| block.stream);
        let continued = (header.kind == Kind::Continuation).then_some(header.stream);
        if expected != continued {
            return Err(Error::protocol(Reason::ContinuationOrder));
        }
        Ok(())
    }

    /// Bounds a header block before its bytes are gathered.
    fn check_block(&mut self, header: FrameHeader) -> Result<u32, Error> {
        let most = self.config.max_header_list.saturating_mul(BLOCK_PER_LIST);
        let gathered = self.block.as_ref().map_or(0, |block| block.bytes.len());
        let too_many = self
            .block
            .as_ref()
            .is_some_and(|block| block.continuations >= self.budgets.limits().continuations);
        if too_many || gathered + header.length as usize > most as usize {
            return Err(Error::flood(Flood::Continuation));
        }
        if header.length == 0 && !header.has(flag::END_HEADERS) {
            self.spend(Flood::EmptyFrame, 1)?;
        }
        Ok(header.length)
    }

    pub(super) fn spend(&mut self, flood: Flood, cost: u32) -> Result<(), Error> {
        if self.budgets.spend(flood, cost) {
            Ok(())
        } else {
            Err(Error::flood(flood))
        }
    }
}

/// Frames of a stream name one; frames of the connection name none (RFC 9113 §6).
fn check_stream(header: FrameHeader) -> Result<(), Error> {
    let allowed = match header.kind {
        Kind::Data
        | Kind::Headers
        | Kind::Priority
        | Kind::RstStream
        | Kind::PushPromise
        | Kind::Continuation => header.stream != 0,
        Kind::Settings | Kind::Ping | Kind::GoAway => header.stream == 0,
        Kind::WindowUpdate | Kind::Unknown(_) => true,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::protocol(Reason::StreamZero {
        kind: header.kind.code(),
        stream: header.stream,
    }))
}

fn exactly(header: FrameHeader, fits: bool) -> Result<u32, Error> {
    if fits {
        Ok(header.length)
    } else {
        Err(wrong_size(header))
    }
}

fn wrong_size(header: FrameHeader) -> Error {
    let reason = Reason::FrameSize {
        kind: header.kind.code(),
        length: header.length,
    };
    Error::remote(ErrorCode::FrameSizeError, reason)
}
