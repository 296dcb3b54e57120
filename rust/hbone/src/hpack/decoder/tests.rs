use super::*;
use crate::hpack::primitive::write_string;

type Field = (String, String);

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let octet = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(octet).collect()
}

fn read(
    decoder: &mut Decoder,
    block: &[u8],
    max_list: usize,
) -> (Vec<Field>, Result<ListSize, Error>) {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let result = decoder.decode(block, max_list, &mut |name, value| {
        fields.push((text(name), text(value)));
    });
    (fields, result)
}

fn fields(lines: &[&str]) -> Vec<Field> {
    let split = |line: &&str| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_owned(), value.to_owned())
    };
    lines.iter().map(split).collect()
}

/// One block after the other through one decoder: hex, fields, size of the table afterwards.
fn conversation(table: usize, blocks: &[(&str, &[&str], usize)]) {
    let mut decoder = Decoder::new(table);
    for (hex, lines, size) in blocks {
        let (seen, result) = read(&mut decoder, &unhex(hex), 16_384);
        let expected = fields(lines);
        let list = expected.iter().map(|(n, v)| n.len() + v.len() + 32).sum();
        assert_eq!(seen, expected, "{hex}");
        assert_eq!(result, Ok(ListSize::Within(list)), "{hex}");
        assert_eq!(decoder.table.held().1, *size, "{hex}");
    }
}

const REQUESTS: [&[&str]; 3] = [
    &[
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
    ],
    &[
        ":method: GET",
        ":scheme: http",
        ":path: /",
        ":authority: www.example.com",
        "cache-control: no-cache",
    ],
    &[
        ":method: GET",
        ":scheme: https",
        ":path: /index.html",
        ":authority: www.example.com",
        "custom-key: custom-value",
    ],
];

const RESPONSES: [&[&str]; 3] = [
    &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ],
    &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ],
];

#[test]
fn appendix_c_2_single_fields() {
    for (hex, line, size) in [
        (
            "400a6375 73746f6d 2d6b6579 0d637573 746f6d2d 68656164 6572",
            "custom-key: custom-header",
            55,
        ),
        ("040c2f73 616d706c 652f7061 7468", ":path: /sample/path", 0),
        (
            "10087061 7373776f 72640673 65637265 74",
            "password: secret",
            0,
        ),
        ("82", ":method: GET", 0),
    ] {
        conversation(4096, &[(hex, &[line], size)]);
    }
}

#[test]
fn appendix_c_3_requests_without_huffman() {
    conversation(
        4096,
        &[
            ("828684410f7777772e6578616d706c652e636f6d", REQUESTS[0], 57),
            ("828684be58086e6f2d6361636865", REQUESTS[1], 110),
            (
                "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
                REQUESTS[2],
                164,
            ),
        ],
    );
}

#[test]
fn appendix_c_4_requests_with_huffman() {
    conversation(
        4096,
        &[
            ("828684418cf1e3c2e5f23a6ba0ab90f4ff", REQUESTS[0], 57),
            ("828684be5886a8eb10649cbf", REQUESTS[1], 110),
            (
                "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
                REQUESTS[2],
                164,
            ),
        ],
    );
}

#[test]
fn appendix_c_5_responses_without_huffman_evict() {
    conversation(
        256,
        &[
            (
                "4803333032580770726976617465611d4d6f6e2c203231204f63742032303133\
                 2032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d70\
                 6c652e636f6d",
                RESPONSES[0],
                222,
            ),
            ("4803333037c1c0bf", RESPONSES[1], 222),
            (
                "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d\
                 54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f5049\
                 5541585157454f49553b206d61782d6167653d333630303b2076657273696f6e\
                 3d31",
                RESPONSES[2],
                215,
            ),
        ],
    );
}

#[test]
fn appendix_c_6_responses_with_huffman_evict() {
    conversation(
        256,
        &[
            (
                "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a6\
                 2d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3",
                RESPONSES[0],
                222,
            ),
            ("4883640effc1c0bf", RESPONSES[1], 222),
            (
                "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab\
                 77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f\
                 9587316065c003ed4ee5b1063d5007",
                RESPONSES[2],
                215,
            ),
        ],
    );
}

#[test]
fn a_bad_block_is_named() {
    for (hex, error) in [
        ("80", Error::IndexUnknown(0)),
        ("be", Error::IndexUnknown(62)),
        ("7e0161", Error::IndexUnknown(62)),
        ("0f2f0161", Error::IndexUnknown(62)),
        ("ff8080808008", Error::IndexUnknown(0x8000_007f)),
        ("ff8080808010", Error::IntegerTooLarge),
        ("ff", Error::Truncated),
        ("40", Error::Truncated),
        ("4001", Error::Truncated),
        ("400161", Error::Truncated),
        ("40016102", Error::Truncated),
        ("00016181ff", Error::HuffmanPadding),
        ("00016184ffffffff", Error::HuffmanEos),
        ("823f", Error::SizeUpdateMisplaced),
        ("202020", Error::SizeUpdateMisplaced),
        (
            "3fe21f",
            Error::SizeUpdateTooLarge {
                size: 4097,
                limit: 4096,
            },
        ),
    ] {
        let (_, result) = read(&mut Decoder::default(), &unhex(hex), 16_384);
        assert_eq!(result, Err(error), "{hex}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn an_empty_block_is_an_empty_list() {
    let (seen, result) = read(&mut Decoder::default(), &[], 0);
    assert_eq!((seen, result), (vec![], Ok(ListSize::Within(0))));
}

#[test]
fn size_updates_evict_and_two_may_start_a_block() {
    let mut decoder = Decoder::default();
    let (_, result) = read(&mut decoder, b"\x40\x01a\x011", 100);
    assert_eq!(result, Ok(ListSize::Within(34)));
    // Down to nothing and up to 4096 again: the entry is gone.
    let (_, result) = read(&mut decoder, b"\x20\x3f\xe1\x1f\x82", 100);
    assert_eq!(result, Ok(ListSize::Within(42)));
    assert_eq!(decoder.table.held().1, 0);
    assert_eq!(decoder.table.max(), 4096);
}

#[test]
fn a_lowered_limit_must_be_followed_at_once() {
    let mut decoder = Decoder::default();
    decoder.set_max_table(100);
    assert_eq!(
        read(&mut decoder.clone(), b"\x82", 100).1,
        Err(Error::SizeUpdateMissing)
    );
    assert_eq!(
        read(&mut decoder.clone(), b"\x3f\x46\x82", 100).1,
        Err(Error::SizeUpdateTooLarge {
            size: 101,
            limit: 100
        })
    );
    assert_eq!(
        read(&mut decoder, b"\x3f\x45\x82", 100).1,
        Ok(ListSize::Within(42))
    );
    // A smaller table than before the change needs no update.
    decoder.set_max_table(4096);
    assert_eq!(read(&mut decoder, b"\x82", 100).1, Ok(ListSize::Within(42)));
}

#[test]
fn past_the_list_limit_the_table_stays_in_step() {
    let mut decoder = Decoder::default();
    let (seen, result) = read(
        &mut decoder,
        b"\x40\x01a\x011\x40\x01b\x012\x40\x01c\x013",
        68,
    );
    assert_eq!(seen, fields(&["a: 1", "b: 2"]));
    assert_eq!(result, Ok(ListSize::TooLarge { size: 102 }));
    let (seen, result) = read(&mut decoder, b"\xbe\xbf\xc0", 102);
    assert_eq!(seen, fields(&["c: 3", "b: 2", "a: 1"]));
    assert_eq!(result, Ok(ListSize::Within(102)));
}

#[test]
fn a_list_stays_too_large_though_a_later_field_would_fit() {
    let block = [b"\x00\x01a\x7f\x51".as_slice(), &[b'x'; 208], b"\x82"].concat();
    let (seen, result) = read(&mut Decoder::default(), &block, 100);
    assert_eq!(
        (seen, result),
        (vec![], Ok(ListSize::TooLarge { size: 241 + 42 }))
    );
}

#[test]
fn an_indexed_bomb_is_counted_not_shown() {
    let mut decoder = Decoder::default();
    let first = [b"\x40\x01a\x7f\xa0\x1e".as_slice(), &[b'x'; 3999]].concat();
    assert_eq!(
        read(&mut decoder, &first, 16_384).1,
        Ok(ListSize::Within(4032))
    );
    let (seen, result) = read(&mut decoder, &vec![0xbe; 100_000], 16_384);
    assert_eq!(seen.len(), 4);
    assert_eq!(result, Ok(ListSize::TooLarge { size: 403_200_000 }));
}

#[test]
fn a_huge_string_is_neither_kept_nor_remembered() {
    let mut block = b"\x40\x01a".to_vec();
    write_string(&[b'0'; 1 << 20], &mut block);
    block.push(0x82);
    let mut list = List {
        size: 0,
        max: 1 << 14,
        sink: &mut |_: &[u8], _: &[u8]| panic!("shown"),
    };
    let mut decoder = Decoder::default();
    let mut input = &block[..];
    decoder
        .literal(&mut input, 6, Remember::Yes, &mut list)
        .unwrap();
    assert_eq!(list.size, 1 + (1 << 20) + 32);
    assert_eq!(input, [0x82]);
    assert!(
        decoder.value.capacity() <= 1 << 14,
        "{}",
        decoder.value.capacity()
    );
    assert_eq!(decoder.table.held(), (0, 0));
}

#[test]
fn scratch_is_given_back_after_a_large_block() {
    let mut block = b"\x00\x01a".to_vec();
    write_string(&[b'0'; 10_000], &mut block);
    let mut decoder = Decoder::default();
    let (_, result) = read(&mut decoder, &block, 1 << 14);
    assert_eq!(result, Ok(ListSize::Within(10_033)));
    assert!(decoder.value.capacity() <= SCRATCH);
}
