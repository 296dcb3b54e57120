use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_table_is_a_map_and_a_copy_of_it_stays_as_it_was(
        changes in prop::collection::vec((0..64_u32, prop::option::of(any::<u8>())), 0..200),
        copied_at in 0..200_usize,
    ) {
        let (mut table, mut plain) = (Table::default(), BTreeMap::new());
        let (mut copy, mut plain_copy) = (table.clone(), plain.clone());
        for (index, (key, value)) in changes.into_iter().enumerate() {
            if index == copied_at {
                (copy, plain_copy) = (table.clone(), plain.clone());
            }
            match value {
                Some(value) if value % 2 == 0 => {
                    table.insert(key, value);
                    plain.insert(key, value);
                }
                Some(value) => {
                    *table.or_default(key) = value;
                    plain.insert(key, value);
                }
                None => prop_assert_eq!(table.remove(&key), plain.remove(&key)),
            }
            prop_assert_eq!(table.get(&key), plain.get(&key));
            prop_assert_eq!(table.get_mut(&key).copied(), plain.get(&key).copied());
            prop_assert_eq!(table.get_key_value(&key), plain.get_key_value(&key));
            prop_assert_eq!(table.len(), plain.len());
        }
        for (table, plain) in [(&table, &plain), (&copy, &plain_copy)] {
            let seen: BTreeMap<_, _> = table.iter().map(|(key, value)| (*key, *value)).collect();
            prop_assert_eq!(&seen, plain);
        }
    }
}

#[test]
fn a_change_copies_the_one_shard_it_falls_into() {
    let mut table = Table::default();
    (0..10_000).for_each(|n: u32| table.insert(n, n));
    let before = table.clone();
    table.insert(7, 8);
    table.remove(&10_000);
    let pairs = before.shards.iter().zip(&table.shards);
    assert_eq!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count(), 1);
}
