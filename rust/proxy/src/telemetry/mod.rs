//! What an operator sees of us: metrics, access log, operational log, readiness.
//!
//! Names, label order and line shapes are upstream's (spec/dataplane.md §14–16, spec/control.md §12–13);
//! traffic never waits for any of it.

pub mod access_log;
mod control_loop;
mod crl;
mod exposition;
mod flag;
mod labels;
pub mod log;
pub mod metrics;
mod on_demand;
mod process;
pub mod readiness;
mod recorder;
mod runtimes;
pub mod stats;
mod text;
mod time;
mod traffic;
mod xds;

pub use flag::ResponseFlag;
pub use labels::{Labels, Reporter, SecurityPolicy, ServiceLabels, SideLabels};
pub use recorder::{ConnectionMetrics, Recorder};
pub use text::Value;
pub use xds::StreamEnd;
