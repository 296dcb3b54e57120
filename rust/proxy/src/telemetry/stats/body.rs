//! An answer's body, given to the connection in pieces, so that what bounds it is held until it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// Text, and perhaps the turn that it took to make it.
#[derive(Default)]
pub(super) struct Body {
    rest: Bytes,
    _turn: Option<OwnedSemaphorePermit>,
}

impl Body {
    pub(super) fn new(text: impl Into<Bytes>) -> Self {
        Self {
            rest: text.into(),
            _turn: None,
        }
    }

    pub(super) fn holding(self, turn: OwnedSemaphorePermit) -> Self {
        Self {
            _turn: Some(turn),
            ..self
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let size = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}

/// The connection asks for the next piece once its own buffer has room.
const PIECE: usize = 64 * 1024;
