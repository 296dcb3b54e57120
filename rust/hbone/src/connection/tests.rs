use super::*;
use crate::connect::Fields;
use crate::error::OpenError;
use crate::frame::MAX_STREAM;

fn head() -> RequestHead {
    RequestHead::connect("10.0.0.7:80", Fields::new())
}

#[test]
fn the_first_bytes_say_what_we_take() {
    let client = Connection::new(Config::client());
    let rest = client
        .output()
        .strip_prefix(frame::PREFACE)
        .expect("the preface");
    let settings: Vec<_> = frame::read_settings(&rest[9..9 + 24]).collect();
    assert_eq!(settings, [(2, 0), (4, 262_144), (5, 1 << 20), (6, 16_384)]);
    // WINDOW_UPDATE on stream 0 to 16 MiB.
    assert_eq!(rest[33..42], [0, 0, 4, 8, 0, 0, 0, 0, 0]);
    assert_eq!(frame::read_u32(rest, 42), (16 << 20) - 65_535);

    let server = Connection::new(Config::server());
    let settings: Vec<_> = frame::read_settings(&server.output()[9..9 + 24]).collect();
    assert_eq!(
        settings,
        [(3, 200), (4, 262_144), (5, 1 << 20), (6, 65_536)]
    );
}

#[test]
fn numbers_run_out_at_two_to_the_31st() {
    let mut client = Connection::new(Config::client());
    client.streams = Streams::starting_at(MAX_STREAM);
    assert_eq!(client.open(&head()), Ok(StreamId(MAX_STREAM)));
    assert_eq!(client.open(&head()), Err(OpenError::Exhausted));
    assert!(!client.can_open());
}

#[test]
fn before_settings_a_client_opens_what_it_was_told_to_assume() {
    let mut config = Config::client();
    config.assumed_peer_streams = 2;
    let mut client = Connection::new(config);
    assert!(client.open(&head()).is_ok());
    assert!(client.open(&head()).is_ok());
    assert_eq!(client.open(&head()), Err(OpenError::Full));
    client.receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    assert_eq!(client.peer_stream_limit(), usize::MAX);
    assert!(client.can_open());
}

#[test]
fn a_server_opens_nothing() {
    let mut server = Connection::new(Config::server());
    assert_eq!(server.open(&head()), Err(OpenError::Closed));
}

#[test]
fn a_quiet_connection_is_small() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{}",
        size_of::<Connection>()
    );
    assert!(size_of::<Event<'_>>() <= 128, "{}", size_of::<Event<'_>>());
}
