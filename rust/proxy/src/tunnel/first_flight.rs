//! What an application says before its peer has agreed: sent right behind the CONNECT, one round trip early.
//!
//! HTTP/2 lets DATA follow a request at once, and a peer that turns the request down delivers none of it
//! (spec/performance.md §4, optimistic DATA). A copy is kept until the answer is there: a request that the peer has not
//! looked at is made again elsewhere, with the same bytes. Whether it may be made again is `pool.rs`'s decision.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSliceMut, Read};
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use super::stream::{Room, SendError, StreamEnd, TunnelStream};
use crate::relay::io::read_vectored;

/// How much is sent before the answer: a request's worth. It is held here and at the peer, for every connection that is
/// being made.
const LIMIT: usize = 16 * 1024;

/// One application's first bytes, over all attempts to reach its peer.
pub(crate) struct FirstFlight {
    /// None where the application must hear from us before it may speak, or where the setting is off.
    application: Option<Rc<TcpStream>>,
    bytes: RefCell<Vec<u8>>,
    failed: Cell<bool>,
}

impl FirstFlight {
    /// Takes what `application` says.
    pub(crate) fn of(application: Rc<TcpStream>) -> Self {
        Self::new(Some(application))
    }

    /// Sends nothing before the answer.
    pub(crate) fn none() -> Self {
        Self::new(None)
    }

    fn new(application: Option<Rc<TcpStream>>) -> Self {
        Self {
            application,
            bytes: RefCell::default(),
            failed: Cell::new(false),
        }
    }

    /// Whether nothing was taken from the application.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.borrow().is_empty()
    }

    /// Bytes that were taken from the application.
    pub(crate) fn len(&self) -> usize {
        self.bytes.borrow().len()
    }

    /// Whether the application has reset its connection. That took the error off its socket, whose end now looks like a
    /// FIN.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.get()
    }

    /// Sends on `stream`, which has had `sent` bytes, what there is so far and what the application says now. Ready once
    /// the stream has had all that was taken from the application; wakes for more as well.
    pub(super) fn poll_send(
        &self,
        stream: &TunnelStream,
        sent: &mut usize,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), StreamEnd>> {
        while *sent < self.len() {
            if stream.poll_room(context)? != Room::Open {
                return Poll::Pending;
            }
            let bytes = self.bytes.borrow();
            let mut rest = &bytes[*sent..];
            *sent +=
                done(stream.send_from(|slices: &mut [IoSliceMut<'_>]| rest.read_vectored(slices)))?;
        }
        self.listen(stream, sent, context)?;
        Poll::Ready(Ok(()))
    }

    /// Takes what the application says now, as far as it can be sent at once.
    fn listen(
        &self,
        stream: &TunnelStream,
        sent: &mut usize,
        context: &mut Context<'_>,
    ) -> Result<(), StreamEnd> {
        let Some(application) = &self.application else {
            return Ok(());
        };
        while !self.failed.get() && self.len() < LIMIT {
            // An end is left for the relay to find.
            if application.poll_read_ready(context).is_pending()
                || stream.poll_room(context)? != Room::Open
            {
                return Ok(());
            }
            let mut bytes = self.bytes.borrow_mut();
            let room = LIMIT - bytes.len();
            let taken = stream.send_from(|slices: &mut [IoSliceMut<'_>]| {
                let first = &mut slices[0];
                let room = room.min(first.len());
                let n = read_vectored(application, &mut [IoSliceMut::new(&mut first[..room])])?;
                bytes.extend_from_slice(&first[..n]);
                Ok(n)
            });
            match taken {
                Ok(0) => return Ok(()),
                Ok(n) => *sent += n,
                Err(SendError::Source(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(SendError::Source(_)) => self.failed.set(true),
                Err(SendError::Stream(end)) => return Err(end),
            }
        }
        Ok(())
    }
}

/// Copying from memory cannot fail.
fn done(sent: Result<usize, SendError>) -> Result<usize, StreamEnd> {
    match sent {
        Ok(n) => Ok(n),
        Err(SendError::Source(_)) => Ok(0),
        Err(SendError::Stream(end)) => Err(end),
    }
}
