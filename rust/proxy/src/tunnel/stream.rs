//! One CONNECT stream as its connection's task sees it.
//!
//! Bytes toward the application do not pass through here: the tunnel writes them into the application's socket as
//! they are decrypted (`slot.rs`). What is left to wait for is the end, held bytes, and room to send.

use std::future::poll_fn;
use std::io::{self, IoSliceMut};
use std::rc::Rc;
use std::task::{Context, Poll};

use hbone::{ErrorCode, RequestHead, ResponseHead, StreamId};
use tokio::net::TcpStream;

use super::slot::Slot;
pub(crate) use super::slot::StreamEnd;
use crate::connection::Flow;

use super::outgoing::{self, FillError, RECORDS_PER_READ};
use super::state::{Phase, State, Tunnel, TunnelEnd, Wire};
use crate::tls::RECORD_PAYLOAD;

/// Handle of one stream. Dropping it before both sides have finished resets the stream (CANCEL).
pub(crate) struct TunnelStream {
    tunnel: Rc<Tunnel>,
    id: StreamId,
}

/// What the reading half finds.
#[derive(Debug)]
pub(crate) enum Inbox {
    /// Bytes are held that the application has not taken.
    Held,
    /// Everything was delivered and the peer sent END_STREAM.
    Finished,
    /// Everything was delivered and the stream was cut; or it was cut and nothing shall be delivered any more.
    Cut(StreamEnd),
    /// The application's socket failed while bytes were written to it.
    ApplicationFailed,
}

impl Tunnel {
    /// Opens a stream by a CONNECT request.
    ///
    /// # Errors
    /// The tunnel is full, going away, or over.
    pub(crate) fn open(self: &Rc<Self>, head: &RequestHead) -> Result<TunnelStream, OpenFailed> {
        let mut state = self.state.borrow_mut();
        if matches!(state.phase, Phase::Ended(_)) {
            return Err(OpenFailed);
        }
        let id = state.wire.engine.open(head).map_err(|_| OpenFailed)?;
        state.slots.insert(id, Slot::default());
        state.wire.wake_driver();
        Ok(TunnelStream {
            tunnel: self.clone(),
            id,
        })
    }

    /// Takes up a stream that the peer opened.
    pub(super) fn accept(self: &Rc<Self>, id: StreamId) -> TunnelStream {
        TunnelStream {
            tunnel: self.clone(),
            id,
        }
    }
}

/// Whether a stream may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    Open,
    /// The socket has to take what waits for it first.
    Full,
    /// The peer has to take what was sent first.
    WindowClosed,
}

/// Where a stream's payload comes from; reads once into all of the slices.
pub(crate) trait Source: FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize> {}

impl<F: FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<usize>> Source for F {}

/// Why nothing was sent.
#[derive(Debug)]
pub(crate) enum SendError {
    Source(io::Error),
    Stream(StreamEnd),
}

/// The tunnel filled, began to leave or ended: another one may do.
#[derive(Debug)]
pub(crate) struct OpenFailed;

impl TunnelStream {
    pub(crate) fn tunnel(&self) -> &Rc<Tunnel> {
        &self.tunnel
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> StreamId {
        self.id
    }

    /// The peer's answer to our CONNECT, once.
    ///
    /// # Errors
    /// The stream or its tunnel ended first.
    pub(super) fn poll_response(
        &self,
        context: &Context<'_>,
    ) -> Result<Poll<ResponseHead>, StreamEnd> {
        self.with(|_, slot| {
            if let Some(head) = slot.response.take() {
                return Ok(Poll::Ready(*head));
            }
            if let Some(end) = &slot.cut {
                return Err(end.clone());
            }
            slot.await_news(context);
            Ok(Poll::Pending)
        })
    }

    /// Whether the peer was heard a moment ago, so that what is sent now will hardly be lost.
    pub(super) fn is_fresh(&self) -> bool {
        self.tunnel.state.borrow().wire.is_fresh()
    }

    /// Answers the peer's request. With `end` there will be no body.
    pub(crate) fn respond(&self, head: &ResponseHead, end: bool) {
        let mut state = self.tunnel.state.borrow_mut();
        // A stream that the peer has reset meanwhile needs no answer.
        let _ = state.wire.engine.respond(self.id, head, end);
        if end {
            // The request's body is not wanted. NO_ERROR, as the response must not be thrown away (RFC 9113 §8.1).
            state.wire.engine.reset(self.id, ErrorCode::NoError);
        }
        state.wire.wake_driver();
    }

    /// From now on received bytes go into this socket and are counted; what came before is written by the relay.
    pub(crate) fn attach(&self, application: Rc<TcpStream>, flow: Rc<Flow>) {
        self.with(|_, slot| slot.application = Some((application, flow)));
    }

    /// What is held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> Vec<u8> {
        self.with(|_, slot| slot.held.as_slice().to_vec())
    }

    /// Waits until something can be done with received bytes.
    #[cfg(test)]
    pub(crate) async fn inbox(&self) -> Inbox {
        poll_fn(|context| self.poll_inbox(context)).await
    }

    pub(crate) fn poll_inbox(&self, context: &Context<'_>) -> Poll<Inbox> {
        self.with(|_, slot| {
            if slot.application_failed {
                return Poll::Ready(Inbox::ApplicationFailed);
            }
            if let Some(end) = slot.cut.as_ref().filter(|end| end.is_revoked()) {
                return Poll::Ready(Inbox::Cut(end.clone()));
            }
            if slot.held.len() > 0 {
                return Poll::Ready(Inbox::Held);
            }
            // Before a cut: END_STREAM came first, so this direction is complete whatever happened behind it.
            if slot.finished {
                return Poll::Ready(Inbox::Finished);
            }
            if let Some(end) = &slot.cut {
                return Poll::Ready(Inbox::Cut(end.clone()));
            }
            slot.await_news(context);
            Poll::Pending
        })
    }

    /// Writes held bytes to the application and gives the peer credit for them.
    ///
    /// # Errors
    /// `WouldBlock` when the application takes no more now.
    pub(crate) fn write_held(&self) -> io::Result<()> {
        self.with(|wire, slot| {
            let gone = slot.write_held()?;
            self.credit(wire, gone);
            Ok(())
        })
    }

    /// Takes held bytes where no application is attached, and gives the peer credit for them; 0 at the peer's end, `None`
    /// while there is nothing.
    pub(super) fn take(&self, buffer: &mut [u8]) -> Option<Result<usize, StreamEnd>> {
        self.with(|wire, slot| {
            let taken = slot.held.take(buffer);
            if taken > 0 {
                self.credit(wire, taken);
                return Some(Ok(taken));
            }
            if slot.finished {
                return Some(Ok(0));
            }
            slot.cut.clone().map(Err)
        })
    }

    fn credit(&self, wire: &mut Wire, gone: usize) {
        wire.tell_time();
        wire.engine.release(self.id, gone);
        // A paused tunnel may have little left now.
        if !wire.engine.output().is_empty() || wire.paused {
            wire.wake_driver();
        }
    }

    /// Whether payload may be sent now. If not, `context` is woken when that changes.
    pub(crate) fn poll_room(&self, context: &Context<'_>) -> Result<Room, StreamEnd> {
        let mut pass_on = false;
        let room = self.with(|wire, slot| {
            if let Some(end) = &slot.cut {
                return Err(end.clone());
            }
            let room = if wire.engine.sendable(self.id) == 0 {
                Room::WindowClosed
            } else if wire.has_room_for(self.id, slot, wire.now()) {
                return Ok(Room::Open);
            } else {
                if !slot.queued {
                    slot.queued = true;
                    pass_on = wire.wait_for_room(self.id);
                }
                Room::Full
            };
            slot.await_room(context);
            Ok(room)
        })?;
        if room == Room::WindowClosed || pass_on {
            // It may have been this stream's turn.
            self.tunnel.state.borrow_mut().grant_room();
        }
        Ok(room)
    }

    /// Reads what `source` has, as far as there is room, and sends it as DATA. Gives how many bytes: 0 at the source's
    /// end.
    ///
    /// # Errors
    /// Reading failed, `WouldBlock` included, or the stream was cut.
    pub(crate) fn send_from(&self, source: impl Source) -> Result<usize, SendError> {
        let mut state = self.tunnel.state.borrow_mut();
        let sent = state.fill(self.id, source);
        // Whatever came of it, this turn is over.
        state.grant_room();
        match sent {
            Ok(n) => {
                if n > 0 {
                    state.wire.wake_driver();
                }
                Ok(n)
            }
            Err(FillError::Read(error)) => Err(SendError::Source(error)),
            Err(FillError::Tls(error)) => {
                // The driver finds the same and ends the tunnel.
                state.wire.wake_driver();
                let end = TunnelEnd::Tls(error);
                Err(SendError::Stream(StreamEnd::Lost(Rc::new(end))))
            }
            Err(FillError::Frame(())) => {
                let cut = state.slots.get(&self.id).and_then(|slot| slot.cut.clone());
                let end = cut.unwrap_or(StreamEnd::Reset(ErrorCode::StreamClosed));
                Err(SendError::Stream(end))
            }
        }
    }

    /// Our side is complete: END_STREAM.
    pub(crate) fn finish(&self) {
        let mut state = self.tunnel.state.borrow_mut();
        // A stream that was cut meanwhile has no end to announce.
        let _ = state.wire.engine.finish(self.id);
        state.wire.wake_driver();
    }

    /// Whether the peer has sent all it had, delivered or not.
    pub(crate) fn is_finished(&self) -> bool {
        self.with(|_, slot| slot.finished)
    }

    /// Whether the stream was cut, by whomever.
    pub(super) fn is_cut(&self) -> bool {
        self.with(|_, slot| slot.cut.is_some())
    }

    /// Whether something is held that nobody has taken.
    pub(super) fn holds_bytes(&self) -> bool {
        self.with(|_, slot| slot.held.len() > 0)
    }

    /// Whether the peer has sent all it had and then asked us to stop: an end, not an abort.
    pub(crate) fn answered_in_full(&self) -> bool {
        self.with(|_, slot| slot.answered_in_full())
    }

    /// Waits until the stream is cut, by whomever.
    pub(crate) async fn cut(&self) -> StreamEnd {
        poll_fn(|context| self.poll_cut(context)).await
    }

    /// The same as a question.
    pub(crate) fn poll_cut(&self, context: &Context<'_>) -> Poll<StreamEnd> {
        self.with(|_, slot| match &slot.cut {
            Some(end) => Poll::Ready(end.clone()),
            None => {
                slot.await_news(context);
                Poll::Pending
            }
        })
    }

    fn with<R>(&self, use_it: impl FnOnce(&mut Wire, &mut Slot) -> R) -> R {
        let mut state = self.tunnel.state.borrow_mut();
        let State { wire, slots, .. } = &mut *state;
        let slot = slots
            .get_mut(&self.id)
            .expect("a slot lives as long as its handle");
        use_it(wire, slot)
    }
}

impl State {
    /// Moves payload of one stream into the outgoing records.
    fn fill(&mut self, id: StreamId, source: impl Source) -> Result<usize, FillError<()>> {
        let Self { wire, slots, .. } = self;
        // What the engine has to say comes first: a frame header must not overtake it.
        wire.stage_control().map_err(|end| match end {
            TunnelEnd::Tls(error) => FillError::Tls(error),
            _ => FillError::Frame(()),
        })?;
        let slot = slots.get_mut(&id).ok_or(FillError::Frame(()))?;
        let now = wire.now();
        let contested = wire.sharing.is_contested_for(id, now);
        let Wire {
            engine,
            tls,
            outgoing,
            sharing,
            ..
        } = wire;
        let limit = slot.appetite(contested).min(engine.sendable(id));
        if limit == 0 {
            return Err(FillError::Read(io::ErrorKind::WouldBlock.into()));
        }
        // A peer such as upstream holds a frame until it is whole: small ones until bulk is under way.
        let small = slot.sent < SMALL_FRAMES || engine.max_data() < FRAME_RECORDS * RECORD_PAYLOAD;
        let span = if small { 1 } else { FRAME_RECORDS };
        let header = |length| engine.send(id, length, false).map_err(|_| ());
        let n = outgoing.fill(limit, span, tls, source, header)?;
        slot.sent += n as u64;
        slot.habit.saw(n);
        sharing.saw(id, slot.habit, now);
        Ok(n)
    }
}

/// How much goes out in frames of one record before larger ones are used (spec/dataplane.md §4).
const SMALL_FRAMES: u64 = 256 * 1024;
/// Records of a larger frame: 64 KiB.
const FRAME_RECORDS: usize = 4;

impl Slot {
    /// What one read may take: a record's worth where little comes at a time, a turn's worth beside somebody who waits
    /// for answers, else as much as pays off.
    fn appetite(&self, contested: bool) -> usize {
        if self.habit.is_small() {
            RECORD_PAYLOAD - 9
        } else if contested {
            TURN
        } else {
            RECORDS_PER_READ * RECORD_PAYLOAD
        }
    }

    /// What may wait in front of this stream's next bytes. Somebody's question need not wait for its turn.
    pub(super) fn allowance(&self, contested: bool) -> usize {
        if self.habit.is_small() || self.sent == 0 {
            outgoing::SMALL_HIGH
        } else if contested {
            TURN
        } else {
            outgoing::HIGH
        }
    }
}

/// What a bulk stream sends before others of the tunnel have their turn, if one of them waits for answers.
const TURN: usize = 32 * 1024;

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let mut state = self.tunnel.state.borrow_mut();
        // No credit for what was not delivered: a stream that is reset needs none, and one that has ended neither.
        state.slots.remove(&self.id);
        // Nothing happens to a stream that both sides have finished.
        state.wire.engine.reset(self.id, ErrorCode::Cancel);
        // It may have been its turn.
        state.grant_room();
        if state.is_quiet() {
            state.idle_since = std::time::Instant::now();
        }
        state.wire.wake_driver();
    }
}
