use super::*;

#[test]
fn copies_of_a_key_hash_alike_and_other_keys_do_not() {
    let key = Keyed::default();
    let copy = key.clone();
    assert_eq!(key.hash_one("web"), copy.hash_one("web"));
    assert_ne!(key.hash_one("web"), key.hash_one("api"));
    assert_ne!(key.hash_one("web"), Keyed::default().hash_one("web"));
}

#[test]
fn every_bit_of_a_hash_tells_names_apart_that_differ_in_little() {
    let key = Keyed::default();
    let hashes: Vec<u64> = (0..10_000)
        .map(|n| key.hash_one(&*format!("Kubernetes//Pod/team/web-{n}")))
        .collect();
    for bit in 0..u64::BITS {
        let ones = hashes.iter().filter(|hash| *hash >> bit & 1 == 1).count();
        // Ten standard deviations.
        assert!((4_500..5_500).contains(&ones), "bit {bit}: {ones}");
    }
}
