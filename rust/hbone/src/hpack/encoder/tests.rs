use super::*;
use crate::hpack::{Decoder, ListSize};

fn block(encoder: &mut Encoder, fields: &[(&str, &str)], index: Index) -> String {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value) in fields {
        encoder.field(name.as_bytes(), value.as_bytes(), index, &mut out);
    }
    out.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[test]
fn requests_are_written_as_in_appendix_c_4() {
    let mut encoder = Encoder::new();
    let authority = (":authority", "www.example.com");
    let get = |scheme, path| {
        [
            (":method", "GET"),
            (":scheme", scheme),
            (":path", path),
            authority,
        ]
    };
    assert_eq!(
        block(&mut encoder, &get("http", "/"), Index::Index),
        "828684418cf1e3c2e5f23a6ba0ab90f4ff"
    );
    let second = [&get("http", "/")[..], &[("cache-control", "no-cache")]].concat();
    assert_eq!(
        block(&mut encoder, &second, Index::Index),
        "828684be5886a8eb10649cbf"
    );
    let third = [
        &get("https", "/index.html")[..],
        &[("custom-key", "custom-value")],
    ]
    .concat();
    assert_eq!(
        block(&mut encoder, &third, Index::Index),
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf"
    );
}

#[test]
fn single_fields_are_written_as_in_appendix_c_2() {
    // With Huffman where the RFC's example has none.
    let mut encoder = Encoder::new();
    assert_eq!(
        block(&mut encoder, &[(":path", "/a")], Index::Plain),
        "04022f61"
    );
    assert_eq!(
        block(&mut encoder, &[("password", "secret")], Index::Never),
        "1086ac684783d9278441496153"
    );
    assert_eq!(encoder.table.held().1, 0);
}

#[test]
fn an_indexed_field_costs_one_byte_the_second_time() {
    let mut encoder = Encoder::new();
    let field = [("baggage", "k8s.cluster.name=Kubernetes")];
    assert!(block(&mut encoder, &field, Index::Index).len() > 40);
    assert_eq!(block(&mut encoder, &field, Index::Index), "be");
    assert_eq!(block(&mut encoder, &field, Index::Plain), "be");
}

#[test]
fn a_plain_field_with_a_known_name_sends_the_value_only() {
    let mut encoder = Encoder::new();
    block(&mut encoder, &[("traceparent", "1")], Index::Index);
    assert_eq!(
        block(&mut encoder, &[("traceparent", "2")], Index::Plain),
        "0f2f0132"
    );
}

#[test]
fn a_secret_is_a_literal_even_where_a_table_has_it() {
    let mut encoder = Encoder::new();
    assert_eq!(
        block(&mut encoder, &[(":method", "GET")], Index::Never),
        "1203474554"
    );
}

#[test]
fn a_field_larger_than_the_table_does_not_empty_it() {
    let mut encoder = Encoder::new();
    block(&mut encoder, &[("a", "1")], Index::Index);
    block(&mut encoder, &[("b", &"\u{1}".repeat(4096))], Index::Index);
    assert_eq!(block(&mut encoder, &[("a", "1")], Index::Index), "be");
}

#[test]
fn the_next_block_tells_of_a_changed_table() {
    for (sizes, start) in [
        (&[4096][..], ""),
        (&[65_536], ""),
        (&[0], "20"),
        (&[100], "3f45"),
        (&[0, 4096], "203fe11f"),
        (&[100, 0, 30], "203e"),
        (&[65_536, 100], "3f45"),
    ] {
        let mut encoder = Encoder::new();
        sizes.iter().for_each(|&size| encoder.set_max_table(size));
        let first = block(&mut encoder, &[], Index::Index);
        assert!(first.starts_with(start), "{sizes:?}: {first}");
        assert_eq!(first.is_empty(), start.is_empty(), "{sizes:?}: {first}");
        assert_eq!(
            block(&mut encoder, &[], Index::Index),
            "",
            "{sizes:?}: told twice"
        );
        let mut decoder = Decoder::default();
        let octets: Vec<u8> = (0..first.len() / 2)
            .map(|i| u8::from_str_radix(&first[2 * i..2 * i + 2], 16).unwrap())
            .collect();
        assert_eq!(
            decoder.decode(&octets, 0, &mut |_, _| ()),
            Ok(ListSize::Within(0))
        );
    }
}

#[test]
fn without_a_table_every_field_is_a_literal() {
    let mut encoder = Encoder::new();
    encoder.set_max_table(0);
    assert_eq!(
        block(&mut encoder, &[("a", "1")], Index::Index),
        "200001610131"
    );
    assert_eq!(
        block(&mut encoder, &[("a", "1")], Index::Index),
        "0001610131"
    );
    assert_eq!(encoder.table.held(), (0, 0));
}
