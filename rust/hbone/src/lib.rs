//! The tunnel language: HTTP/2 CONNECT as a sans-io state machine.
//!
//! Bytes in, events out. Never opens a socket, never looks at a clock; `proxy::tunnel` does both for it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
