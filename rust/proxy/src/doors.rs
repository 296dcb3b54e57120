//! Who stands at the door: accepted tunnels whose handshake is under way, by where they come from.
//!
//! A worker has room for so many tunnels, and whoever connects and says nothing keeps a place until the handshake's
//! deadline. So that nobody can take all places, each source has a share (spec/reliability.md U3, T01, T02). Those that are
//! in count no more. What a handshake may cost of the processor is `turns.rs`' business.
//!
//! The shares are for those who knock and say nothing: honest peers must never come near them, all of a node's pods at
//! once included, for upstream has no such limit and turns nobody away.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
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
    of: HashMap<Source, usize>,
}

/// Who has a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Address(IpAddr),
    /// The first half of an IPv6 address.
    Network(u64),
}

/// One that waits; it is in, or gone, when this is dropped.
pub(crate) struct Guest {
    doors: Rc<Doors>,
    address: IpAddr,
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Crowded {
    #[error("too many handshakes on this worker: {MOST}")]
    Everybody,
    #[error("too many handshakes from this address on this worker: {MOST_OF_ADDRESS}")]
    Address,
    #[error("too many handshakes from this /64 on this worker: {MOST_OF_NETWORK}")]
    Network,
}

impl Doors {
    /// Takes a place for a connection from `source`.
    ///
    /// # Errors
    /// There is none for it.
    pub(crate) fn enter(self: &Rc<Self>, address: IpAddr) -> Result<Guest, Crowded> {
        let address = address.to_canonical();
        let waiting = &mut *self.waiting.borrow_mut();
        if waiting.all >= MOST {
            return Err(Crowded::Everybody);
        }
        for source in sources_of(address) {
            let has = waiting.of.get(&source).copied().unwrap_or(0);
            match source {
                Source::Address(_) if has >= MOST_OF_ADDRESS => return Err(Crowded::Address),
                Source::Network(_) if has >= MOST_OF_NETWORK => return Err(Crowded::Network),
                Source::Address(_) | Source::Network(_) => {}
            }
        }
        for source in sources_of(address) {
            *waiting.of.entry(source).or_default() += 1;
        }
        waiting.all += 1;
        Ok(Guest {
            doors: self.clone(),
            address,
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let waiting = &mut *self.doors.waiting.borrow_mut();
        waiting.all -= 1;
        for source in sources_of(self.address) {
            if let Entry::Occupied(mut has) = waiting.of.entry(source) {
                *has.get_mut() -= 1;
                if *has.get() == 0 {
                    has.remove();
                }
            }
        }
    }
}

/// Whoever has an IPv6 address may have the rest of its /64 as well (RFC 4291 §2.5.4).
fn sources_of(address: IpAddr) -> impl Iterator<Item = Source> {
    let network = match address {
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).ok(),
        IpAddr::V4(_) => None,
    };
    [Source::Address(address)]
        .into_iter()
        .chain(network.map(Source::Network))
}

/// A quarter of the tunnels that a worker may have. The kernel spreads connections over workers, so a node with several
/// takes several times as many.
const MOST: usize = 4096;
/// The most pods that a node of Kubernetes is run with are 500, and behind one address they are where its traffic is
/// translated: all of them may knock at once, at a node with one worker. Handshakes last milliseconds, and that many are
/// half a second's work.
const MOST_OF_ADDRESS: usize = 512;
/// Half, for in clusters of IPv6 the pods of a whole zone may be of one /64, and any number of them may knock at once.
const MOST_OF_NETWORK: usize = MOST / 2;

#[cfg(test)]
mod tests;
