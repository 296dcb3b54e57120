//! One CONNECT stream as its connection's task sees it.
//!
//! Bytes toward the application do not pass through here: the tunnel writes them into the application's socket as
//! they are decrypted (`slot.rs`). What is left to wait for is the end, held bytes, and room to send.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use hbone::{ErrorCode, RequestHead, ResponseHead, StreamId};
use tokio::net::TcpStream;

use super::slot::Slot;
pub(crate) use super::slot::StreamEnd;
use crate::connection::Flow;

use super::state::{OUTGOING_HIGH, Phase, State, Tunnel, TunnelEnd, Wire};

/// Bytes that a DATA frame's header takes in front of its payload.
pub(crate) const HEADROOM: usize = 9;

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
    /// Everything was delivered and the stream was cut.
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

/// The tunnel filled, began to leave or ended: another one may do.
#[derive(Debug)]
pub(crate) struct OpenFailed;

impl TunnelStream {
    pub(crate) fn tunnel(&self) -> &Rc<Tunnel> {
        &self.tunnel
    }

    /// Waits for the peer's answer to our CONNECT.
    ///
    /// # Errors
    /// The stream or its tunnel ended first.
    pub(crate) async fn response(&self) -> Result<ResponseHead, StreamEnd> {
        poll_fn(|context| {
            self.with(|_, slot| {
                if let Some(head) = slot.response.take() {
                    return Poll::Ready(Ok(head));
                }
                if let Some(end) = &slot.cut {
                    return Poll::Ready(Err(end.clone()));
                }
                slot.reader = Some(context.waker().clone());
                Poll::Pending
            })
        })
        .await
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

    /// Waits until something can be done with received bytes.
    pub(crate) async fn inbox(&self) -> Inbox {
        poll_fn(|context| self.poll_inbox(context)).await
    }

    fn poll_inbox(&self, context: &Context<'_>) -> Poll<Inbox> {
        self.with(|_, slot| {
            if slot.application_failed {
                return Poll::Ready(Inbox::ApplicationFailed);
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
            slot.reader = Some(context.waker().clone());
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
            wire.engine.release(self.id, gone);
            if !wire.engine.output().is_empty() {
                wire.wake_driver();
            }
            Ok(())
        })
    }

    /// Waits until payload may be sent; gives how much, at least 1.
    ///
    /// # Errors
    /// The stream was cut.
    pub(crate) async fn room(&self) -> Result<usize, StreamEnd> {
        poll_fn(|context| self.poll_room(context)).await
    }

    fn poll_room(&self, context: &Context<'_>) -> Poll<Result<usize, StreamEnd>> {
        self.with(|wire, slot| {
            if let Some(end) = &slot.cut {
                return Poll::Ready(Err(end.clone()));
            }
            let full = wire.outgoing.waiting().len() >= OUTGOING_HIGH;
            let sendable = wire.engine.sendable(self.id).min(wire.engine.max_data());
            if !full && sendable > 0 {
                return Poll::Ready(Ok(sendable));
            }
            slot.writer = Some(context.waker().clone());
            if full {
                wire.wait_for_room(self.id);
            }
            Poll::Pending
        })
    }

    /// The same without waiting; 0 if nothing may be sent now.
    pub(crate) fn room_now(&self) -> usize {
        self.with(|wire, _| {
            if wire.outgoing.waiting().len() >= OUTGOING_HIGH {
                return 0;
            }
            wire.engine.sendable(self.id).min(wire.engine.max_data())
        })
    }

    /// Sends one DATA frame. `frame` holds [`HEADROOM`] free bytes and then the payload, no longer than `room` said.
    ///
    /// # Errors
    /// The stream was cut.
    pub(crate) fn send(&self, frame: &mut [u8]) -> Result<(), StreamEnd> {
        let mut state = self.tunnel.state.borrow_mut();
        let State { wire, slots, .. } = &mut *state;
        let lost = |end: TunnelEnd| StreamEnd::Lost(Rc::new(end));
        // What the engine has to say comes first: a frame header must not overtake it.
        wire.encrypt_control().map_err(lost)?;
        match wire.engine.send(self.id, frame.len() - HEADROOM, false) {
            Ok(header) => frame[..HEADROOM].copy_from_slice(&header),
            Err(_) => {
                let cut = slots.get(&self.id).and_then(|slot| slot.cut.clone());
                return Err(cut.unwrap_or(StreamEnd::Reset(ErrorCode::StreamClosed)));
            }
        }
        wire.tls
            .encrypt(frame, &mut wire.outgoing.bytes)
            .map_err(|error| lost(TunnelEnd::Tls(error)))?;
        wire.wake_driver();
        Ok(())
    }

    /// Our side is complete: END_STREAM.
    pub(crate) fn finish(&self) {
        let mut state = self.tunnel.state.borrow_mut();
        // A stream that was cut meanwhile has no end to announce.
        let _ = state.wire.engine.finish(self.id);
        state.wire.wake_driver();
    }

    /// Whether the peer has sent all it had and then asked us to stop: an end, not an abort.
    pub(crate) fn answered_in_full(&self) -> bool {
        self.with(|_, slot| slot.answered_in_full())
    }

    /// Waits until the stream is cut, by whomever.
    pub(crate) async fn cut(&self) -> StreamEnd {
        poll_fn(|context| {
            self.with(|_, slot| match &slot.cut {
                Some(end) => Poll::Ready(end.clone()),
                None => {
                    slot.reader = Some(context.waker().clone());
                    Poll::Pending
                }
            })
        })
        .await
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

impl Drop for TunnelStream {
    fn drop(&mut self) {
        let mut state = self.tunnel.state.borrow_mut();
        if let Some(mut slot) = state.slots.remove(&self.id) {
            let undelivered = slot.held.clear();
            state.wire.engine.release(self.id, undelivered);
        }
        // Nothing happens to a stream that both sides have finished.
        state.wire.engine.reset(self.id, ErrorCode::Cancel);
        if state.is_quiet() {
            state.idle_since = std::time::Instant::now();
        }
        state.wire.wake_driver();
    }
}
