//! One connection's round trips while a bulk stream runs beside it, each in a thread of its own.
//!
//! Whether both share a tunnel is for our caller to see, who looks at the tunnels' byte counts from outside. We say
//! `bulk` when the bulk connection has sent something, and `probe` when a conversation has; a line `again` makes us
//! open another conversation, a line `go` starts the measurement.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bulk::{self, Direction};
use crate::client::Target;
use crate::rtt;

/// Enough to be seen among the bytes of keep-alives.
const PROBE: usize = 64 * 1024;
/// The bulk stream has filled every buffer on the way before the first round trip is counted.
const HEAD_START: Duration = Duration::from_millis(300);

pub(crate) fn run(
    target: Target,
    size: usize,
    time: Duration,
    say: impl Fn(&str) -> io::Result<()>,
) -> io::Result<Value> {
    let mut stream = bulk::open(target, Direction::Up)?;
    stream.write_all(&[0x5a; PROBE])?;
    say("bulk")?;
    hear()?;
    let conversation = loop {
        let conversation = probe(target)?;
        say("probe")?;
        match hear()?.as_str() {
            "again" => {}
            "go" => break conversation,
            other => return Err(io::Error::other(format!("neither again nor go: {other:?}"))),
        }
    };
    let bulk = thread::spawn(move || {
        bulk::over(
            vec![(stream, PROBE as u64)],
            Direction::Up,
            HEAD_START + time,
        )
    });
    let round_trips = rtt::over(vec![conversation], size, HEAD_START, time, Duration::ZERO)?;
    let moved = bulk
        .join()
        .map_err(|_| io::Error::other("the bulk thread panicked"))??;
    Ok(json!({ "bulk": moved, "rtt": round_trips }))
}

fn probe(target: Target) -> io::Result<TcpStream> {
    let mut conversation = rtt::open(target)?;
    conversation.write_all(&[0x5a; PROBE])?;
    conversation.read_exact(&mut [0; PROBE])?;
    Ok(conversation)
}

fn hear() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim().to_owned())
}
