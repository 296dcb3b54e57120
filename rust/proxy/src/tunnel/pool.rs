//! The tunnels to other nodes that new connections may share.
//!
//! One pool per worker, so nothing is locked. A dial belongs to those who wait for it: when it fails they fail at
//! once, with its reason, and nobody else does (spec/dataplane.md §5, §20.2 items 1 and 5).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use hbone::RequestHead;
use mesh::identity::Identity;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::client::Dialer;
use super::first_flight::FirstFlight;
use super::request::{self, NoAnswer};
use super::state::Tunnel;
use super::stream::TunnelStream;
use crate::error::{Error, Side, Stage};
use crate::tasks::spawn_local;
use crate::tls::{Session, TlsError};

/// Connections with equal keys may share a tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PoolKey {
    /// Whose certificate we show.
    pub(crate) source: Identity,
    /// Whom we accept, in this order.
    pub(crate) expected: Vec<Identity>,
    /// Where we dial.
    pub(crate) peer: SocketAddr,
    /// For whom: one client's traffic is not mixed with another's.
    pub(crate) client: IpAddr,
}

/// What a dial came to. `None` while it is under way.
type Outcome = Option<Result<Rc<Tunnel>, Error>>;

#[derive(Default)]
struct Entry {
    tunnels: Vec<Rc<Tunnel>>,
    dials: Vec<Dial>,
}

impl Entry {
    /// Streams at once in one tunnel: ours, or less if the peer has told us so.
    fn stream_limit(&self, ours: usize) -> usize {
        // A limit of 0 in one tunnel may be for a moment (RFC 9113 §5.1.2); in all of them it is the peer's word.
        let mut told = self.tunnels.iter().map(|tunnel| tunnel.peer_stream_limit());
        match told.clone().filter(|told| *told > 0).min() {
            Some(told) => ours.min(told),
            None if told.next().is_some() => 0,
            None => ours,
        }
    }
}

struct Dial {
    outcome: watch::Receiver<Outcome>,
    waiting: usize,
}

/// All pooled tunnels of a worker.
pub(crate) struct TunnelPool {
    entries: RefCell<HashMap<PoolKey, Entry>>,
    dialer: Rc<Dialer>,
    max_streams: usize,
    idle: Duration,
    /// Tunnels without streams that are kept for the next connection.
    max_idle: usize,
    /// Tunnels made since their number was last looked at.
    made: Cell<usize>,
}

/// Upstream's, for each of its threads (spec/dataplane.md §5). A client that dials ever other destinations must not
/// fill our memory with tunnels that nobody uses again (spec/reliability.md T13).
const MAX_IDLE: usize = 500;

/// Times that a request is made before its refusal is final. Several, as a burst at a new peer learns the peer's
/// stream limit only by being refused.
const ATTEMPTS: usize = 8;

/// A stream, and whether its tunnel had served others before.
struct Checkout {
    stream: TunnelStream,
    reused: bool,
}

impl TunnelPool {
    pub(crate) fn new(dialer: Rc<Dialer>, max_streams: usize, idle: Duration) -> Self {
        Self {
            entries: RefCell::default(),
            dialer,
            max_streams,
            idle,
            max_idle: MAX_IDLE,
            made: Cell::new(0),
        }
    }

    #[cfg(test)]
    pub(super) fn with_max_idle(mut self, max_idle: usize) -> Self {
        self.max_idle = max_idle;
        self
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.entries.borrow().len()
    }

    /// Opens a stream to the key's peer, in a tunnel that has room or in a new one, and waits at most `deadline` for
    /// the peer to accept it. What the application says meanwhile goes along.
    ///
    /// # Errors
    /// Why the dial that this connection waited for failed, or what the peer answered.
    pub(crate) async fn connect(
        self: &Rc<Self>,
        key: &PoolKey,
        head: &RequestHead,
        session: impl Fn() -> Result<Session, TlsError>,
        deadline: Duration,
        first: &FirstFlight,
    ) -> Result<TunnelStream, Error> {
        // For a place in a tunnel, over all attempts: as long as one peer may take that says nothing.
        let by = Instant::now() + self.dialer.patience();
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let Checkout { stream, reused } = self.open(key, head, &session, by).await?;
            let error = match request::answer(&stream, deadline, first).await {
                Ok(_) => return Ok(stream),
                Err(NoAnswer::Decided(error)) => return Err(error),
                // The peer promises that it has done nothing (RFC 9113 §8.7).
                Err(NoAnswer::Refused(error)) => error,
                // A tunnel that others used may end while our request is on its way. If nothing of the application has
                // been sent yet, the request can be made once more; otherwise its server may have had it already.
                Err(NoAnswer::Lost(error)) if reused && first.is_empty() => error,
                Err(NoAnswer::Lost(error)) => return Err(error),
            };
            if attempts == 0 {
                return Err(error);
            }
        }
    }

    /// Opens a stream without waiting for the answer.
    async fn open(
        self: &Rc<Self>,
        key: &PoolKey,
        head: &RequestHead,
        session: &impl Fn() -> Result<Session, TlsError>,
        by: Instant,
    ) -> Result<Checkout, Error> {
        let mut reused = true;
        for _ in 0..ATTEMPTS {
            if let Some(stream) = self.open_now(key, head)? {
                return Ok(Checkout { stream, reused });
            }
            reused = false;
            let mut outcome = self.join_dial(key, session);
            let Ok(finished) = timeout_at(by, outcome.wait_for(Option::is_some)).await else {
                break;
            };
            match finished.as_deref() {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(error.clone()),
                Ok(None) | Err(_) => return Err(drained()),
            }
        }
        Err(crowded(key.peer))
    }

    fn open_now(&self, key: &PoolKey, head: &RequestHead) -> Result<Option<TunnelStream>, Error> {
        let mut entries = self.entries.borrow_mut();
        let Some(entry) = entries.get_mut(key) else {
            return Ok(None);
        };
        entry.tunnels.retain(|tunnel| tunnel.is_usable());
        let limit = entry.stream_limit(self.max_streams);
        if limit == 0 {
            return Err(no_streams(key.peer));
        }
        for tunnel in &entry.tunnels {
            if !tunnel.has_room(limit) {
                continue;
            }
            // Failing means that it filled or left since we looked: the next one may do.
            if let Ok(stream) = tunnel.open(head) {
                return Ok(Some(stream));
            }
        }
        Ok(None)
    }

    /// Waits for a dial that is under way and has room for one more, or begins one.
    fn join_dial(
        self: &Rc<Self>,
        key: &PoolKey,
        session: &impl Fn() -> Result<Session, TlsError>,
    ) -> watch::Receiver<Outcome> {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key.clone()).or_default();
        // A dial whose task is gone will never tell.
        entry
            .dials
            .retain(|dial| dial.outcome.has_changed().is_ok());
        let limit = entry.stream_limit(self.max_streams).max(1);
        if let Some(dial) = entry.dials.iter_mut().find(|dial| dial.waiting < limit) {
            dial.waiting += 1;
            return dial.outcome.clone();
        }
        let (sender, outcome) = watch::channel(None);
        entry.dials.push(Dial {
            outcome: outcome.clone(),
            waiting: 1,
        });
        let (pool, key, session) = (self.clone(), key.clone(), session());
        spawn_local(async move {
            let result = pool.dialer.tunnel(key.peer, session).await;
            pool.dialled(&key, &sender, result);
        });
        outcome
    }

    fn dialled(
        &self,
        key: &PoolKey,
        sender: &watch::Sender<Outcome>,
        result: Result<Rc<Tunnel>, Error>,
    ) {
        let mut entries = self.entries.borrow_mut();
        let entry = entries.entry(key.clone()).or_default();
        entry
            .dials
            .retain(|dial| !dial.outcome.same_channel(&sender.subscribe()));
        if let Ok(tunnel) = &result {
            entry.tunnels.push(tunnel.clone());
            self.made.set(self.made.get() + 1);
        } else if entry.tunnels.is_empty() && entry.dials.is_empty() {
            entries.remove(key);
        }
        sender.send_replace(Some(result));
        drop(entries);
        // Looking at all of them pays off once for several.
        if self.made.get() > self.max_idle / 4 {
            self.made.set(0);
            self.end_surplus();
        }
    }

    /// Ends those that have been idle for longest, but for as many as are kept.
    fn end_surplus(&self) {
        let entries = self.entries.borrow();
        let tunnels = entries.values().flat_map(|entry| &entry.tunnels);
        let mut idle: Vec<_> = tunnels
            .filter_map(|tunnel| Some((tunnel.idle_since()?, tunnel)))
            .collect();
        let surplus = idle.len().saturating_sub(self.max_idle);
        if surplus > 0 {
            idle.select_nth_unstable_by_key(surplus - 1, |(since, _)| *since);
            for (_, tunnel) in &idle[..surplus] {
                tunnel.close_when_idle();
            }
            drop(entries);
            self.sweep();
        }
    }

    /// Ends tunnels that have been idle for long, and forgets keys without any.
    pub(crate) fn sweep(&self) {
        let mut entries = self.entries.borrow_mut();
        entries.retain(|_, entry| {
            entry.tunnels.retain(|tunnel| {
                let idle = tunnel
                    .idle_since()
                    .is_some_and(|since| since.elapsed() >= self.idle);
                if idle {
                    tunnel.close_when_idle();
                }
                !idle && tunnel.is_usable()
            });
            !(entry.tunnels.is_empty() && entry.dials.is_empty())
        });
        // What a flood of keys has taken goes back.
        if entries.capacity() > 4 * entries.len().max(MAX_IDLE) {
            entries.shrink_to_fit();
        }
    }

    /// How often to sweep: often enough that "idle for 5 minutes" is not 10.
    pub(crate) fn sweep_interval(&self) -> Duration {
        (self.idle / 4).clamp(Duration::from_millis(20), Duration::from_secs(15))
    }
}

/// A peer whose limit is 0 would have us dial for ever.
fn no_streams(peer: SocketAddr) -> Error {
    Error::new(
        Stage::Tunnel,
        Side::Upstream,
        "no_streams",
        format!(
            "h2 failed: peer accepts no streams (SETTINGS_MAX_CONCURRENT_STREAMS is 0): {peer}"
        ),
    )
}

/// Others took every place of every tunnel that was made meanwhile.
fn crowded(peer: SocketAddr) -> Error {
    Error::new(
        Stage::Tunnel,
        Side::Upstream,
        "crowded",
        format!("h2 failed: no free stream in the tunnels that were made meanwhile: {peer}"),
    )
}

fn drained() -> Error {
    Error::new(Stage::Connect, Side::Local, "drain", "pool draining")
}

#[cfg(test)]
mod tests;
