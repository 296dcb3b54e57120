//! Moving bytes: the only crate with sockets, threads, TLS and `unsafe`.
//!
//! `mesh` decides, `hbone` speaks, this crate moves; `bindings` introduces it to Python.
//!
//! | Journey | Files |
//! |---|---|
//! | an application's connection goes out | `capture` → `outbound` → `tunnel` → `relay` |
//! | a peer's request comes in | `tunnel` → `inbound` → `deliver` → `relay` |
//! | a plain connection comes in | `capture` → `passthrough` → `deliver` → `relay` |
//! | a destination is not known yet | `demand` → [`control`] → [`data_plane`] |
//! | somebody steers | [`data_plane`] → `worker`, in the words of [`control`] |
//! | an operator looks | `connection` → `pairs` → [`telemetry`] |
#![deny(unsafe_code)]

pub mod capture;
mod connection;
mod connections;
pub mod control;
pub mod data_plane;
mod deliver;
mod demand;
mod dns;
mod doors;
pub mod dump;
mod error;
mod inbound;
mod outbound;
mod pairs;
mod passthrough;
mod policy;
pub mod profile;
pub mod proxy_header;
mod random;
mod recent;
mod relay;
mod scratch;
pub mod settings;
mod shared;
pub mod sys;
mod tasks;
pub mod telemetry;
pub mod tls;
mod tunnel;
mod turns;
mod worker;

pub use data_plane::DataPlane;
