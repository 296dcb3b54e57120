use super::*;

#[test]
fn it_never_holds_more_than_two_generations() {
    let mut recent = Recent::new(10);
    for number in 0..1000 {
        recent.insert(number, ());
        assert!(recent.len() <= 20);
    }
}

#[test]
fn what_is_asked_for_outlives_a_flood() {
    let mut recent = Recent::new(10);
    recent.insert(-1, "kept");
    recent.insert(-2, "forgotten");
    for number in 0..1000 {
        recent.insert(number, "new");
        if number % 5 == 0 {
            assert_eq!(recent.get(&-1), Some("kept"));
        }
    }
    assert_eq!(recent.get(&-2), None);
}

#[test]
fn a_value_is_found_in_either_generation_and_removed_from_both() {
    let mut recent = Recent::new(2);
    for number in 0..3 {
        recent.insert(number, number);
    }
    for number in 0..3 {
        assert_eq!(recent.get(&number), Some(number));
        recent.remove(&number);
        assert_eq!(recent.get(&number), None);
    }
    assert_eq!(recent.len(), 0);
}

#[test]
fn a_new_value_takes_the_place_of_an_old_one() {
    let mut recent = Recent::new(1);
    recent.insert("key", 1);
    recent.insert("other", 2);
    recent.insert("key", 3);
    assert_eq!(recent.get("key"), Some(3));
}
