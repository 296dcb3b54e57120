//! The streams of one connection: numbers, who is open, who was (RFC 9113 §5.1.1).

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::Role;
use crate::frame::MAX_STREAM;
use crate::stream::{Closed, Ending, NumberHasher, Stream};

#[derive(Clone, Debug)]
pub(super) struct Streams {
    open: HashMap<u32, Stream, BuildHasherDefault<NumberHasher>>,
    closed: Closed,
    role: Role,
    /// The number our next stream takes; clients only, so odd.
    next_local: u32,
    /// The highest number the peer has opened; servers only.
    last_peer: u32,
}

impl Streams {
    pub(super) fn new(role: Role) -> Self {
        Self {
            open: HashMap::default(),
            closed: Closed::default(),
            role,
            next_local: 1,
            last_peer: 0,
        }
    }

    /// A client whose next stream has this number.
    #[cfg(test)]
    pub(super) fn starting_at(next_local: u32) -> Self {
        Self {
            next_local,
            ..Self::new(Role::Client)
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    pub(super) fn last_peer(&self) -> u32 {
        self.last_peer
    }

    pub(super) fn get(&self, id: u32) -> Option<&Stream> {
        self.open.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Stream> {
        self.open.get_mut(&id)
    }

    pub(super) fn all_mut(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.open.values_mut()
    }

    /// Open streams above `last`, lowest first.
    pub(super) fn above(&self, last: u32) -> Vec<u32> {
        let mut above: Vec<u32> = self.open.keys().copied().filter(|id| *id > last).collect();
        above.sort_unstable();
        above
    }

    /// Whether another number is left for a stream of ours.
    pub(super) fn has_number(&self) -> bool {
        self.next_local <= MAX_STREAM
    }

    /// Opens a stream of ours.
    pub(super) fn open_local(&mut self, stream: Stream) -> u32 {
        let id = self.next_local;
        self.next_local += 2;
        self.open.insert(id, stream);
        id
    }

    /// The peer used this number, whether a stream comes of it or not. Lower ones are closed by it.
    pub(super) fn use_peer_number(&mut self, id: u32) {
        self.last_peer = id;
    }

    /// The peer's request on this number is taken.
    pub(super) fn open_peer(&mut self, id: u32, stream: Stream) {
        self.open.insert(id, stream);
    }

    /// Whether nobody has used this number yet. Server push does not exist here, so even ones stay idle.
    pub(super) fn is_idle(&self, id: u32) -> bool {
        match self.role {
            _ if id.is_multiple_of(2) => true,
            Role::Client => id >= self.next_local,
            Role::Server => id > self.last_peer,
        }
    }

    pub(super) fn remove(&mut self, id: u32, ending: Ending) -> Option<Stream> {
        let stream = self.open.remove(&id)?;
        self.closed.remember(id, ending);
        Some(stream)
    }

    /// A number that never became a stream for the application.
    pub(super) fn remember(&mut self, id: u32, ending: Ending) {
        self.closed.remember(id, ending);
    }

    pub(super) fn recall(&mut self, id: u32) -> Option<&mut Ending> {
        self.closed.recall(id)
    }
}
