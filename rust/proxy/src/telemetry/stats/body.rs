//! An answer's body, given to the connection in pieces, so that what bounds it is held until it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::telemetry::metrics::Scrape;

/// Text, or what becomes text as the reader takes it.
#[derive(Default)]
pub(super) struct Body {
    text: Bytes,
    scrape: Option<(Scrape, OwnedSemaphorePermit)>,
    /// Bytes still to be given.
    left: usize,
}

impl Body {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self {
            left: text.len(),
            text,
            scrape: None,
        }
    }

    /// Keeps the turn that it took to make it until it is sent.
    pub(super) fn scrape(scrape: Scrape, turn: OwnedSemaphorePermit) -> Self {
        Self {
            text: Bytes::new(),
            left: scrape.total_bytes(),
            scrape: Some((scrape, turn)),
        }
    }

    fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let piece = match &mut self.scrape {
            Some((scrape, _)) => scrape.next_piece()?.into(),
            None => std::mem::take(&mut self.text),
        };
        self.left = self.left.saturating_sub(piece.len());
        Some(piece)
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    /// The connection asks for the next piece once its own buffer has room.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}
