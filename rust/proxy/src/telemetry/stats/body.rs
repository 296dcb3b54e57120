//! An answer's body, given to the connection in pieces, so that what bounds it is held until it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use super::compress::Compressor;
use crate::telemetry::metrics::Scrape;

/// Text, or what becomes text as the reader takes it.
#[derive(Default)]
pub(super) struct Body {
    source: Source,
    compressor: Option<Compressor>,
    /// Bytes of text still to be taken from the source.
    left: usize,
    /// A piece was made a moment ago: others on this thread go first.
    courteous: bool,
}

#[derive(Default)]
enum Source {
    #[default]
    Nothing,
    Scrape {
        scrape: Scrape,
        /// It took a turn to make it, which is kept until it is sent.
        _turn: OwnedSemaphorePermit,
    },
    Text(Bytes),
}

impl Body {
    pub(super) fn text(text: impl Into<Bytes>) -> Self {
        let text = text.into();
        Self {
            left: text.len(),
            source: Source::Text(text),
            ..Self::default()
        }
    }

    pub(super) fn scrape(
        scrape: Scrape,
        turn: OwnedSemaphorePermit,
        compressor: Option<Compressor>,
    ) -> Self {
        Self {
            left: scrape.total_bytes(),
            source: Source::Scrape {
                scrape,
                _turn: turn,
            },
            compressor,
            courteous: false,
        }
    }

    /// The next piece of text.
    fn text_piece(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let piece = match &mut self.source {
            Source::Nothing => return None,
            Source::Scrape { scrape, .. } => scrape.next_piece()?.into(),
            Source::Text(text) => std::mem::take(text),
        };
        self.left = self.left.saturating_sub(piece.len());
        Some(piece)
    }

    /// The next piece as it is sent; empty if the compressor keeps it for now.
    fn next(&mut self) -> io::Result<Option<Bytes>> {
        let piece = self.text_piece();
        match (piece, &mut self.compressor) {
            (Some(piece), Some(compressor)) => compressor.add(&piece).map(Some),
            (None, compressor) => compressor.take().map(Compressor::finish).transpose(),
            (piece, None) => Ok(piece),
        }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    /// The connection asks for the next piece once its own buffer has room. Compressing one takes up to a
    /// millisecond, so a probe that waits gets its turn between two.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.compressor.is_none() {
            return Poll::Ready(self.next().transpose().map(|piece| piece.map(Frame::data)));
        }
        if !std::mem::replace(&mut self.courteous, true) {
            match self.next() {
                Ok(Some(piece)) if piece.is_empty() => {}
                piece => {
                    return Poll::Ready(piece.transpose().map(|piece| piece.map(Frame::data)));
                }
            }
        }
        self.courteous = false;
        context.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.compressor.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.compressor {
            None => SizeHint::with_exact(self.left as u64),
            // Anything, as far as we know: HTTP/1.1 sends it in chunks.
            Some(_) => SizeHint::default(),
        }
    }
}
