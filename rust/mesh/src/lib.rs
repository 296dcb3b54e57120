//! What the mesh is and what it decides.
//!
//! Pure: no sockets, no clock, no environment, no randomness of its own. `proxy` asks, this crate answers.
//!
//! | question | answered by |
//! |---|---|
//! | what did istiod answer, and what is held | [`delta::Response`], [`delta::Ledger`] |
//! | what is there | [`store::MeshStore`] learns it, [`snapshot::MeshSnapshot`] is what readers hold |
//! | where does this connection go | [`route::route`], [`route::inbound`] |
//! | may it pass | [`authorize::authorize`] |
//! | why | [`explain`] |
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod address;
pub mod authorization;
pub mod authorize;
mod balance;
pub mod decode;
pub mod delta;
pub mod explain;
mod hash;
pub mod identity;
pub mod route;
pub mod service;
pub mod snapshot;
pub mod sorted;
pub mod store;
#[cfg(test)]
mod testing;
pub mod workload;
