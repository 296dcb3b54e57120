//! The shared state of one tunnel: engine, TLS session, what waits to leave, the streams.
//!
//! Everything here is synchronous. `driver.rs` moves bytes between it and the socket, `incoming.rs` is what those that came
//! do to it, `stream.rs` is how one connection's relay uses it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use hbone::{Connection, RequestHead, StreamId, StreamMap};
use mesh::identity::Identity;

use super::held;
use super::outgoing::{self, Outgoing};
use super::revocation::Verdict;
use super::sharing::Sharing;
use super::slot::{Slot, StreamEnd};
use crate::scratch;
use crate::telemetry::metrics::{Handshake, Side};
use crate::tls::{RevocationList, Session, TlsError};

/// Why a tunnel is no more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TunnelEnd {
    /// Both sides agreed.
    #[error("closed")]
    Closed,
    /// The peer ended TLS in order while streams were running.
    #[error("peer closed the tunnel")]
    PeerClosed,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("{0}")]
    Tls(TlsError),
    #[error("{0}")]
    Http2(hbone::Error),
    #[error("timed out after {0:?}: TLS handshake")]
    HandshakeTimeout(std::time::Duration),
    #[error("timed out after {0:?}: HTTP/2 preface")]
    PrefaceTimeout(std::time::Duration),
    #[error("timed out after {0:?}: unfinished HTTP/2 header block")]
    HeadersTimeout(std::time::Duration),
    #[error("HBONE ping timeout")]
    PingTimeout,
    /// Of one stream, not of the tunnel.
    #[error("too much is held for applications that do not read")]
    Shed,
    /// A list of revoked certificates names the peer's.
    #[error("connection closed: peer certificate revoked by CRL")]
    Revoked,
    /// Our own shutdown reached its deadline.
    #[error("connection failed to drain within the timeout")]
    Drained,
}

impl TunnelEnd {
    /// A tunnel inside another is lost for the reason for which that was.
    pub(super) fn unwrapped(self) -> Self {
        match self {
            Self::Io(error)
                if error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<PeerRevoked>()) =>
            {
                Self::Revoked
            }
            end => end,
        }
    }
}

/// How [`TunnelEnd::Revoked`] of an outer tunnel reaches the one inside, for which it is a way to read and write.
#[derive(Debug, thiserror::Error)]
#[error("{}", TunnelEnd::Revoked)]
pub(super) struct PeerRevoked;

/// How a handshake went, for the metric.
pub(super) fn handshake_result(outcome: &Result<(), Rc<TunnelEnd>>) -> Handshake {
    match outcome.as_ref().map_err(|end| &**end) {
        Ok(()) => Handshake::Completed,
        Err(TunnelEnd::HandshakeTimeout(_)) => Handshake::TimedOut,
        Err(_) => Handshake::Failed,
    }
}

/// One HTTP/2 connection with a peer.
pub(crate) struct Tunnel {
    pub(super) state: RefCell<State>,
}

#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// TLS is being agreed.
    Handshake,
    /// TLS stands; the peer's SETTINGS have not come.
    Preface,
    /// Both stand.
    Open,
    Ended(Rc<TunnelEnd>),
}

/// A CONNECT (or what claims to be one) that waits to be handled.
pub(crate) struct Request {
    pub(crate) stream: StreamId,
    pub(crate) head: RequestHead,
}

pub(super) struct State {
    pub(super) wire: Wire,
    pub(super) slots: StreamMap<Slot>,
    /// The part of a TLS record that has come so far; at most one record.
    pub(super) partial: Vec<u8>,
    pub(super) phase: Phase,
    pub(super) requests: VecDeque<Request>,
    /// Tasks that wait for the phase to change.
    watchers: Vec<Waker>,
    /// Asked to end once nothing runs.
    pub(super) closing: bool,
    /// The peer had time enough to answer our farewell.
    pub(super) dismissed: bool,
    /// TLS has stood.
    pub(super) established: bool,
    /// Asked to end at once.
    pub(super) aborting: bool,
    /// Asked to end at once, as the peer is nobody to speak to any more.
    pub(super) revoked: bool,
    pub(super) pong: bool,
    /// That nobody knows what it rests on was counted.
    told_untracked: bool,
    pub(super) idle_since: Instant,
}

/// What leads to the peer, apart from the streams, so that a stream can change both at once.
pub(super) struct Wire {
    pub(super) engine: Connection,
    pub(super) tls: Session,
    pub(super) outgoing: Outgoing,
    /// Streams that wait for `outgoing` to shrink, in the order they came.
    room: VecDeque<StreamId>,
    /// The task that owns the socket.
    pub(super) driver: Option<Waker>,
    /// Not read until the worker holds less for applications that do not read.
    pub(super) paused: bool,
    /// Who waits for answers in here.
    pub(super) sharing: Sharing,
    /// When the peer was last heard, microseconds of the tunnel's life.
    pub(super) heard: u64,
    /// What the engine's clock counts from.
    born: Instant,
}

impl Tunnel {
    pub(super) fn new(engine: Connection, tls: Session) -> Rc<Self> {
        Rc::new(Self {
            state: RefCell::new(State {
                wire: Wire {
                    engine,
                    tls,
                    outgoing: Outgoing::default(),
                    room: VecDeque::new(),
                    driver: None,
                    paused: false,
                    sharing: Sharing::default(),
                    heard: 0,
                    born: Instant::now(),
                },
                slots: StreamMap::default(),
                partial: Vec::new(),
                phase: Phase::Handshake,
                requests: VecDeque::new(),
                watchers: Vec::new(),
                closing: false,
                dismissed: false,
                established: false,
                aborting: false,
                revoked: false,
                pong: false,
                told_untracked: false,
                idle_since: Instant::now(),
            }),
        })
    }

    /// Waits until TLS stands: the peer is who it must be, and streams may be opened.
    ///
    /// # Errors
    /// Why the tunnel ended before that.
    pub(crate) async fn established(&self) -> Result<(), Rc<TunnelEnd>> {
        std::future::poll_fn(|context| {
            let mut state = self.state.borrow_mut();
            match &state.phase {
                Phase::Handshake => {
                    let waker = context.waker();
                    if !state.watchers.iter().any(|known| known.will_wake(waker)) {
                        state.watchers.push(waker.clone());
                    }
                    std::task::Poll::Pending
                }
                Phase::Preface | Phase::Open => std::task::Poll::Ready(Ok(())),
                Phase::Ended(end) => std::task::Poll::Ready(Err(end.clone())),
            }
        })
        .await
    }

    /// Whether TLS has ever stood: what ends a tunnel after that is no refusal.
    pub(super) fn was_established(&self) -> bool {
        self.state.borrow().established
    }

    /// Who the peer proved to be.
    pub(crate) fn peer(&self) -> Option<Identity> {
        self.state.borrow().wire.tls.peer().cloned()
    }

    /// Whether a new stream could be opened now, leaving `limit` streams as the most that run at once.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        let state = self.state.borrow();
        matches!(state.phase, Phase::Preface | Phase::Open)
            && !state.closing
            && !state.aborting
            && !state.revoked
            && state.wire.engine.can_open()
            && state.wire.engine.open_streams() < limit
    }

    /// Streams that the peer takes at once, as far as it has said.
    pub(crate) fn peer_stream_limit(&self) -> usize {
        self.state.borrow().wire.engine.peer_stream_limit()
    }

    /// Whether it will take streams again, now or when others end.
    pub(crate) fn is_usable(&self) -> bool {
        let state = self.state.borrow();
        !matches!(state.phase, Phase::Ended(_))
            && !state.closing
            && !state.aborting
            && !state.revoked
            && !state.wire.engine.is_going_away()
    }

    /// Since when nothing runs in it; `None` while something does.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        let state = self.state.borrow();
        (state.wire.engine.open_streams() == 0 && state.slots.is_empty())
            .then_some(state.idle_since)
    }

    /// Whether it is a client's that is not agreed yet.
    pub(super) fn is_being_dialled(&self) -> bool {
        let state = self.state.borrow();
        matches!(state.phase, Phase::Handshake) && state.wire.engine.role() == hbone::Role::Client
    }

    /// Ends the tunnel in order once its streams have ended; as a server, tells the peer to use another one.
    pub(crate) fn close_when_idle(&self) {
        let mut state = self.state.borrow_mut();
        if state.closing || matches!(state.phase, Phase::Ended(_)) {
            return;
        }
        state.closing = true;
        if state.wire.engine.role() == hbone::Role::Server {
            state.wire.engine.shut_down();
        }
        state.wire.wake_driver();
    }

    #[cfg(test)]
    pub(super) fn open_streams(&self) -> usize {
        self.state.borrow().wire.engine.open_streams()
    }

    #[cfg(test)]
    pub(super) fn is_full(&self) -> bool {
        self.state.borrow().wire.is_full()
    }

    /// Ends the tunnel now; running streams are cut.
    pub(crate) fn abort(&self) {
        let mut state = self.state.borrow_mut();
        state.aborting = true;
        state.wire.wake_driver();
    }

    /// Ends the tunnel now: nothing more goes either way, as the peer's certificate is revoked.
    pub(super) fn revoke(&self) {
        let mut state = self.state.borrow_mut();
        state.revoked = true;
        state.wire.wake_driver();
    }

    /// What a list of revoked certificates says about it.
    pub(super) fn verdict(&self, list: &RevocationList) -> Verdict {
        let state = &mut *self.state.borrow_mut();
        // One that is told to end is not told twice, and one whose handshake is not over asks by itself.
        let over = state.revoked || matches!(state.phase, Phase::Ended(_));
        if over || state.wire.tls.is_handshaking() {
            return Verdict::Good;
        }
        match state.wire.tls.standing() {
            Some(standing) if standing.is_revoked_by(list) => Verdict::Revoked,
            Some(_) => Verdict::Good,
            None if std::mem::replace(&mut state.told_untracked, true) => Verdict::Good,
            None => Verdict::Untracked,
        }
    }

    /// Whose traffic it carries.
    pub(super) fn side(&self) -> Side {
        match self.state.borrow().wire.engine.role() {
            hbone::Role::Client => Side::Outbound,
            hbone::Role::Server => Side::Inbound,
        }
    }
}

impl Wire {
    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// Puts what the engine wants said into the outgoing records, unless the socket takes nothing: then the engine keeps
    /// it, and its own bound on unsent answers holds against a peer that asks and never reads. `fill` comes here only
    /// when it has room, which ends before this one's: no DATA may overtake what waits, its own HEADERS above all.
    pub(super) fn stage_control(&mut self) -> Result<(), TunnelEnd> {
        if self.outgoing.len() >= outgoing::CONTROL_HIGH || self.tls.is_handshaking() {
            return Ok(());
        }
        let output = self.engine.output();
        let length = output.len();
        if length > 0 {
            self.outgoing
                .put(output, &mut self.tls)
                .map_err(TunnelEnd::Tls)?;
            self.engine.output_sent(length);
        }
        Ok(())
    }

    /// The engine has no clock of its own.
    pub(super) fn tell_time(&mut self) {
        self.engine.tell_time(self.now());
    }

    /// Whether the peer was there a moment ago.
    pub(super) fn is_fresh(&self) -> bool {
        self.now() - self.heard <= FRESH
    }

    /// Microseconds of the tunnel's life.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Streams have to wait until the socket takes more.
    pub(super) fn is_full(&self) -> bool {
        self.outgoing.len() >= outgoing::HIGH
    }

    /// Whether no more waits than may in front of this stream's next bytes.
    pub(super) fn has_room_for(&self, stream: StreamId, slot: &Slot, now: u64) -> bool {
        self.outgoing.len() < slot.allowance(self.sharing.is_contested_for(stream, now))
    }

    /// What one read of the socket may take.
    pub(super) fn appetite(&self) -> usize {
        if self.sharing.is_contested(self.now()) {
            scratch::READ / 4
        } else {
            scratch::READ
        }
    }

    /// Puts a stream at the end of the queue; true if there are others.
    pub(super) fn wait_for_room(&mut self, stream: StreamId) -> bool {
        self.room.push_back(stream);
        self.room.len() > 1
    }
}

impl State {
    /// Lets the next stream send that waited for room, and that has it now. It passes the turn on when it has had it
    /// ([`Tunnel`]'s streams do that after every attempt), so none is woken only to find that others were faster. One for
    /// which too much waits still stays in its place: woken, it would pass its turn on to the next of its kind, and that
    /// one back, for as long as the socket takes nothing. The driver comes here again when the socket has taken some.
    pub(super) fn grant_room(&mut self) {
        while !self.wire.room.is_empty() && !self.wire.is_full() {
            let now = self.wire.now();
            let may = |stream: &StreamId| match self.slots.get(stream) {
                Some(slot) if slot.wants_room() => self.wire.has_room_for(*stream, slot, now),
                Some(_) | None => true,
            };
            let Some(place) = self.wire.room.iter().position(may) else {
                break;
            };
            if let Some(stream) = self.wire.room.remove(place)
                && let Some(slot) = self.slots.get_mut(&stream)
            {
                slot.queued = false;
                if slot.wants_room() {
                    slot.wake_writer();
                    break;
                }
            }
        }
    }

    /// Whether applications here are part of the trouble when the worker holds too much. One that is only a little behind
    /// is not: its tunnel would stop and go with every read.
    pub(super) fn is_holding_much(&self) -> bool {
        let held: usize = self.slots.values().map(|slot| slot.held.len()).sum();
        held > held::SHARE
    }

    /// Cuts the stream that most is held for: its application has not read for so long that the worker's other tunnels
    /// suffer.
    pub(super) fn shed(&mut self) {
        let Some((&stream, slot)) = self
            .slots
            .iter_mut()
            .max_by_key(|(_, slot)| slot.held.len())
        else {
            return;
        };
        slot.held.clear();
        slot.cut(StreamEnd::Lost(Rc::new(TunnelEnd::Shed)));
        self.wire.engine.reset(stream, hbone::ErrorCode::Cancel);
    }

    pub(super) fn wake_watchers(&mut self) {
        for waker in std::mem::take(&mut self.watchers) {
            waker.wake();
        }
    }

    /// The tunnel is over: everyone who uses it learns so.
    pub(super) fn end(&mut self, end: TunnelEnd) -> Rc<TunnelEnd> {
        let end = Rc::new(end);
        self.phase = Phase::Ended(end.clone());
        for slot in self.slots.values_mut() {
            slot.cut(StreamEnd::Lost(end.clone()));
            if matches!(*end, TunnelEnd::Revoked) {
                slot.wake();
            }
        }
        self.wake_watchers();
        end
    }

    /// Whether requests may be on their way from a peer that has not read yet that we leave (RFC 9113 §6.8,
    /// spec/dataplane.md §4): for a round trip, or as long as is waited for its answer.
    pub(super) fn awaits_farewell(&self) -> bool {
        matches!(self.phase, Phase::Preface | Phase::Open)
            && self.wire.engine.awaits_farewell()
            && !self.dismissed
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.wire.engine.open_streams() == 0 && self.slots.is_empty()
    }
}

/// A peer that was heard so recently, microseconds, is taken to be there still.
const FRESH: u64 = 500_000;
