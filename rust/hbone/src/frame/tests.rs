use super::*;

#[test]
fn a_header_survives_the_wire_but_for_its_reserved_bit() {
    for kind in 0..=12 {
        let header = FrameHeader {
            length: 0x0012_3456,
            kind: Kind::from(kind),
            flags: 0xa5,
            stream: MAX_STREAM,
        };
        let mut bytes = header.encode();
        assert_eq!(FrameHeader::parse(&bytes), header);
        bytes[5] |= 0x80;
        assert_eq!(FrameHeader::parse(&bytes), header);
    }
}

#[test]
fn a_block_is_split_at_the_frame_size_and_ends_once() {
    for (length, expected) in [
        (0, vec![(0, 5)]),
        (10, vec![(10, 5)]),
        (11, vec![(10, 1), (1, 4)]),
        (30, vec![(10, 1), (10, 0), (10, 4)]),
    ] {
        let mut out = Vec::new();
        headers(&mut out, 1, &vec![7; length], true, 10);
        let mut frames = Vec::new();
        while let Some((head, rest)) = out.split_first_chunk::<HEADER>() {
            let header = FrameHeader::parse(head);
            frames.push((header.length, header.flags));
            out = rest[header.length as usize..].to_vec();
        }
        assert_eq!(frames, expected);
    }
}

#[test]
fn a_farewell_fits_the_smallest_frame() {
    let mut out = Vec::new();
    go_away(&mut out, 1, ErrorCode::NoError, &"ä".repeat(20_000));
    assert_eq!(out.len(), HEADER + DEFAULT_MAX_FRAME as usize);
}
