use super::*;

fn table(max: usize, fields: &[(&str, &str)]) -> DynamicTable {
    let mut table = DynamicTable::new(max);
    for (name, value) in fields {
        table.insert(name.as_bytes(), value.as_bytes());
    }
    table
}

fn contents(table: &DynamicTable) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    (0..)
        .map_while(|age| table.get(age))
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

#[test]
fn the_newest_entry_comes_first_and_the_oldest_leaves_first() {
    let mut table = table(2 * (32 + 2), &[("a", "1"), ("b", "2")]);
    assert_eq!(contents(&table), [("b", "2"), ("a", "1")]);
    table.insert(b"c", b"3");
    assert_eq!(contents(&table), [("c", "3"), ("b", "2")]);
}

#[test]
fn an_entry_of_exactly_the_size_fits_and_one_byte_more_empties_the_table() {
    let mut table = table(34, &[("a", "1")]);
    table.insert(b"b", b"2");
    assert_eq!(contents(&table), [("b", "2")]);
    table.insert(b"b", b"23");
    assert_eq!(contents(&table), []);
    assert_eq!(table.size, 0);
}

#[test]
fn a_name_may_come_from_the_entry_that_makes_room() {
    let mut table = table(40, &[("name", "1")]);
    table.insert_named_as(0, b"22");
    assert_eq!(contents(&table), [("name", "22")]);
    table.insert_named_as(1, b"no such entry");
    assert_eq!(contents(&table), [("name", "22")]);
}

#[test]
fn shrinking_evicts_and_growing_keeps() {
    let mut table = table(200, &[("a", "1"), ("b", "2"), ("c", "3")]);
    table.resize(70);
    assert_eq!(contents(&table), [("c", "3"), ("b", "2")]);
    table.resize(200);
    assert_eq!(contents(&table), [("c", "3"), ("b", "2")]);
    table.resize(0);
    assert_eq!(contents(&table), []);
    table.insert(b"a", b"");
    assert_eq!(contents(&table), []);
}

#[test]
fn a_field_is_found_before_a_name_and_the_youngest_first() {
    let table = table(400, &[("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")]);
    assert_eq!(table.find(b"a", b"1"), Some(Found::Field(3)));
    assert_eq!(table.find(b"a", b"9"), Some(Found::Name(0)));
    assert_eq!(table.find(b"c", b"1"), None);
}

#[test]
fn text_stays_within_three_times_the_size() {
    let mut table = DynamicTable::new(256);
    for round in 0..10_000usize {
        table.insert(b"name", &vec![b'x'; round % 240]);
        table.insert_named_as(0, b"v");
        assert!(table.text.len() <= 3 * 256);
        assert!(table.size <= 256);
    }
}
