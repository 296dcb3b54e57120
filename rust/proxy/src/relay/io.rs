//! Reads and writes that tell the runtime when there is no more to come, without asking the kernel a second time.
//!
//! A read that fills less than its buffer has emptied the socket, a write that is cut short has filled it: the next call
//! could only say EAGAIN. Not for waiting: callers wait for readiness, then come here.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::ops::Range;

use socket2::{SockRef, Socket};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads of fewer bytes prove nothing. TCP's urgent mark (tcp(7)) also ends a read, with more bytes behind it that no
/// event would announce; who still uses it, as FTP's ABOR does, has a few bytes before the mark.
const PROOF: usize = 64;

/// Reads what is there, at most a buffer full; 0 is the end. After less than that the socket counts as empty.
///
/// An end that is already known stays known: the runtime keeps it apart from readiness.
pub(crate) fn read_available(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let proof = proof_of_empty(buffer.len());
    attempt(socket, Interest::READABLE, proof, |mut socket| {
        socket.read(buffer)
    })
}

/// The same for the socket of a tunnel: nobody sets an urgent mark there, so any short read has emptied it.
pub(crate) fn read_records(socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let proof = 1..buffer.len();
    attempt(socket, Interest::READABLE, proof, |mut socket| {
        socket.read(buffer)
    })
}

/// Writes what fits now. After less than everything the socket counts as full.
pub(crate) fn write_available(socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let proof = 1..bytes.len();
    attempt(socket, Interest::WRITABLE, proof, |socket| {
        // A peer that is gone is an error, not a signal that could end the process.
        socket.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    })
}

/// [`read_available`] into several buffers, in their order.
pub(crate) fn read_vectored(
    socket: &TcpStream,
    buffers: &mut [IoSliceMut<'_>],
) -> io::Result<usize> {
    if let [buffer] = buffers {
        return read_available(socket, buffer);
    }
    let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
    attempt(
        socket,
        Interest::READABLE,
        proof_of_empty(wanted),
        |mut socket| socket.read_vectored(buffers),
    )
}

/// [`write_available`] out of several buffers, in their order.
pub(crate) fn write_vectored(socket: &TcpStream, buffers: &[IoSlice<'_>]) -> io::Result<usize> {
    if let [buffer] = buffers {
        return write_available(socket, buffer);
    }
    let wanted = buffers.iter().map(|buffer| buffer.len()).sum();
    attempt(socket, Interest::WRITABLE, 1..wanted, |socket| {
        socket.send_vectored_with_flags(buffers, libc::MSG_NOSIGNAL)
    })
}

/// Results of a read of up to `wanted` bytes by which a socket is known to be empty.
pub(crate) fn proof_of_empty(wanted: usize) -> Range<usize> {
    PROOF..wanted
}

/// One system call that moves bytes; a number of them within `proof` says that the socket is not ready any more.
///
/// For calls that [`read_available`] and [`write_available`] do not know, such as vectored ones. Writes want
/// MSG_NOSIGNAL: with socket2's plain ones a peer that is gone could end the process.
pub(crate) fn attempt(
    socket: &TcpStream,
    interest: Interest,
    proof: Range<usize>,
    call: impl FnOnce(&Socket) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = 0;
    let tried = socket.try_io(interest, || {
        moved = call(&SockRef::from(socket))?;
        if proof.contains(&moved) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    });
    match tried {
        Err(error) if moved == 0 => Err(error),
        Err(_) | Ok(()) => Ok(moved),
    }
}

#[cfg(test)]
mod tests;
