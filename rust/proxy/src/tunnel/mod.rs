//! One HTTP/2 connection with a peer, on a TLS session, on a socket.
//!
//! `hbone` knows the protocol and `tls` the records; this room owns the socket, the deadlines and the wake-ups.
//! A tunnel lives and dies on one worker thread, so its state is shared by `Rc`, not by locks.

pub(crate) mod client;
mod driver;
pub(crate) mod first_flight;
pub(crate) mod held;
mod incoming;
mod link;
pub(crate) mod nested;
mod outgoing;
pub(crate) mod pool;
mod request;
pub(crate) mod revocation;
pub(crate) mod server;
pub(crate) mod set;
mod sharing;
mod slot;
mod state;
pub(crate) mod stream;

pub(crate) use driver::Timeouts;
pub(crate) use nested::BehindGateway;
pub(crate) use state::{Request, TunnelEnd};
pub(crate) use stream::{StreamEnd, TunnelStream};

#[cfg(test)]
pub(crate) mod tests;
