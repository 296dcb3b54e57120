use super::*;
use crate::sys::testing::connected_pair;

#[test]
fn an_unredirected_connection_wanted_where_it_arrived() {
    let (client, server) = connected_pair();
    let found = original_destination(&server).unwrap();
    assert_eq!(found.address(), client.peer_addr().unwrap());
}

#[test]
fn the_errors_of_both_questions_are_kept() {
    let (_client, server) = connected_pair();
    match original_destination(&server).unwrap() {
        OriginalAddress::Local { v4, v6, .. } => {
            assert!(v4.raw_os_error().is_some());
            assert!(v6.raw_os_error().is_some());
        }
        OriginalAddress::Tracked(_) => println!("skipped: connections are tracked here"),
    }
}
