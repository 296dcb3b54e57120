//! The process as the kernel sees it, read at each scrape.

use super::exposition::{Exposition, Kind};
use crate::sys;

/// `process_*` under upstream's names, and our own memory.
pub(super) fn show(text: &mut Exposition) {
    // What is read at the scrape is not given the final dot of counted metrics: as in the recording.
    let gauges: [(&str, &str, std::io::Result<u64>); 3] = [
        (
            "process_open_fds",
            "Number of open file descriptors",
            sys::open_fds(),
        ),
        (
            "process_max_fds",
            "Maximum number of file descriptors",
            sys::max_fds(),
        ),
        (
            "ztunnel_resident_memory_bytes",
            "Resident memory of the process (unstable)",
            sys::resident_memory(),
        ),
    ];
    for (name, help, value) in gauges {
        let Ok(value) = value else { continue };
        text.family(name, help, Kind::Gauge);
        text.sample(name, &[], i64::try_from(value).unwrap_or(i64::MAX));
    }
}
