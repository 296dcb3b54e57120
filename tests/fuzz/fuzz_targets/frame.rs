//! A connection sees bytes, not reads: cut anywhere, they give the same events and the same end, and what waits unsent stays bounded.
//!
//! Every input is played to a server and to a client with two streams open. It need not begin with the client's
//! preface; one that does is taken as it is.

#![no_main]

mod pieces;

use hbone::{Config, Connection, Event, Fields, RequestHead, ResponseHead, Role, StreamId};
use libfuzzer_sys::fuzz_target;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fuzz_target!(|input: &[u8]| {
    let mut framed = input.to_vec();
    if !input.starts_with(b"PRI") {
        framed.splice(..0, PREFACE.iter().copied());
    }
    for (role, input) in [(Role::Server, &framed[..]), (Role::Client, input)] {
        let whole = play(role, &[input]);
        let cut = play(role, &pieces::pieces(input));
        assert_eq!(whole, cut, "{role:?}: reads changed the meaning");
        let bytewise = play(role, &input.chunks(1).collect::<Vec<_>>());
        assert_eq!(
            whole, bytewise,
            "{role:?}: single bytes changed the meaning"
        );
        use_it(role, input);
    }
});

/// What a driver would notice.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    events: Vec<Happened>,
    end: Option<String>,
}

#[derive(Debug, PartialEq)]
enum Happened {
    /// Payload; what lay in one frame or in several is not told apart.
    Data(StreamId, Vec<u8>),
    Else(String),
}

/// Small windows: within the few KiB of an input their edges are met.
fn connection(role: Role) -> Connection {
    let mut config = match role {
        Role::Client => Config::client(),
        Role::Server => Config::server(),
    };
    config.stream_window = 1000;
    config.stream_window_max = 4000;
    config.max_frame_size = 16_384;
    config.max_header_list = 2000;
    config.max_concurrent_streams = config.max_concurrent_streams.map(|_| 5);
    let mut connection = Connection::new(config);
    if role == Role::Client {
        for _ in 0..2 {
            let head = RequestHead::connect("10.0.0.1:80", Fields::new());
            connection.open(&head).expect("a new connection has room");
        }
    }
    connection
}

/// Plays the pieces to a driver that never sends what waits and never gives back a window: both would depend on
/// how the input was cut.
fn play(role: Role, pieces: &[&[u8]]) -> Seen {
    let mut connection = connection(role);
    let mut seen = Seen::default();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let received = match connection.receive(rest) {
                Ok(received) => received,
                Err(error) => {
                    assert!(!connection.output().is_empty(), "no GOAWAY");
                    assert_eq!(connection.receive(rest), Err(error.clone()));
                    seen.end = Some(error.to_string());
                    return seen;
                }
            };
            rest = &rest[received.consumed..];
            let Some(event) = received.event else {
                assert!(rest.is_empty(), "bytes were left though nothing happened");
                break;
            };
            react(&mut connection, &event);
            seen.note(event);
            // Answers have their own limit; ours are a HEADERS or a DATA for each event, and the GOAWAY at the end.
            let bound = 70_000 + 100 * seen.events.len();
            assert!(
                connection.output().len() <= bound,
                "output grows without bound"
            );
        }
    }
    seen
}

/// What an accepting server and a patient client would do.
fn react(connection: &mut Connection, event: &Event<'_>) {
    match event {
        Event::Request { stream, end, .. } => {
            let status = if *end { 400 } else { 200 };
            let _ = connection.respond(*stream, &ResponseHead::status(status), *end);
        }
        Event::End { stream } => {
            let _ = connection.finish(*stream);
        }
        _ => {}
    }
}

impl Seen {
    fn note(&mut self, event: Event<'_>) {
        match (event, self.events.last_mut()) {
            (Event::Data { stream, bytes }, last) => {
                assert!(!bytes.is_empty(), "empty DATA");
                match last {
                    Some(Happened::Data(same, so_far)) if *same == stream => so_far.extend(bytes),
                    _ => self.events.push(Happened::Data(stream, bytes.to_vec())),
                }
            }
            (event, _) => self.events.push(Happened::Else(format!("{event:?}"))),
        }
    }
}

/// The other driver: sends, releases, pings, resets, closes. Nothing to compare; nothing may panic either.
fn use_it(role: Role, input: &[u8]) {
    let mut connection = connection(role);
    for (turn, piece) in pieces::pieces(input).into_iter().enumerate() {
        let mut rest = piece;
        while let Ok(received) = connection.receive(rest) {
            rest = &rest[received.consumed..];
            let Some(event) = received.event else { break };
            react(&mut connection, &event);
            if let Event::Data { stream, bytes } = event {
                connection.release(stream, bytes.len());
                echo(&mut connection, stream, bytes.len());
            }
            connection.output_sent(connection.output().len() / 2);
        }
        match turn % 16 {
            3 => connection.ping([7; 8]),
            7 => drop(connection.open(&RequestHead::connect("[::1]:1", Fields::new()))),
            15 => connection.shut_down(),
            _ => {}
        }
        connection.output_sent(connection.output().len());
    }
}

fn echo(connection: &mut Connection, stream: StreamId, received: usize) {
    let length = received
        .min(connection.sendable(stream))
        .min(connection.max_data());
    if length > 0 {
        connection
            .send(stream, length, length.is_multiple_of(7))
            .expect("it is within what is sendable");
    }
    if received.is_multiple_of(11) {
        connection.reset(stream, hbone::ErrorCode::Cancel);
    }
}
