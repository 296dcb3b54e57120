//! The tunnel language: HTTP/2 CONNECT as a sans-io state machine.
//!
//! Bytes in, events out. Never opens a socket, never looks at a clock; `proxy::tunnel` does both for it.
//! Start reading at [`Connection`]; [`Config`] and [`Limits`] say what a peer may do.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod connect;
mod connection;
mod error;
mod flow;
mod frame;
pub mod headers;
pub mod hpack;
mod limits;
mod pace;
mod stream;

pub use connect::{Fields, RequestHead, ResponseHead};
pub use connection::{Config, Connection, Event, Received, Role, Side};
pub use error::{Error, ErrorCode, Fault, OpenError, Reason, UseError};
pub use limits::{Flood, Limits};
pub use stream::{StreamId, StreamMap};
