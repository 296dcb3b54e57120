//! The tunnels that live on one worker, so that a drain can reach every one of them and wait for their end.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::state::Tunnel;

/// All tunnels of a worker, clients and servers.
#[derive(Default)]
pub(crate) struct TunnelSet {
    tunnels: RefCell<HashMap<u64, Rc<Tunnel>>>,
    /// Tunnels inside one of those: they end with it.
    inner: RefCell<HashMap<u64, Weak<Tunnel>>>,
    next: Cell<u64>,
    leaving: Cell<bool>,
    waiting: RefCell<Option<Waker>>,
}

/// Keeps a tunnel in the set for as long as its driver runs.
pub(super) struct Member {
    set: Rc<TunnelSet>,
    key: u64,
}

/// The same for a tunnel inside another.
pub(super) struct InnerMember(Member);

impl TunnelSet {
    pub(super) fn add(self: &Rc<Self>, tunnel: Rc<Tunnel>) -> Member {
        let member = self.member();
        self.tunnels.borrow_mut().insert(member.key, tunnel);
        member
    }

    /// A tunnel inside another. A drain need not know it; who looks at every peer does.
    pub(super) fn add_inner(self: &Rc<Self>, tunnel: &Rc<Tunnel>) -> InnerMember {
        let member = self.member();
        let tunnel = Rc::downgrade(tunnel);
        self.inner.borrow_mut().insert(member.key, tunnel);
        InnerMember(member)
    }

    fn member(self: &Rc<Self>) -> Member {
        let key = self.next.get();
        self.next.set(key + 1);
        Member {
            set: self.clone(),
            key,
        }
    }

    /// All that live now, those inside others too.
    pub(super) fn members(&self) -> Vec<Weak<Tunnel>> {
        let (outer, inner) = (self.tunnels.borrow(), self.inner.borrow());
        let outer = outer.values().map(Rc::downgrade);
        outer.chain(inner.values().cloned()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.tunnels.borrow().len()
    }

    /// Asks tunnels to end once their streams have ended; peers' tunnels that come later are asked at once. Not those
    /// that are being dialled: a connection waits for each.
    pub(crate) fn close_when_idle(&self) {
        self.leaving.set(true);
        self.each(|tunnel| {
            if !tunnel.is_being_dialled() {
                tunnel.close_when_idle();
            }
        });
    }

    /// Asks every tunnel to end once its streams have ended: no connection is left that could want one.
    pub(crate) fn close_all_when_idle(&self) {
        self.each(Tunnel::close_when_idle);
    }

    /// A successor has taken over the listener: tunnels that come from now on are its.
    #[cfg(test)]
    pub(super) fn succeed(&self) {
        self.leaving.set(false);
    }

    /// Whether the worker is draining.
    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    /// Asks tunnels to end that have carried nothing for long.
    pub(crate) fn close_idle(&self, longer_than: Duration) {
        self.each(|tunnel| {
            let idle = tunnel.idle_since().map(|since| since.elapsed());
            if idle.is_some_and(|idle| idle >= longer_than) {
                tunnel.close_when_idle();
            }
        });
    }

    /// Ends every tunnel now.
    pub(crate) fn abort(&self) {
        self.each(Tunnel::abort);
    }

    fn each(&self, action: impl Fn(&Tunnel)) {
        let tunnels: Vec<_> = self.tunnels.borrow().values().cloned().collect();
        tunnels.iter().for_each(|tunnel| action(tunnel));
    }

    /// Resolves when no tunnel is left.
    pub(crate) async fn emptied(&self) {
        poll_fn(|context| {
            if self.tunnels.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Drop for InnerMember {
    fn drop(&mut self) {
        self.0.set.inner.borrow_mut().remove(&self.0.key);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.set.tunnels.borrow_mut().remove(&self.key);
        if self.set.tunnels.borrow().is_empty()
            && let Some(waker) = self.set.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
