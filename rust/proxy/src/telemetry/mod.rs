//! What an operator sees of us: access log, operational log.
//!
//! Line shapes are upstream's (spec/dataplane.md §15, spec/control.md §13); traffic never waits for any of it.

pub mod access_log;
pub mod log;
mod text;
mod time;

pub use text::Value;
