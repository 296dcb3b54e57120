//! What holds for every input: no panic, bounded memory, and the cut of the wire does not matter.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use hbone::{Config, ErrorCode, ResponseHead, StreamId};
use proptest::prelude::*;
use support::{Cut, Heard, Pair, Peer, block, connect_frame, frame, frames, pattern};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frames that are mostly sensible, so that random input gets past the first one.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let stream = prop_oneof![4 => 1_u32..12, 1 => Just(0_u32), 1 => any::<u32>()];
    let heads = prop_oneof![
        Just(block(&[(":method", "CONNECT"), (":authority", "a:1")])),
        Just(block(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/")
        ])),
        Just(block(&[(":status", "200")])),
        Just(block(&[("trailer", "x")])),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    let payload = proptest::collection::vec(any::<u8>(), 0..300);
    prop_oneof![
        4 => (stream.clone(), prop_oneof![Just(4_u8), Just(5), any::<u8>()], heads)
            .prop_map(|(stream, flags, head)| frame(1, flags, stream | 1, &head)),
        4 => (stream.clone(), prop_oneof![Just(0_u8), Just(1), Just(8), Just(9)], payload.clone())
            .prop_map(|(stream, flags, payload)| frame(0, flags, stream, &payload)),
        2 => (stream.clone(), any::<[u8; 4]>())
            .prop_map(|(stream, code)| frame(3, 0, stream, &code)),
        2 => (stream.clone(), 0_u32..100_000)
            .prop_map(|(stream, by)| frame(8, 0, stream, &by.to_be_bytes())),
        1 => (0_u16..8, 0_u32..100_000).prop_map(|(id, value)| {
            frame(4, 0, 0, &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        }),
        1 => any::<[u8; 8]>().prop_map(|payload| frame(6, 0, 0, &payload)),
        1 => (any::<u8>(), any::<u8>(), stream, payload)
            .prop_map(|(kind, flags, stream, payload)| frame(kind, flags, stream, &payload)),
    ]
}

/// What a peer made of some input: events, answers but for the window's, and how it ended.
type Outcome = (Vec<Heard>, Vec<(u8, u8, u32, Vec<u8>)>, Option<ErrorCode>);

fn outcome(mut peer: Peer, input: &[u8], mut cut: Cut) -> Outcome {
    cut.carry(input, &mut peer);
    let sent = peer.take_wire();
    // When credit is told depends on how much was released at once.
    let answers = frames(&sent)
        .into_iter()
        .filter(|frame| frame.0 != 8)
        .collect();
    (peer.heard, answers, peer.failed.map(|error| error.code))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cut_of_the_wire_does_not_matter(
        input in proptest::collection::vec(any_frame(), 0..40),
        seed in 1_u64..,
        is_server in any::<bool>(),
    ) {
        let peer = if is_server {
            support::server()
        } else {
            let mut client = support::client();
            for _ in 0..4 {
                client.open("10.0.0.7:80");
            }
            client
        };
        let input = input.concat();
        let whole = outcome(peer.clone(), &input, Cut::Whole);
        prop_assert_eq!(&outcome(peer.clone(), &input, Cut::Into(1)), &whole);
        prop_assert_eq!(&outcome(peer, &input, Cut::Random(seed)), &whole);
    }

    #[test]
    fn random_bytes_never_panic(
        mut input in proptest::collection::vec(any::<u8>(), 0..2000),
        is_server in any::<bool>(),
        has_preface in any::<bool>(),
    ) {
        let config = if is_server { Config::server() } else { Config::client() };
        if has_preface {
            let mut begun = if is_server { PREFACE.to_vec() } else { Vec::new() };
            begun.extend(frame(4, 0, 0, &[]));
            begun.append(&mut input);
            input = begun;
        }
        let mut peer = Peer::new(config);
        peer.hear(&input);
        peer.hear(&input);
    }

    #[test]
    fn a_flipped_bit_never_panics(
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
        size in 1_usize..600,
    ) {
        let mut input = PREFACE.to_vec();
        input.extend(frame(4, 0, 0, &[0, 4, 0, 1, 0, 0]));
        for stream in [1, 3] {
            input.extend(connect_frame(stream, 4));
            input.extend(frame(0, 8, stream, &[&[9][..], &[7; 200]].concat()));
            input.extend(frame(8, 0, stream, &[0, 0, 1, 0]));
        }
        input.extend(frame(0, 1, 1, b"bye"));
        input.extend(frame(3, 0, 3, &[0, 0, 0, 8]));
        let at = at.index(input.len());
        input[at] ^= 1 << bit;
        let mut peer = Peer::new(Config::server());
        Cut::Into(size).carry(&input, &mut peer);
    }
}

/// One step of a tunnel's two drivers.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Write {
        by_client: bool,
        stream: u32,
        bytes: usize,
    },
    Finish {
        by_client: bool,
        stream: u32,
    },
    Reset {
        by_client: bool,
        stream: u32,
    },
    Ping {
        by_client: bool,
    },
    Run,
}

fn any_step() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    let stream = || (0_u32..6).prop_map(|at| at * 2 + 1);
    prop_oneof![
        3 => Just(Step::Open),
        8 => (side(), stream(), prop_oneof![1_usize..10, 1_usize..200_000])
            .prop_map(|(by_client, stream, bytes)| Step::Write { by_client, stream, bytes }),
        3 => (side(), stream()).prop_map(|(by_client, stream)| Step::Finish { by_client, stream }),
        1 => (side(), stream()).prop_map(|(by_client, stream)| Step::Reset { by_client, stream }),
        1 => side().prop_map(|by_client| Step::Ping { by_client }),
        6 => Just(Step::Run),
    ]
}

/// What was written and ended on each stream, per side.
#[derive(Clone, Debug, Default)]
struct Told {
    bytes: Vec<u8>,
    ended: bool,
    reset: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_arrives_whole_and_in_order_whatever_the_schedule(
        steps in proptest::collection::vec(any_step(), 1..80),
        seed in 1_u64..,
        small in any::<bool>(),
    ) {
        let (mut client, mut server) = (Config::client(), Config::server());
        if small {
            // As a peer that keeps the protocol's defaults.
            for config in [&mut client, &mut server] {
                config.stream_window = 65_535;
                config.stream_window_max = 65_535;
                config.connection_window = 65_535;
                config.max_frame_size = 16_384;
            }
        }
        let mut pair = Pair::with(client, server, Cut::Random(seed));
        let mut told = [vec![Told::default(); 12], vec![Told::default(); 12]];
        let mut opened = 0;
        for step in steps {
            play(&mut pair, &mut told, &mut opened, &step);
        }
        pair.run();
        prop_assert_eq!((&pair.client.failed, &pair.server.failed), (&None, &None));
        for stream in (1..opened * 2).step_by(2) {
            for (speaker, hearer) in [(0, &pair.server), (1, &pair.client)] {
                let by = |side: usize| &told[side][stream as usize];
                let (told, other) = (by(speaker), by(1 - speaker));
                let heard = hearer.bytes_of(stream);
                let is_whole = heard == told.bytes;
                prop_assert!(told.bytes.starts_with(&heard), "in order, nothing invented");
                prop_assert!(is_whole || told.reset || other.reset, "whole, unless somebody reset");
                let ends = hearer.heard.contains(&Heard::End(stream));
                prop_assert!(!ends || told.ended, "no end that nobody said");
                prop_assert!(ends || !told.ended || told.reset || other.reset, "every end arrives");
            }
        }
    }
}

fn play(pair: &mut Pair, told: &mut [Vec<Told>; 2], opened: &mut u32, step: &Step) {
    match *step {
        Step::Open if *opened < 6 => {
            pair.client.open("10.0.0.7:80");
            *opened += 1;
            pair.run();
            let theirs = pair.server.id(*opened * 2 - 1);
            pair.server
                .engine
                .respond(theirs, &ResponseHead::status(200), false)
                .unwrap();
        }
        Step::Open => {}
        Step::Write {
            by_client,
            stream,
            bytes,
        } if stream < *opened * 2 => {
            let (peer, told) = side(pair, told, by_client, stream);
            let id = peer.id(stream);
            let bytes = pattern(bytes);
            let sent = peer.write(id, &bytes, false);
            told.bytes.extend_from_slice(&bytes[..sent]);
        }
        Step::Finish { by_client, stream } if stream < *opened * 2 => {
            let (peer, told) = side(pair, told, by_client, stream);
            let id: StreamId = peer.id(stream);
            told.ended |= peer.engine.finish(id).is_ok();
            peer.flush();
        }
        Step::Reset { by_client, stream } if stream < *opened * 2 => {
            let (peer, told) = side(pair, told, by_client, stream);
            peer.engine.reset(peer.id(stream), ErrorCode::Cancel);
            told.reset = true;
            peer.flush();
        }
        Step::Ping { by_client } => {
            let peer = if by_client {
                &mut pair.client
            } else {
                &mut pair.server
            };
            peer.engine.ping(*b"stillup?");
        }
        Step::Write { .. } | Step::Finish { .. } | Step::Reset { .. } => {}
        Step::Run => pair.run(),
    }
}

fn side<'a>(
    pair: &'a mut Pair,
    told: &'a mut [Vec<Told>; 2],
    by_client: bool,
    stream: u32,
) -> (&'a mut Peer, &'a mut Told) {
    let [client, server] = told;
    if by_client {
        (&mut pair.client, &mut client[stream as usize])
    } else {
        (&mut pair.server, &mut server[stream as usize])
    }
}
