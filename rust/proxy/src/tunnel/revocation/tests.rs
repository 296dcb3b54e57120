//! What ending a tunnel so means for those who use it. Who is to be ended is known by `tls/revocation`, and the whole way
//! from the list to the application is walked by tests/integration/test_revocation.py.

use super::*;
use crate::tls::testing::CLIENT;
use crate::tunnel::tests::{SOON, World, open, patient, play};

const REASON: &str = "connection closed: peer certificate revoked by CRL";

#[test]
fn a_tunnel_to_a_revoked_server_ends_its_streams_at_once_and_is_not_used_again() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        opened.tunnel().revoke();
        assert!(!opened.tunnel().is_usable());
        let other = open(&pool, peer.address, &own).await.unwrap();
        assert!(!Rc::ptr_eq(opened.tunnel(), other.tunnel()));
        let end = opened.cut().await;
        assert!(end.is_revoked(), "{end:?}");
        assert_eq!(peer.accepted.get(), 2);
    });
}

#[test]
fn a_tunnel_of_a_revoked_client_ends_with_the_reason_here_and_in_order_there() {
    play(async {
        let world = World::new();
        let mut peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        for tunnel in peer.tunnels.members() {
            tunnel.upgrade().unwrap().revoke();
        }
        assert_eq!(peer.ends.recv().await, Some((REASON.to_owned(), true)));
        let end = opened.cut().await;
        assert!(!end.is_revoked(), "it hears no more than an end: {end:?}");
    });
}

#[test]
fn a_tunnel_that_was_made_before_anybody_asked_is_counted_once() {
    play(async {
        let world = World::new();
        let peer = world.peer(patient(), 200).await;
        let (pool, own) = (world.pool(100, SOON), world.authority.certificate(CLIENT));
        let opened = open(&pool, peer.address, &own).await.unwrap();
        let list = RevocationList::default();
        assert_eq!(opened.tunnel().verdict(&list), Verdict::Untracked);
        assert_eq!(opened.tunnel().verdict(&list), Verdict::Good);
    });
}
