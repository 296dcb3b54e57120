//! What was decoded reads back when encoded again, and a list limit changes what is shown, never the tables.
//!
//! The input is a conversation: blocks, each behind two bytes with its length; a length from 0xF000 on is no block
//! but the next size of the table.

#![no_main]

use hbone::hpack::{Decoder, Encoder, Error, Index, ListSize};
use libfuzzer_sys::fuzz_target;

type Field = (Vec<u8>, Vec<u8>);

const MAX_LIST: usize = 16_384;
const SMALL_LIST: usize = 100;
const FIRST_SIZE: u16 = 0xf000;

fuzz_target!(|input: &[u8]| {
    let mut encoder = Encoder::new();
    let [mut theirs, mut limited, mut ours] = [(); 3].map(|()| Decoder::default());
    for step in steps(input) {
        let block = match step {
            Step::Table(size) => {
                encoder.set_max_table(size);
                for decoder in [&mut theirs, &mut limited, &mut ours] {
                    decoder.set_max_table(size);
                }
                continue;
            }
            Step::Block(block) => block,
        };
        let full = decode(&mut theirs, block, MAX_LIST);
        let part = decode(&mut limited, block, SMALL_LIST);
        let (fields, size) = match (full, part) {
            (Ok((fields, size)), Ok((beginning, limited))) => {
                assert!(fields.starts_with(&beginning));
                assert_eq!(total(size), total(limited));
                (fields, size)
            }
            (Err(full), Err(part)) => return assert_eq!(full, part),
            (full, part) => panic!("a limit changed the end: {full:?}, {part:?}"),
        };
        let again = decode(&mut ours, &encode(&mut encoder, &fields), MAX_LIST);
        let (same, again) = again.expect("our own block is right");
        assert_eq!(same, fields);
        if let ListSize::Within(_) = size {
            assert_eq!(again, size);
        }
    }
});

enum Step<'a> {
    Block(&'a [u8]),
    Table(usize),
}

fn steps(mut input: &[u8]) -> impl Iterator<Item = Step<'_>> {
    std::iter::from_fn(move || {
        let (head, rest) = input.split_first_chunk::<2>()?;
        let head = u16::from_be_bytes(*head);
        if head >= FIRST_SIZE {
            input = rest;
            return Some(Step::Table(usize::from(head - FIRST_SIZE) * 2));
        }
        let (block, rest) = rest.split_at(rest.len().min(usize::from(head)));
        input = rest;
        Some(Step::Block(block))
    })
}

fn decode(
    decoder: &mut Decoder,
    block: &[u8],
    max: usize,
) -> Result<(Vec<Field>, ListSize), Error> {
    let (mut fields, mut shown) = (Vec::new(), 0);
    let size = decoder.decode(block, max, &mut |name, value| {
        shown += name.len() + value.len() + 32;
        fields.push((name.to_vec(), value.to_vec()));
    })?;
    assert!(shown <= max, "more was shown than allowed");
    if let ListSize::Within(size) = size {
        assert_eq!(size, shown);
    }
    Ok((fields, size))
}

fn encode(encoder: &mut Encoder, fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (at, (name, value)) in fields.iter().enumerate() {
        let index = [Index::Index, Index::Plain, Index::Index, Index::Never][at % 4];
        encoder.field(name, value, index, &mut block);
    }
    block
}

fn total(size: ListSize) -> usize {
    match size {
        ListSize::Within(size) | ListSize::TooLarge { size } => size,
    }
}
