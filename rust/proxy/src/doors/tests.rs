use super::*;

fn doors() -> Rc<Doors> {
    Rc::default()
}

#[test]
fn one_source_has_its_share_and_leaves_the_rest_to_others() {
    let doors = doors();
    let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let mut guests: Vec<_> = (0..MOST_OF_ADDRESS)
        .map(|_| doors.enter(one).unwrap())
        .collect();
    assert_eq!(doors.enter(one).err(), Some(Crowded::Address));
    // However the address is spelled.
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(doors.enter(mapped).err(), Some(Crowded::Address));
    assert!(doors.enter(other).is_ok());
    guests.pop();
    assert!(doors.enter(one).is_ok());
}

#[test]
fn a_subnet_has_a_larger_share_than_each_of_its_addresses() {
    let doors = doors();
    let address = |n: usize| format!("2001:db8::{n:x}").parse().unwrap();
    let of_one: Vec<_> = (0..MOST_OF_ADDRESS)
        .map(|_| doors.enter(address(0)).unwrap())
        .collect();
    assert_eq!(doors.enter(address(0)).err(), Some(Crowded::Address));
    // A zone of a cluster, of which everybody has a word to say.
    let others: Vec<_> = (MOST_OF_ADDRESS..MOST_OF_NETWORK)
        .map(|n| doors.enter(address(n)).unwrap())
        .collect();
    assert_eq!(doors.enter(address(1)).err(), Some(Crowded::Network));
    assert!(doors.enter("2001:db8:0:1::1".parse().unwrap()).is_ok());
    drop((of_one, others));
}

/// What a node whose pods all begin to talk at once sends us, if we have but one worker and see but one address.
#[test]
fn every_pod_of_the_largest_node_may_knock_at_once() {
    let doors = doors();
    let node = "10.0.0.1".parse().unwrap();
    let pods: Result<Vec<_>, _> = (0..500).map(|_| doors.enter(node)).collect();
    assert!(pods.is_ok());
}

#[test]
fn many_sources_together_have_a_limit_too() {
    let doors = doors();
    let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
    let mut guests: Vec<_> = (0..MOST)
        .map(|n| doors.enter(address(n)).unwrap())
        .collect();
    assert_eq!(doors.enter(address(MOST)).err(), Some(Crowded::Everybody));
    guests.pop();
    assert!(doors.enter(address(MOST)).is_ok());
}

#[test]
fn who_is_in_or_gone_leaves_nothing_behind() {
    let doors = doors();
    for source in ["10.0.0.1", "2001:db8::1"] {
        let source = source.parse().unwrap();
        let guests: Vec<_> = (0..10).map(|_| doors.enter(source).unwrap()).collect();
        drop(guests);
    }
    let waiting = doors.waiting.borrow();
    assert_eq!((waiting.all, waiting.of.len()), (0, 0));
}
