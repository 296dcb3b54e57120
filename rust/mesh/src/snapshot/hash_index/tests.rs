use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Hashes that meet in one slot of the first branch, in one leaf for ever, and any.
fn hash() -> impl Strategy<Value = u32> {
    prop_oneof![
        (0..4_u32).prop_map(|low| 0xabcd_ef00 | low),
        (0..1_u32 << 16).prop_map(|low| 0x1234_0000 | low),
        any::<u32>(),
    ]
}

fn put_last(index: &mut HashIndex, hash: u32, number: u32) {
    index.put_last(&mut vec![entry(hash, number)]);
}

fn nodes(node: &Node) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Branch(slots) => 1 + slots.iter().map(nodes).sum::<usize>(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn an_index_is_a_map_to_lists_and_a_copy_of_it_stays_as_it_was(
        hashes in prop::collection::vec(hash(), 1..400),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u32, prop::bool::weighted(0.7)), 0..2_000),
        copied_at in 0..2_000_usize,
    ) {
        let (mut index, mut plain) = (HashIndex::default(), BTreeMap::<u32, Vec<u32>>::new());
        let (mut copy, mut plain_copy) = (index.clone(), plain.clone());
        for (step, (hash, number, put)) in changes.iter().enumerate() {
            if step == copied_at {
                (copy, plain_copy) = (index.clone(), plain.clone());
            }
            let hash = *hash.get(&hashes);
            let list = plain.entry(hash).or_default();
            list.retain(|held| held != number);
            if *put {
                put_last(&mut index, hash, *number);
                list.push(*number);
            } else {
                index.remove(hash, *number);
            }
            prop_assert!(index.get(hash).eq(list.iter().copied()));
        }
        for (index, plain) in [(&index, &plain), (&copy, &plain_copy)] {
            for hash in &hashes {
                let list = plain.get(hash).cloned().unwrap_or_default();
                prop_assert!(index.get(*hash).eq(list));
            }
        }
        // What is taken out to the end leaves nothing behind.
        for (hash, list) in &plain {
            list.iter().for_each(|number| index.remove(*hash, *number));
        }
        prop_assert_eq!(nodes(&index.root), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn many_at_once_are_as_one_after_the_other(
        hashes in prop::collection::vec(hash(), 1..100),
        batches in prop::collection::vec(
            prop::collection::vec((any::<prop::sample::Index>(), 0..4_u32), 0..300),
            0..6,
        ),
    ) {
        let [mut index, mut one_by_one] = [HashIndex::default(), HashIndex::default()];
        for batch in &batches {
            let mut new: Vec<Entry> = Vec::new();
            for (hash, number) in batch {
                let entry = entry(*hash.get(&hashes), *number);
                if !new.contains(&entry) {
                    new.push(entry);
                }
            }
            for entry in &new {
                put_last(&mut one_by_one, hash_of(*entry), number_of(*entry));
            }
            let copy = index.clone();
            let held: Vec<Vec<u32>> = hashes.iter().map(|hash| copy.get(*hash).collect()).collect();
            index.put_last(&mut new);
            for (hash, held) in hashes.iter().zip(held) {
                prop_assert!(index.get(*hash).eq(one_by_one.get(*hash)));
                prop_assert!(copy.get(*hash).eq(held));
            }
        }
    }
}

#[test]
fn many_numbers_under_one_hash_are_kept_in_their_order() {
    let mut index = HashIndex::default();
    (0..1_000).for_each(|number| put_last(&mut index, 7, number));
    put_last(&mut index, 7, 3);
    assert_eq!(index.get(7).count(), 1_000);
    assert_eq!(index.get(7).next_back(), Some(3));
    assert_eq!(index.get(8).next(), None);
}

#[test]
fn leaves_are_well_filled_and_look_ups_short() {
    let mut index = HashIndex::default();
    let hash = |n: u32| n.wrapping_mul(2_654_435_761);
    (0..100_000).for_each(|number| put_last(&mut index, hash(number), number));
    let Node::Branch(slots) = &index.root else {
        panic!("a hundred thousand do not fit into a leaf");
    };
    let leaves = |node: &Node| match node {
        Node::Branch(slots) => {
            let mut leaves: Vec<_> = slots.iter().filter_map(leaf).collect();
            assert_eq!(leaves.len(), FAN, "no third level");
            leaves.dedup();
            leaves.len()
        }
        Node::Leaf(_) => 1,
    };
    let count: usize = slots.iter().map(leaves).sum();
    assert!(100_000 / count >= LEAF / 2, "{count} leaves");
    assert!((0..100_000).all(|n| index.get(hash(n)).eq([n])));
}

fn leaf(node: &Node) -> Option<*const u64> {
    match node {
        Node::Leaf(leaf) => Some(leaf.as_ptr()),
        Node::Branch(_) => None,
    }
}
