//! One direction of a plain relay, step by step: take what one socket has, give the other what it takes.
//!
//! Small things are copied through the worker's scratch; what has shown itself to be a bulk transfer goes through a
//! pipe inside the kernel. Bytes are counted where the receiving socket takes them, either way. Waiting, turns and the
//! meaning of ends are `copy.rs`'s.

use std::io;

use tokio::io::Interest;
use tokio::net::TcpStream;

use super::Means;
use super::io::{read_available, write_available};
use super::pipes::{self, Lent};
use crate::connection::Flow;
use crate::scratch;
use crate::sys::is_unsupported;

/// Bytes of a direction that are copied before a pipe is thought of: most connections end before. Transfers of 256 KiB
/// and more gain when it is this low, and nothing is gained below it.
const FIRST: u64 = 64 * 1024;
/// What one read must bring to be called bulk, and the first splice after a wait to remain so: below it, the two calls
/// that a splice takes more than a copy cost what the copying does.
const BULK: usize = 32 * 1024;

/// One direction, with what was taken and not yet given.
pub(super) struct Carrier<'c> {
    from: &'c TcpStream,
    to: &'c TcpStream,
    flow: &'c Flow,
    load: Load,
    /// Bytes taken so far.
    taken: u64,
    pace: Pace,
}

/// What was taken from one socket and not yet given to the other.
enum Load {
    None,
    Memory(Vec<u8>),
    Pipe(Lent),
}

/// How the next bytes are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// Copied for good: it was wished, or these sockets know no splice.
    Copy,
    /// Copied, until there are many at once.
    Small,
    /// Spliced. `fresh`: the source was empty just now, so the next splice shows what a wake-up brings.
    Bulk { fresh: bool },
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    End,
    Nothing,
    Some,
}

/// Which socket failed.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    Write(io::Error),
}

impl<'c> Carrier<'c> {
    pub(super) fn new(
        from: &'c TcpStream,
        to: &'c TcpStream,
        flow: &'c Flow,
        means: Means,
    ) -> Self {
        Self {
            from,
            to,
            flow,
            load: Load::None,
            taken: 0,
            pace: match means {
                Means::Copy => Pace::Copy,
                Means::Splice => Pace::Small,
            },
        }
    }

    /// Whether something waits for the receiving socket; nothing more is taken before it is gone.
    pub(super) fn is_loaded(&self) -> bool {
        !matches!(self.load, Load::None)
    }

    /// Whether the next step may move much.
    pub(super) fn is_bulk(&self) -> bool {
        matches!(self.pace, Pace::Bulk { .. })
    }

    /// Takes once and gives what fits.
    pub(super) fn carry(&mut self) -> Result<Taken, Fault> {
        if let Pace::Bulk { fresh } = self.pace
            && let Some(pipe) = pipes::lend()
        {
            return self.splice(pipe, fresh);
        }
        self.copy()
    }

    /// Gives what fits of what is left.
    pub(super) fn unload(&mut self) -> Result<(), Fault> {
        loop {
            let given = match &mut self.load {
                Load::None => return Ok(()),
                Load::Memory(rest) => write_available(self.to, rest).inspect(|&n| {
                    rest.drain(..n);
                }),
                Load::Pipe(pipe) => self.to.try_io(Interest::WRITABLE, || pipe.drain(self.to)),
            };
            match given {
                Ok(given) => self.flow.add(given),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_unsupported(&error) => self.unpipe(error)?,
                Err(error) => return Err(Fault::Write(error)),
            }
            let left = match &self.load {
                Load::None => 0,
                Load::Memory(rest) => rest.len(),
                Load::Pipe(pipe) => pipe.held(),
            };
            if left == 0 {
                self.load = Load::None;
            }
        }
    }

    fn copy(&mut self) -> Result<Taken, Fault> {
        let (read, full) = match scratch::with(|buffer| self.pass(buffer)) {
            Ok(passed) => passed,
            Err(Fault::Read(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Pace::Bulk { fresh } = &mut self.pace {
                    *fresh = true;
                }
                return Ok(Taken::Nothing);
            }
            Err(fault) => return Err(fault),
        };
        if read == 0 {
            return Ok(Taken::End);
        }
        self.taken += read as u64;
        if self.pace == Pace::Small && read >= BULK && self.taken >= FIRST {
            self.pace = Pace::Bulk { fresh: !full };
        }
        Ok(Taken::Some)
    }

    /// Reads once and writes what fits; the remainder is kept. Says how much was read, and whether the buffer was full.
    fn pass(&mut self, buffer: &mut [u8]) -> Result<(usize, bool), Fault> {
        let read = read_available(self.from, buffer).map_err(Fault::Read)?;
        let bytes = &buffer[..read];
        if read == 0 {
            return Ok((0, false));
        }
        let written = match write_available(self.to, bytes) {
            Ok(n) => n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(Fault::Write(error)),
        };
        self.flow.add(written);
        if written < read {
            self.load = Load::Memory(bytes[written..].to_vec());
        }
        Ok((read, read == buffer.len()))
    }

    fn splice(&mut self, mut pipe: Lent, fresh: bool) -> Result<Taken, Fault> {
        // Not inside the runtime's `try_io`: an EAGAIN here clears nothing yet, the copy behind it does.
        match pipe.fill(self.from) {
            Ok(0) => Ok(Taken::End),
            Ok(taken) => {
                self.taken += taken as u64;
                self.pace = if fresh && taken < BULK {
                    Pace::Small
                } else {
                    Pace::Bulk { fresh: false }
                };
                self.load = Load::Pipe(pipe);
                self.unload()?;
                Ok(Taken::Some)
            }
            // Nearly always it is empty. But a splice also stops before TCP's urgent byte, which only a read gets past.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.copy(),
            Err(error) if is_unsupported(&error) => {
                self.pace = Pace::Copy;
                self.copy()
            }
            Err(error) => Err(Fault::Read(error)),
        }
    }

    /// The receiving socket does not take from pipes: what is in one goes on in memory.
    fn unpipe(&mut self, error: io::Error) -> Result<(), Fault> {
        let Load::Pipe(pipe) = &mut self.load else {
            return Err(Fault::Write(error));
        };
        let rest = pipe.read_all().map_err(Fault::Write)?;
        self.load = Load::Memory(rest);
        self.pace = Pace::Copy;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
