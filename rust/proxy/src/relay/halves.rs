//! An application's socket joined to a tunnel's stream.
//!
//! Up: read into the worker's scratch behind room for the DATA header, sealed from there. Down: the tunnel writes
//! into the socket by itself (`tunnel/slot.rs`); here only what it had to hold back is written, and the end.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;

use hbone::ErrorCode;
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{LAST_BYTES, PATIENCE, RelayEnd};
use crate::connection::Flow;
use crate::error::{Error, Side, Stage};
use crate::scratch;
use crate::tunnel::stream::{HEADROOM, Inbox};
use crate::tunnel::{StreamEnd, TunnelStream};

/// Largest payload of one read: a bulk stream gets this much before the next stream has its turn.
const CHUNK: usize = 64 * 1024;

/// One application connection on one stream.
pub(crate) struct Halves<'c> {
    pub(crate) stream: &'c TunnelStream,
    pub(crate) application: &'c Rc<TcpStream>,
    /// Which neighbour the application is.
    pub(crate) side: Side,
    /// Application to tunnel.
    pub(crate) up: &'c Flow,
    failed: Cell<bool>,
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
            failed: Cell::new(false),
        }
    }

    /// Relays until both sides have ended, one was cut, or `cut` says so.
    pub(crate) async fn run(&self, cut: impl Future<Output = Error>) -> RelayEnd {
        let mut cut = pin!(cut);
        let mut up = pin!(self.upload());
        let mut down = pin!(self.download());
        let (mut up_done, mut down_done) = (false, false);
        while !(up_done && down_done) {
            tokio::select! {
                biased;
                error = &mut cut => return RelayEnd::Cut(error),
                ended = &mut down, if !down_done => match ended {
                    Ok(()) => down_done = true,
                    Err(end) => return self.drain_application(end, up_done, up.as_mut()).await,
                },
                // Before `up`, which fails for the same reason and would not wait for what is held.
                end = self.stream.cut() => {
                    if !down_done {
                        // What was held for a slow reader comes before the end.
                        let _ = timeout(PATIENCE, &mut down).await;
                    }
                    if self.stream.answered_in_full() {
                        if !up_done {
                            // Closing over unread bytes would be a RST that overtakes the answer.
                            let _ = timeout(PATIENCE, self.discard()).await;
                        }
                        return RelayEnd::Finished;
                    }
                    return self.cut_by(end);
                }
                ended = &mut up, if !up_done => match ended {
                    Ok(()) => up_done = true,
                    Err(end) => return end,
                },
                () = self.application_failure(), if up_done => return RelayEnd::Reset(self.side),
            }
        }
        RelayEnd::Finished
    }

    /// The application's socket failed while we wrote to it. What it had sent before that may still wait to be read.
    async fn drain_application(
        &self,
        end: RelayEnd,
        up_done: bool,
        up: impl Future<Output = Result<(), RelayEnd>>,
    ) -> RelayEnd {
        if self.failed.get() && !up_done {
            let _ = timeout(PATIENCE, up).await;
        }
        end
    }

    /// Reads what nobody wants, until the application ends.
    async fn discard(&self) {
        while self.application.readable().await.is_ok() {
            match scratch::with(|buffer| self.application.try_read(buffer)) {
                Ok(0) => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }

    async fn upload(&self) -> Result<(), RelayEnd> {
        loop {
            if self.await_room().await? == Room::NotNeeded {
                self.stream.finish();
                return Ok(());
            }
            if let Err(error) = self.application.readable().await {
                return Err(self.socket_failed(&error));
            }
            let read = scratch::with(|buffer| {
                // Others may have used up the connection's window while we waited for the application.
                let room = self.stream.room_now().min(CHUNK);
                if room == 0 {
                    return Err(Pause::Again);
                }
                let n = self
                    .application
                    .try_read(&mut buffer[HEADROOM..HEADROOM + room])
                    .map_err(Pause::Socket)?;
                if n > 0 {
                    self.stream
                        .send(&mut buffer[..HEADROOM + n])
                        .map_err(Pause::Stream)?;
                }
                Ok(n)
            });
            match read {
                Ok(0) if self.failed.get() => return Err(RelayEnd::Reset(self.side)),
                Ok(0) => {
                    self.stream.finish();
                    return Ok(());
                }
                Ok(n) => self.up.add(n),
                Err(Pause::Again) => {}
                Err(Pause::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(Pause::Socket(error)) => return Err(self.socket_failed(&error)),
                Err(Pause::Stream(end)) => return Err(self.cut_by(end)),
            }
        }
    }

    /// Waits for room, but not for ever for an application that has reset meanwhile: nobody reads its socket while
    /// the window is full, so only the event tells.
    ///
    /// An end needs no room: a FIN behind a closed window is found here, too (RFC 9113 §6.9).
    async fn await_room(&self) -> Result<Room, RelayEnd> {
        if self.stream.room_now() > 0 {
            return Ok(Room::Open);
        }
        let room = tokio::select! {
            biased;
            room = self.stream.room() => Ok(room),
            () = self.application_failure() => timeout(LAST_BYTES, self.stream.room()).await,
            end = self.bare_end() => return end.map(|()| Room::NotNeeded),
        };
        match room {
            Ok(Ok(_)) => Ok(Room::Open),
            Ok(Err(end)) => Err(self.cut_by(end)),
            Err(_) => Err(RelayEnd::Reset(self.side)),
        }
    }

    /// Resolves when the application ends without a byte left to read before it.
    async fn bare_end(&self) -> Result<(), RelayEnd> {
        loop {
            if let Err(error) = self.application.readable().await {
                return Err(self.socket_failed(&error));
            }
            let look = || SockRef::from(&**self.application).peek(&mut [MaybeUninit::uninit()]);
            match self.application.try_io(Interest::READABLE, look) {
                Ok(0) if self.failed.get() => return Err(RelayEnd::Reset(self.side)),
                Ok(0) => return Ok(()),
                // Bytes come first, and they do need room.
                Ok(_) => std::future::pending().await,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.socket_failed(&error)),
            }
        }
    }

    async fn download(&self) -> Result<(), RelayEnd> {
        loop {
            match self.stream.inbox().await {
                Inbox::Held => {
                    if let Err(error) = self.application.writable().await {
                        return Err(self.socket_failed(&error));
                    }
                    // `WouldBlock` only means to wait again; other failures come back as `ApplicationFailed`.
                    let _ = self.stream.write_held();
                }
                Inbox::Finished => {
                    // Failing means that the application is gone, which its own side of the relay finds.
                    let _ = SockRef::from(&**self.application).shutdown(Shutdown::Write);
                    return Ok(());
                }
                Inbox::Cut(end) => return Err(self.cut_by(end)),
                Inbox::ApplicationFailed => {
                    self.failed.set(true);
                    return Err(RelayEnd::Reset(self.side));
                }
            }
        }
    }

    /// Resolves when the application resets a connection of which we have read the FIN.
    async fn application_failure(&self) {
        loop {
            match self.application.ready(Interest::ERROR).await {
                Ok(ready) if ready.is_error() => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(_) => return,
            }
        }
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

#[derive(PartialEq, Eq)]
enum Room {
    /// There is some.
    Open,
    /// The application has ended and has nothing more to say.
    NotNeeded,
}

enum Pause {
    Again,
    Socket(io::Error),
    Stream(StreamEnd),
}
