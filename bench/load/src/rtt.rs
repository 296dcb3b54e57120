//! Round trips of one size, one at a time on each of some connections, for a time.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Target, is_pending, nanos};
use crate::samples::Samples;
use crate::server::receive;
use crate::sys::{Poll, READ, WRITE};

struct Talk {
    stream: TcpStream,
    sent: usize,
    got: usize,
    begin: Instant,
    /// Whether we wait until more can be written.
    stuck: bool,
    /// The next message is for then.
    rests_until: Option<Instant>,
}

/// Connect, ask for echoes, and measure.
pub(crate) fn run(
    target: Target,
    connections: usize,
    size: usize,
    time: Duration,
    every: Duration,
) -> io::Result<Value> {
    let streams = (0..connections)
        .map(|_| open(target))
        .collect::<io::Result<Vec<_>>>()?;
    over(streams, size, Duration::ZERO, time, every)
}

/// A connection that gives back what it is given, all the way: one byte has come back already.
pub(crate) fn open(target: Target) -> io::Result<TcpStream> {
    let mut stream = target.connect()?;
    stream.write_all(b"E.")?;
    io::Read::read_exact(&mut stream, &mut [0])?;
    Ok(stream)
}

/// The same on connections that are there already. What ends within `warm` is not counted; `time` begins after it.
/// `every` is from one beginning to the next on each connection; one that comes too late for that goes on at once.
pub(crate) fn over(
    streams: Vec<TcpStream>,
    size: usize,
    warm: Duration,
    time: Duration,
    every: Duration,
) -> io::Result<Value> {
    let (message, mut scratch) = (vec![0x5a; size], vec![0; size.max(1)]);
    let (mut poll, mut samples) = (Poll::new()?, Samples::new());
    let mut talks = Vec::new();
    let begin = Instant::now();
    let spread = every / u32::try_from(streams.len().max(1)).unwrap_or(u32::MAX);
    for (token, stream) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        poll.add(&stream, token, READ)?;
        let mut talk = Talk {
            stream,
            sent: 0,
            got: 0,
            begin: Instant::now(),
            stuck: false,
            rests_until: None,
        };
        if every.is_zero() {
            talk.say(&message, &poll, token)?;
        } else {
            talk.rests_until = Some(begin + spread * u32::try_from(token).unwrap_or(0));
        }
        talks.push(talk);
    }
    let mut ready = Vec::new();
    let end = warm + time;
    let mut counts = warm.is_zero();
    while begin.elapsed() < end {
        if !counts && begin.elapsed() >= warm {
            counts = true;
            samples = Samples::new();
        }
        let rest = talks.iter().filter_map(|talk| talk.rests_until).min();
        let rest = rest.map(|due| due.saturating_duration_since(Instant::now()));
        let left = end.saturating_sub(begin.elapsed());
        poll.wait(Some(rest.map_or(left, |rest| rest.min(left))), &mut ready)?;
        for &(token, _) in &ready {
            talks[token].turn(&message, &mut scratch, &mut samples, every, &poll, token)?;
        }
        let now = Instant::now();
        for (token, talk) in talks.iter_mut().enumerate() {
            if talk.rests_until.is_some_and(|due| due <= now) {
                (talk.rests_until, talk.begin) = (None, now);
                talk.say(&message, &poll, token)?;
            }
        }
    }
    let seconds = (begin.elapsed() - warm).as_secs_f64();
    if samples.count == 0 {
        return Err(io::Error::other(format!("not one round trip in {time:?}")));
    }
    Ok(json!({ "count": samples.count, "seconds": seconds, "micros": samples.summary() }))
}

impl Talk {
    fn turn(
        &mut self,
        message: &[u8],
        scratch: &mut [u8],
        samples: &mut Samples,
        every: Duration,
        poll: &Poll,
        token: usize,
    ) -> io::Result<()> {
        if self.stuck {
            self.say(message, poll, token)?;
        }
        let Some(got) = receive(&mut self.stream, &mut scratch[..message.len() - self.got])? else {
            return Ok(());
        };
        if got == 0 {
            return Err(io::Error::other("the far end ended a conversation"));
        }
        self.got += got;
        if self.got == message.len() {
            samples.add(nanos(self.begin));
            let due = self.begin + every;
            (self.sent, self.got, self.begin) = (0, 0, Instant::now());
            if due > self.begin {
                self.rests_until = Some(due);
            } else {
                self.say(message, poll, token)?;
            }
        }
        Ok(())
    }

    fn say(&mut self, message: &[u8], poll: &Poll, token: usize) -> io::Result<()> {
        while self.sent < message.len() {
            match self.stream.write(&message[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if is_pending(&error) => {
                    self.stuck = true;
                    return poll.change(&self.stream, token, READ | WRITE);
                }
                Err(error) => return Err(error),
            }
        }
        if std::mem::take(&mut self.stuck) {
            poll.change(&self.stream, token, READ)?;
        }
        Ok(())
    }
}
