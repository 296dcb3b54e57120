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
                    *table.or_default(&key) = value;
                    plain.insert(key, value);
                }
                None => prop_assert_eq!(table.remove(&key), plain.remove(&key)),
            }
            prop_assert_eq!(table.get(&key), plain.get(&key));
            prop_assert_eq!(table.get_mut(&key).copied(), plain.get(&key).copied());
            prop_assert_eq!(table.len(), plain.len());
        }
        for (table, plain) in [(&table, &plain), (&copy, &plain_copy)] {
            let (mut values, mut expected): (Vec<_>, Vec<_>) = (table.values().collect(), plain.values().collect());
            values.sort();
            expected.sort();
            prop_assert_eq!(values, expected);
        }
    }
}
