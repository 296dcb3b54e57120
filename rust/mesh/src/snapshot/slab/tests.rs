use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Numbers on both sides of each boundary of the tree, and any.
fn number() -> impl Strategy<Value = u32> {
    let edges = [
        0,
        31,
        32,
        33,
        2_047,
        2_048,
        131_071,
        131_072,
        8_388_607,
        8_388_608,
        u32::MAX,
    ];
    prop_oneof![prop::sample::select(edges.to_vec()), 0..100_u32]
}

proptest! {
    #[test]
    fn a_slab_is_a_map_and_a_copy_of_it_stays_as_it_was(
        changes in prop::collection::vec((number(), prop::option::weighted(0.6, any::<u8>())), 0..200),
        copied_at in 0..200_usize,
    ) {
        let (mut slab, mut plain) = (Slab::default(), BTreeMap::new());
        let (mut copy, mut plain_copy) = (slab.clone(), plain.clone());
        for (index, (number, value)) in changes.iter().enumerate() {
            if index == copied_at {
                (copy, plain_copy) = (slab.clone(), plain.clone());
            }
            match value {
                Some(value) => {
                    slab.set(*number, *value);
                    plain.insert(*number, *value);
                }
                None => {
                    slab.clear(*number);
                    plain.remove(number);
                }
            }
            prop_assert_eq!(slab.get(*number), plain.get(number));
        }
        for (slab, plain) in [(&slab, &plain), (&copy, &plain_copy)] {
            prop_assert!(slab.values().eq(plain.values()));
            for (number, _) in &changes {
                prop_assert_eq!(slab.get(*number), plain.get(number));
            }
        }
        for number in plain.keys() {
            slab.clear(*number);
        }
        prop_assert!(slab.root.is_none() && slab.height == 0);
    }
}

#[test]
fn the_lowest_free_number_is_taken_first() {
    let mut numbers = Numbers::default();
    assert_eq!([(); 4].map(|()| numbers.take()), [0, 1, 2, 3]);
    numbers.give_back(2);
    numbers.give_back(0);
    assert_eq!([(); 3].map(|()| numbers.take()), [0, 2, 4]);
    (0..5).for_each(|number| numbers.give_back(number));
    assert!(numbers.free.is_empty(), "nothing is left of a large mesh");
    assert_eq!(numbers.take(), 0);
}
