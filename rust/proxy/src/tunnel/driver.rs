//! The task that owns what carries a tunnel, usually a socket: reads, writes, deadlines, and the end.
//!
//! Decides nothing about streams; `state.rs` does. One driver for clients and servers, and for tunnels inside tunnels.

use std::future::poll_fn;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hbone::ErrorCode;
use tokio::time::{Instant, sleep_until, timeout};

use super::held;
use super::link::Link;
use super::state::{Phase, Request, State, Tunnel, TunnelEnd, Wire};
use crate::random::Random;
use crate::scratch;
use crate::turns::Turn;

/// Reads of one turn before other tasks of the worker get theirs.
const READS_PER_TURN: usize = 4;
/// How long the last bytes (GOAWAY, an alert) may take to leave, and the peer to answer our FIN.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long a peer may take to answer that it has read our farewell: a round trip, with room. A drain waits for it, and
/// must not wait for those who are dead.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is read and thrown away while the peer reads our last words.
const LINGER_BYTES: usize = 256 * 1024;

/// Deadlines of a tunnel (spec/reliability.md §8, spec/dataplane.md §4).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) handshake: Duration,
    pub(crate) preface: Duration,
    pub(crate) headers: Duration,
    pub(crate) ping_interval: Duration,
    pub(crate) ping_timeout: Duration,
}

/// What the tunnel waits for next.
struct Deadlines {
    timeouts: Timeouts,
    start: Instant,
    /// When the next PING goes out, or, while one is under way, when its answer is overdue.
    ping: Instant,
    awaiting_pong: bool,
    /// Since when the tunnel is not read, as far as was seen.
    paused: Option<Instant>,
    /// Since when the peer owes the rest of what it began to say.
    incomplete: Option<Instant>,
    /// Since when it owes the answer to our farewell.
    farewell: Option<Instant>,
    /// The phase for which the alarm was set.
    phase: Discriminant<Phase>,
    random: Random,
}

/// Ends the tunnel even if its task panics: nobody may wait for a tunnel that nobody drives.
struct Driven<'t>(&'t Tunnel);

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.state.try_borrow_mut()
            && !matches!(state.phase, Phase::Ended(_))
        {
            state.end(TunnelEnd::Io(io::Error::other("internal error")));
        }
    }
}

impl Tunnel {
    /// Runs the tunnel until it ends and gives the reason. `on_request` gets every request the peer makes.
    pub(super) async fn drive(
        self: Rc<Self>,
        link: impl Link,
        timeouts: Timeouts,
        mut turn: Turn,
        mut on_request: impl FnMut(&Rc<Self>, Request),
        on_end: impl FnOnce(&TunnelEnd),
    ) {
        let _driven = Driven(&self);
        link.prepare();
        let mut deadlines = Deadlines::new(timeouts);
        // A client speaks first: this writes its hello.
        let greeting = self.state.borrow_mut().ingest(&mut []);
        if let Err(end) = greeting {
            on_end(&self.finish(end));
            return;
        }
        let end = loop {
            let step = {
                let mut alarm = pin!(sleep_until(deadlines.next(&self)));
                poll_fn(|context| {
                    // Bytes first: a PONG that waits in the socket while we were stalled is not late.
                    if let Poll::Ready(end) = self.poll(context, &link, &mut turn) {
                        return Poll::Ready(Some(end));
                    }
                    loop {
                        // A request's task borrows the state, so ours must be over.
                        let request = self.state.borrow_mut().requests.pop_front();
                        match request {
                            Some(request) => on_request(&self, request),
                            None => break,
                        }
                    }
                    if deadlines.moved(&self.state.borrow()) {
                        return Poll::Ready(None);
                    }
                    alarm.as_mut().poll(context).map(|()| None)
                })
                .await
            };
            match step {
                Some(end) => break end,
                None => {
                    if let Some(end) = deadlines.check(&mut self.state.borrow_mut()) {
                        break end;
                    }
                }
            }
        };
        let end = self.finish(end);
        // Told before the farewell, which may take a second.
        on_end(&end);
        self.last_words(&link, &end).await;
    }

    /// One turn: read what is there, write what fits.
    fn poll(
        &self,
        context: &mut Context<'_>,
        link: &impl Link,
        turn: &mut Turn,
    ) -> Poll<TunnelEnd> {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.wire.driver = Some(context.waker().clone());
        if state.revoked {
            return Poll::Ready(TunnelEnd::Revoked);
        }
        let outcome = match state.read(context, link, turn) {
            Err(end) => Some(end),
            Ok(()) if state.aborting => Some(TunnelEnd::Drained),
            Ok(()) => None,
        };
        if let Some(end) = outcome {
            return Poll::Ready(end);
        }
        if let Err(end) = state.write(context, link) {
            return Poll::Ready(end);
        }
        let leaving = state.closing || state.wire.engine.is_going_away();
        if leaving
            && state.is_quiet()
            && !state.awaits_farewell()
            && !state.wire.tls.is_handshaking()
            && state.wire.outgoing.is_empty()
        {
            return Poll::Ready(TunnelEnd::Closed);
        }
        Poll::Pending
    }

    /// Tells everyone, and puts the last bytes together.
    fn finish(&self, end: TunnelEnd) -> Rc<TunnelEnd> {
        let end = end.unwrapped();
        let mut state = self.state.borrow_mut();
        let serves = state.wire.engine.role() == hbone::Role::Server;
        if matches!(
            end,
            TunnelEnd::PingTimeout | TunnelEnd::Drained | TunnelEnd::Closed
        ) || (serves && matches!(end, TunnelEnd::Revoked))
        {
            state.wire.engine.go_away(ErrorCode::NoError, "");
        }
        // Failing here changes nothing: the tunnel is over, only its farewell is lost.
        let _ = state.wire.stage_control();
        let Wire { tls, outgoing, .. } = &mut state.wire;
        let _ = outgoing.seal(tls);
        if !matches!(end, TunnelEnd::Tls(_) | TunnelEnd::Io(_)) {
            let mut closure = Vec::new();
            tls.close(&mut closure);
            outgoing.put_sealed(&closure);
        }
        state.end(end)
    }

    /// Sends what is left, then waits briefly for the peer's FIN. Closing at once with unread bytes in the socket
    /// would make the kernel send a RST, which can destroy the alert that tells the peer why.
    async fn last_words(&self, link: &impl Link, end: &TunnelEnd) {
        if matches!(end, TunnelEnd::Io(_)) {
            return;
        }
        let bytes = std::mem::take(&mut self.state.borrow_mut().wire.outgoing);
        if bytes.waiting().is_empty() && !link.has_unread() {
            return;
        }
        let farewell = async {
            write_all(link, bytes.waiting()).await?;
            link.shut_down()?;
            read_out(link, LINGER_BYTES).await
        };
        let _ = timeout(LAST_WORDS, farewell).await;
    }
}

async fn write_all(link: &impl Link, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        poll_fn(|context| link.poll_writable(context)).await?;
        match link.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads and throws away, until the end or `limit`.
async fn read_out(link: &impl Link, limit: usize) -> io::Result<()> {
    let mut left = limit;
    while left > 0 {
        poll_fn(|context| link.poll_readable(context)).await?;
        match scratch::with(|buffer| link.read(buffer)) {
            Ok(0) => break,
            Ok(n) => left = left.saturating_sub(n),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl State {
    fn read(
        &mut self,
        context: &mut Context<'_>,
        link: &impl Link,
        turn: &mut Turn,
    ) -> Result<(), TunnelEnd> {
        for _ in 0..READS_PER_TURN {
            let over = held::is_exhausted() && self.is_holding_much();
            // A peer that is gone brings no more than what is in the socket, and must be seen to be gone.
            self.wire.paused = over && !link.is_over();
            if self.wire.paused {
                held::wait(context.waker());
                return Ok(());
            }
            match link.poll_readable(context) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready.map_err(TunnelEnd::Io)?,
            }
            if self.wire.tls.is_handshaking() && turn.poll(context).is_pending() {
                return Ok(());
            }
            match self.read_once(|buffer| link.read(buffer)) {
                Ok(0) => return Err(self.end_of_file()),
                Ok(_) => {}
                Err(ReadError::Again) => {}
                Err(ReadError::End(end)) => return Err(end),
            }
        }
        // More may wait: come back after the others had their turn.
        context.waker().wake_by_ref();
        Ok(())
    }

    fn read_once(
        &mut self,
        read_into: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<usize, ReadError> {
        scratch::with(|buffer| {
            let kept = self.partial.len();
            buffer[..kept].copy_from_slice(&self.partial);
            let end = buffer.len().min(kept + self.wire.appetite());
            let read = match read_into(&mut buffer[kept..end]) {
                Ok(0) => return Ok(0),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(ReadError::Again);
                }
                Err(error) => return Err(ReadError::End(TunnelEnd::Io(error))),
            };
            let filled = &mut buffer[..kept + read];
            let used = self.ingest(filled).map_err(ReadError::End)?;
            self.keep(&filled[used..]);
            if self.wire.tls.peer_closed() {
                return Err(ReadError::End(self.end_of_file()));
            }
            Ok(read)
        })
    }

    /// Keeps the start of a record for the next read. Never more than one record after the handshake, so it always fits
    /// beside that read.
    fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
    }

    fn end_of_file(&self) -> TunnelEnd {
        match self.wire.tls.end_of_input() {
            // The peer died, or someone cut the line.
            Err(error) => TunnelEnd::Tls(error),
            // Handles of streams that have ended may still be about to be dropped.
            Ok(()) if self.wire.engine.open_streams() == 0 => TunnelEnd::Closed,
            Ok(()) => TunnelEnd::PeerClosed,
        }
    }

    fn write(&mut self, context: &mut Context<'_>, link: &impl Link) -> Result<(), TunnelEnd> {
        loop {
            self.wire.stage_control()?;
            let Wire { tls, outgoing, .. } = &mut self.wire;
            outgoing.seal(tls).map_err(TunnelEnd::Tls)?;
            if outgoing.is_empty() {
                break;
            }
            match link.poll_writable(context) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready.map_err(TunnelEnd::Io)?,
            }
            match link.write(outgoing.waiting()) {
                Ok(n) => outgoing.advance(n),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(self.why_closed(link, error)),
            }
        }
        self.grant_room();
        Ok(())
    }

    /// Writing failed, but the peer may have said why before it closed; what it said is worth more than `EPIPE`.
    fn why_closed(&mut self, link: &impl Link, error: io::Error) -> TunnelEnd {
        loop {
            match self.read_once(|buffer| link.read_unasked(buffer)) {
                Ok(n) if n > 0 => {}
                Err(ReadError::End(end @ (TunnelEnd::Tls(_) | TunnelEnd::Http2(_)))) => return end,
                Ok(_) | Err(_) => return TunnelEnd::Io(error),
            }
        }
    }
}

enum ReadError {
    Again,
    End(TunnelEnd),
}

impl Deadlines {
    fn new(timeouts: Timeouts) -> Self {
        let start = Instant::now();
        Self {
            timeouts,
            start,
            ping: start + timeouts.ping_interval,
            awaiting_pong: false,
            paused: None,
            incomplete: None,
            farewell: None,
            phase: discriminant(&Phase::Handshake),
            random: Random::new(),
        }
    }

    /// Whether something came or is missing that changes what has to be waited for.
    fn moved(&self, state: &State) -> bool {
        state.pong
            || discriminant(&state.phase) != self.phase
            || state.wire.engine.awaits_rest() != self.incomplete.is_some()
            || state.awaits_farewell() && self.farewell.is_none()
    }

    fn next(&self, tunnel: &Tunnel) -> Instant {
        let state = tunnel.state.borrow();
        let limit = match state.phase {
            Phase::Handshake => self.start + self.timeouts.handshake,
            Phase::Preface => self.start + self.timeouts.handshake.max(self.timeouts.preface),
            Phase::Open | Phase::Ended(_) => self.ping,
        };
        let incomplete = self.incomplete.map(|since| since + self.timeouts.headers);
        let farewell = self.farewell.filter(|_| state.awaits_farewell());
        let farewell = farewell.map(|since| since + FAREWELL);
        let owed = incomplete.into_iter().chain(farewell).min();
        owed.map_or(limit, |owed| limit.min(owed))
    }

    fn check(&mut self, state: &mut State) -> Option<TunnelEnd> {
        let now = Instant::now();
        if discriminant(&state.phase) != self.phase {
            self.phase = discriminant(&state.phase);
            // From here on, not from the accept: a slow handshake is no reason to ping at once.
            self.ping = now + self.timeouts.ping_interval;
        }
        if state.awaits_farewell() {
            let since = *self.farewell.get_or_insert(now);
            state.dismissed = now >= since + FAREWELL;
        }
        let since = self.incomplete.take();
        if state.wire.engine.awaits_rest() {
            // While we do not read it is not the peer who is late.
            let since = if state.wire.paused {
                now
            } else {
                since.unwrap_or(now)
            };
            if now >= since + self.timeouts.headers {
                return Some(TunnelEnd::HeadersTimeout(self.timeouts.headers));
            }
            self.incomplete = Some(since);
        }
        match state.phase {
            Phase::Handshake if now >= self.start + self.timeouts.handshake => {
                return Some(TunnelEnd::HandshakeTimeout(self.timeouts.handshake));
            }
            Phase::Preface
                if now >= self.start + self.timeouts.handshake.max(self.timeouts.preface) =>
            {
                return Some(TunnelEnd::PrefaceTimeout(self.timeouts.preface));
            }
            Phase::Handshake | Phase::Preface | Phase::Ended(_) => return None,
            Phase::Open if state.wire.paused => {
                self.wait_out(state, now);
                return None;
            }
            Phase::Open => self.paused = None,
        }
        if std::mem::take(&mut state.pong) && self.awaiting_pong {
            self.awaiting_pong = false;
            self.ping = now + self.timeouts.ping_interval;
        }
        if now < self.ping {
            return None;
        }
        if self.awaiting_pong {
            return Some(TunnelEnd::PingTimeout);
        }
        // Not to be guessed, or a peer that never reads could answer it blindly.
        let payload = self.random.next().to_be_bytes();
        state.wire.engine.ping(payload);
        self.awaiting_pong = true;
        self.ping = now + self.timeouts.ping_timeout;
        None
    }

    /// We do not read, so an answer to a ping cannot be seen; but no application may stop a worker for ever.
    fn wait_out(&mut self, state: &mut State, now: Instant) {
        self.awaiting_pong = false;
        // One that came with the bytes which made us pause. Left there it is news each time that we look (`moved`), and
        // the driver would look for ever, with no turn for those who could end the pause.
        state.pong = false;
        let since = *self.paused.get_or_insert(now);
        if now >= since + self.timeouts.ping_timeout {
            state.shed();
            self.paused = None;
        }
        self.ping = now + self.timeouts.ping_interval.min(self.timeouts.ping_timeout);
    }
}
