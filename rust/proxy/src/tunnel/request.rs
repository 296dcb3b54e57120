//! The peer's answer to a CONNECT, or why there is none.
//!
//! Whether a request may be made again is `pool.rs`'s decision; here is what it decides on.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use hbone::{ErrorCode, ResponseHead};
use hyper::StatusCode;
use tokio::time::timeout;

use super::first_flight::FirstFlight;
use super::stream::{StreamEnd, TunnelStream};
use crate::error::{Error, Side, Stage};

/// Why a request was not accepted.
pub(super) enum NoAnswer {
    /// The peer has answered, or broken off with a reason of its own; asking again would not help.
    Decided(Error),
    /// The tunnel ended under the request.
    Lost(Error),
    /// The peer has not looked at the request (REFUSED_STREAM).
    Refused(Error),
}

impl From<NoAnswer> for Error {
    /// For those who ask once.
    fn from(no: NoAnswer) -> Self {
        match no {
            NoAnswer::Decided(error) | NoAnswer::Lost(error) | NoAnswer::Refused(error) => error,
        }
    }
}

/// Waits for the answer to be 200 and gives it; sends meanwhile what the application says.
pub(super) async fn answer(
    stream: &TunnelStream,
    deadline: Duration,
    first: &FirstFlight,
) -> Result<ResponseHead, NoAnswer> {
    let Ok(response) = timeout(deadline, agreed(stream, first)).await else {
        return Err(NoAnswer::Decided(Error::new(
            Stage::Connect,
            Side::Upstream,
            "connect_timeout",
            format!("http2 failed: no answer to CONNECT after {deadline:?}"),
        )));
    };
    match response {
        Ok(head) if head.status == ACCEPTED => Ok(head),
        Ok(head) => Err(NoAnswer::Decided(status(head.status))),
        Err(StreamEnd::Reset(ErrorCode::RefusedStream)) => {
            Err(NoAnswer::Refused(lost("stream refused by peer")))
        }
        Err(StreamEnd::Reset(code)) => {
            let text = format!("stream reset by peer: {code}");
            Err(NoAnswer::Decided(lost(&text)))
        }
        Err(end) if end.is_revoked() => Err(NoAnswer::Decided(Error::peer_revoked(Side::Upstream))),
        Err(StreamEnd::Lost(end)) => Err(NoAnswer::Lost(lost(&end.to_string()))),
    }
}

/// The peer's answer; 200 only once the stream has had all that was taken from the application.
async fn agreed(stream: &TunnelStream, first: &FirstFlight) -> Result<ResponseHead, StreamEnd> {
    // A peer that may be gone is asked first: a request can be made again elsewhere, bytes that were sent with it cannot.
    let early = stream.is_fresh();
    let (mut sent, mut answer) = (0, None);
    poll_fn(|context| {
        if answer.is_none()
            && let Poll::Ready(head) = stream.poll_response(context)?
        {
            answer = Some(head);
        }
        match &answer {
            None if !early => return Poll::Pending,
            Some(head) if head.status != ACCEPTED => {}
            // Only once it is sent, or cut right behind the answer: the relay delivers what came before the cut, and
            // finds it, too.
            answer => match (first.poll_send(stream, &mut sent, context), answer) {
                (Poll::Ready(Ok(()) | Err(_)), Some(_)) => {}
                (Poll::Ready(Err(end)), None) => return Poll::Ready(Err(end)),
                (Poll::Ready(Ok(())) | Poll::Pending, _) => return Poll::Pending,
            },
        }
        answer
            .take()
            .map_or(Poll::Pending, |head| Poll::Ready(Ok(head)))
    })
    .await
}

/// The only status that opens a tunnel (spec/dataplane.md §2.4).
const ACCEPTED: u16 = 200;

pub(super) fn lost(text: &str) -> Error {
    let text = format!("h2 failed: {text}");
    Error::new(Stage::Tunnel, Side::Upstream, "connect_lost", text)
}

/// Texts as the access log of upstream has them: `http status: 401 Unauthorized`.
pub(super) fn status(status: u16) -> Error {
    let reason = match status {
        400 => "refused_400",
        401 => "refused_401",
        403 => "refused_403",
        404 => "refused_404",
        500 => "refused_500",
        502 => "refused_502",
        503 => "refused_503",
        504 => "refused_504",
        _ => "refused",
    };
    let text = match StatusCode::from_u16(status) {
        Ok(named) => format!("http status: {named}"),
        Err(_) => format!("http status: {status}"),
    };
    Error::new(Stage::Connect, Side::Upstream, reason, text)
}
