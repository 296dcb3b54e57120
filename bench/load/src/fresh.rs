//! New connections, each for one request and its reply: so many at once, until a time or a number is reached.

use std::io::{self, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{GRACE, Target, nanos, request};
use crate::samples::Samples;
use crate::server::receive;
use crate::sys::{Poll, READ, WRITE};

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// How many at once.
    pub(crate) parallel: usize,
    /// Bytes of a reply.
    pub(crate) size: u64,
    pub(crate) time: Duration,
    /// No more than so many in all.
    pub(crate) count: u64,
    /// Over so many addresses, one after the other.
    pub(crate) spread: u32,
    /// Keep each connection until all are done: a storm.
    pub(crate) hold: bool,
}

/// More failures than this end the run: something is broken, and its figures would mean nothing.
const FAILURES: u64 = 1000;

struct Attempt {
    stream: TcpStream,
    begin: Instant,
    asked: bool,
    got: u64,
}

struct Fresh {
    target: Target,
    plan: Plan,
    poll: Poll,
    attempts: Vec<Option<Attempt>>,
    held: Vec<TcpStream>,
    started: u64,
    failed: u64,
    first: Samples,
    last: Samples,
    scratch: Vec<u8>,
    why: Option<io::Error>,
}

pub(crate) fn run(target: Target, plan: Plan) -> io::Result<Value> {
    let mut fresh = Fresh {
        target,
        plan,
        poll: Poll::new()?,
        attempts: (0..plan.parallel).map(|_| None).collect(),
        held: Vec::new(),
        started: 0,
        failed: 0,
        first: Samples::new(),
        last: Samples::new(),
        scratch: vec![0; 256 * 1024],
        why: None,
    };
    let begin = Instant::now();
    let all = fresh.drive(begin)?;
    let seconds = begin.elapsed().as_secs_f64();
    Ok(json!({
        "count": fresh.last.count, "failed": fresh.failed, "seconds": seconds, "all": all,
        "first": fresh.first.summary(), "last": fresh.last.summary(),
        "failure": fresh.why.map(|error| error.to_string()),
    }))
}

impl Fresh {
    /// False if the time for finishing what was begun was not enough.
    fn drive(&mut self, begin: Instant) -> io::Result<bool> {
        let mut running = 0;
        for slot in 0..self.plan.parallel {
            running += usize::from(self.begin(slot, begin));
        }
        let mut ready = Vec::new();
        while running > 0 {
            let Some(left) = (self.plan.time + GRACE).checked_sub(begin.elapsed()) else {
                return Ok(false);
            };
            self.poll.wait(Some(left), &mut ready)?;
            for &(slot, _) in &ready {
                if self.turn(slot) && !self.begin(slot, begin) {
                    running -= 1;
                }
            }
        }
        Ok(self.failed == 0)
    }

    /// Dial in this slot; false if no more are wanted.
    fn begin(&mut self, slot: usize, begin: Instant) -> bool {
        while self.started < self.plan.count
            && begin.elapsed() < self.plan.time
            && self.failed < FAILURES
        {
            let address =
                u32::try_from(self.started % u64::from(self.plan.spread.max(1))).unwrap_or(0);
            self.started += 1;
            let now = Instant::now();
            let dialled = self.target.plus(address).begin().and_then(|stream| {
                self.poll.add(&stream, slot, WRITE)?;
                Ok(stream)
            });
            match dialled {
                Ok(stream) => {
                    self.attempts[slot] = Some(Attempt {
                        stream,
                        begin: now,
                        asked: false,
                        got: 0,
                    });
                    return true;
                }
                Err(error) => self.fail(error),
            }
        }
        false
    }

    /// True if this attempt is over.
    fn turn(&mut self, slot: usize) -> bool {
        match self.step(slot) {
            Ok(false) => false,
            Ok(true) => {
                if let Some(attempt) = self.attempts[slot].take()
                    && self.plan.hold
                {
                    self.held.push(attempt.stream);
                }
                true
            }
            Err(error) => {
                self.attempts[slot] = None;
                self.fail(error);
                true
            }
        }
    }

    fn step(&mut self, slot: usize) -> io::Result<bool> {
        let Some(attempt) = self.attempts[slot].as_mut() else {
            return Ok(false);
        };
        if !attempt.asked {
            // Nine bytes always fit, once the connection is there; if it failed, this says why.
            attempt.stream.write_all(&request(self.plan.size))?;
            attempt.asked = true;
            self.poll.change(&attempt.stream, slot, READ)?;
            return Ok(false);
        }
        // One read for an event: a reply that is all there is found by the next one at once.
        let Some(got) = receive(&mut attempt.stream, &mut self.scratch)? else {
            return Ok(false);
        };
        if got == 0 {
            return Err(io::Error::other(format!(
                "ended after {} bytes",
                attempt.got
            )));
        }
        if attempt.got == 0 {
            self.first.add(nanos(attempt.begin));
        }
        attempt.got += got as u64;
        if attempt.got < self.plan.size {
            return Ok(false);
        }
        self.last.add(nanos(attempt.begin));
        if self.plan.hold {
            self.poll.change(&attempt.stream, slot, 0)?;
        }
        Ok(true)
    }

    fn fail(&mut self, error: io::Error) {
        self.failed += 1;
        self.why.get_or_insert(error);
    }
}
