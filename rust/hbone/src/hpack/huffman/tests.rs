use super::*;

fn coded(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    encode(text, &mut out);
    out
}

fn decoded(code: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let length = decode(code, &mut out, usize::MAX)?;
    assert_eq!(length, out.len());
    Ok(out)
}

#[test]
fn codes_are_those_of_appendix_b() {
    for (symbol, code) in [
        (0, 0x1ff8),
        (9, 0xffffea),
        (32, 0x14),
        (48, 0x0),
        (97, 0x3),
        (92, 0x7fff0),
        (127, 0xffffffc),
        (195, 0x7fff1),
        (249, 0xffffffe),
        (255, 0x3ffffee),
        (256, 0x3fffffff),
    ] {
        assert_eq!(CODES[symbol], code, "symbol {symbol}");
    }
}

#[test]
fn every_byte_and_every_pair_reads_back() {
    for first in 0..=255 {
        assert_eq!(decoded(&coded(&[first])), Ok(vec![first]));
        for second in 0..=255 {
            let text = [first, second];
            assert_eq!(coded(&text).len(), encoded_len(&text));
            assert_eq!(decoded(&coded(&text)).as_deref(), Ok(&text[..]));
        }
    }
}

#[test]
fn a_name_is_coded_as_in_appendix_c_4() {
    assert_eq!(
        coded(b"www.example.com"),
        [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff
        ]
    );
}

#[test]
fn padding_is_up_to_seven_ones() {
    assert_eq!(decoded(&[]), Ok(vec![]));
    assert_eq!(decoded(&[0x07]), Ok(vec![b'0'])); // 00000 111
    assert_eq!(decoded(&[0x06]), Err(Error::HuffmanPadding)); // 00000 110
    assert_eq!(decoded(&[0x00]), Err(Error::HuffmanPadding)); // 00000 000
    assert_eq!(decoded(&[0x07, 0xff]), Err(Error::HuffmanPadding)); // eleven ones
    assert_eq!(decoded(&[0xff]), Err(Error::HuffmanPadding)); // eight ones, nothing else
    // A code of 25 bits leaves seven bits of padding: the most that is allowed.
    assert_eq!(coded(&[199]).len(), 4);
    assert_eq!(decoded(&coded(&[199])), Ok(vec![199]));
}

#[test]
fn eos_inside_is_refused() {
    assert_eq!(decoded(&[0xff; 4]), Err(Error::HuffmanEos));
    assert_eq!(
        decoded(&[0x07, 0xff, 0xff, 0xff, 0xff]),
        Err(Error::HuffmanEos)
    );
}

#[test]
fn a_decoder_by_single_bits_agrees() {
    // The plain version, kept as oracle for the table of steps.
    fn by_bits(code: &[u8]) -> Result<Vec<u8>, Error> {
        let (mut out, mut node, mut run, mut ones) = (Vec::new(), 0, 0, true);
        for bit in code
            .iter()
            .flat_map(|o| (0..8).rev().map(move |i| o >> i & 1))
        {
            let child = TREE[node][usize::from(bit)];
            (run, ones) = (run + 1, ones && bit == 1);
            node = usize::from(child);
            if child >= LEAF {
                match u8::try_from(child - LEAF) {
                    Ok(byte) => out.push(byte),
                    Err(_) => return Err(Error::HuffmanEos),
                }
                (node, run, ones) = (0, 0, true);
            }
        }
        if run < 8 && ones {
            Ok(out)
        } else {
            Err(Error::HuffmanPadding)
        }
    }
    let mut state = 1u32;
    for round in 0..20_000 {
        let code: Vec<u8> = (0..round % 9)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Every other octet all ones: reaches the long codes, EOS and the padding.
                if state >> 31 == 0 {
                    0xff
                } else {
                    (state >> 16).to_le_bytes()[0]
                }
            })
            .collect();
        assert_eq!(decoded(&code), by_bits(&code), "{code:x?}");
    }
}
