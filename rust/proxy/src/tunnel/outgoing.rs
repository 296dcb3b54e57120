//! What waits for a tunnel's socket, laid out as TLS records from the first byte on.
//!
//! ```text
//!   sent ─▶ sealed records ─▶ sealed │ 5 free │ plaintext of the record being filled │ 17 free │ …
//! ```
//! An application's bytes are read straight into the place where they will be sealed, behind room for the record's and
//! the frame's header, so nothing is copied on the way out. Small messages of many streams share one record: it is
//! sealed when it is full, or when the driver is about to write. Knows nothing of sockets and streams; `stream.rs`
//! reads into it, `driver.rs` writes it away. Owns no memory while nothing waits: the buffer is the worker's.

use std::io::{self, IoSliceMut};

use crate::scratch;
use crate::tls::{RECORD_HEADER, RECORD_PAYLOAD, RECORD_TRAILER, Session, TlsError};

/// Ciphertext that may wait for the socket before streams have to pause.
pub(super) const HIGH: usize = 128 * 1024;
/// The same for a stream's small message: it need not wait for a turn behind bulk.
pub(super) const SMALL_HIGH: usize = HIGH + RECORD_PAYLOAD;
/// The same for what the engine has to say. Above the others, so that whatever may be sent finds nothing before it that
/// still waits.
pub(super) const CONTROL_HIGH: usize = SMALL_HIGH + RECORD_PAYLOAD;
/// Records that one read of an application may fill.
pub(super) const RECORDS_PER_READ: usize = 16;
/// A DATA frame's header.
const FRAME_HEADER: usize = 9;
/// Less room than this in the record being filled is not worth a frame of its own.
const WORTH_FILLING: usize = 1024;
/// A record with all around it.
const RECORD: usize = RECORD_HEADER + RECORD_PAYLOAD + RECORD_TRAILER;

/// What turns plaintext into records; [`Session`] outside of tests.
pub(super) trait Seal {
    /// Seals `[5 free][payload][17 free]` in place; bytes put into `ahead` must be sent before it.
    fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError>;
}

impl Seal for Session {
    fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError> {
        Self::seal(self, record, ahead)
    }
}

/// Bytes for the socket, first in first out.
#[derive(Default)]
pub(super) struct Outgoing {
    /// All of it initialised; empty while nothing waits.
    buffer: Vec<u8>,
    /// Sealed bytes before this have left.
    sent: usize,
    /// Sealed bytes end here.
    sealed: usize,
    /// Payload of the record that is being filled; it begins [`RECORD_HEADER`] behind `sealed`.
    open: usize,
}

/// A piece of the buffer that a read may fill.
#[derive(Clone, Copy)]
struct Gap {
    start: usize,
    len: usize,
    /// The frame whose header stands right in front.
    begins_frame: bool,
}

/// Why [`Outgoing::fill`] put nothing in.
#[derive(Debug)]
pub(super) enum FillError<E> {
    Read(io::Error),
    Frame(E),
    Tls(TlsError),
}

impl Outgoing {
    /// Bytes that wait, sealed or not.
    pub(super) fn len(&self) -> usize {
        self.sealed - self.sent + self.open
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sealed bytes; [`Self::seal`] before, so that they are all.
    pub(super) fn waiting(&self) -> &[u8] {
        &self.buffer[self.sent..self.sealed]
    }

    /// The socket has taken `n` bytes.
    pub(super) fn advance(&mut self, n: usize) {
        self.sent += n;
        if self.sent == self.sealed && self.open == 0 {
            scratch::give_back(std::mem::take(&mut self.buffer));
            (self.sent, self.sealed) = (0, 0);
        }
    }

    /// Appends plaintext that is not payload of an application.
    pub(super) fn put(&mut self, mut bytes: &[u8], tls: &mut impl Seal) -> Result<(), TlsError> {
        while !bytes.is_empty() {
            let room = RECORD_PAYLOAD - self.open;
            let taken = bytes.len().min(room);
            self.reserve(RECORD_HEADER + self.open + taken + RECORD_TRAILER + AHEAD);
            let start = self.sealed + RECORD_HEADER + self.open;
            self.buffer[start..start + taken].copy_from_slice(&bytes[..taken]);
            self.open += taken;
            bytes = &bytes[taken..];
            if self.open == RECORD_PAYLOAD {
                self.seal(tls)?;
            }
        }
        Ok(())
    }

    /// Puts records that are sealed already in front of the one that is being filled, whose turn is later.
    pub(super) fn put_sealed(&mut self, records: &[u8]) {
        if records.is_empty() {
            return;
        }
        let length = records.len();
        self.reserve(length + RECORD_HEADER + self.open + RECORD_TRAILER + AHEAD);
        self.insert(records, self.data_end());
        self.sealed += length;
    }

    /// Lets `read` fill room for up to `limit` bytes of one stream's payload and frames what it has read: a frame
    /// begins in every `span`th record. `frame` gives the header for a payload of so many bytes.
    ///
    /// # Errors
    /// Nothing was put in when reading failed. Anything else ends the tunnel or the stream.
    pub(super) fn fill<E>(
        &mut self,
        limit: usize,
        span: usize,
        tls: &mut impl Seal,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
        mut frame: impl FnMut(usize) -> Result<[u8; FRAME_HEADER], E>,
    ) -> Result<usize, FillError<E>> {
        if RECORD_PAYLOAD - self.open < WORTH_FILLING {
            self.seal(tls).map_err(FillError::Tls)?;
        }
        self.reserve(extent(self.open + limit) + AHEAD);
        let (gaps, count) = self.gaps(limit, span);
        let gaps = &gaps[..count];
        let mut slices = slices(&mut self.buffer, gaps);
        let n = match read(&mut slices[..count]) {
            Ok(n) => n,
            Err(error) => {
                self.release_if_empty();
                return Err(FillError::Read(error));
            }
        };
        if n == 0 {
            self.release_if_empty();
            return Ok(0);
        }
        self.frame(gaps, n, tls, &mut frame)?;
        Ok(n)
    }

    /// Seals the record that is being filled, if there is one.
    pub(super) fn seal(&mut self, tls: &mut impl Seal) -> Result<(), TlsError> {
        if self.open == 0 {
            return Ok(());
        }
        let data_end = self.data_end();
        self.seal_record(self.open, data_end, tls).map(|_| ())
    }

    /// Where payload may go, in the record that is being filled and those behind it.
    fn gaps(&self, limit: usize, span: usize) -> ([Gap; RECORDS_PER_READ + 1], usize) {
        let mut gaps = [Gap {
            start: 0,
            len: 0,
            begins_frame: false,
        }; RECORDS_PER_READ + 1];
        let (mut record, mut used, mut left, mut count) = (self.sealed, self.open, limit, 0);
        while left > 0 && count < gaps.len() {
            let begins_frame = count % span == 0;
            let header = if begins_frame { FRAME_HEADER } else { 0 };
            let len = (RECORD_PAYLOAD - used - header).min(left);
            gaps[count] = Gap {
                start: record + RECORD_HEADER + used + header,
                len,
                begins_frame,
            };
            left -= len;
            count += 1;
            (record, used) = (record + RECORD, 0);
        }
        (gaps, count)
    }

    /// Writes the frame headers around `n` bytes that lie in `gaps`, and seals every record that is full.
    fn frame<E>(
        &mut self,
        gaps: &[Gap],
        n: usize,
        tls: &mut impl Seal,
        frame: &mut impl FnMut(usize) -> Result<[u8; FRAME_HEADER], E>,
    ) -> Result<(), FillError<E>> {
        let filled = |from: usize, left: usize| {
            let mut length = 0;
            for (index, gap) in gaps.iter().enumerate().skip(from) {
                if length == left || (index > from && gap.begins_frame) {
                    break;
                }
                length += gap.len.min(left - length);
            }
            length
        };
        let mut left = n;
        // Headers first: a sealed record cannot be written into.
        for (index, gap) in gaps.iter().enumerate() {
            if left == 0 {
                break;
            }
            if gap.begins_frame {
                let header = frame(filled(index, left)).map_err(FillError::Frame)?;
                self.buffer[gap.start - FRAME_HEADER..gap.start].copy_from_slice(&header);
            }
            left -= gap.len.min(left);
        }
        let mut left = n;
        let mut data_end = 0;
        for gap in gaps {
            data_end = gap.start + gap.len.min(left);
            left -= gap.len.min(left);
            if left == 0 {
                break;
            }
        }
        let (mut left, mut shift) = (n, 0);
        for gap in gaps {
            let length = gap.len.min(left);
            left -= length;
            self.open = gap.start + shift + length - self.sealed - RECORD_HEADER;
            if left == 0 && self.open < RECORD_PAYLOAD {
                break;
            }
            shift += self
                .seal_record(self.open, data_end + shift, tls)
                .map_err(FillError::Tls)?;
            if left == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Seals the record at `sealed`. Bytes up to `data_end` move if the session has something to say first; gives by
    /// how much.
    fn seal_record(
        &mut self,
        payload: usize,
        data_end: usize,
        tls: &mut impl Seal,
    ) -> Result<usize, TlsError> {
        let length = RECORD_HEADER + payload + RECORD_TRAILER;
        let mut ahead = Vec::new();
        tls.seal(
            &mut self.buffer[self.sealed..self.sealed + length],
            &mut ahead,
        )?;
        if !ahead.is_empty() {
            let end = data_end.max(self.sealed + length);
            let room = self.buffer.len().max(end + RECORD_TRAILER + ahead.len());
            self.buffer.resize(room, 0); // rare: the room that is kept for it holds several key updates
            self.insert(&ahead, end);
        }
        self.sealed += ahead.len() + length;
        self.open = 0;
        Ok(ahead.len())
    }

    /// Puts `bytes` at `sealed`, moving what lies behind, up to `end`. There is room.
    fn insert(&mut self, bytes: &[u8], end: usize) {
        let at = self.sealed;
        self.buffer.copy_within(at..end, at + bytes.len());
        self.buffer[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn data_end(&self) -> usize {
        if self.open == 0 {
            self.sealed
        } else {
            self.sealed + RECORD_HEADER + self.open
        }
    }

    /// Makes sure that `needed` bytes behind `sealed` exist.
    fn reserve(&mut self, needed: usize) {
        if self.buffer.len() - self.sealed >= needed {
            return;
        }
        let data_end = self.data_end();
        let waiting = data_end - self.sent;
        let needed = self.sealed - self.sent + needed;
        let size = if needed <= SMALL {
            SMALL
        } else {
            needed.max(scratch::OUTGOING)
        };
        if self.buffer.len() >= size {
            // What was sent makes room enough.
            self.buffer.copy_within(self.sent..data_end, 0);
        } else {
            let mut larger = scratch::lend(size);
            larger[..waiting].copy_from_slice(&self.buffer[self.sent..data_end]);
            scratch::give_back(std::mem::replace(&mut self.buffer, larger));
        }
        self.sealed -= self.sent;
        self.sent = 0;
    }

    fn release_if_empty(&mut self) {
        if self.is_empty() {
            self.advance(0);
        }
    }
}

/// What records of so much payload take at most, headers of frames included.
fn extent(payload: usize) -> usize {
    let records = payload.div_ceil(RECORD_PAYLOAD - FRAME_HEADER);
    payload + records * (RECORD - RECORD_PAYLOAD + FRAME_HEADER)
}

/// The gaps as what a vectored read takes.
fn slices<'b>(buffer: &'b mut [u8], gaps: &[Gap]) -> [IoSliceMut<'b>; RECORDS_PER_READ + 1] {
    let mut slices = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let (mut rest, mut at) = (buffer, 0);
    for (slice, gap) in slices.iter_mut().zip(gaps) {
        let (_, behind) = rest.split_at_mut(gap.start - at);
        let (piece, behind) = behind.split_at_mut(gap.len);
        *slice = IoSliceMut::new(piece);
        (rest, at) = (behind, gap.start + gap.len);
    }
    slices
}

/// What handshakes and control frames get: most tunnels have nothing larger to say at a time.
const SMALL: usize = 4 * 1024;

/// Room for what a session puts in front of records: a key update has 27 bytes.
const AHEAD: usize = 256;

/// The largest that one turn fills: what may wait, and one read behind it.
const _: () = assert!(scratch::OUTGOING >= CONTROL_HIGH + (RECORDS_PER_READ + 1) * RECORD + AHEAD);

#[cfg(test)]
mod tests;
