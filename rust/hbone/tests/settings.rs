//! What a peer's SETTINGS change for streams that are open already, and for those that come.

mod support;

use hbone::{Config, OpenError};
use support::{CUTS, Heard, Pair, connect, frames, pattern};

#[test]
fn a_shrunk_initial_window_may_leave_a_stream_below_zero() {
    let mut client = support::client();
    let stream = client.open("10.0.0.7:80");
    client.hear(&support::frame(
        1,
        4,
        1,
        &support::block(&[(":status", "200")]),
    ));
    assert_eq!(client.write(stream, &pattern(60_000), false), 60_000);
    client.hear(&setting(4, 10_000));
    client.news();
    assert_eq!(client.engine.sendable(stream), 0, "10,000 - 60,000");
    client.hear(&support::frame(8, 0, 1, &50_000_u32.to_be_bytes()));
    assert_eq!((client.engine.sendable(stream), client.news()), (0, vec![]));
    client.hear(&support::frame(8, 0, 1, &1_u32.to_be_bytes()));
    assert_eq!(client.engine.sendable(stream), 1);
    assert_eq!(client.news(), [Heard::Sendable(Some(1))]);
    client.hear(&setting(4, 11_000));
    assert_eq!(client.engine.sendable(stream), 1001);
    assert_eq!(client.news(), [Heard::Sendable(None)]);
}

#[test]
fn a_limit_lowered_to_nothing_and_raised_again_is_obeyed() {
    let mut client = support::client();
    client.open("10.0.0.7:80");
    client.hear(&setting(3, 0));
    assert_eq!(client.engine.open(&connect("a:1")), Err(OpenError::Full));
    assert_eq!(client.news(), []);
    client.hear(&setting(3, 2));
    assert_eq!(client.news(), [Heard::StreamsAvailable]);
    assert_eq!(client.engine.peer_stream_limit(), 2);
    client.open("10.0.0.7:80");
    assert_eq!(client.engine.open(&connect("a:1")), Err(OpenError::Full));
}

#[test]
fn a_smaller_header_table_is_obeyed_from_the_next_head_on() {
    for cut in CUTS {
        let mut pair = Pair::ready(cut);
        pair.client.open("10.0.0.7:80");
        pair.client.hear(&setting(1, 0));
        pair.client.open("10.0.0.7:80");
        pair.client.hear(&setting(1, 65_536));
        pair.client.open("10.0.0.7:80");
        // The server hears two acknowledgements that it never asked for; ours are taken out.
        let sent = frames(&pair.client.take_wire());
        let heads = sent.iter().filter(|frame| frame.0 == 1);
        for (kind, flags, stream, payload) in heads {
            pair.server
                .hear(&support::frame(*kind, *flags, *stream, payload));
        }
        let expected =
            [1, 3, 5].map(|stream| Heard::Request(stream, connect("10.0.0.7:80"), false));
        assert_eq!(pair.server.news(), expected);
    }
}

#[test]
fn a_server_with_small_windows_bears_what_was_sent_before_it_said_so() {
    let mut server = Config::server();
    (server.stream_window, server.stream_window_max) = (10_000, 10_000);
    for cut in CUTS {
        let mut pair = Pair::with(Config::client(), server.clone(), cut);
        let stream = pair.client.open("10.0.0.7:80");
        assert_eq!(pair.client.write(stream, &pattern(70_000), false), 65_535);
        pair.run();
        assert_eq!(pair.server.failed, None);
        assert_eq!(pair.server.bytes_of(1).len(), 65_535);
        pair.upload(stream, &pattern(100_000), true);
        assert_eq!(pair.server.bytes_of(1).len(), 165_535);
    }
}

/// SETTINGS with one value.
fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    support::frame(4, 0, 0, &payload)
}
