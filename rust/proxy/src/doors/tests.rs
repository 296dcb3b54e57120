use super::*;

fn doors() -> Rc<Doors> {
    Rc::default()
}

#[test]
fn one_source_has_its_share_and_leaves_the_rest_to_others() {
    let doors = doors();
    let (one, other): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let mut guests: Vec<_> = (0..MOST_OF_ONE)
        .map(|_| doors.enter(one).unwrap())
        .collect();
    assert_eq!(doors.enter(one).err(), Some(Crowded::Source));
    // However the address is spelled.
    let mapped = "::ffff:10.0.0.1".parse().unwrap();
    assert_eq!(doors.enter(mapped).err(), Some(Crowded::Source));
    assert!(doors.enter(other).is_ok());
    guests.pop();
    assert!(doors.enter(one).is_ok());
}

#[test]
fn all_addresses_of_a_subnet_are_one_source() {
    let doors = doors();
    let address = |n: usize| format!("2001:db8::{n:x}").parse().unwrap();
    let guests: Vec<_> = (0..MOST_OF_ONE)
        .map(|n| doors.enter(address(n)).unwrap())
        .collect();
    assert_eq!(doors.enter(address(0xffff)).err(), Some(Crowded::Source));
    assert!(doors.enter("2001:db8:0:1::1".parse().unwrap()).is_ok());
    drop(guests);
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
    let source = "10.0.0.1".parse().unwrap();
    let guests: Vec<_> = (0..10).map(|_| doors.enter(source).unwrap()).collect();
    drop(guests);
    let waiting = doors.waiting.borrow();
    assert_eq!((waiting.all, waiting.by_source.len()), (0, 0));
}
