use super::*;
use crate::sys::testing::connected_pair;

#[test]
fn nodelay_is_always_set_and_keepalive_only_if_given() {
    let (_client, server) = connected_pair();
    set_accepted_options(&server, None).unwrap();
    assert!(SockRef::from(&server).tcp_nodelay().unwrap());
    assert!(!SockRef::from(&server).keepalive().unwrap());
    set_accepted_options(&server, Some(&Keepalive::default())).unwrap();
    assert!(SockRef::from(&server).keepalive().unwrap());
}

#[test]
fn the_user_timeout_is_the_whole_time_of_probing() {
    assert_eq!(
        Keepalive::default().give_up_after(),
        Duration::from_secs(1800)
    );
}
