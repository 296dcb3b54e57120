//! Client and server talk to each other in memory: whole, byte by byte, and cut at random.

mod support;

use hbone::{Config, ErrorCode, Fields, OpenError, RequestHead, ResponseHead, Side, UseError};
use support::{CUTS, Cut, Heard, Pair, connect, frames, pattern};

#[test]
fn a_tunnel_opens_carries_bytes_both_ways_and_ends_in_halves() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        let stream = pair.client.open("10.0.0.7:8080");
        pair.run();
        assert_eq!(
            pair.server.news(),
            [Heard::Request(1, connect("10.0.0.7:8080"), false)]
        );
        let theirs = pair.server.id(1);
        let answer = ResponseHead {
            status: 200,
            fields: Fields::new().with("baggage", "service.name=web"),
        };
        pair.server.engine.respond(theirs, &answer, false).unwrap();
        pair.run();
        assert_eq!(pair.client.news(), [Heard::Response(1, answer, false)]);

        pair.client.write(stream, b"hello", false);
        pair.client.engine.finish(stream).unwrap();
        pair.run();
        assert_eq!(
            pair.server.news(),
            [Heard::Data(1, b"hello".to_vec()), Heard::End(1)]
        );
        assert_eq!(pair.server.engine.open_streams(), 1, "half closed is open");

        pair.server.write(theirs, b"good bye", true);
        pair.run();
        assert_eq!(
            pair.client.news(),
            [Heard::Data(1, b"good bye".to_vec()), Heard::End(1)]
        );
        assert_eq!(
            (
                pair.client.engine.open_streams(),
                pair.server.engine.open_streams()
            ),
            (0, 0)
        );
    }
}

#[test]
fn more_than_every_window_passes_while_the_reader_reads() {
    for cut in [Cut::Whole, Cut::Into(100_000), Cut::Random(7)] {
        let mut pair = Pair::ready(cut);
        let (stream, _) = pair.tunnel();
        let bytes = pattern(20 << 20);
        pair.upload(stream, &bytes, true);
        assert!(pair.server.bytes_of(1) == bytes, "same bytes");
        assert_eq!(pair.server.heard.last(), Some(&Heard::End(1)));
    }
}

#[test]
fn one_frame_of_a_mebibyte_is_handed_out_in_the_pieces_it_comes_in() {
    let mut server = Config::server();
    server.stream_window = 4 << 20;
    let mut pair = Pair::with(Config::client(), server, Cut::Into(1000));
    pair.run();
    let (stream, _) = pair.tunnel();
    assert_eq!(pair.client.engine.max_data(), 1 << 20);
    let bytes = pattern(1 << 20);
    assert_eq!(pair.client.write(stream, &bytes, true), 1 << 20);
    assert_eq!(frames(&pair.client.wire).len(), 1);
    pair.run();
    assert!(pair.server.bytes_of(1) == bytes);
}

#[test]
fn a_reader_that_stalls_closes_its_window_and_no_other() {
    let mut pair = Pair::ready(Cut::Whole);
    let (stalled, _) = pair.tunnel();
    let (lively, _) = pair.tunnel();
    pair.server.reads = false;
    let bytes = pattern(1 << 20);
    assert_eq!(pair.client.write(stalled, &bytes, false), 262_144);
    pair.run();
    assert_eq!(pair.client.engine.sendable(stalled), 0);
    assert_eq!(pair.client.engine.sendable(lively), 262_144);

    let theirs = pair.server.id(stalled.value());
    pair.server.engine.release(theirs, 32_767);
    pair.run();
    assert_eq!(
        pair.client.news(),
        [],
        "an eighth of a window before WINDOW_UPDATE"
    );
    pair.server.engine.release(theirs, 1);
    pair.run();
    assert_eq!(pair.client.news(), [Heard::Sendable(Some(stalled.value()))]);
    assert_eq!(pair.client.engine.sendable(stalled), 32_768);
}

#[test]
fn bytes_of_a_stream_that_is_gone_still_open_the_connection_window() {
    let mut pair = Pair::ready(Cut::Whole);
    pair.server.reads = false;
    // 80 streams of 256 KiB pass the connection's 16 MiB.
    for _ in 0..80 {
        let (stream, theirs) = pair.tunnel();
        let bytes = pattern(262_144);
        assert_eq!(pair.client.write(stream, &bytes, false), bytes.len());
        pair.run();
        pair.client.engine.reset(stream, ErrorCode::Cancel);
        pair.run();
        pair.server.engine.release(theirs, bytes.len());
    }
}

#[test]
fn bytes_in_flight_toward_a_stream_we_reset_are_dropped_and_credited() {
    for cut in [Cut::Whole, Cut::Into(1000), Cut::Random(9)] {
        let mut pair = Pair::ready(cut);
        for _ in 0..70 {
            let (stream, theirs) = pair.tunnel();
            pair.client.write(stream, &pattern(262_144), true);
            pair.server.engine.reset(theirs, ErrorCode::Cancel);
            pair.run();
            assert_eq!(pair.server.news(), []);
            assert_eq!(pair.server.failed, None);
        }
        let (stream, _) = pair.tunnel();
        assert_eq!(pair.client.engine.sendable(stream), 262_144);
    }
}

#[test]
fn a_reset_ends_both_directions_with_its_code() {
    let mut pair = Pair::ready(Cut::Whole);
    let (stream, theirs) = pair.tunnel();
    pair.client.engine.reset(stream, ErrorCode::Cancel);
    pair.run();
    assert_eq!(
        pair.server.news(),
        [Heard::Reset(1, ErrorCode::Cancel, Side::Remote)]
    );
    assert_eq!(pair.server.engine.sendable(theirs), 0);
    assert_eq!(
        pair.server.engine.send(theirs, 1, false),
        Err(UseError::NoStream)
    );
    assert_eq!(pair.server.engine.finish(theirs), Err(UseError::NoStream));
}

#[test]
fn an_answer_with_end_leaves_the_request_direction_open() {
    let mut pair = Pair::ready(Cut::Whole);
    let stream = pair.client.open("10.0.0.7:8080");
    pair.run();
    let theirs = pair.server.id(1);
    pair.server
        .engine
        .respond(theirs, &ResponseHead::status(401), true)
        .unwrap();
    assert_eq!(
        pair.server
            .engine
            .respond(theirs, &ResponseHead::status(200), true),
        Err(UseError::NotWritable)
    );
    pair.run();
    assert_eq!(
        pair.client.news(),
        [Heard::Response(1, ResponseHead::status(401), true)]
    );
    pair.client.engine.finish(stream).unwrap();
    pair.run();
    assert_eq!(
        (
            pair.client.engine.open_streams(),
            pair.server.engine.open_streams()
        ),
        (0, 0)
    );
}

#[test]
fn a_client_at_the_limit_hears_when_a_place_is_free() {
    let mut server = Config::server();
    server.max_concurrent_streams = Some(2);
    let mut pair = Pair::with(Config::client(), server, Cut::Whole);
    pair.run();
    let (first, _) = pair.tunnel();
    pair.tunnel();
    assert!(!pair.client.engine.can_open());
    assert_eq!(
        pair.client.engine.open(&connect("a:1")),
        Err(OpenError::Full)
    );
    pair.server
        .engine
        .reset(pair.server.id(first.value()), ErrorCode::Cancel);
    pair.run();
    assert_eq!(
        pair.client.news(),
        [
            Heard::Reset(1, ErrorCode::Cancel, Side::Remote),
            Heard::StreamsAvailable
        ]
    );
    assert!(pair.client.engine.can_open());
}

#[test]
fn streams_past_the_limit_are_refused_and_the_connection_lives() {
    let mut server = Config::server();
    server.max_concurrent_streams = Some(2);
    let mut pair = Pair::with(Config::client(), server, Cut::Whole);
    for _ in 0..100 {
        pair.client.open("10.0.0.7:8080");
    }
    pair.run();
    let heard = pair.client.news();
    let refused = heard.iter().filter(|heard| {
        matches!(
            heard,
            Heard::Reset(_, ErrorCode::RefusedStream, Side::Remote)
        )
    });
    assert_eq!(refused.count(), 98);
    assert_eq!(pair.server.engine.open_streams(), 2);
    assert_eq!(pair.server.failed, None);
}

#[test]
fn pings_are_answered_and_only_our_own_answers_reported() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        pair.client.engine.ping(*b"12345678");
        pair.server.engine.ping(*b"abcdefgh");
        pair.run();
        assert_eq!(pair.client.news(), [Heard::Pong(*b"12345678")]);
        assert_eq!(pair.server.news(), [Heard::Pong(*b"abcdefgh")]);
    }
}

#[test]
fn a_graceful_end_takes_what_is_on_its_way_and_lets_streams_finish() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        let (stream, theirs) = pair.tunnel();
        pair.server.engine.shut_down();
        let late = pair.client.open("10.0.0.7:8080");
        pair.run();
        assert!(matches!(
            pair.server.news()[..],
            [Heard::Request(3, _, false)]
        ));
        assert_eq!(
            pair.client.news(),
            [
                Heard::GoAway(0x7fff_ffff, ErrorCode::NoError, String::new()),
                Heard::GoAway(3, ErrorCode::NoError, String::new()),
            ]
        );
        assert_eq!(
            pair.client.engine.open(&connect("a:1")),
            Err(OpenError::GoingAway)
        );
        assert!(pair.client.engine.is_going_away() && pair.server.engine.is_going_away());
        pair.client.write(stream, b"last words", true);
        pair.server.write(theirs, b"heard", true);
        pair.client.engine.reset(late, ErrorCode::Cancel);
        pair.run();
        assert_eq!(pair.server.bytes_of(1), b"last words");
        assert_eq!(pair.client.bytes_of(1), b"heard");
        assert_eq!(pair.server.engine.open_streams(), 0);
    }
}

#[test]
fn streams_above_a_goaway_are_given_back_to_try_elsewhere() {
    let mut pair = Pair::ready(Cut::Whole);
    pair.tunnel();
    pair.client.open("10.0.0.7:8080");
    pair.client.open("10.0.0.7:8080");
    pair.server.engine.go_away(ErrorCode::NoError, "moving");
    pair.run();
    assert_eq!(
        pair.client.news(),
        [
            Heard::GoAway(1, ErrorCode::NoError, "moving".to_owned()),
            Heard::Reset(3, ErrorCode::RefusedStream, Side::Remote),
            Heard::Reset(5, ErrorCode::RefusedStream, Side::Remote),
        ]
    );
    assert_eq!(
        pair.server.news(),
        [],
        "requests behind the last stream are ignored"
    );
    assert_eq!(pair.client.engine.open_streams(), 1);
}

#[test]
fn a_head_larger_than_a_frame_goes_out_in_continuations() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        let fields = Fields::new().with("baggage", vec![b'~'; 40_000]);
        let head = RequestHead::connect("10.0.0.7:8080", fields);
        // A server of ours announces 1 MiB; take the client back to the protocol's 16 KiB.
        let smallest = support::frame(4, 0, 0, &[0, 5, 0, 0, 0x40, 0]);
        pair.client.hear(&smallest);
        pair.client.take_wire();
        pair.client.engine.open(&head).unwrap();
        let sent = frames(pair.client.engine.output());
        assert_eq!(
            sent.iter().map(|frame| frame.0).collect::<Vec<_>>(),
            [1, 9, 9]
        );
        assert!(sent.iter().all(|frame| frame.3.len() <= 16_384));
        pair.run();
        assert_eq!(pair.server.news(), [Heard::Request(1, head, false)]);
    }
}

#[test]
fn a_head_past_the_limit_is_answered_431_and_the_connection_lives() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        let fields = Fields::new().with("baggage", vec![b'x'; 70_000]);
        pair.client
            .engine
            .open(&RequestHead::connect("10.0.0.7:8080", fields))
            .unwrap();
        pair.run();
        assert_eq!(pair.server.news(), []);
        assert_eq!(
            pair.client.news(),
            [
                Heard::Response(1, ResponseHead::status(431), true),
                Heard::Reset(1, ErrorCode::NoError, Side::Remote)
            ]
        );
        // The HPACK tables are still in step.
        let head = connect("10.0.0.7:8080");
        pair.client.engine.open(&head).unwrap();
        pair.run();
        assert_eq!(pair.server.news(), [Heard::Request(3, head, false)]);
    }
}

#[test]
fn a_window_grows_on_a_long_way_for_a_reader_that_keeps_up_and_only_for_it() {
    let mut pair = Pair::ready(Cut::Into(16_384));
    pair.one_way = 40_000;
    let (fast, _) = pair.tunnel();
    pair.upload(fast, &pattern(40 << 20), false);
    assert_eq!(
        pair.client.engine.sendable(fast).next_power_of_two(),
        4 << 20
    );

    let (slow, theirs) = pair.tunnel();
    pair.server.reads = false;
    for _ in 0..100 {
        pair.client.write(slow, &pattern(262_144), false);
        pair.run();
        pair.pass(100_000);
        pair.server.engine.release(theirs, 262_144);
        pair.run();
    }
    assert_eq!(pair.client.engine.sendable(slow), 262_144);
}

#[test]
fn thousands_of_single_bytes_toward_a_reader_that_stalls_are_fine() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        let (stream, theirs) = pair.tunnel();
        pair.server.reads = false;
        for at in 0..50_000_u32 {
            assert_eq!(pair.client.write(stream, &at.to_be_bytes()[3..], false), 1);
        }
        pair.run();
        assert_eq!(pair.server.failed, None);
        assert_eq!(pair.server.bytes_of(1).len(), 50_000);
        pair.server.engine.release(theirs, 50_000);
        assert_eq!(pair.server.engine.open_streams(), 1);
    }
}

#[test]
fn an_engine_that_failed_says_so_for_ever() {
    let mut pair = Pair::ready(Cut::Whole);
    let (_, theirs) = pair.tunnel();
    pair.server.hear(&support::frame(6, 0, 1, b"12345678"));
    let error = pair.server.failed.clone().unwrap();
    assert_eq!(pair.server.engine.receive(b""), Err(error.clone()));
    assert_eq!(pair.server.engine.receive(b"x"), Err(error));
    assert_eq!(
        pair.server
            .engine
            .respond(theirs, &ResponseHead::status(200), true),
        Err(UseError::Closed)
    );
    assert_eq!(
        pair.server.engine.send(theirs, 1, false),
        Err(UseError::Closed)
    );
    let last = frames(&pair.server.take_wire()).pop().unwrap();
    assert_eq!((last.0, &last.3[..8]), (7, &[0, 0, 0, 1, 0, 0, 0, 1][..]));
    assert!(pair.server.engine.output().is_empty());
}

#[test]
fn padding_is_credited_without_the_driver() {
    let mut server = support::server();
    server.reads = false;
    server.hear(&support::connect_frame(1, 4));
    let padded = support::frame(0, 8, 1, &[0; 256]);
    for _ in 0..10_000 {
        server.hear(&[&padded[..9], &[255], &padded[10..]].concat());
        server.hear(&support::frame(0, 0, 1, b""));
        server.engine.ping(*b"tunnelup");
        server.hear(&support::frame(6, 1, 0, b"tunnelup"));
        server.take_wire();
    }
    assert_eq!(
        server.failed, None,
        "2.5 MB of padding pass a window of 256 KiB"
    );
}

#[test]
fn events_about_a_stream_we_reset_are_not_told() {
    let mut pair = Pair::ready(Cut::Whole);
    let (stream, theirs) = pair.tunnel();
    pair.client.write(stream, b"x", true);
    let wire = pair.client.take_wire();
    // One event at a time: behind DATA waits the End that came with it.
    let received = pair.server.engine.receive(&wire).unwrap();
    assert!(matches!(received.event, Some(hbone::Event::Data { .. })));
    pair.server.engine.reset(theirs, ErrorCode::Cancel);
    let rest = pair
        .server
        .engine
        .receive(&wire[received.consumed..])
        .unwrap();
    assert_eq!(rest.event, None);
}

#[test]
fn streams_share_the_window_of_their_connection() {
    let mut client = support::client();
    let (first, second) = (client.open("10.0.0.7:80"), client.open("10.0.0.7:80"));
    assert_eq!(client.write(first, &pattern(60_000), false), 60_000);
    assert_eq!(client.engine.sendable(second), 5_535);
    assert_eq!(client.write(second, &pattern(60_000), false), 5_535);
    let all = UseError::Window {
        len: 1,
        sendable: 0,
    };
    assert_eq!(client.engine.send(second, 1, false), Err(all));
    client.hear(&support::frame(8, 0, 1, &100_u32.to_be_bytes()));
    assert_eq!(client.news(), [], "its own window is not what it lacks");
    client.hear(&support::frame(8, 0, 0, &100_u32.to_be_bytes()));
    assert_eq!(client.news(), [Heard::Sendable(None)]);
    assert_eq!(client.engine.sendable(second), 100);
}

#[test]
fn readers_that_stall_do_not_use_up_the_connections_window() {
    let mut pair = Pair::ready(Cut::Whole);
    pair.server.reads = false;
    // 80 streams of 256 KiB are more than the connection's 16 MiB.
    for _ in 0..80 {
        let (stream, _) = pair.tunnel();
        let bytes = pattern(262_144);
        assert_eq!(pair.client.write(stream, &bytes, false), bytes.len());
        pair.run();
        assert_eq!(
            pair.client.engine.sendable(stream),
            0,
            "its own window bounds it"
        );
    }
}
