//! Connections that have said something and then say nothing, until our input ends.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::client::{GRACE, Target, is_pending, timed_out};
use crate::server::receive;
use crate::sys::{Poll, READ, WRITE};

struct Quiet {
    stream: TcpStream,
    sent: u64,
    got: u64,
    done: bool,
}

/// Open so many, `parallel` at a time; each sends `size` bytes and gets them back.
pub(crate) fn open(
    target: Target,
    count: usize,
    parallel: usize,
    size: u64,
) -> io::Result<(Vec<TcpStream>, Value)> {
    let begin = Instant::now();
    let mut open = Vec::new();
    while open.len() < count {
        open.extend(batch(target, parallel.min(count - open.len()), size)?);
    }
    let told =
        json!({ "count": open.len(), "size": size, "seconds": begin.elapsed().as_secs_f64() });
    Ok((open, told))
}

fn batch(target: Target, count: usize, size: u64) -> io::Result<Vec<TcpStream>> {
    let (mut poll, mut quiet) = (Poll::new()?, Vec::new());
    let (message, mut scratch) = (vec![0x5a; 64 * 1024], vec![0; 64 * 1024]);
    for token in 0..count {
        let mut stream = target.connect()?;
        stream.write_all(b"E")?;
        stream.set_nonblocking(true)?;
        poll.add(&stream, token, READ | WRITE)?;
        quiet.push(Quiet {
            stream,
            sent: 0,
            got: 0,
            done: false,
        });
    }
    let (begin, mut left, mut ready) = (Instant::now(), count, Vec::new());
    while left > 0 {
        let Some(wait) = GRACE.checked_sub(begin.elapsed()) else {
            return Err(timed_out("idle"));
        };
        poll.wait(Some(wait), &mut ready)?;
        for &(token, _) in &ready {
            let one = &mut quiet[token];
            one.turn(&message, &mut scratch, size)?;
            if one.sent == size {
                poll.change(&one.stream, token, if one.got == size { 0 } else { READ })?;
            }
            if one.got == size && !one.done {
                one.done = true;
                left -= 1;
            }
        }
    }
    Ok(quiet.into_iter().map(|one| one.stream).collect())
}

impl Quiet {
    fn turn(&mut self, message: &[u8], scratch: &mut [u8], size: u64) -> io::Result<()> {
        if self.sent < size {
            let most = usize::try_from(size - self.sent)
                .unwrap_or(usize::MAX)
                .min(message.len());
            match self.stream.write(&message[..most]) {
                Ok(sent) => self.sent += sent as u64,
                Err(error) if is_pending(&error) => {}
                Err(error) => return Err(error),
            }
        }
        match receive(&mut self.stream, scratch)? {
            Some(0) if self.got < size => Err(io::Error::other(
                "the far end ended before it gave back what it got",
            )),
            got => {
                self.got += got.unwrap_or(0) as u64;
                Ok(())
            }
        }
    }
}

/// Until whoever started us closes our input.
pub(crate) fn wait() -> io::Result<()> {
    io::stdin().read_to_end(&mut Vec::new()).map(|_| ())
}
