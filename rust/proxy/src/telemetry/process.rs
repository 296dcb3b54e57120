//! The process as the kernel sees it, read at each scrape.

use std::io;

use super::exposition::{Exposition, Kind};
use crate::sys;

/// `process_*`, under upstream's names.
pub(super) fn show(text: &mut Exposition) {
    // What is read at the scrape is not given the final dot of counted metrics: as in the recording.
    gauge(
        text,
        "process_open_fds",
        "Number of open file descriptors",
        sys::open_fds(),
    );
    gauge(
        text,
        "process_max_fds",
        "Maximum number of file descriptors",
        sys::max_fds(),
    );
}

/// What upstream does not tell.
pub(super) fn show_ours(text: &mut Exposition) {
    gauge(
        text,
        "ztunnel_resident_memory_bytes",
        "Resident memory of the process (unstable)",
        sys::resident_memory(),
    );
}

/// Not shown if the kernel does not say.
fn gauge(text: &mut Exposition, name: &str, help: &str, value: io::Result<u64>) {
    if let Ok(value) = value {
        text.family(name, help, Kind::Gauge);
        text.sample(name, &[], i64::try_from(value).unwrap_or(i64::MAX));
    }
}
