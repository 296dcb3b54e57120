//! What a tunnel keeps for one stream: bytes that its application has not taken yet, its end, who waits for it.
//!
//! Knows no socket but the application's, into which received bytes go directly while nothing is held back.

use std::io;
use std::rc::Rc;
use std::task::Waker;

use hbone::{ErrorCode, ResponseHead};
use tokio::net::TcpStream;

use super::state::TunnelEnd;
use crate::connection::Flow;

/// How a stream stopped other than by both sides saying so.
#[derive(Clone, Debug)]
pub(crate) enum StreamEnd {
    /// RST_STREAM, by the peer or by our engine over the peer's mistake.
    Reset(ErrorCode),
    /// The tunnel below is gone.
    Lost(Rc<TunnelEnd>),
}

/// Bytes that were received but not delivered. Owns no memory while empty.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    start: usize,
}

impl Held {
    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn push(&mut self, bytes: &[u8]) {
        // Compact first: a reader that keeps slightly behind would otherwise grow the buffer without end.
        if self.start > 0 && self.start >= self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn advance(&mut self, n: usize) {
        self.start += n;
        if self.start == self.bytes.len() {
            *self = Self::default();
        }
    }

    pub(super) fn clear(&mut self) -> usize {
        let held = self.len();
        *self = Self::default();
        held
    }
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    /// The application, once it is connected; before that everything is held.
    pub(super) application: Option<(Rc<TcpStream>, Rc<Flow>)>,
    /// Bounded by the receive window that was advertised for the stream.
    pub(super) held: Held,
    /// The peer sent END_STREAM.
    pub(super) finished: bool,
    /// The stream was cut.
    pub(super) cut: Option<StreamEnd>,
    /// Writing to the application failed: it is gone.
    pub(super) application_failed: bool,
    /// The peer's answer to our CONNECT.
    pub(super) response: Option<ResponseHead>,
    /// The half of the relay that takes from the tunnel.
    pub(super) reader: Option<Waker>,
    /// The half of the relay that gives to the tunnel.
    pub(super) writer: Option<Waker>,
}

impl Slot {
    /// Takes received payload: writes it through where nothing waits before it, holds the rest.
    /// Returns how many bytes left our hands, to be credited to the peer.
    pub(super) fn offer(&mut self, bytes: &[u8]) -> usize {
        if self.application_failed {
            return bytes.len();
        }
        let mut written = 0;
        if self.held.len() == 0
            && let Some((application, flow)) = &self.application
        {
            written = match application.try_write(bytes) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return self.fail() + bytes.len(),
            };
            flow.add(written);
        }
        if written < bytes.len() {
            self.held.push(&bytes[written..]);
            self.wake_reader();
        }
        written
    }

    /// Writes held bytes to the application. Returns how many bytes left our hands.
    ///
    /// # Errors
    /// `WouldBlock` when the application takes no more now.
    pub(super) fn write_held(&mut self) -> io::Result<usize> {
        let Some((application, flow)) = &self.application else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        match application.try_write(self.held.as_slice()) {
            Ok(n) => {
                self.held.advance(n);
                flow.add(n);
                Ok(n)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            Err(_) => Ok(self.fail()),
        }
    }

    /// The application is gone: nothing more can be delivered. Returns the bytes thrown away.
    fn fail(&mut self) -> usize {
        self.application_failed = true;
        self.wake_reader();
        self.held.clear()
    }

    /// END_STREAM, then RST_STREAM(NO_ERROR): the peer is done and reads no more (RFC 9113 §8.1). Envoy ends every
    /// answer so that comes before the end of the request.
    pub(super) fn answered_in_full(&self) -> bool {
        self.finished && matches!(self.cut, Some(StreamEnd::Reset(ErrorCode::NoError)))
    }

    pub(super) fn cut(&mut self, end: StreamEnd) {
        if self.cut.is_none() {
            self.cut = Some(end);
        }
        self.wake_reader();
        self.wake_writer();
    }

    pub(super) fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}
