//! As many bytes as go through in a time, over some connections, in one direction.

use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{GRACE, Target, is_pending, timed_out};
use crate::server::{discard, receive};
use crate::sys::{Payload, Poll, READ, WRITE};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// What one turn of one connection may take before the next one's.
const TURN: usize = 1024 * 1024;

struct Flow {
    stream: TcpStream,
    bytes: u64,
    /// The far end's answer to our end: how much it has taken.
    answer: Vec<u8>,
    finished: bool,
}

struct Bulk {
    poll: Poll,
    /// `None` is done.
    flows: Vec<Option<Flow>>,
    each: Vec<u64>,
    direction: Direction,
    payload: Payload,
    nowhere: Box<[MaybeUninit<u8>]>,
}

/// Connect, move bytes for so long, and wait until the other end has all of them.
pub(crate) fn run(
    target: Target,
    streams: usize,
    direction: Direction,
    time: Duration,
) -> io::Result<Value> {
    let flows = (0..streams)
        .map(|_| Ok((open(target, direction)?, 0)))
        .collect::<io::Result<Vec<_>>>()?;
    over(flows, direction, time)
}

/// A connection whose far end knows what will be done with it.
pub(crate) fn open(target: Target, direction: Direction) -> io::Result<TcpStream> {
    let mut stream = target.connect()?;
    stream.write_all(if direction == Direction::Up {
        b"U"
    } else {
        b"D"
    })?;
    Ok(stream)
}

/// The same on connections that are there already, and have sent so much.
pub(crate) fn over(
    streams: Vec<(TcpStream, u64)>,
    direction: Direction,
    time: Duration,
) -> io::Result<Value> {
    let poll = Poll::new()?;
    let interest = if direction == Direction::Up {
        WRITE
    } else {
        READ
    };
    let mut flows = Vec::new();
    for (token, (stream, bytes)) in streams.into_iter().enumerate() {
        stream.set_nonblocking(true)?;
        poll.add(&stream, token, interest)?;
        flows.push(Some(Flow {
            stream,
            bytes,
            answer: Vec::new(),
            finished: false,
        }));
    }
    let (payload, nowhere, each) = (
        Payload::new(TURN)?,
        Box::new_uninit_slice(TURN),
        vec![0; flows.len()],
    );
    let mut bulk = Bulk {
        poll,
        flows,
        each,
        direction,
        payload,
        nowhere,
    };
    let begin = Instant::now();
    bulk.drive(begin, time)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(json!({ "bytes": bulk.each.iter().sum::<u64>(), "seconds": seconds, "each": bulk.each }))
}

impl Bulk {
    fn drive(&mut self, begin: Instant, time: Duration) -> io::Result<()> {
        let mut ready = Vec::new();
        let mut finished = false;
        let mut open = self.flows.len();
        while open > 0 {
            let (now, end) = (begin.elapsed(), time + GRACE);
            if now > end {
                return Err(timed_out("bulk"));
            }
            if now >= time && !finished {
                finished = true;
                self.finish()?;
            }
            let wait = if now < time { time - now } else { end - now };
            self.poll.wait(Some(wait), &mut ready)?;
            for &(token, _) in &ready {
                open -= usize::from(self.turn(token)?);
            }
        }
        Ok(())
    }

    /// True if this one is done now.
    fn turn(&mut self, token: usize) -> io::Result<bool> {
        let Some(flow) = self.flows[token].as_mut() else {
            return Ok(false);
        };
        let more = match self.direction {
            Direction::Up => flow.up(&self.payload)?,
            Direction::Down => flow.down(&mut self.nowhere)?,
        };
        if !more {
            self.each[token] = flow.bytes;
            self.flows[token] = None;
        }
        Ok(!more)
    }

    /// Say on every connection that this is all.
    fn finish(&mut self) -> io::Result<()> {
        for (token, flow) in self.flows.iter_mut().enumerate() {
            if let Some(flow) = flow {
                flow.finished = true;
                flow.stream.shutdown(Shutdown::Write)?;
                self.poll.change(&flow.stream, token, READ)?;
            }
        }
        Ok(())
    }
}

impl Flow {
    /// False when the far end has said how much it got.
    fn up(&mut self, payload: &Payload) -> io::Result<bool> {
        if self.finished {
            return self.answered();
        }
        match payload.send(&self.stream, TURN) {
            Ok(sent) => self.bytes += sent as u64,
            Err(error) if is_pending(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    fn answered(&mut self) -> io::Result<bool> {
        let mut scratch = [0; 16];
        let Some(got) = receive(&mut self.stream, &mut scratch)? else {
            return Ok(true);
        };
        self.answer.extend_from_slice(&scratch[..got]);
        if got > 0 {
            return Ok(true);
        }
        match self.answer.as_slice().try_into().map(u64::from_be_bytes) {
            Ok(taken) if taken == self.bytes => Ok(false),
            _ => Err(io::Error::other(format!(
                "{} bytes sent, but the far end says {:?}",
                self.bytes, self.answer
            ))),
        }
    }

    /// False at the end.
    fn down(&mut self, nowhere: &mut [MaybeUninit<u8>]) -> io::Result<bool> {
        match discard(&self.stream, nowhere)? {
            Some(0) if self.finished => Ok(false),
            Some(0) => Err(io::Error::other("the far end stopped sending by itself")),
            Some(got) => {
                self.bytes += got as u64;
                Ok(true)
            }
            None => Ok(true),
        }
    }
}
