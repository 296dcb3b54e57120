//! What a tunnel keeps for one stream: bytes that its application has not taken yet, its end, who waits for it.
//!
//! Knows no socket but the application's, into which received bytes go directly while nothing is held back.

use std::io::{self, IoSlice};
use std::mem;
use std::rc::Rc;
use std::task::{Context, Waker};

use hbone::{ErrorCode, ResponseHead};
use tokio::net::TcpStream;

use super::held::Held;
use super::sharing::Habit;
use super::state::TunnelEnd;
use crate::connection::Flow;
use crate::relay::io::{write_available, write_vectored};

/// How a stream stopped other than by both sides saying so.
#[derive(Clone, Debug)]
pub(crate) enum StreamEnd {
    /// RST_STREAM, by the peer or by our engine over the peer's mistake.
    Reset(ErrorCode),
    /// The tunnel below is gone.
    Lost(Rc<TunnelEnd>),
}

impl StreamEnd {
    /// The peer is nobody to speak to any more: what has come of it is not delivered either.
    pub(crate) fn is_revoked(&self) -> bool {
        matches!(self, Self::Lost(end) if matches!(**end, TunnelEnd::Revoked))
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
    /// Waits in the tunnel's queue for room to send.
    pub(super) queued: bool,
    /// What it has sent so far: the first bytes go in small frames, bulk in larger ones.
    pub(super) sent: u64,
    /// What its messages are like.
    pub(super) habit: Habit,
    /// The peer's answer to our CONNECT.
    pub(super) response: Option<Box<ResponseHead>>,
    /// The task that this stream is for, and for what it waits.
    task: Option<Waker>,
    awaits_news: bool,
    awaits_room: bool,
}

impl Slot {
    /// Takes received payload: writes it through where nothing waits before it, holds the rest.
    /// Returns how many bytes left our hands, to be credited to the peer.
    pub(super) fn offer(&mut self, pieces: &[IoSlice<'_>]) -> usize {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if self.application_failed {
            return total;
        }
        let mut written = 0;
        if self.held.len() == 0
            && let Some((application, flow)) = &self.application
        {
            written = match write_vectored(application, pieces) {
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return self.fail() + total,
            };
            flow.add(written);
        }
        if written < total {
            let mut skip = written;
            for piece in pieces {
                let from = skip.min(piece.len());
                skip -= from;
                self.held.push(&piece[from..]);
            }
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
        match write_available(application, self.held.as_slice()) {
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

    /// The task wants to know what comes from the tunnel.
    pub(super) fn await_news(&mut self, context: &Context<'_>) {
        self.awaits_news = true;
        self.remember(context.waker());
    }

    /// The task wants to know when it may send.
    pub(super) fn await_room(&mut self, context: &Context<'_>) {
        self.awaits_room = true;
        self.remember(context.waker());
    }

    fn remember(&mut self, waker: &Waker) {
        match &mut self.task {
            Some(task) => task.clone_from(waker),
            None => self.task = Some(waker.clone()),
        }
    }

    pub(super) fn wake_reader(&mut self) {
        if mem::take(&mut self.awaits_news) {
            self.wake();
        }
    }

    pub(super) fn wake_writer(&mut self) {
        if mem::take(&mut self.awaits_room) {
            self.wake();
        }
    }

    /// Whether it would use its turn to send.
    pub(super) fn wants_room(&self) -> bool {
        self.awaits_room && self.cut.is_none()
    }

    /// Whatever it waits for, on either side.
    pub(super) fn wake(&self) {
        if let Some(task) = &self.task {
            task.wake_by_ref();
        }
    }
}
