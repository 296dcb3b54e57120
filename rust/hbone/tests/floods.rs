//! Every flood ends with ENHANCE_YOUR_CALM after bounded work, and honest traffic of the same kind never does
//! (spec/reliability.md §4.1 T05–T08).

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use hbone::{Config, ErrorCode, Flood, Reason, ResponseHead};
use support::{Cut, Heard, Pair, Peer, block, client, connect_frame, frame, frames, server};

/// A peer fed with what `attack` makes of 0, 1, 2 … until it gives up; how many that took.
fn exhaust(mut peer: Peer, mut attack: impl FnMut(u32) -> Vec<u8>) -> (u32, Flood, Peer) {
    for round in 0..100_000 {
        peer.hear(&attack(round));
        // The attacker reads: it is not the unread answers that end this.
        let sent = peer.take_wire();
        if let Some(error) = &peer.failed {
            assert_eq!(error.code, ErrorCode::EnhanceYourCalm);
            let last = frames(&sent).pop().expect("a GOAWAY");
            assert_eq!((last.0, last.3[7]), (7, 0xb));
            let Reason::Flood(flood) = error.reason else {
                panic!("{error}")
            };
            return (round, flood, peer);
        }
        peer.news();
    }
    panic!("still calm after 100,000 rounds");
}

fn odd(round: u32) -> u32 {
    round * 2 + 1
}

fn rst(stream: u32) -> Vec<u8> {
    frame(3, 0, stream, &[0, 0, 0, 8])
}

/// A server with a tunnel on stream 1 that has been answered.
fn answered() -> Peer {
    let mut server = server();
    server.hear(&connect_frame(1, 4));
    let stream = server.id(1);
    server
        .engine
        .respond(stream, &ResponseHead::status(200), false)
        .unwrap();
    server.take_wire();
    server.news();
    server
}

#[test]
fn rapid_reset_ends() {
    let (rounds, flood, _) = exhaust(server(), |round| {
        [connect_frame(odd(round), 4), rst(odd(round))].concat()
    });
    assert_eq!((rounds, flood), (1000, Flood::PrematureReset));
}

#[test]
fn resets_that_we_are_provoked_to_end() {
    let provocations: [fn(u32) -> Vec<u8>; 8] = [
        |stream| frame(8, 0, stream, &[0; 4]),
        |stream| frame(8, 0, stream, &[0x7f, 0xff, 0xff, 0xff]),
        |stream| frame(2, 0, stream, &[0; 4]),
        |stream| frame(2, 0, stream, &[&stream.to_be_bytes()[..], &[0]].concat()),
        |stream| connect_frame(stream, 4),
        |stream| [frame(0, 1, stream, b"x"), frame(0, 0, stream, b"x")].concat(),
        |stream| [frame(0, 1, stream, b"x"), connect_frame(stream, 5)].concat(),
        |stream| [rst(stream), frame(0, 0, stream, b"x")].concat(),
    ];
    for provoke in provocations {
        let (rounds, flood, _) = exhaust(server(), |round| {
            [connect_frame(odd(round), 4), provoke(odd(round))].concat()
        });
        assert_eq!((rounds, flood), (100, Flood::ProvokedReset));
    }
}

#[test]
fn malformed_and_oversized_requests_end() {
    let lower = block(&[(":method", "GET")]);
    let (rounds, flood, _) = exhaust(server(), |round| frame(1, 5, odd(round), &lower));
    assert_eq!((rounds, flood), (100, Flood::ProvokedReset));
    let large = block(&[(":method", "CONNECT"), ("a", &"~".repeat(70_000))]);
    let (rounds, flood, _) = exhaust(server(), |round| frame(1, 5, odd(round), &large));
    assert_eq!((rounds, flood), (100, Flood::ProvokedReset));
}

#[test]
fn streams_past_the_limit_end_after_a_thousand() {
    let (rounds, flood, peer) = exhaust(server(), |round| connect_frame(odd(round), 4));
    assert_eq!((rounds, flood), (1200, Flood::RefusedStream));
    assert_eq!(
        peer.engine.open_streams(),
        0,
        "nothing is kept of a connection that failed"
    );
}

#[test]
fn control_frames_without_end_end() {
    let floods: [(&str, Vec<u8>, u32, Flood); 9] = [
        ("PING", frame(6, 0, 0, &[0; 8]), 1000, Flood::Ping),
        ("PING ACK", frame(6, 1, 0, &[0; 8]), 1000, Flood::Ping),
        ("SETTINGS", frame(4, 0, 0, &[]), 100, Flood::Settings),
        (
            "PRIORITY",
            frame(2, 0, 1, &[0, 0, 0, 3, 0]),
            1000,
            Flood::Priority,
        ),
        (
            "unknown",
            frame(0xfa, 0, 0, b"?"),
            1000,
            Flood::UnknownFrame,
        ),
        (
            "unknown and large",
            frame(0xfa, 0, 0, &[0; 1 << 20]),
            15,
            Flood::UnknownFrame,
        ),
        (
            "WINDOW_UPDATE",
            frame(8, 0, 0, &[0, 0, 0, 1]),
            10_000,
            Flood::WindowUpdate,
        ),
        (
            "WINDOW_UPDATE of a stream",
            frame(8, 0, 1, &[0, 0, 0, 1]),
            10_000,
            Flood::WindowUpdate,
        ),
        ("GOAWAY", frame(7, 0, 0, &[0; 8]), 100, Flood::GoAway),
    ];
    for (name, bytes, most, flood) in floods {
        assert_eq!(exhaust(answered(), |_| bytes.clone()).0, most, "{name}");
        assert_eq!(exhaust(answered(), |_| bytes.clone()).1, flood, "{name}");
    }
}

#[test]
fn empty_frames_without_end_end() {
    let floods: [(&str, Vec<u8>); 2] = [
        ("DATA", frame(0, 0, 1, &[])),
        ("DATA of padding", frame(0, 8, 1, &[3, 0, 0, 0])),
    ];
    for (name, bytes) in floods {
        let (rounds, flood, _) = exhaust(answered(), |_| bytes.clone());
        assert_eq!((rounds, flood), (1000, Flood::EmptyFrame), "{name}");
    }
    let mut client = client();
    client.open("10.0.0.7:80");
    let interim = frame(1, 4, 1, &block(&[(":status", "103")]));
    let (rounds, flood, _) = exhaust(client, |_| interim.clone());
    assert_eq!((rounds, flood), (1000, Flood::EmptyFrame));
}

#[test]
fn frames_on_streams_that_are_gone_end() {
    let mut server = answered();
    server.engine.reset(server.id(1), ErrorCode::Cancel);
    for bytes in [rst(1), frame(0, 0, 1, &[]), connect_frame(1, 5)] {
        let (rounds, flood, _) = exhaust(server.clone(), |_| bytes.clone());
        assert_eq!((rounds, flood), (1000, Flood::StrayFrame));
    }
}

#[test]
fn a_stream_we_reset_takes_its_window_and_not_a_byte_more() {
    let mut server = answered();
    server.engine.reset(server.id(1), ErrorCode::Cancel);
    for _ in 0..262_144 {
        server.hear(b"\0\0\x01\0\0\0\0\0\x01x");
    }
    assert_eq!(server.failed, None);
    server.hear(b"\0\0\x01\0\0\0\0\0\x01x");
    assert_eq!(server.failed.unwrap().code, ErrorCode::FlowControlError);
}

#[test]
fn a_header_block_without_end_ends() {
    for (fragment, most) in [(&b""[..], 128), (b"\x82", 128), (&[0x82; 16_384], 15)] {
        let mut first = Some(frame(1, 0, 1, b""));
        let (rounds, flood, _) = exhaust(server(), |_| {
            first.take().unwrap_or_else(|| frame(9, 0, 1, fragment))
        });
        assert_eq!(flood, Flood::Continuation);
        assert!((most..=most + 2).contains(&rounds), "{rounds}");
    }
}

#[test]
fn a_field_that_is_named_a_thousand_times_in_a_byte_each_is_too_large() {
    // One literal of 4,000 bytes into the table, then its index 20,000 times: 80 MB decoded.
    let mut server = server();
    let mut bomb = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    bomb.extend_from_slice(&[b'b'; 4000]);
    bomb.extend_from_slice(&[0xbe; 20_000]);
    server.hear(&frame(1, 5, 1, &bomb));
    assert_eq!((server.failed.clone(), server.news()), (None, vec![]));
    // Many small fields are too many before they are too large.
    server.hear(&frame(1, 5, 3, &[0x82; 101]));
    let answers: Vec<_> = frames(&server.take_wire())
        .into_iter()
        .map(|f| (f.0, f.2))
        .collect();
    assert_eq!(
        answers,
        [(1, 1), (3, 1), (1, 3), (3, 3)],
        "431 and RST_STREAM twice"
    );
    // In step: a request that names the bomb's entry decodes.
    server.hear(&frame(
        1,
        5,
        5,
        &[&block(&[(":method", "CONNECT")])[..], &[0xbe]].concat(),
    ));
    assert!(
        matches!(&server.news()[..], [Heard::Request(5, head, true)] if head.fields.get("a").unwrap().len() == 4000)
    );
}

#[test]
fn a_peer_that_asks_and_does_not_read_ends() {
    let mut pings = Config::server();
    pings.limits.pings = u32::MAX;
    let mut server = Peer::new(pings);
    server.hear(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    server.hear(&frame(4, 0, 0, &[]));
    while server.failed.is_none() {
        server.hear(&frame(6, 0, 0, &[0; 8]));
        assert!(server.engine.output().len() < 300_000);
    }
    assert_eq!(
        server.failed.unwrap().reason,
        Reason::Flood(Flood::UnsentAnswers)
    );
}

#[test]
fn a_peer_whose_requests_are_refused_and_that_does_not_read_ends() {
    let mut server = server();
    let get = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/")]);
    for round in 0..1_000_000 {
        server.hear(&frame(1, 5, odd(round), &get));
        if server.failed.is_some() {
            break;
        }
        let stream = server.id(odd(round));
        server
            .engine
            .respond(stream, &ResponseHead::status(400), true)
            .unwrap();
        assert!(server.engine.output().len() < 300_000);
    }
    assert_eq!(
        server.failed.unwrap().reason,
        Reason::Flood(Flood::UnsentAnswers)
    );
}

// What honest peers do.

#[test]
fn clients_that_lose_patience_are_fine_while_time_passes() {
    let mut server = server();
    for round in 0..50_000 {
        server.hear(&[connect_frame(odd(round), 4), rst(odd(round))].concat());
        if round % 900 == 0 {
            // Every 10 s, as the driver does.
            server.engine.ping(*b"tunnelup");
            server.hear(&frame(6, 1, 0, b"tunnelup"));
        }
        server.take_wire();
        server.news();
    }
    assert_eq!(server.failed, None);
}

#[test]
fn resets_after_the_answer_are_fine() {
    let mut server = server();
    for round in 0..50_000 {
        server.hear(&connect_frame(odd(round), 4));
        let stream = server.id(odd(round));
        server
            .engine
            .respond(stream, &ResponseHead::status(200), false)
            .unwrap();
        server.hear(&[frame(0, 0, odd(round), b"x"), rst(odd(round))].concat());
        server.engine.release(stream, 0);
        server.take_wire();
        server.news();
    }
    assert_eq!(server.failed, None);
}

#[test]
fn a_window_update_for_every_frame_on_stream_and_connection_is_fine() {
    let mut server = answered();
    let stream = server.id(1);
    for _ in 0..100_000 {
        assert_eq!(server.write(stream, b"x", false), 1);
        server.take_wire();
        server.hear(&frame(8, 0, 0, &[0, 0, 0, 1]));
        server.hear(&frame(8, 0, 1, &[0, 0, 0, 1]));
        server.news();
    }
    assert_eq!(server.failed, None);
}

#[test]
fn a_probe_for_every_data_frame_is_fine() {
    let mut server = answered();
    for _ in 0..100_000 {
        server.hear(&frame(6, 0, 0, b"bdpprobe"));
        server.hear(&frame(0, 0, 1, b"x"));
        server.hear(&frame(0, 0, 1, b""));
        server.take_wire();
        server.news();
    }
    assert_eq!(server.failed, None);
}

#[test]
fn tunnels_that_come_and_go_never_run_out_of_anything() {
    let mut pair = Pair::ready(Cut::Whole);
    for _ in 0..20_000 {
        let (ours, theirs) = pair.tunnel();
        pair.client.write(ours, b"question", true);
        pair.server.write(theirs, b"answer", true);
        pair.run();
        // A late reset on an ended stream, as some servers send it.
        pair.server.hear(&rst(ours.value()));
        pair.server.hear(&frame(2, 0, ours.value(), &[0; 5]));
    }
    assert_eq!((pair.client.failed, pair.server.failed), (None, None));
    assert_eq!(
        (
            pair.client.engine.open_streams(),
            pair.server.engine.open_streams()
        ),
        (0, 0)
    );
}

#[test]
fn a_thousand_connections_worth_of_keepalive_is_fine() {
    let mut pair = Pair::ready(Cut::Whole);
    for _ in 0..10_000 {
        pair.client.engine.ping(*b"keepaliv");
        pair.server.engine.ping(*b"keepaliv");
        pair.run();
    }
    assert_eq!((pair.client.failed, pair.server.failed), (None, None));
}
