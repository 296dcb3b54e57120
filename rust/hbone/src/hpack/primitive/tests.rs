use super::*;

fn written(value: usize, bits: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write_integer(value, 0, bits, &mut out);
    out
}

#[test]
fn integers_are_spelled_as_in_appendix_c_1() {
    for (value, bits, octets) in [
        (10, 5, &[0x0a][..]),
        (1337, 5, &[0x1f, 0x9a, 0x0a]),
        (42, 8, &[0x2a]),
    ] {
        assert_eq!(written(value, bits), octets);
        assert_eq!(read_integer(&mut &octets[..], bits), Ok(value));
    }
}

#[test]
fn every_prefix_reads_back_what_it_wrote() {
    for bits in 4..=8 {
        for value in (0..2000).chain([16_383, 16_384, 1 << 21, u32::MAX as usize]) {
            let octets = written(value, bits);
            let mut input = &octets[..];
            assert_eq!(read_integer(&mut input, bits), Ok(value));
            assert!(input.is_empty());
        }
    }
}

#[test]
fn bits_above_the_prefix_do_not_matter() {
    assert_eq!(read_integer(&mut &[0xea][..], 5), Ok(10));
}

#[test]
fn an_integer_past_32_bits_is_refused() {
    let cases: [&[u8]; 4] = [
        &[0x7f, 0x81, 0xff, 0xff, 0xff, 0x0f], // 2^32 exactly
        &[0x7f, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0x7f, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], // only zeros, but a sixth octet
        &[
            0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
        ],
    ];
    for case in cases {
        assert_eq!(
            read_integer(&mut &case[..], 7),
            Err(Error::IntegerTooLarge),
            "{case:x?}"
        );
    }
}

#[test]
fn an_integer_that_stops_early_is_truncated() {
    for case in [&[][..], &[0x1f], &[0x1f, 0x80]] {
        assert_eq!(read_integer(&mut &case[..], 5), Err(Error::Truncated));
    }
}

#[test]
fn a_string_longer_than_its_block_is_truncated() {
    for case in [
        &[][..],
        &[0x01],
        &[0x81],
        &[0x7f, 0x80, 0x80, 0x80, 0x08, b'x'],
    ] {
        let result = read_string(&mut &case[..], &mut Vec::new(), 100).map(|(_, n)| n);
        assert_eq!(result, Err(Error::Truncated), "{case:x?}");
    }
}

#[test]
fn a_string_is_coded_only_where_that_is_shorter() {
    let mut out = Vec::new();
    write_string(b"\xff\xfe", &mut out);
    assert_eq!(out, b"\x02\xff\xfe");
    out.clear();
    write_string(b"www.example.com", &mut out);
    assert_eq!(out[0], 0x80 | 12);
}

#[test]
fn a_long_coded_string_is_counted_but_not_kept() {
    let mut block = Vec::new();
    write_string(&[b'0'; 1000], &mut block);
    let mut scratch = Vec::new();
    let (text, length) = read_string(&mut &block[..], &mut scratch, 16).unwrap();
    assert_eq!((text, length), (&[b'0'; 16][..], 1000));
}
