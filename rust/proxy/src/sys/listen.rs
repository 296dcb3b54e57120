//! Listening TCP sockets: one, or a group that shares a port with SO_REUSEPORT.
//!
//! Counterpart: `dial.rs` for the sockets we connect.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use super::accepted::AcceptedOptions;

/// How a listener is opened.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// Who else may listen on the port.
    pub reuse_port: ReusePort,
    /// IP_TRANSPARENT: `Some(true)` must succeed, `Some(false)` is never tried, `None` is tried and the result
    /// reported (spec/dataplane.md §1.3).
    pub transparent: Option<bool>,
    /// Connections the kernel holds before we accept them. Early ones wait here until the first
    /// configuration has arrived.
    pub backlog: i32,
    /// SO_MARK, so that redirection rules let the socket's own traffic through; a failure is an error.
    pub mark: Option<u32>,
    /// What accepted sockets inherit.
    pub accepted: AcceptedOptions,
}

/// Who else may listen on the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReusePort {
    /// Joins whoever listens already, another process included: the overlap of an upgrade in a pod.
    Join,
    /// Nobody may be there yet; the next ones of our group may join. Without this step SO_REUSEPORT would let
    /// two proxies of one user share a port silently, each getting half of the connections.
    First,
    /// Nobody, before or after.
    Never,
}

/// An open, non-blocking listener.
#[derive(Debug)]
pub struct Listener {
    pub socket: TcpListener,
    /// Whether IP_TRANSPARENT is on: connections from it may keep their source address when dialling on.
    pub transparent: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            reuse_port: ReusePort::Never,
            transparent: Some(false),
            backlog: BACKLOG,
            mark: None,
            accepted: AcceptedOptions::default(),
        }
    }
}

/// Opens one listener. Errors read `failed to bind to address {addr}: {err}`.
pub fn listen(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    open(address, options).map_err(|error| {
        io::Error::new(
            error.kind(),
            BindError {
                address,
                source: error,
            },
        )
    })
}

/// Opens `count` listeners on one port, one per worker: the first finds out whether somebody else holds the
/// port, the rest join it. With port 0 the kernel chooses once and all share its choice.
pub fn listen_group(
    address: SocketAddr,
    count: usize,
    options: &ListenOptions,
) -> io::Result<Vec<Listener>> {
    let first = match options.reuse_port {
        ReusePort::Join => options.clone(),
        ReusePort::First | ReusePort::Never => ListenOptions {
            reuse_port: ReusePort::First,
            ..options.clone()
        },
    };
    let joining = ListenOptions {
        reuse_port: ReusePort::Join,
        ..options.clone()
    };
    let mut group = vec![listen(address, &first)?];
    let bound = SocketAddr::new(address.ip(), group[0].socket.local_addr()?.port());
    while group.len() < count {
        group.push(listen(bound, &joining)?);
    }
    Ok(group)
}

fn open(address: SocketAddr, options: &ListenOptions) -> io::Result<Listener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        // Explicit, as net.ipv6.bindv6only may say otherwise: [::] serves IPv4 too.
        socket.set_only_v6(false)?;
    }
    // Linux still refuses the bind while somebody listens; what it lets through is our own TIME_WAIT past.
    socket.set_reuse_address(true)?;
    if let Some(mark) = options.mark {
        socket.set_mark(mark)?;
    }
    let transparent = set_transparent(&socket, options.transparent)?;
    if options.reuse_port == ReusePort::Join {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if options.reuse_port == ReusePort::First {
        // After the bind: the port was checked as if we wanted it alone, and the very same socket then opens
        // the group, so there is no gap in which another process could slip in.
        socket.set_reuse_port(true)?;
    }
    options.accepted.set_on(&socket)?;
    socket.listen(options.backlog)?;
    Ok(Listener {
        socket: socket.into(),
        transparent,
    })
}

/// The IPv4 option also on IPv6 sockets, as upstream does: the kernel keeps one flag for both.
fn set_transparent(socket: &Socket, wanted: Option<bool>) -> io::Result<bool> {
    match wanted {
        Some(false) => Ok(false),
        Some(true) => socket.set_ip_transparent_v4(true).map(|()| true),
        None => Ok(socket.set_ip_transparent_v4(true).is_ok()),
    }
}

#[derive(Debug)]
struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "failed to bind to address {}: {}",
            self.address, self.source
        )
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Upstream's in-pod backlog is 128, and a storm of connections overflows that: a SYN that finds no room is dropped in
/// silence and sent again after a second. The kernel caps the number by net.core.somaxconn, 4096 unless somebody chose
/// otherwise, so this asks for what is allowed; an entry costs memory only while a connection waits in it.
const BACKLOG: i32 = 4096;

#[cfg(test)]
mod tests;
