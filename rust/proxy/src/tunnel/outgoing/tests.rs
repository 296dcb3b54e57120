//! Records that are made to be looked into: sealing is a checksum-free envelope with a sequence number.

use std::io;

use proptest::prelude::*;

use super::*;

/// Seals by numbering. Says something ahead of every `talks`th record.
#[derive(Default)]
struct Envelope {
    sealed: u64,
    talks: Option<u64>,
}

const AHEAD_RECORD: [u8; 27] = [0xAA; 27];

impl Seal for Envelope {
    fn seal(&mut self, record: &mut [u8], ahead: &mut Vec<u8>) -> Result<(), TlsError> {
        let payload = record.len() - RECORD_HEADER - RECORD_TRAILER;
        assert!((1..=RECORD_PAYLOAD).contains(&payload), "{payload}");
        self.sealed += 1;
        if self
            .talks
            .is_some_and(|talks| self.sealed.is_multiple_of(talks))
        {
            ahead.extend_from_slice(&AHEAD_RECORD);
        }
        record[0] = 23;
        record[1..5].copy_from_slice(&(payload as u32).to_be_bytes());
        let trailer = record.len() - RECORD_TRAILER;
        record[trailer..].fill(0);
        record[trailer..trailer + 8].copy_from_slice(&self.sealed.to_be_bytes());
        Ok(())
    }
}

/// What a peer makes of the bytes: plaintext, foreign records, numbers in order.
fn unseal(mut bytes: &[u8]) -> Vec<u8> {
    let (mut plain, mut number) = (Vec::new(), 0);
    while !bytes.is_empty() {
        if bytes.starts_with(&AHEAD_RECORD) {
            bytes = &bytes[AHEAD_RECORD.len()..];
            continue;
        }
        assert_eq!(bytes[0], 23);
        let payload = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        plain.extend_from_slice(&bytes[RECORD_HEADER..RECORD_HEADER + payload]);
        let trailer = &bytes[RECORD_HEADER + payload..];
        number += 1;
        assert_eq!(trailer[..8], u64::to_be_bytes(number));
        bytes = &trailer[RECORD_TRAILER..];
    }
    plain
}

/// Frames back to payload; all of one stream.
fn unframe(mut plain: &[u8]) -> (Vec<u8>, Vec<usize>) {
    let (mut payload, mut sizes) = (Vec::new(), Vec::new());
    while let Some((header, rest)) = plain.split_first_chunk::<FRAME_HEADER>() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        payload.extend_from_slice(&rest[..length]);
        sizes.push(length);
        plain = &rest[length..];
    }
    (payload, sizes)
}

fn header(length: usize) -> Result<[u8; FRAME_HEADER], ()> {
    let bytes = (length as u32).to_be_bytes();
    Ok([bytes[1], bytes[2], bytes[3], 0, 0, 0, 0, 0, 1])
}

fn copy_from(source: &mut &[u8], slices: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
    io::Read::read_vectored(source, slices)
}

fn fill(outgoing: &mut Outgoing, tls: &mut Envelope, bytes: &[u8], span: usize) -> usize {
    let mut source = bytes;
    let limit = RECORDS_PER_READ * RECORD_PAYLOAD;
    outgoing
        .fill(
            limit,
            span,
            tls,
            |slices| copy_from(&mut source, slices),
            header,
        )
        .unwrap()
}

fn drain(outgoing: &mut Outgoing, tls: &mut Envelope) -> Vec<u8> {
    outgoing.seal(tls).unwrap();
    let bytes = outgoing.waiting().to_vec();
    outgoing.advance(bytes.len());
    bytes
}

#[test]
fn small_messages_share_a_record() {
    let (mut outgoing, mut tls) = (Outgoing::default(), Envelope::default());
    outgoing.put(b"control", &mut tls).unwrap();
    for _ in 0..10 {
        assert_eq!(fill(&mut outgoing, &mut tls, b"hello", 1), 5);
    }
    let bytes = drain(&mut outgoing, &mut tls);
    assert_eq!(tls.sealed, 1);
    let plain = unseal(&bytes);
    assert_eq!(plain[..7], *b"control");
    assert_eq!(unframe(&plain[7..]).0, b"hello".repeat(10));
}

#[test]
fn a_frame_fills_a_record_at_first_and_four_in_bulk() {
    let bulk = vec![7; 4 * RECORD_PAYLOAD];
    for (span, sizes) in [
        (1, vec![16_375, 16_375, 16_375, 16_375, 36]),
        (4, vec![65_527, 9]),
    ] {
        let (mut outgoing, mut tls) = (Outgoing::default(), Envelope::default());
        assert_eq!(fill(&mut outgoing, &mut tls, &bulk, span), bulk.len());
        let (payload, framed) = unframe(&unseal(&drain(&mut outgoing, &mut tls)));
        assert_eq!((payload, framed), (bulk.clone(), sizes));
    }
}

#[test]
fn an_empty_buffer_owns_nothing() {
    let (mut outgoing, mut tls) = (Outgoing::default(), Envelope::default());
    outgoing.put(b"ping", &mut tls).unwrap();
    drain(&mut outgoing, &mut tls);
    assert!(outgoing.is_empty() && outgoing.buffer.capacity() == 0);
    let blocked = outgoing.fill(
        100,
        1,
        &mut tls,
        |_| Err(io::ErrorKind::WouldBlock.into()),
        header,
    );
    assert!(matches!(blocked, Err(FillError::Read(_))));
    assert_eq!(outgoing.buffer.capacity(), 0);
}

#[test]
fn a_source_that_has_ended_puts_nothing_in() {
    let (mut outgoing, mut tls) = (Outgoing::default(), Envelope::default());
    outgoing.put(b"x", &mut tls).unwrap();
    assert_eq!(fill(&mut outgoing, &mut tls, b"", 1), 0);
    assert_eq!(unseal(&drain(&mut outgoing, &mut tls)), b"x");
}

#[derive(Clone, Debug)]
enum Act {
    Put(usize),
    Fill(usize, usize),
    Advance(usize),
    Sealed,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        (1_usize..40_000).prop_map(Act::Put),
        (1_usize..200, 1_usize..=4).prop_map(|(length, span)| Act::Fill(length, span)),
        (1_usize..80_000, 1_usize..=4).prop_map(|(length, span)| Act::Fill(length, span)),
        (1_usize..120_000).prop_map(Act::Advance),
        Just(Act::Sealed),
    ];
    proptest::collection::vec(act, 1..40)
}

proptest! {
    /// Whatever is put in leaves in order, in whole records, once; what was sealed elsewhere goes before the open record.
    #[test]
    fn everything_leaves_once_and_in_order(acts in acts(), talks in proptest::option::of(1_u64..5)) {
        let (mut outgoing, mut tls) = (Outgoing::default(), Envelope { sealed: 0, talks });
        let (mut sent, mut expected, mut counter) = (Vec::new(), Vec::new(), 0_u8);
        let mut next = |length: usize| -> Vec<u8> {
            (0..length).map(|_| { counter = counter.wrapping_mul(31).wrapping_add(7); counter }).collect()
        };
        for act in acts {
            match act {
                Act::Put(length) => {
                    let bytes = next(length);
                    outgoing.put(&bytes, &mut tls).unwrap();
                    expected.extend_from_slice(&bytes);
                }
                Act::Fill(length, span) => {
                    let bytes = next(length);
                    let mut source = &bytes[..];
                    let mut frames = Vec::new();
                    let n = outgoing.fill(
                        RECORDS_PER_READ * RECORD_PAYLOAD,
                        span,
                        &mut tls,
                        |slices| copy_from(&mut source, slices),
                        |length| { frames.push(length); header(length) },
                    ).unwrap();
                    prop_assert_eq!(frames.iter().sum::<usize>(), n);
                    let mut rest = &bytes[..n];
                    for frame in frames {
                        expected.extend_from_slice(&header(frame).unwrap());
                        expected.extend_from_slice(&rest[..frame]);
                        rest = &rest[frame..];
                    }
                }
                Act::Advance(most) => {
                    outgoing.seal(&mut tls).unwrap();
                    let n = most.min(outgoing.waiting().len());
                    sent.extend_from_slice(&outgoing.waiting()[..n]);
                    outgoing.advance(n);
                }
                Act::Sealed => outgoing.put_sealed(&AHEAD_RECORD),
            }
        }
        sent.extend_from_slice(&drain(&mut outgoing, &mut tls));
        prop_assert!(unseal(&sent) == expected);
        prop_assert!(outgoing.is_empty());
    }
}
