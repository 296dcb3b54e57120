//! What a data plane shows to its operators: metrics, dumps, live connections, the log's filter, heartbeats.
//!
//! Changes no traffic. How they are reached is the control side's affair, or that of the statistics thread.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{DataPlane, TARGET};
use crate::dump::{Dump, DumpError};
use crate::telemetry::Value;
use crate::telemetry::log::{FilterError, Level};

impl DataPlane {
    /// All metrics as OpenMetrics text.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.shared.metrics.encode()
    }

    /// The control side's event loop has turned, so much later than it wanted to, and will again in `period`.
    pub fn control_loop_turned(&self, late: Duration, period: Duration) {
        self.shared.metrics.control_loop_turned(late, period);
    }

    /// One part of what is known, as JSON; `None` for a part that does not exist.
    #[must_use]
    pub fn dump(&self, section: &str) -> Option<Vec<u8>> {
        let snapshot = self.shared.snapshot();
        if section == "certificates" {
            return Some(
                serde_json::Value::from(self.certificates())
                    .to_string()
                    .into_bytes(),
            );
        }
        snapshot.dump(section)
    }

    /// Every live connection, as JSON: `{"workloads": {uid: {"inbound": […], "outbound": […]}}, "leftOff": 0,
    /// "silentWorkers": []}`, where an entry has `src`, `originalDst` (or null), `actualDst` and `protocol`. Blocks for a
    /// second at most, and stops no worker.
    #[must_use]
    pub fn connections(&self) -> Vec<u8> {
        self.inquiries.connections()
    }

    /// The whole configuration dump of this moment (spec/control.md §11), to be read piece by piece. `given` are the
    /// control side's sections, as JSON. Blocks as [`Self::connections`] does.
    ///
    /// # Errors
    /// A given section that is not JSON; no thread to write with.
    pub fn open_dump(&self, given: BTreeMap<String, Vec<u8>>) -> Result<Dump, DumpError> {
        let (mut live, silent) = self.inquiries.census();
        if silent > 0 || live.left_off() > 0 {
            let fields = [
                ("left_off", Value::Number(live.left_off() as u64)),
                ("silent_workers", Value::Number(silent as u64)),
            ];
            let text = "a configuration dump does not show all connections";
            self.shared
                .log
                .repeating(Level::Warn, "dump", TARGET, text, &fields);
        }
        if let Some(workload) = self.shared.local_workload() {
            live.include(&workload.uid);
        }
        Dump::start(self.shared.snapshot(), live, given)
    }

    fn certificates(&self) -> Vec<serde_json::Value> {
        let credentials = &self.shared.credentials;
        credentials
            .identities()
            .iter()
            .filter_map(|identity| credentials.get(identity))
            .filter_map(|certificate| serde_json::to_value(certificate.dump()).ok())
            .collect()
    }

    /// Which lines the log writes, as `/logging` shows it: `hickory_server::server=off,access=debug,info`.
    #[must_use]
    pub fn log_filter(&self) -> String {
        self.shared.log.filter().to_string()
    }

    /// Exchanges the log's filter as a whole.
    ///
    /// # Errors
    /// A directive that is none, named; then nothing has changed.
    pub fn set_log_filter(&self, directives: &str) -> Result<(), FilterError> {
        self.shared.log.set_filter(directives.parse()?);
        self.tell_log_filter();
        Ok(())
    }

    /// Lays directives over the log's filter, or over the one of the start after a `reset`, in one step: what
    /// `POST /logging?level=…&reset` asks for (spec/control.md §10.1). Gives the filter now in force.
    ///
    /// # Errors
    /// A directive that is none, named; then nothing has changed.
    pub fn change_log_filter(
        &self,
        reset: bool,
        directives: Option<&str>,
    ) -> Result<String, FilterError> {
        let filter = self.shared.log.change_filter(reset, directives)?;
        self.tell_log_filter();
        Ok(filter.to_string())
    }

    fn tell_log_filter(&self) {
        let text = format!("new log filter is {}", self.log_filter());
        self.shared.log.info("telemetry", &text, &[]);
    }

    /// Seconds since each worker last said that it is alive.
    #[must_use]
    pub fn heartbeats(&self) -> Vec<f64> {
        self.shared
            .heartbeats
            .ages()
            .iter()
            .map(Duration::as_secs_f64)
            .collect()
    }
}
