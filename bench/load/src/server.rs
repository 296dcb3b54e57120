//! The application: one thread, one epoll loop. The first byte of a connection says what it wants:
//!
//!     E            what follows comes back, until the end
//!     U            take everything until the end, answer with its length (8 bytes, big endian)
//!     D            send without end, until the other side finishes
//!     R + 8 bytes  send so many bytes; then wait for the end
//!
//! It never closes first, so that it is the client's side that keeps TIME_WAIT.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::sys::{Payload, Poll, READ, WRITE};

const LISTENER: usize = usize::MAX;
const BACKLOG: i32 = 4096;
/// A header is at most this long.
const HEADER: usize = 9;
const SCRATCH: usize = 256 * 1024;
/// What one turn of a bulk sender may take: the others wait meanwhile.
const TURN: usize = 4 * 1024 * 1024;
/// Bytes an echo may hold for a client that does not read: enough for a whole idle-memory message.
const HELD: usize = 8 * 1024 * 1024;

enum Work {
    Header(Vec<u8>),
    Echo {
        held: Vec<u8>,
        from: usize,
    },
    Sink {
        taken: u64,
    },
    /// `left` bytes to go, or no end.
    Source {
        left: Option<u64>,
    },
}

struct Connection {
    stream: TcpStream,
    work: Work,
    interest: u32,
}

pub(crate) struct Server {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    payload: Payload,
    scratch: Vec<u8>,
    nowhere: Box<[MaybeUninit<u8>]>,
}

impl Server {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM,
            Some(Protocol::TCP),
        )?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let (poll, listener) = (Poll::new()?, TcpListener::from(socket));
        poll.add(&listener, LISTENER, READ)?;
        let payload = Payload::new(1024 * 1024)?;
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            payload,
            scratch: vec![0; SCRATCH],
            nowhere: Box::new_uninit_slice(SCRATCH),
        })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Until killed.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut ready = Vec::new();
        loop {
            self.poll.wait(None, &mut ready)?;
            for &(token, _) in &ready {
                if token == LISTENER {
                    self.accept()?;
                } else {
                    self.turn(token);
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // The connection is gone already, or there are no descriptors; the others go on.
                Err(_) => return Ok(()),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let token = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.add(&stream, token, READ)?;
            let work = Work::Header(Vec::new());
            self.connections[token] = Some(Connection {
                stream,
                work,
                interest: READ,
            });
            self.turn(token);
        }
    }

    /// Do what can be done for this connection. A failed one is closed, as is one that has ended.
    fn turn(&mut self, token: usize) {
        let Some(connection) = self.connections.get_mut(token).and_then(Option::as_mut) else {
            return;
        };
        let wanted = connection.turn(&mut self.scratch, &mut self.nowhere, &self.payload);
        // Not `Ok(Some(_))`: it has ended, or failed.
        if let Ok(Some(interest)) = wanted
            && (interest == connection.interest
                || self
                    .poll
                    .change(&connection.stream, token, interest)
                    .is_ok())
        {
            connection.interest = interest;
            return;
        }
        self.connections[token] = None;
        self.free.push(token);
    }
}

impl Connection {
    /// What to wait for, or `None` when it has ended.
    fn turn(
        &mut self,
        scratch: &mut [u8],
        nowhere: &mut [MaybeUninit<u8>],
        payload: &Payload,
    ) -> io::Result<Option<u32>> {
        let next = match &mut self.work {
            Work::Header(header) => {
                let Some(got) = receive(&mut self.stream, scratch)? else {
                    return Ok(Some(READ));
                };
                if got == 0 {
                    return Ok(None);
                }
                header.extend_from_slice(&scratch[..got]);
                match start(header)? {
                    Some(work) => work,
                    None => return Ok(Some(READ)),
                }
            }
            Work::Echo { held, from } => return echo(&mut self.stream, held, from, scratch),
            Work::Sink { taken } => return sink(&mut self.stream, taken, nowhere),
            Work::Source { left } => return source(&mut self.stream, left, scratch, payload),
        };
        self.work = next;
        self.turn(scratch, nowhere, payload)
    }
}

/// The work that a header asks for, or nothing if it is not complete.
fn start(header: &[u8]) -> io::Result<Option<Work>> {
    let rest = &header[1..];
    match header[0] {
        b'E' => Ok(Some(Work::Echo {
            held: rest.to_vec(),
            from: 0,
        })),
        b'U' => Ok(Some(Work::Sink {
            taken: rest.len() as u64,
        })),
        b'D' => Ok(Some(Work::Source { left: None })),
        b'R' if header.len() < HEADER => Ok(None),
        b'R' => {
            let size = u64::from_be_bytes(rest[..8].try_into().map_err(io::Error::other)?);
            Ok(Some(Work::Source { left: Some(size) }))
        }
        other => Err(io::Error::other(format!("nobody asks for {other:#x}"))),
    }
}

fn echo(
    stream: &mut TcpStream,
    held: &mut Vec<u8>,
    from: &mut usize,
    scratch: &mut [u8],
) -> io::Result<Option<u32>> {
    loop {
        while *from < held.len() {
            match stream.write(&held[*from..]) {
                Ok(sent) => *from += sent,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Read on meanwhile, as far as we may: a client may write its whole message before it reads.
                    if held.len() - *from < HELD
                        && let Some(got) = receive(stream, scratch)?
                    {
                        if got == 0 {
                            return Ok(Some(WRITE));
                        }
                        held.extend_from_slice(&scratch[..got]);
                        continue;
                    }
                    return Ok(Some(if held.len() - *from < HELD {
                        READ | WRITE
                    } else {
                        WRITE
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        *held = Vec::new();
        *from = 0;
        // The usual way: what comes goes back at once, and is held by nobody.
        let Some(got) = receive(stream, scratch)? else {
            return Ok(Some(READ));
        };
        if got == 0 {
            return Ok(None);
        }
        let sent = match stream.write(&scratch[..got]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if sent == got && got < scratch.len() {
            return Ok(Some(READ));
        }
        held.extend_from_slice(&scratch[sent..got]);
    }
}

fn sink(
    stream: &mut TcpStream,
    taken: &mut u64,
    nowhere: &mut [MaybeUninit<u8>],
) -> io::Result<Option<u32>> {
    for _ in 0..TURN / nowhere.len() {
        match discard(stream, nowhere)? {
            None => return Ok(Some(READ)),
            Some(0) => {
                // Eight bytes always fit: nothing was sent before.
                stream.write_all(&taken.to_be_bytes())?;
                return Ok(None);
            }
            Some(got) => *taken += got as u64,
        }
    }
    Ok(Some(READ))
}

fn source(
    stream: &mut TcpStream,
    left: &mut Option<u64>,
    scratch: &mut [u8],
    payload: &Payload,
) -> io::Result<Option<u32>> {
    if receive(stream, scratch)? == Some(0) {
        return Ok(None);
    }
    let mut turn = TURN;
    while turn > 0 {
        let most = left.map_or(turn, |left| usize::try_from(left).unwrap_or(turn).min(turn));
        if most == 0 {
            return Ok(Some(READ));
        }
        match payload.send(stream, most) {
            Ok(sent) => {
                turn -= sent.min(turn);
                if let Some(left) = left {
                    *left -= sent as u64;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Some(READ | WRITE)),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(READ | WRITE))
}

/// `None` if there is nothing yet.
pub(crate) fn receive(stream: &mut TcpStream, scratch: &mut [u8]) -> io::Result<Option<usize>> {
    match stream.read(scratch) {
        Ok(got) => Ok(Some(got)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// As `receive`, but the bytes are dropped in the kernel (tcp(7), MSG_TRUNC), which looks at the length of `nowhere` only.
pub(crate) fn discard(
    stream: &TcpStream,
    nowhere: &mut [MaybeUninit<u8>],
) -> io::Result<Option<usize>> {
    match SockRef::from(stream).recv_with_flags(nowhere, libc::MSG_TRUNC) {
        Ok(got) => Ok(Some(got)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
