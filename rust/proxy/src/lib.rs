//! Moving bytes: the only crate with sockets, threads, TLS and `unsafe`.
//!
//! `mesh` decides, `hbone` speaks, this crate moves; `bindings` introduces it to Python.
#![deny(unsafe_code)]

pub mod capture;
pub mod sys;
pub mod telemetry;
pub mod tls;
