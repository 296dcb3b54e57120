use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Thing {
    key: String,
    weight: u32,
    something: bool,
}

impl Entry for Thing {
    type Key = str;
    const LEAF: usize = 32;

    fn key(&self) -> &str {
        &self.key
    }

    fn sums(&self) -> Sums {
        Sums {
            weight: self.weight.into(),
            count: self.something.into(),
            idle: (self.weight == 0).into(),
        }
    }
}

impl SumTree<Thing> {
    fn insert(&mut self, key: &str, weight: u32) {
        let new = || Thing {
            key: key.to_owned(),
            weight: 77,
            something: true,
        };
        self.change(key, new, |thing| thing.weight = weight);
    }
}

/// The plain version: the entry on which each number falls, and how far into it.
fn falls(plain: &BTreeMap<String, u32>) -> Vec<(&String, u64)> {
    let each = plain
        .iter()
        .map(|(key, weight)| (0..u64::from(*weight)).map(move |into| (key, into)));
    each.flatten().collect()
}

fn check(tree: &SumTree<Thing>, plain: &BTreeMap<String, u32>) {
    let falls = falls(plain);
    let sums = Sums {
        weight: falls.len() as u64,
        count: plain.len() as u32,
        idle: plain.values().filter(|weight| **weight == 0).count() as u32,
    };
    assert_eq!(tree.sums(), sums);
    assert!(tree.iter().map(|t| (&t.key, &t.weight)).eq(plain));
    for (number, expected) in falls.iter().enumerate() {
        let found = tree
            .at(number as u64)
            .map(|(thing, into)| (&thing.key, into));
        assert_eq!(found, Some(*expected));
    }
    assert_eq!(tree.at(sums.weight), None);
    for (key, weight) in plain {
        assert_eq!(tree.get(key).map(|thing| thing.weight), Some(*weight));
        assert_eq!(tree.get(&format!("{key} and more")), None);
    }
    equally_deep(&tree.root);
}

fn equally_deep<E: Entry>(part: &Part<E>) -> usize {
    match &*part.node {
        Node::Branch(parts) => {
            let depths: Vec<_> = parts.iter().map(equally_deep).collect();
            assert!(parts.len() <= WIDTH && parts.iter().all(|part| part.width() > 0));
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
            1 + depths[0]
        }
        Node::Leaf(entries) => {
            assert!(entries.len() <= E::LEAF);
            1
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_is_a_map_with_weights_and_a_copy_of_it_stays_as_it_was(
        changes in prop::collection::vec((0..300_u16, prop::option::weighted(0.6, 0..4_u32), any::<bool>()), 0..900),
        copied_at in 0..900_usize,
    ) {
        let (mut tree, mut plain) = (SumTree::default(), BTreeMap::new());
        let (mut copy, mut plain_copy) = (tree.clone(), plain.clone());
        for (index, (key, weight, by_change)) in changes.into_iter().enumerate() {
            if index == copied_at {
                (copy, plain_copy) = (tree.clone(), plain.clone());
            }
            let key = format!("k{key}");
            match weight {
                Some(weight) => {
                    tree.insert(&key, weight);
                    plain.insert(key, weight);
                    continue;
                }
                // What becomes nothing is taken out, as what is removed; also what was not there before.
                None if by_change => {
                    let new = || Thing { key: key.clone(), weight: 1, something: true };
                    tree.change(&*key, new, |thing| thing.something = false);
                }
                None => tree.remove(&key),
            }
            plain.remove(&key);
        }
        check(&tree, &plain);
        check(&copy, &plain_copy);
        while let Some((key, _)) = plain.pop_last() {
            tree.remove(&key);
        }
        check(&tree, &plain);
    }

    #[test]
    fn numbers_are_drawn_by_their_place(numbers in prop::collection::btree_set(0..2_000_u32, 0..600)) {
        let mut tree = SumTree::default();
        numbers.iter().rev().for_each(|number| tree.change(number, || *number, |_| {}));
        for (place, number) in numbers.iter().enumerate() {
            prop_assert_eq!(tree.at(place as u64), Some((number, 0)));
        }
        prop_assert_eq!(tree.at(numbers.len() as u64), None);
    }
}

#[test]
fn the_tree_of_thousands_is_low_and_stays_so() {
    let keys: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
    let mut tree = SumTree::default();
    keys.iter().for_each(|key| tree.insert(key, 1));
    assert_eq!(equally_deep(&tree.root), 3);
    for key in keys.iter().filter(|key| !key.ends_with('7')) {
        tree.remove(key);
    }
    assert_eq!((tree.sums().count, tree.sums().weight), (1_000, 1_000));
    assert!(equally_deep(&tree.root) <= 3);
    fn leaves(part: &Part<Thing>) -> usize {
        match &*part.node {
            Node::Branch(parts) => parts.iter().map(leaves).sum(),
            Node::Leaf(_) => 1,
        }
    }
    assert!(
        leaves(&tree.root) < 1_000 / (Thing::LEAF / 8),
        "{}",
        leaves(&tree.root)
    );
}
