//! The process as the kernel sees it, read at each scrape.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::sys;

/// `process_*` under upstream's names, and our own memory.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        // What a collector says is not given the final dot of registered metrics: as in the recording.
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
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        Ok(())
    }
}
