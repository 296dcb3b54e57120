//! Who stands at the door: accepted tunnels whose handshake is under way, by where they come from.
//!
//! A worker has room for so many tunnels, and whoever connects and says nothing keeps a place until the handshake's
//! deadline. So that nobody can take all places, each source has a share (spec/reliability.md U3, T01, T02). Those that are
//! in count no more. What a handshake may cost of the processor is `turns.rs`' business.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

/// A worker's.
#[derive(Default)]
pub(crate) struct Doors {
    waiting: RefCell<Waiting>,
}

#[derive(Default)]
struct Waiting {
    all: usize,
    /// Only those who wait.
    by_source: HashMap<IpAddr, usize>,
}

/// One that waits; it is in, or gone, when this is dropped.
pub(crate) struct Guest {
    doors: Rc<Doors>,
    source: IpAddr,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Crowded {
    #[error("too many handshakes on this worker: {MOST}")]
    Everybody,
    #[error("too many handshakes from this address on this worker: {MOST_OF_ONE}")]
    Source,
}

impl Doors {
    /// Takes a place for a connection from `source`.
    ///
    /// # Errors
    /// There is none for it.
    pub(crate) fn enter(self: &Rc<Self>, source: IpAddr) -> Result<Guest, Crowded> {
        let source = share_of(source);
        let waiting = &mut *self.waiting.borrow_mut();
        if waiting.all >= MOST {
            return Err(Crowded::Everybody);
        }
        let own = waiting.by_source.entry(source).or_default();
        if *own >= MOST_OF_ONE {
            return Err(Crowded::Source);
        }
        *own += 1;
        waiting.all += 1;
        Ok(Guest {
            doors: self.clone(),
            source,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let waiting = &mut *self.doors.waiting.borrow_mut();
        waiting.all -= 1;
        if let Entry::Occupied(mut own) = waiting.by_source.entry(self.source) {
            *own.get_mut() -= 1;
            if *own.get() == 0 {
                own.remove();
            }
        }
    }
}

/// Whoever has an IPv6 address has the rest of its /64 as well (RFC 4291 §2.5.4).
fn share_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// A quarter of the tunnels that a worker may have. The kernel spreads connections over workers, so a node with several
/// takes several times as many.
const MOST: usize = 4096;
/// A node that begins to talk to all of ours at once makes a tunnel per pod and no more; that many handshakes are a
/// quarter of a second's work.
const MOST_OF_ONE: usize = 256;

#[cfg(test)]
mod tests;
