//! The headers of a CONNECT that mean something to us, as types (spec/dataplane.md §3.3 and §6).
//!
//! Text in, values out, and back; nothing here decides anything. Every parser is total: what a peer writes ends
//! in a value or in a refusal, never in a panic, and never costs more memory than the header itself.

mod authority;
mod baggage;
mod forwarded;
mod network;
mod traceparent;

pub use authority::{Authority, AuthorityError};
pub use baggage::{Baggage, BaggageError, WorkloadType};
pub use forwarded::Forwarded;
pub use network::ForwardedNetwork;
pub use traceparent::TraceParent;

/// Name of the header that [`Baggage`] is the value of.
pub const BAGGAGE: &str = "baggage";
/// Name of the header that [`Forwarded`] writes and reads.
pub const FORWARDED: &str = "forwarded";
/// Name of the header that [`TraceParent`] is the value of.
pub const TRACEPARENT: &str = "traceparent";
/// Name of the header that [`ForwardedNetwork`] reads, by which a gateway tells its own network (spec/dataplane.md §6.5).
pub const X_FORWARDED_NETWORK: &str = "x-forwarded-network";
