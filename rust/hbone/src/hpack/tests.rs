//! Both directions together: properties, and vectors shared with another implementation.

use std::path::Path;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

type Field = (Vec<u8>, Vec<u8>);

fn decode(
    decoder: &mut Decoder,
    block: &[u8],
    max: usize,
) -> Result<(Vec<Field>, ListSize), Error> {
    let mut fields = Vec::new();
    let size = decoder.decode(block, max, &mut |name, value| {
        fields.push((name.to_vec(), value.to_vec()));
    })?;
    Ok((fields, size))
}

fn encode(encoder: &mut Encoder, fields: &[(Field, Index)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for ((name, value), index) in fields {
        encoder.field(name, value, *index, &mut out);
    }
    out
}

/// What happens on one connection.
#[derive(Clone, Debug)]
enum Step {
    /// The decoding side advertises a table size, the encoding side takes it in.
    Table(usize),
    List(Vec<(Field, Index)>),
    /// Octets from nowhere.
    Noise(Vec<u8>),
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-z0-9:-]{0,12}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => (any::<u8>(), 0usize..5000).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn field() -> impl Strategy<Value = (Field, Index)> {
    let known = prop::sample::select(static_table::STATIC_TABLE.to_vec());
    let known = known.prop_map(|(name, value)| (name.to_vec(), value.to_vec()));
    // Few names and values, so that tables are hit.
    let repeated = (0u8..6, 0u8..6).prop_map(|(n, v)| (vec![b'n'; n.into()], vec![b'v'; v.into()]));
    let index = prop::sample::select(vec![Index::Index, Index::Index, Index::Plain, Index::Never]);
    (prop_oneof![known, repeated, (text(), text())], index)
}

fn list() -> impl Strategy<Value = Vec<(Field, Index)>> {
    prop::collection::vec(field(), 0..20)
}

fn table_size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 0usize..200, 0usize..5000, Just(4096), Just(65_536)]
}

proptest! {
    #[test]
    fn a_connection_reads_back_what_it_wrote(
        steps in prop::collection::vec(
            prop_oneof![1 => table_size().prop_map(Step::Table), 4 => list().prop_map(Step::List)],
            0..30,
        )
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
        for step in steps {
            match step {
                Step::Table(size) => {
                    decoder.set_max_table(size);
                    encoder.set_max_table(size);
                }
                Step::List(list) => {
                    let block = encode(&mut encoder, &list);
                    let (fields, size) = decode(&mut decoder, &block, usize::MAX).unwrap();
                    let sent: Vec<Field> = list.into_iter().map(|(field, _)| field).collect();
                    let expected = sent.iter().map(|(n, v)| n.len() + v.len() + FIELD_OVERHEAD).sum();
                    prop_assert_eq!(size, ListSize::Within(expected));
                    prop_assert_eq!(fields, sent);
                }
                Step::Noise(_) => unreachable!(),
            }
        }
    }

    #[test]
    fn a_limited_list_leaves_the_same_tables_and_a_prefix_of_the_fields(
        lists in prop::collection::vec((list(), 0usize..2000), 0..12)
    ) {
        let (mut encoder, mut all, mut some) = (Encoder::new(), Decoder::default(), Decoder::default());
        for (list, limit) in lists {
            let block = encode(&mut encoder, &list);
            let (fields, size) = decode(&mut all, &block, usize::MAX).unwrap();
            let (prefix, limited) = decode(&mut some, &block, limit).unwrap();
            prop_assert!(fields.starts_with(&prefix));
            let ListSize::Within(size) = size else { unreachable!() };
            prop_assert_eq!(limited, if size > limit {
                ListSize::TooLarge { size }
            } else {
                ListSize::Within(size)
            });
        }
    }

    #[test]
    fn noise_ends_in_fields_or_an_error(
        steps in prop::collection::vec(
            prop_oneof![
                list().prop_map(Step::List),
                prop::collection::vec(any::<u8>(), 0..60).prop_map(Step::Noise),
                table_size().prop_map(Step::Table),
            ],
            0..20,
        ),
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..4),
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::default());
        for step in steps {
            let mut block = match step {
                Step::Noise(block) => block,
                Step::List(list) => encode(&mut encoder, &list),
                Step::Table(size) => {
                    decoder.set_max_table(size.min(DEFAULT_TABLE_SIZE));
                    continue;
                }
            };
            for (at, with) in &flips {
                if !block.is_empty() {
                    let at = at % block.len();
                    block[at] ^= with;
                }
            }
            let mut shown = 0;
            let result = decoder.decode(&block, 1000, &mut |name, value| {
                shown += name.len() + value.len() + FIELD_OVERHEAD;
            });
            prop_assert!(shown <= 1000);
            if let Ok(ListSize::Within(size)) = result {
                prop_assert_eq!(size, shown);
            }
            // Text ≤ 3 × 4 KiB, doubled by growth; entries ≤ 128 × 24 bytes, doubled; scratch as it is left.
            prop_assert!(decoder.held() <= 40_000, "{}", decoder.held());
        }
    }
}

/// `tests/vectors/hpack.json`, made by `tests/vectors/make_hpack.py` next to it.
fn vectors() -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/hpack.json");
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn fields_of(block: &Value) -> Vec<(Field, Index)> {
    let field = |entry: &Value| {
        let text = |at: usize| latin1(entry[at].as_str().unwrap());
        let index = match entry[2].as_str().unwrap() {
            "index" => Index::Index,
            "plain" => Index::Plain,
            _ => Index::Never,
        };
        ((text(0), text(1)), index)
    };
    block["fields"]
        .as_array()
        .unwrap()
        .iter()
        .map(field)
        .collect()
}

/// JSON has no bytes: each of them is the character of its number.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let octet = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(octet).collect()
}

/// Our own blocks for the lists of one conversation.
fn ours(conversation: &Value) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new();
    let mut blocks = Vec::new();
    for block in conversation.as_array().unwrap() {
        for size in block["sizes"].as_array().unwrap() {
            encoder.set_max_table(size.as_u64().unwrap() as usize);
        }
        blocks.push(encode(&mut encoder, &fields_of(block)));
    }
    blocks
}

#[test]
fn blocks_of_another_encoder_are_read() {
    for conversation in vectors() {
        let mut decoder = Decoder::default();
        for block in conversation.as_array().unwrap() {
            for size in block["sizes"].as_array().unwrap() {
                decoder.set_max_table(size.as_u64().unwrap() as usize);
            }
            let octets = unhex(block["theirs"].as_str().unwrap());
            let (fields, _) = decode(&mut decoder, &octets, usize::MAX).unwrap();
            let expected: Vec<Field> = fields_of(block)
                .into_iter()
                .map(|(field, _)| field)
                .collect();
            assert_eq!(fields, expected);
        }
    }
}

#[test]
fn our_blocks_are_those_another_decoder_has_read() {
    for conversation in vectors() {
        for (block, octets) in conversation
            .as_array()
            .unwrap()
            .iter()
            .zip(ours(&conversation))
        {
            assert_eq!(hex(&octets), block["ours"].as_str().unwrap());
        }
    }
}

#[test]
#[ignore = "a step of tests/vectors/make_hpack.py, which lets the other decoder read these blocks"]
fn print_our_blocks() {
    for conversation in vectors() {
        for octets in ours(&conversation) {
            println!("ours {}", hex(&octets));
        }
    }
}
