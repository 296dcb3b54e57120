//! What each malformed frame or head costs: the connection, its stream, or nothing (spec/reliability.md BI-F, BI-H).
//!
//! Every row is fed whole and byte by byte; the outcome must be the same.

mod support;

use hbone::{ErrorCode, Fault};
use support::{Heard, Peer, block, client, connect_frame, frame, frames, server};

/// Scope and code of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Costs {
    Connection(ErrorCode),
    Stream(u32, ErrorCode),
    Nothing,
}
use Costs::{Connection, Nothing, Stream};
use ErrorCode::{
    CompressionError, EnhanceYourCalm, FlowControlError, FrameSizeError, ProtocolError,
    RefusedStream, StreamClosed,
};

type Row = (&'static str, Vec<Vec<u8>>, Costs);

#[test]
#[rustfmt::skip] // a row is a line
fn malformed_frames_cost_a_server_what_the_rfc_says() {
    let open = || connect_frame(1, 0x4);
    let ended = || connect_frame(1, 0x5);
    let rst = |stream| frame(3, 0, stream, &[0, 0, 0, 8]);
    let rows: Vec<Row> = vec![
        // RFC 9113 §4.2, §6.1
        ("frame past our size", vec![vec![0x10, 0, 1, 0, 0, 0, 0, 0, 1]], Connection(FrameSizeError)),
        ("DATA on stream 0", vec![frame(0, 0, 0, b"x")], Connection(ProtocolError)),
        ("DATA on an idle stream", vec![frame(0, 0, 1, b"x")], Connection(ProtocolError)),
        ("DATA on an even stream", vec![frame(0, 0, 2, b"x")], Connection(ProtocolError)),
        ("DATA with padding as long as itself", vec![open(), frame(0, 8, 1, &[3, 0, 0])], Connection(ProtocolError)),
        ("padded DATA without a byte", vec![open(), frame(0, 8, 1, &[])], Connection(FrameSizeError)),
        ("DATA that is all padding", vec![open(), frame(0, 8, 1, &[2, 0, 0])], Nothing),
        ("DATA with 255 of padding", vec![open(), frame(0, 8, 1, &[&[255, 1][..], &[0; 255]].concat())], Nothing),
        ("DATA behind END_STREAM", vec![ended(), frame(0, 0, 1, b"x")], Stream(1, StreamClosed)),
        ("DATA behind RST_STREAM", vec![open(), rst(1), frame(0, 0, 1, b"x")], Stream(1, StreamClosed)),
        ("DATA on a stream passed over", vec![connect_frame(3, 4), frame(0, 0, 1, b"x")], Nothing),
        // §6.2, §6.10
        ("HEADERS on stream 0", vec![connect_frame(0, 4)], Connection(ProtocolError)),
        ("HEADERS on an even stream", vec![connect_frame(2, 4)], Connection(ProtocolError)),
        ("HEADERS on a lower stream", vec![connect_frame(5, 4), connect_frame(3, 4)], Connection(ProtocolError)),
        ("HEADERS again without END_STREAM", vec![open(), connect_frame(1, 4)], Stream(1, ProtocolError)),
        ("HEADERS behind END_STREAM", vec![ended(), connect_frame(1, 5)], Stream(1, StreamClosed)),
        ("HEADERS behind RST_STREAM", vec![open(), rst(1), connect_frame(1, 5)], Stream(1, StreamClosed)),
        ("HEADERS with padding too long", vec![frame(1, 0xc, 1, &[9, 0x82])], Connection(ProtocolError)),
        ("padded HEADERS without a byte", vec![frame(1, 0xc, 1, &[])], Connection(ProtocolError)),
        ("HEADERS shorter than its priority", vec![frame(1, 0x24, 1, &[0, 0])], Connection(FrameSizeError)),
        ("HEADERS that depends on itself", vec![frame(1, 0x24, 1, &[&[0, 0, 0, 1, 9][..], &connect_block()].concat())], Stream(1, ProtocolError)),
        ("HEADERS with priority", vec![frame(1, 0x24, 1, &[&[0, 0, 0, 3, 9][..], &connect_block()].concat())], Nothing),
        ("HEADERS with padding", vec![frame(1, 0xc, 1, &[&[2][..], &connect_block(), &[0, 0]].concat())], Nothing),
        ("CONTINUATION out of nowhere", vec![frame(9, 4, 1, &[])], Connection(ProtocolError)),
        ("CONTINUATION behind END_HEADERS", vec![open(), frame(9, 4, 1, &[])], Connection(ProtocolError)),
        ("CONTINUATION of another stream", vec![connect_frame(1, 0), frame(9, 4, 3, &[])], Connection(ProtocolError)),
        ("CONTINUATION on stream 0", vec![connect_frame(1, 0), frame(9, 4, 0, &[])], Connection(ProtocolError)),
        ("PING inside a header block", vec![connect_frame(1, 0), frame(6, 0, 0, &[0; 8])], Connection(ProtocolError)),
        ("unknown frame inside a header block", vec![connect_frame(1, 0), frame(0xfe, 0, 1, &[])], Connection(ProtocolError)),
        ("CONTINUATION in order", vec![connect_frame(1, 0), frame(9, 0, 1, &[]), frame(9, 4, 1, &[])], Nothing),
        // §6.3
        ("PRIORITY on stream 0", vec![frame(2, 0, 0, &[0; 5])], Connection(ProtocolError)),
        ("PRIORITY of four bytes", vec![open(), frame(2, 0, 1, &[0; 4])], Stream(1, FrameSizeError)),
        ("PRIORITY of four bytes, idle", vec![frame(2, 0, 1, &[0; 4])], Connection(FrameSizeError)),
        ("PRIORITY of four bytes, ended", vec![open(), rst(1), frame(2, 0, 1, &[0; 4])], Stream(1, FrameSizeError)),
        ("PRIORITY on itself", vec![open(), frame(2, 0, 1, &[0, 0, 0, 1, 0])], Stream(1, ProtocolError)),
        ("PRIORITY on itself, idle", vec![frame(2, 0, 7, &[0, 0, 0, 7, 0])], Connection(ProtocolError)),
        ("PRIORITY of an idle stream", vec![frame(2, 0, 7, &[0, 0, 0, 1, 0])], Nothing),
        ("PRIORITY of an ended stream", vec![open(), rst(1), frame(2, 0, 1, &[0; 5])], Nothing),
        // §6.4
        ("RST_STREAM on stream 0", vec![rst(0)], Connection(ProtocolError)),
        ("RST_STREAM on an idle stream", vec![rst(1)], Connection(ProtocolError)),
        ("RST_STREAM of three bytes", vec![open(), frame(3, 0, 1, &[0; 3])], Connection(FrameSizeError)),
        ("RST_STREAM twice", vec![open(), rst(1), rst(1)], Nothing),
        // §6.5
        ("SETTINGS on a stream", vec![frame(4, 0, 1, &[])], Connection(ProtocolError)),
        ("SETTINGS of seven bytes", vec![frame(4, 0, 0, &[0; 7])], Connection(FrameSizeError)),
        ("SETTINGS ACK with a body", vec![frame(4, 1, 0, &[0; 6])], Connection(FrameSizeError)),
        ("SETTINGS ACK twice", vec![frame(4, 1, 0, &[]), frame(4, 1, 0, &[])], Connection(ProtocolError)),
        ("ENABLE_PUSH 2", vec![setting(2, 2)], Connection(ProtocolError)),
        ("ENABLE_PUSH 1", vec![setting(2, 1)], Nothing),
        ("INITIAL_WINDOW_SIZE past 2^31-1", vec![setting(4, 1 << 31)], Connection(FlowControlError)),
        ("INITIAL_WINDOW_SIZE that overflows a stream", vec![open(), frame(8, 0, 1, &[0x7f, 0xff, 0, 0]), setting(4, 0x7fff_ffff)], Connection(FlowControlError)),
        ("MAX_FRAME_SIZE too small", vec![setting(5, 16_383)], Connection(ProtocolError)),
        ("MAX_FRAME_SIZE too large", vec![setting(5, 1 << 24)], Connection(ProtocolError)),
        ("unknown setting", vec![setting(0xfa, 0xffff_ffff)], Nothing),
        ("more settings than exist", vec![frame(4, 0, 0, &[0xff; 606])], Connection(EnhanceYourCalm)),
        // §6.6, §6.7, §6.8
        ("PUSH_PROMISE", vec![open(), frame(5, 4, 1, &[0, 0, 0, 2])], Connection(ProtocolError)),
        ("PING on a stream", vec![frame(6, 0, 1, &[0; 8])], Connection(ProtocolError)),
        ("PING of seven bytes", vec![frame(6, 0, 0, &[0; 7])], Connection(FrameSizeError)),
        ("PING ACK nobody asked for", vec![frame(6, 1, 0, &[0; 8])], Nothing),
        ("GOAWAY on a stream", vec![frame(7, 0, 1, &[0; 8])], Connection(ProtocolError)),
        ("GOAWAY of seven bytes", vec![frame(7, 0, 0, &[0; 7])], Connection(FrameSizeError)),
        ("GOAWAY with a novel", vec![frame(7, 0, 0, &[0x20; 9000])], Nothing),
        ("GOAWAY that raises its last stream", vec![frame(7, 0, 0, &[0; 8]), frame(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])], Connection(ProtocolError)),
        // §6.9
        ("WINDOW_UPDATE of 0", vec![frame(8, 0, 0, &[0; 4])], Connection(ProtocolError)),
        ("WINDOW_UPDATE of 0 on a stream", vec![open(), frame(8, 0, 1, &[0; 4])], Stream(1, ProtocolError)),
        ("WINDOW_UPDATE of three bytes", vec![frame(8, 0, 0, &[0; 3])], Connection(FrameSizeError)),
        ("WINDOW_UPDATE on an idle stream", vec![frame(8, 0, 1, &[0, 0, 0, 1])], Connection(ProtocolError)),
        ("WINDOW_UPDATE on an ended stream", vec![open(), rst(1), frame(8, 0, 1, &[0, 0, 0, 1])], Nothing),
        ("WINDOW_UPDATE that overflows", vec![frame(8, 0, 0, &[0x7f, 0xff, 0xff, 0xff])], Connection(FlowControlError)),
        ("WINDOW_UPDATE that overflows a stream", vec![open(), frame(8, 0, 1, &[0x7f, 0xff, 0xff, 0xff])], Stream(1, FlowControlError)),
        ("reserved bits", vec![open(), frame(8, 0, 1, &[0x80, 0, 0, 1]), frame(0, 0xf0, 1 << 31 | 1, b"x")], Nothing),
        // §5.5
        ("unknown frame", vec![frame(0xfe, 0xff, 9, b"whatever")], Nothing),
        // RFC 7541
        ("index 0", vec![frame(1, 4, 1, &[0x80])], Connection(CompressionError)),
        ("index past both tables", vec![frame(1, 4, 1, &[0xff, 0x20])], Connection(CompressionError)),
        ("table size update past the limit", vec![frame(1, 4, 1, &[0x3f, 0xe2, 0x1f])], Connection(CompressionError)),
        ("table size update in the middle", vec![frame(1, 4, 1, &[0x82, 0x20])], Connection(CompressionError)),
        ("Huffman with EOS", vec![frame(1, 4, 1, &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00])], Connection(CompressionError)),
        ("Huffman with long padding", vec![frame(1, 4, 1, &[0x00, 0x82, 0x1f, 0xff, 0x00])], Connection(CompressionError)),
        ("integer without end", vec![frame(1, 4, 1, &[0xff; 20])], Connection(CompressionError)),
        ("string longer than its block", vec![frame(1, 4, 1, &[0x00, 0x7e, 0x61])], Connection(CompressionError)),
        ("a bad block on a stream that is gone", vec![open(), rst(1), frame(1, 4, 1, &[0x80])], Connection(CompressionError)),
        ("an endless header", vec![vec![0x04, 0, 1, 1, 4, 0, 0, 0, 1]], Connection(EnhanceYourCalm)),
    ];
    check(&rows, server);
}

#[test]
#[rustfmt::skip] // a row is a line
fn malformed_heads_cost_their_stream() {
    let connect: &[(&str, &str)] = &[(":method", "CONNECT"), (":authority", "a:1")];
    let get: &[(&str, &str)] = &[(":method", "GET"), (":scheme", "http"), (":path", "/")];
    let with = |head: &[(&str, &str)], more: &[(&str, &str)]| {
        vec![frame(1, 5, 1, &block(&[head, more].concat()))]
    };
    let malformed = Stream(1, ProtocolError);
    let rows: Vec<Row> = vec![
        ("CONNECT", with(connect, &[]), Nothing),
        ("GET", with(get, &[(":authority", "a")]), Nothing),
        ("CONNECT without :authority", with(&connect[..1], &[]), Nothing),
        ("CONNECT with :scheme", with(connect, &get[1..2]), malformed),
        ("CONNECT with :path", with(connect, &get[2..]), malformed),
        ("CONNECT with :protocol", with(connect, &[(":protocol", "websocket")]), malformed),
        ("lower-case connect", with(&[(":method", "connect"), (":authority", "a:1")], &[]), malformed),
        ("no :method", with(&get[1..], &[]), malformed),
        ("no :scheme", with(&[get[0], get[2]], &[]), malformed),
        ("no :path", with(&get[..2], &[]), malformed),
        ("empty :path", with(&get[..2], &[(":path", "")]), malformed),
        ("empty :method", with(&[(":method", "")], &[]), malformed),
        (":method with a space", with(&[(":method", "GE T"), get[1], get[2]], &[]), malformed),
        (":method twice", with(get, &get[..1]), malformed),
        (":scheme twice", with(get, &get[1..2]), malformed),
        (":path twice", with(get, &get[2..]), malformed),
        (":authority twice", with(connect, &connect[1..]), malformed),
        (":authority with a space", with(&connect[..1], &[(":authority", "a b:1")]), malformed),
        (":authority with NUL", with(&connect[..1], &[(":authority", "a\0:1")]), malformed),
        (":authority not ASCII", with(&connect[..1], &[(":authority", "ä:1")]), malformed),
        (":status", with(connect, &[(":status", "200")]), malformed),
        ("unknown pseudo header", with(connect, &[(":x", "y")]), malformed),
        ("late pseudo header", with(&[connect[0], ("x", "y"), connect[1]], &[]), malformed),
        ("upper case", with(connect, &[("X-a", "y")]), malformed),
        ("empty name", with(connect, &[("", "y")]), malformed),
        ("space in a name", with(connect, &[("a b", "y")]), malformed),
        ("colon in a name", with(connect, &[("a:b", "y")]), malformed),
        ("newline in a value", with(connect, &[("a", "x\ny")]), malformed),
        ("NUL in a value", with(connect, &[("a", "x\0y")]), malformed),
        ("space around a value", with(connect, &[("a", " x")]), malformed),
        ("connection", with(connect, &[("connection", "close")]), malformed),
        ("keep-alive", with(connect, &[("keep-alive", "1")]), malformed),
        ("proxy-connection", with(connect, &[("proxy-connection", "close")]), malformed),
        ("transfer-encoding", with(connect, &[("transfer-encoding", "chunked")]), malformed),
        ("upgrade", with(connect, &[("upgrade", "h2c")]), malformed),
        ("te: gzip", with(connect, &[("te", "gzip")]), malformed),
        ("te: trailers", with(connect, &[("te", "trailers")]), Nothing),
        ("host that differs", with(connect, &[("host", "b:1")]), malformed),
        ("host that agrees", with(connect, &[("host", "A:1")]), Nothing),
        ("empty value", with(connect, &[("a", "")]), Nothing),
        ("value not ASCII", with(connect, &[("a", "ä")]), Nothing),
        ("content-length of CONNECT", with(connect, &[("content-length", "5")]), Nothing),
        ("content-length unkept", with(get, &[("content-length", "5")]), malformed),
        ("content-length not a number", with(get, &[("content-length", "+5")]), malformed),
        ("content-length twice", with(get, &[("content-length", "0"), ("content-length", "1")]), malformed),
        ("content-length 0", with(get, &[("content-length", "0")]), Nothing),
        ("content-length past its DATA", content(&["5"], &["abcd"]), malformed),
        ("content-length below its DATA", content(&["5"], &["abc", "def"]), malformed),
        ("content-length kept", content(&["5"], &["ab", "cde"]), Nothing),
        ("trailers", vec![connect_frame(1, 4), frame(1, 5, 1, &block(&[("a", "b")]))], Nothing),
        ("trailers with a pseudo header", vec![connect_frame(1, 4), frame(1, 5, 1, &block(connect))], malformed),
        ("trailers in upper case", vec![connect_frame(1, 4), frame(1, 5, 1, &block(&[("A", "b")]))], malformed),
        ("DATA behind trailers", vec![connect_frame(1, 4), frame(1, 5, 1, &block(&[("a", "b")])), frame(0, 0, 1, b"x")], Stream(1, StreamClosed)),
    ];
    check(&rows, server);
}

#[test]
#[rustfmt::skip] // a row is a line
fn malformed_answers_cost_a_client_what_the_rfc_says() {
    let answer = |flags, fields: &[(&str, &str)]| frame(1, flags, 1, &block(fields));
    let ok = || answer(4, &[(":status", "200")]);
    let malformed = Stream(1, ProtocolError);
    let rows: Vec<Row> = vec![
        ("200", vec![ok(), frame(0, 0, 1, b"x")], Nothing),
        ("200 with END_STREAM", vec![answer(5, &[(":status", "200")])], Nothing),
        ("100 before 200", vec![answer(4, &[(":status", "100")]), ok()], Nothing),
        ("100 with END_STREAM", vec![answer(5, &[(":status", "100")])], malformed),
        ("101", vec![answer(4, &[(":status", "101")])], malformed),
        ("no :status", vec![answer(4, &[("a", "b")])], malformed),
        (":status twice", vec![answer(4, &[(":status", "200"), (":status", "200")])], malformed),
        (":status of two digits", vec![answer(4, &[(":status", "20")])], malformed),
        (":status 099", vec![answer(4, &[(":status", "099")])], malformed),
        (":method in an answer", vec![answer(4, &[(":status", "200"), (":method", "GET")])], malformed),
        ("DATA before the answer", vec![frame(0, 0, 1, b"x")], malformed),
        ("two answers", vec![ok(), ok()], malformed),
        ("content-length of 200", vec![answer(5, &[(":status", "200"), ("content-length", "7")])], Nothing),
        ("content-length of 503 unkept", vec![answer(5, &[(":status", "503"), ("content-length", "7")])], malformed),
        ("an answer nobody asked for", vec![frame(1, 4, 3, &block(&[(":status", "200")]))], Connection(ProtocolError)),
        ("a stream of the server's", vec![frame(1, 4, 2, &block(&[(":status", "200")]))], Connection(ProtocolError)),
        ("PUSH_PROMISE", vec![frame(5, 4, 1, &[0, 0, 0, 2])], Connection(ProtocolError)),
        ("ENABLE_PUSH 1", vec![setting(2, 1)], Connection(ProtocolError)),
        ("ENABLE_PUSH 0", vec![setting(2, 0)], Nothing),
        ("a head too large", vec![answer(4, &[(":status", "200"), ("a", &"x".repeat(17_000))])], malformed),
        ("DATA past the window", vec![ok(), frame(0, 0, 1, &vec![0; 262_145])], Stream(1, FlowControlError)),
    ];
    let asked = || {
        let mut client = client();
        client.open("10.0.0.7:80");
        client.take_wire();
        client
    };
    check(&rows, asked);
}

#[test]
fn what_is_not_http2_is_told_so() {
    for (to, bytes) in [
        (
            Peer::new(hbone::Config::server()),
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        ),
        (
            Peer::new(hbone::Config::server()),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r",
        ),
        (
            Peer::new(hbone::Config::server()),
            b"\x16\x03\x01\x02\x00\x01\x00",
        ),
        (
            Peer::new(hbone::Config::server()),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x08\x06\0\0\0\0\0",
        ),
        (
            Peer::new(hbone::Config::client()),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        ),
        (
            Peer::new(hbone::Config::client()),
            b"\0\0\0\x04\x01\0\0\0\0",
        ),
    ] {
        let row = vec![bytes.to_vec()];
        assert_eq!(outcome(to, &row, usize::MAX), Connection(ProtocolError));
    }
}

#[test]
fn a_client_that_is_refused_may_still_be_sending() {
    let mut server = server();
    for stream in 0..200 {
        server.hear(&connect_frame(stream * 2 + 1, 4));
    }
    server.hear(&connect_frame(401, 4));
    server.hear(&frame(0, 0, 401, b"already on its way"));
    server.hear(&frame(0, 1, 401, b"and its end"));
    assert_eq!(server.failed, None);
    let resets: Vec<_> = frames(&server.take_wire());
    assert_eq!(
        resets,
        [(3, 0, 401, u32::from(RefusedStream).to_be_bytes().to_vec())]
    );
}

/// Feeds every row whole and byte by byte.
fn check(rows: &[Row], fresh: impl Fn() -> Peer) {
    for (name, input, expected) in rows {
        for size in [usize::MAX, 1, 5] {
            let got = outcome(fresh(), input, size);
            assert_eq!(got, *expected, "{name}, in pieces of {size}");
        }
    }
}

fn outcome(mut peer: Peer, input: &[Vec<u8>], size: usize) -> Costs {
    let input = input.concat();
    for piece in input.chunks(size.min(input.len())) {
        peer.hear(piece);
    }
    if let Some(error) = peer.failed.take() {
        assert_eq!(error.fault, Fault::Remote);
        let last = frames(&peer.take_wire()).pop().expect("a GOAWAY");
        assert_eq!(last.0, 7, "GOAWAY comes last");
        assert_eq!(last.3[4..8], u32::from(error.code).to_be_bytes());
        return Connection(error.code);
    }
    let sent = frames(&peer.take_wire());
    let reset = sent.iter().find(|(kind, ..)| *kind == 3);
    let Some((_, _, stream, code)) = reset else {
        assert!(
            !peer
                .heard
                .iter()
                .any(|heard| matches!(heard, Heard::Reset(_, _, hbone::Side::Local)))
        );
        return Nothing;
    };
    let code = u32::from_be_bytes([code[0], code[1], code[2], code[3]]);
    // The connection goes on.
    peer.hear(&frame(6, 0, 0, b"stillup?"));
    assert_eq!(frames(&peer.take_wire()), [(6, 1, 0, b"stillup?".to_vec())]);
    Stream(*stream, ErrorCode::from(code))
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    frame(
        4,
        0,
        0,
        &[&id.to_be_bytes()[..], &value.to_be_bytes()].concat(),
    )
}

fn connect_block() -> Vec<u8> {
    block(&[(":method", "CONNECT"), (":authority", "10.0.0.7:80")])
}

/// A POST with a content-length and its DATA, the last with END_STREAM.
fn content(length: &[&str], data: &[&str]) -> Vec<Vec<u8>> {
    let mut fields = vec![(":method", "POST"), (":scheme", "http"), (":path", "/")];
    fields.extend(length.iter().map(|length| ("content-length", *length)));
    let mut input = vec![frame(1, 4, 1, &block(&fields))];
    for (at, bytes) in data.iter().enumerate() {
        input.push(frame(
            0,
            u8::from(at + 1 == data.len()),
            1,
            bytes.as_bytes(),
        ));
    }
    input
}
