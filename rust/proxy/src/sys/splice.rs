//! Bytes from one socket to another without coming up here: splice(2) through a pipe.
//!
//! Who gets a pipe, and when that pays, is `relay`'s business; readiness of the sockets too.
#![allow(
    unsafe_code,
    reason = "pipe2, splice and F_SETPIPE_SZ have no safe form in std or socket2"
)]

use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, RawFd};
use std::ptr;

use super::process::touches_reserve;

/// A pipe that never blocks, and how much is in it.
///
/// Filled only while empty: then "nothing to read" can only be said of the socket, never of a full pipe.
#[derive(Debug)]
pub struct Pipe {
    out: File,
    into: File,
    capacity: usize,
    held: usize,
}

impl Pipe {
    /// Opens one for `wanted` bytes, or for as much of that as this user may have (pipe(7): `pipe-max-size`,
    /// `pipe-user-pages-soft`).
    ///
    /// # Errors
    /// No descriptors left but those that are kept back for others.
    pub fn open(wanted: usize) -> io::Result<Self> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: the pointer is to the two ints that pipe2 writes.
        let result = unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let out = unsafe { File::from_raw_fd(ends[0]) };
        // SAFETY: the same for the other end.
        let into = unsafe { File::from_raw_fd(ends[1]) };
        if touches_reserve(&into) || touches_reserve(&out) {
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        let mut capacity = size(&into)?;
        let halves = std::iter::successors(Some(wanted), |size| Some(size / 2));
        for size in halves.take_while(|size| *size > capacity) {
            if let Ok(size) = resize(&into, size) {
                capacity = size;
                break;
            }
        }
        Ok(Self {
            out,
            into,
            capacity,
            held: 0,
        })
    }

    /// Takes what `socket` has, up to the capacity; 0 is its end. The pipe must be empty.
    ///
    /// # Errors
    /// The socket's own, and what [`is_unsupported`] knows.
    pub fn fill(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        debug_assert_eq!(self.held, 0, "EAGAIN would have two meanings");
        let moved = splice(socket, &self.into, self.capacity)?;
        self.held += moved;
        Ok(moved)
    }

    /// Gives `socket` what it takes of the content.
    ///
    /// # Errors
    /// The socket's own, and what [`is_unsupported`] knows.
    pub fn drain(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        // Not more than there is: the kernel would hold the end of it back for what it thinks is still to come.
        let moved = splice(&self.out, socket, self.held)?;
        self.held -= moved.min(self.held);
        Ok(moved)
    }

    /// Empties the pipe into memory, for a socket that does not take from pipes.
    pub fn read_all(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        self.out.read_exact(&mut bytes)?;
        self.held = 0;
        Ok(bytes)
    }

    /// Bytes inside.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// The most bytes that it takes at once.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Whether these sockets, this kernel or its sandbox have no splice, or no memory for it: nothing was moved, and reading
/// and writing may still work.
#[must_use]
pub fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP | libc::ENOMEM)
    )
}

/// Keeps SIGPIPE from this thread for good: a splice to a socket that is gone raises it, and there is no flag against
/// that. A program that hosts us may have its own idea of what the signal should do.
///
/// # Errors
/// None that the manual knows.
pub fn block_sigpipe() -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that the pointer is to.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set has been initialised, and SIGPIPE is a signal.
    unsafe { libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE) };
    // SAFETY: the set is initialised and lives through the call; nobody wants the old one.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
    if error == 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(error))
    }
}

fn splice(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    let (from, to) = (from.as_fd().as_raw_fd(), to.as_fd().as_raw_fd());
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    // SAFETY: no offsets are passed (neither end has one), and the borrows keep both descriptors open.
    let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

fn resize(pipe: &File, wanted: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(wanted).unwrap_or(libc::c_int::MAX);
    // SAFETY: the request takes an int, and the borrow keeps the descriptor open.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, wanted) };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

fn size(pipe: &File) -> io::Result<usize> {
    // SAFETY: the request takes nothing, and the borrow keeps the descriptor open.
    let size = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_GETPIPE_SZ) };
    usize::try_from(size).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests;
