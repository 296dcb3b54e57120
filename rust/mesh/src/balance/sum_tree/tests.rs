use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

impl Keyed for String {
    fn key(&self) -> &str {
        self
    }
}

/// The plain version: the entry on which each number falls.
fn falls(plain: &BTreeMap<String, u32>) -> Vec<&String> {
    let each = plain
        .iter()
        .map(|(key, weight)| std::iter::repeat_n(key, *weight as usize));
    each.flatten().collect()
}

fn check(tree: &SumTree<String>, plain: &BTreeMap<String, u32>) {
    assert_eq!(tree.len(), plain.len());
    assert!(tree.iter().eq(plain.keys()));
    let falls = falls(plain);
    assert_eq!(tree.weight(), falls.len() as u64);
    for (number, expected) in falls.iter().enumerate() {
        assert_eq!(tree.at(number as u64), Some(*expected));
    }
    assert_eq!(tree.at(tree.weight()), None);
    for key in plain.keys() {
        assert_eq!(tree.get(key), Some(key));
        assert_eq!(tree.get(&format!("{key} and more")), None);
    }
    equally_deep(&tree.root);
}

fn equally_deep(part: &Part<String>) -> usize {
    match &*part.node {
        Node::Branch(parts) => {
            let depths: Vec<_> = parts.iter().map(equally_deep).collect();
            assert!(parts.len() <= WIDTH && parts.iter().all(|part| part.count > 0));
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
            1 + depths[0]
        }
        Node::Leaf(entries) => {
            assert!(entries.len() <= WIDTH);
            1
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_tree_is_a_map_with_weights_and_a_copy_of_it_stays_as_it_was(
        changes in prop::collection::vec((0..300_u16, prop::option::weighted(0.6, 0..4_u32)), 0..900),
        copied_at in 0..900_usize,
    ) {
        let (mut tree, mut plain) = (SumTree::default(), BTreeMap::new());
        let (mut copy, mut plain_copy) = (tree.clone(), plain.clone());
        for (index, (key, weight)) in changes.into_iter().enumerate() {
            if index == copied_at {
                (copy, plain_copy) = (tree.clone(), plain.clone());
            }
            let key = format!("k{key}");
            match weight {
                Some(weight) => {
                    tree.insert(weight, key.clone());
                    plain.insert(key, weight);
                }
                None => {
                    tree.remove(&key);
                    plain.remove(&key);
                }
            }
        }
        check(&tree, &plain);
        check(&copy, &plain_copy);
        while let Some((key, _)) = plain.pop_last() {
            tree.remove(&key);
        }
        check(&tree, &plain);
    }
}

#[test]
fn the_tree_of_thousands_is_low_and_stays_so() {
    let keys: Vec<String> = (0..10_000).map(|n| format!("{n:05}")).collect();
    let mut tree = SumTree::default();
    keys.iter().for_each(|key| tree.insert(1, key.clone()));
    assert_eq!(equally_deep(&tree.root), 3);
    for key in keys.iter().filter(|key| !key.ends_with('7')) {
        tree.remove(key);
    }
    assert_eq!((tree.len(), tree.weight()), (1_000, 1_000));
    assert!(equally_deep(&tree.root) <= 3);
    fn leaves(part: &Part<String>) -> usize {
        match &*part.node {
            Node::Branch(parts) => parts.iter().map(leaves).sum(),
            Node::Leaf(_) => 1,
        }
    }
    assert!(
        leaves(&tree.root) < 1_000 / (WIDTH / 8),
        "{}",
        leaves(&tree.root)
    );
}

#[test]
fn a_change_copies_one_node_of_each_level() {
    fn nodes(part: &Part<String>, found: &mut Vec<*const Node<String>>) {
        found.push(Arc::as_ptr(&part.node));
        if let Node::Branch(parts) = &*part.node {
            parts.iter().for_each(|part| nodes(part, found));
        }
    }
    let mut tree = SumTree::default();
    (0..10_000).for_each(|n| tree.insert(1, format!("{n:05}")));
    let before = tree.clone();
    tree.insert(2, "05000".into());
    let (mut old, mut new) = (Vec::new(), Vec::new());
    nodes(&before.root, &mut old);
    nodes(&tree.root, &mut new);
    assert_eq!(new.iter().filter(|node| !old.contains(node)).count(), 3);
}
