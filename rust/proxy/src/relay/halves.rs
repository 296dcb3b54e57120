//! An application's socket joined to a tunnel's stream.
//!
//! Up: read into the tunnel's outgoing records (`tunnel/outgoing.rs`). Down: the tunnel writes into the socket by itself
//! (`tunnel/slot.rs`); here only what it had to hold back is written, and the end. One small state machine, because a
//! node has as many of these as it has connections: no buffer, and a timer only while somebody is given time.
//!
//! ```text
//!   Running ──── both sides ended ───────────────────────────────────────────▶ Finished
//!      ├─ writing to the application failed ─▶ Emptying (what it had sent) ──▶ Reset
//!      ├─ the stream was cut ─▶ Delivering (what is held) ──┬────────────────▶ Reset or Failed
//!      │                             the answer was whole ──┴▶ Discarding ───▶ Finished
//!      └─ cut by us, or the peer's certificate is revoked ─────────────────────────────────────────────────────────▶ Cut
//! ```

use std::future::{Future, poll_fn};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hbone::ErrorCode;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::io::{read_available, read_vectored};
use super::{LAST_BYTES, PATIENCE, RelayEnd};
use crate::connection::Flow;
use crate::error::{Error, Side, Stage};
use crate::scratch;
use crate::tunnel::stream::{Inbox, Room, SendError};
use crate::tunnel::{StreamEnd, TunnelStream};

/// Reads of one turn before other tasks of the worker get theirs.
const READS_PER_TURN: usize = 4;

/// One application connection on one stream.
pub(crate) struct Halves<'c> {
    stream: &'c TunnelStream,
    application: &'c Rc<TcpStream>,
    /// Which neighbour the application is.
    side: Side,
    /// Application to tunnel.
    up: &'c Flow,
    phase: Phase,
    up_done: bool,
    down_done: bool,
    /// Reading from or writing to the application has failed. That took the error off its socket, whose end now looks like a FIN.
    failed: bool,
    /// Runs while somebody is given a limited time.
    timer: Option<Pin<Box<Sleep>>>,
    /// Listens for the application's reset where no read would find it; kept, because tokio forgets who listens when
    /// the question is dropped.
    failure: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

#[derive(Debug)]
enum Phase {
    Running,
    /// The application is gone for us; what it had said before still goes up.
    Emptying,
    /// The stream was cut; what was held for a slow reader comes before the end.
    Delivering(StreamEnd),
    /// The answer was complete before the question: closing over unread bytes would be a RST that overtakes it.
    Discarding,
}

impl<'c> Halves<'c> {
    pub(crate) fn new(
        stream: &'c TunnelStream,
        application: &'c Rc<TcpStream>,
        side: Side,
        up: &'c Flow,
    ) -> Self {
        Self {
            stream,
            application,
            side,
            up,
            phase: Phase::Running,
            up_done: false,
            down_done: false,
            failed: false,
            timer: None,
            failure: None,
        }
    }

    /// With `failed`, an earlier read has taken the error off the application's socket.
    pub(crate) fn after(mut self, failed: bool) -> Self {
        self.failed = failed;
        self
    }

    /// Relays until both sides have ended, one was cut, or `cut` says so.
    pub(crate) async fn run(&mut self, cut: impl Future<Output = Error>) -> RelayEnd {
        let mut cut = pin!(cut);
        poll_fn(|context| {
            if let Poll::Ready(error) = cut.as_mut().poll(context) {
                return Poll::Ready(RelayEnd::Cut(error));
            }
            self.poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<RelayEnd> {
        loop {
            let next = match &self.phase {
                Phase::Running => ready!(self.poll_running(context)),
                Phase::Emptying => {
                    // Whatever it comes to: the application is gone.
                    if self.poll_upload(context).is_pending() && !self.is_late(context) {
                        return Poll::Pending;
                    }
                    return Poll::Ready(RelayEnd::Reset(self.side));
                }
                Phase::Delivering(end) => {
                    let end = end.clone();
                    let delivered = self.down_done || self.poll_download(context).is_ready();
                    if !delivered && !self.is_late(context) {
                        return Poll::Pending;
                    }
                    self.delivered(end)
                }
                Phase::Discarding => {
                    if self.poll_discard(context).is_pending() && !self.is_late(context) {
                        return Poll::Pending;
                    }
                    return Poll::Ready(RelayEnd::Finished);
                }
            };
            match next {
                Step::End(end) => return Poll::Ready(end),
                Step::Go(phase) => {
                    self.phase = phase;
                    self.timer = Some(Box::pin(sleep(PATIENCE)));
                }
            }
        }
    }

    fn poll_running(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        if !self.down_done
            && let Poll::Ready(ended) = self.poll_download(context)
        {
            match ended {
                Ok(()) => self.down_done = true,
                Err(_) if self.failed && !self.up_done => {
                    return Poll::Ready(Step::Go(Phase::Emptying));
                }
                Err(end) => return Poll::Ready(Step::End(end)),
            }
        }
        // Before `up`, which fails for the same reason and would not wait for what is held. Where both sides have said all
        // they had, the end of the tunnel below changes nothing: a slow application gets the rest in its own time.
        let complete = self.up_done && self.stream.is_finished();
        if !complete && let Poll::Ready(end) = self.stream.poll_cut(context) {
            return Poll::Ready(Step::Go(Phase::Delivering(end)));
        }
        if !self.up_done
            && let Poll::Ready(ended) = self.poll_upload(context)
        {
            match ended {
                Ok(()) => self.up_done = true,
                Err(end) => return Poll::Ready(Step::End(end)),
            }
        }
        if self.up_done && self.down_done {
            return Poll::Ready(Step::End(RelayEnd::Finished));
        }
        if self.up_done && self.poll_failure(context).is_ready() {
            return Poll::Ready(Step::End(RelayEnd::Reset(self.side)));
        }
        Poll::Pending
    }

    /// What follows once an application has what the cut stream had brought.
    fn delivered(&self, end: StreamEnd) -> Step {
        match (self.stream.answered_in_full(), self.up_done) {
            (true, false) => Step::Go(Phase::Discarding),
            (true, true) => Step::End(RelayEnd::Finished),
            (false, _) => Step::End(self.cut_by(end)),
        }
    }

    /// Moves what the application says into the tunnel, until it ends.
    fn poll_upload(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        for _ in 0..READS_PER_TURN {
            match self.application.poll_read_ready(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.socket_failed(&error))),
                Poll::Pending => return Poll::Pending,
            }
            match self.stream.poll_room(context) {
                Ok(Room::Open) => self.unstuck(),
                Ok(room) => return self.poll_stuck(room, context),
                Err(end) => return Poll::Ready(Err(self.cut_by(end))),
            }
            let application = &**self.application;
            match self
                .stream
                .send_from(|slices: &mut [IoSliceMut<'_>]| read_vectored(application, slices))
            {
                Ok(0) if self.failed => return Poll::Ready(Err(RelayEnd::Reset(self.side))),
                Ok(0) => {
                    self.stream.finish();
                    return Poll::Ready(Ok(()));
                }
                Ok(n) => self.up.add(n),
                Err(SendError::Source(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(SendError::Source(error)) => {
                    return Poll::Ready(Err(self.socket_failed(&error)));
                }
                Err(SendError::Stream(end)) => return Poll::Ready(Err(self.cut_by(end))),
            }
        }
        // Readiness costs nothing of tokio's budget: a fast application would keep the worker to itself.
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// There is something to read and no room to send it. That may be the end, which needs no room (RFC 9113 §6.9), or
    /// come before a reset, which nobody would see: then the bytes before it get limited time.
    fn poll_stuck(&mut self, room: Room, context: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        if room == Room::WindowClosed {
            match self.is_bare_end() {
                Ok(true) if self.failed => return Poll::Ready(Err(RelayEnd::Reset(self.side))),
                Ok(true) => {
                    self.stream.finish();
                    return Poll::Ready(Ok(()));
                }
                Ok(false) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Err(error) => return Poll::Ready(Err(self.socket_failed(&error))),
            }
        }
        if matches!(self.phase, Phase::Running) && self.poll_failure(context).is_ready() {
            self.start_timer(LAST_BYTES);
            if self.is_late(context) {
                return Poll::Ready(Err(RelayEnd::Reset(self.side)));
            }
        }
        Poll::Pending
    }

    /// Whether the application has ended without a byte left to read before it.
    fn is_bare_end(&self) -> io::Result<bool> {
        let look = || SockRef::from(&**self.application).peek(&mut [MaybeUninit::uninit()]);
        let peeked = self.application.try_io(Interest::READABLE, look)?;
        Ok(peeked == 0)
    }

    /// Writes what was held for the application, until the peer's end.
    fn poll_download(&mut self, context: &mut Context<'_>) -> Poll<Result<(), RelayEnd>> {
        loop {
            match ready!(self.stream.poll_inbox(context)) {
                Inbox::Held => {
                    if let Err(error) = ready!(self.application.poll_write_ready(context)) {
                        return Poll::Ready(Err(self.socket_failed(&error)));
                    }
                    // `WouldBlock` only means to wait again; other failures come back as `ApplicationFailed`.
                    let _ = self.stream.write_held();
                }
                Inbox::Finished => {
                    // Failing means that the application is gone, which its own side of the relay finds.
                    let _ = SockRef::from(&**self.application).shutdown(Shutdown::Write);
                    return Poll::Ready(Ok(()));
                }
                Inbox::Cut(end) => return Poll::Ready(Err(self.cut_by(end))),
                Inbox::ApplicationFailed => {
                    self.failed = true;
                    return Poll::Ready(Err(RelayEnd::Reset(self.side)));
                }
            }
        }
    }

    /// Reads what nobody wants, until the application ends.
    fn poll_discard(&self, context: &mut Context<'_>) -> Poll<()> {
        for _ in 0..READS_PER_TURN {
            if ready!(self.application.poll_read_ready(context)).is_err() {
                return Poll::Ready(());
            }
            let read = scratch::with(|buffer| read_available(self.application, buffer));
            match read {
                Ok(0) => return Poll::Ready(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Ready when the application has reset its connection, although nobody reads it.
    fn poll_failure(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let application = self.application;
        let failure = self
            .failure
            .get_or_insert_with(|| Box::pin(reset(application.clone())));
        ready!(failure.as_mut().poll(context));
        // A finished future must not be asked again; a new one finds the same.
        self.failure = None;
        Poll::Ready(())
    }

    /// There is room again: nobody has to be given limited time.
    fn unstuck(&mut self) {
        if matches!(self.phase, Phase::Running) {
            (self.timer, self.failure) = (None, None);
        }
    }

    fn start_timer(&mut self, limit: Duration) {
        if self.timer.is_none() {
            self.timer = Some(Box::pin(sleep(limit)));
        }
    }

    /// Whether the time that was given is over; wakes when it is.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let timer = self.timer.as_mut();
        timer.is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }

    fn socket_failed(&self, error: &io::Error) -> RelayEnd {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::ConnectionAborted => RelayEnd::Reset(self.side),
            _ => RelayEnd::Failed(Error::new(
                Stage::Relay,
                self.side,
                "io",
                format!("{}: io error: {error}", self.direction(self.side)),
            )),
        }
    }

    fn cut_by(&self, end: StreamEnd) -> RelayEnd {
        let peer = match self.side {
            Side::Downstream => Side::Upstream,
            _ => Side::Downstream,
        };
        if end.is_revoked() {
            return RelayEnd::Cut(Error::peer_revoked(peer));
        }
        match end {
            // The far application reset, or the far policy changed: the peer says no more than "cancelled", or, as
            // Envoy, what RFC 9113 §8.5 has for it.
            StreamEnd::Reset(ErrorCode::Cancel | ErrorCode::ConnectError | ErrorCode::NoError) => {
                RelayEnd::Reset(peer)
            }
            StreamEnd::Reset(code) => RelayEnd::Failed(Error::new(
                Stage::Relay,
                peer,
                "stream_reset",
                format!("{}: stream reset by peer: {code}", self.direction(peer)),
            )),
            StreamEnd::Lost(end) => RelayEnd::Failed(Error::new(
                Stage::Relay,
                peer,
                "tunnel_lost",
                format!("{}: io error: {end}", self.direction(peer)),
            )),
        }
    }

    /// As the access log names it: `send` is what goes upstream (spec/dataplane.md §7).
    fn direction(&self, from: Side) -> &'static str {
        if from == Side::Downstream {
            "send"
        } else {
            "receive"
        }
    }
}

/// Resolves when the socket is reset.
async fn reset(socket: Rc<TcpStream>) {
    loop {
        match socket.ready(Interest::ERROR).await {
            Ok(ready) if ready.is_error() => return,
            Ok(_) => tokio::task::yield_now().await,
            Err(_) => return,
        }
    }
}

enum Step {
    End(RelayEnd),
    Go(Phase),
}
