//! What the mesh is and what it decides.
//!
//! Pure: no sockets, no clock, no environment, no randomness of its own. `proxy` asks, this crate answers.
//!
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod authorization;
pub mod decode;
pub mod identity;
pub mod service;
pub mod snapshot;
pub mod store;
pub mod workload;
