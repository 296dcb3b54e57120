//! The data plane as its owner sees it: start, apply, install, drain, stop.
//!
//! Owns the worker threads and is the only writer of what they read. Plain Rust, callable from any thread;
//! `bindings` puts it before Python.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh::decode::{Rejection, Resource, TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION};
use mesh::delta::Response;
use mesh::identity::Identity;
use mesh::store::{Applied, MeshStore};
use mesh::workload::Workload;
use tokio::sync::watch;

use crate::connections::Inquiries;
use crate::control::{Event, Events, Phase};
use crate::demand::Demand;
use crate::dump::{Dump, DumpError};
use crate::settings::{LogFormat, LogTemplate, Settings, SettingsError};
use crate::shared::Shared;
use crate::sys;
use crate::telemetry::StreamEnd;
use crate::telemetry::Value;
use crate::telemetry::log::{self, Filter, FilterError, Level, Logger, Losses};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Heartbeats, Readiness};
use crate::tls::{self, CredentialStore, CrlError, RevocationList, WorkloadCertificate};

mod opened;
mod threads;

use opened::{Established, Opened};
use threads::Threads;

/// What forced workers get on top of the farewells they give their tunnels, before they are given up.
const AFTER_FORCE: Duration = Duration::from_secs(6);

/// What readiness waits for beside the workers: the first configuration, and the listeners.
const SYNC: &str = "state manager";
const PROXY: &str = "proxy";
/// What makes a node that is leaving not ready.
const DRAIN: &str = "drain";
const TARGET: &str = "ztunnel";
const XDS: &str = "xds::client";

/// What log lines get to be written in at the end (spec/control.md §13).
const LAST_LINES: Duration = Duration::from_secs(1);

/// A running data plane.
pub struct DataPlane {
    shared: Arc<Shared>,
    mesh: Mutex<Learned>,
    threads: Mutex<Threads>,
    inquiries: Inquiries,
}

/// What the control side has told.
struct Learned {
    store: MeshStore,
    /// Uids of workloads that this node stood for at some time: live connections are guarded by these and no others. A
    /// node stands for a handful in its life.
    ours: BTreeSet<Arc<str>>,
}

/// Why a data plane could not start or do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A socket could not be opened, a thread not started.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl DataPlane {
    /// Prepares one; nothing listens before [`Self::start`].
    ///
    /// # Errors
    /// The log cannot be opened, or a setting cannot be used.
    pub fn new(settings: Settings) -> Result<Self, StartError> {
        sys::settle_allocator();
        let losses = Arc::new(Losses::default());
        let log = open_log(&settings, losses.clone())?;
        match sys::raise_nofile_limit() {
            Ok(sys::DescriptorLimit { before, after }) => {
                let text = format!("set file descriptor limits from {before} to {after}");
                log.info(TARGET, &text, &[]);
            }
            Err(error) => {
                let text = format!("cannot raise the file descriptor limit: {error}");
                log.warn(TARGET, &text, &[]);
            }
        }
        let records = tls::choose_records(&settings.tls, Instant::now)
            .map_err(|error| SettingsError(format!("tls.aead: {error}")))?;
        log.info(TARGET, &format!("tls records: {}", records.why), &[]);
        let store = MeshStore::new();
        let heartbeats = Heartbeats::new(settings.workers);
        let shared = Arc::new(Shared {
            mesh: ArcSwap::new(store.snapshot()),
            mesh_version: watch::Sender::new(0),
            policy_version: watch::Sender::new(0),
            revocation_version: watch::Sender::new(0),
            phase: watch::Sender::new(Phase::Waiting),
            demand: (settings.on_demand).then(|| Demand::new(settings.deadlines.demand)),
            credentials: CredentialStore::new(records.plan).with_groups(settings.tls.groups),
            events: Events::new()?,
            metrics: Arc::new(Metrics::new(
                settings.tag.as_deref().unwrap_or(env!("CARGO_PKG_VERSION")),
                losses,
            )),
            readiness: Arc::new(Readiness::new([SYNC, PROXY], heartbeats.clone())),
            heartbeats,
            own: OnceLock::new(),
            cut: AtomicUsize::new(0),
            settings,
            log,
        });
        Ok(Self {
            shared,
            mesh: Mutex::new(Learned {
                store,
                ours: BTreeSet::new(),
            }),
            threads: Mutex::default(),
            inquiries: Inquiries::default(),
        })
    }

    /// Binds every listener, so that a conflict is known before anything runs, then starts the threads. Gives the
    /// bound addresses by listener name. Traffic waits in the kernel until [`Self::mark_synced`]. Starting twice
    /// changes nothing.
    ///
    /// # Errors
    /// An address that cannot be bound, a thread that cannot be had.
    pub fn start(&self) -> Result<BTreeMap<String, SocketAddr>, StartError> {
        self.start_beside(&[])
    }

    /// The same, where the control side listens on `operators` already: no tunnel leads there either.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_beside(
        &self,
        operators: &[SocketAddr],
    ) -> Result<BTreeMap<String, SocketAddr>, StartError> {
        let mut threads = lock(&self.threads);
        if threads.ended.is_none() {
            let mut opened = Opened::open(&self.shared.settings)?;
            threads.bound = opened.bound.clone();
            // Set once: only the first start comes here.
            let _ = self
                .shared
                .own
                .set(opened.own_addresses(operators, self.shared.settings.operator_tunnels));
            let listening = std::mem::take(&mut opened.listening);
            threads.start(&self.shared, opened, &self.inquiries)?;
            self.tell_started(&listening);
        }
        Ok(threads.bound.clone())
    }

    /// Upstream's lines of a start, for operators who know them (spec/control.md §13).
    fn tell_started(&self, listening: &[Established]) {
        let log = &self.shared.log;
        log.info("app", "proxy mode enabled", &[]);
        let (traffic, operators): (Vec<_>, _) = listening
            .iter()
            .partition(|each| each.transparent.is_some());
        for each in traffic {
            each.tell(log);
        }
        self.shared.readiness.complete_and_tell(PROXY, log);
        for each in operators {
            each.tell(log);
        }
    }

    /// Applies configuration: what is new or changed, then removals. What cannot be used comes back with the reason and
    /// changes nothing.
    pub fn apply(&self, resources: &[Resource<'_>], removed: &[(&str, &str)]) -> Vec<Rejection> {
        let rejections = self.learn(|store| store.apply(resources, removed));
        self.settle(|_| Vec::new());
        rejections
    }

    /// Applies an answer of delta ADS in one step: its resources, then what it says is gone, then `also_removed`. An answer
    /// of a type that we never ask for is counted, told of and otherwise taken as it is (spec/control.md §4.5).
    pub fn apply_delta<B: AsRef<[u8]>>(
        &self,
        response: &Response<B>,
        also_removed: &[&str],
    ) -> Vec<Rejection> {
        let type_url = response.type_url();
        let metrics = &self.shared.metrics;
        metrics.xds_answered(type_url, response.payload());
        if ![TYPE_ISTIO_ADDRESS, TYPE_ISTIO_AUTHORIZATION].contains(&type_url) {
            let url = [("type_url", Value::Text(type_url))];
            let text = "an answer of an unknown type changes nothing";
            self.shared.log.error(XDS, text, &url);
            return Vec::new();
        }
        let (resources, mut rejections) = response.batch();
        let gone = response.removed().chain(also_removed.iter().copied());
        let gone: Vec<_> = gone.map(|name| (type_url, name)).collect();
        rejections.extend(self.learn(|store| store.apply(&resources, &gone)));
        // Rejected ones too have been answered: there is nothing more to come.
        self.settle(|asked| response.answers(asked));
        rejections
    }

    /// Nobody has what [`Event::ResourceWanted`] asked for: connections that wait for it go on without it.
    pub fn not_there(&self, name: &str) {
        self.settle(|asked| asked.iter().copied().filter(|key| *key == name).collect());
    }

    /// Lets go whoever waits for what is known now, and for what `answers` picks out of the keys that are not.
    fn settle(&self, answers: impl for<'k> FnOnce(&[&'k str]) -> Vec<&'k str>) {
        if let Some(demand) = &self.shared.demand {
            demand.settle(&self.shared.mesh.load(), answers);
        }
    }

    /// A stream to the control plane ended.
    pub fn count_xds_end(&self, end: StreamEnd) {
        self.shared.metrics.xds_ended(end);
    }

    /// Takes a batch, shows it to the workers, and follows up what is different.
    fn learn(&self, batch: impl FnOnce(&mut MeshStore) -> Applied) -> Vec<Rejection> {
        let mut learned = lock(&self.mesh);
        let before = self.shared.local_workload();
        let applied = batch(&mut learned.store);
        if applied.changes.is_empty() {
            return applied.rejections;
        }
        self.shared.mesh.store(learned.store.snapshot());
        let after = self.shared.local_workload();
        learned
            .ours
            .extend(after.iter().map(|w| Arc::clone(&w.uid)));
        // A pod that comes or goes elsewhere changes no permission here: it must not have every connection asked about.
        let mesh = self.shared.snapshot();
        let concerned = applied.changes.concern_policy_of(&mesh, &learned.ours);
        drop(learned);
        self.shared
            .mesh_version
            .send_modify(|version| *version += 1);
        if concerned {
            self.shared
                .policy_version
                .send_modify(|version| *version += 1);
        }
        let identity = |workload: Option<Arc<Workload>>| workload.map(|w| w.identity());
        let (before, after) = (identity(before), identity(after));
        if before != after {
            self.report_identities(before, after);
        }
        applied.rejections
    }

    fn report_identities(&self, before: Option<Identity>, after: Option<Identity>) {
        if let Some(identity) = before {
            self.shared.events.report(Event::CredentialIdle(identity));
        }
        if let Some(identity) = after {
            let now = false;
            self.shared
                .events
                .report(Event::CredentialWanted { identity, now });
        }
    }

    /// The first complete configuration has been applied: traffic may be served.
    pub fn mark_synced(&self) {
        self.shared.phase.send_if_modified(|phase| {
            let waiting = *phase == Phase::Waiting;
            if waiting {
                *phase = Phase::Running;
            }
            waiting
        });
        self.shared
            .readiness
            .complete_and_tell(SYNC, &self.shared.log);
    }

    /// Takes a certificate into use: new handshakes show it, running tunnels go on.
    pub fn install(&self, certificate: WorkloadCertificate) {
        for warning in certificate.warnings() {
            self.shared.log.warn(TARGET, warning, &[]);
        }
        self.shared.credentials.install(certificate);
    }

    /// Nobody signs for this identity now: connections that need its certificate are told so, and do not wait.
    pub fn fail(&self, identity: &Identity, why: &str) {
        self.shared.credentials.fail(identity, why);
    }

    /// Forgets the certificate of an identity.
    pub fn forget(&self, identity: &Identity) {
        self.shared.credentials.forget(identity);
    }

    /// Takes a list of revoked certificates into use (any number of CRLs in PEM, or one in DER; empty: none): refuses
    /// those who are on it, and ends their tunnels. Gives how many serial numbers it has.
    ///
    /// # Errors
    /// What is no such list; the last good one stays.
    pub fn revoke(&self, crl: &[u8]) -> Result<usize, CrlError> {
        let list = RevocationList::read(crl).inspect_err(|_| self.shared.metrics.crl_unusable())?;
        let serials = list.serials();
        self.shared.credentials.revocations().replace(list);
        // Behind the list: whoever hears of it finds it.
        self.shared
            .revocation_version
            .send_modify(|version| *version += 1);
        Ok(serials)
    }

    /// Readable when [`Self::take_events`] has something to give.
    #[must_use]
    pub fn event_descriptor(&self) -> i32 {
        self.shared.events.descriptor()
    }

    /// What happened since the last call.
    #[must_use]
    pub fn take_events(&self) -> Vec<Event> {
        self.shared.events.take()
    }

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

    /// Stops accepting, lets connections finish until the deadline, then cuts them. Blocks; says whether every
    /// connection ended by itself.
    pub fn drain(&self, deadline: Duration) -> bool {
        // Before the listeners close: a load balancer shall know no later than a refused client.
        self.shared.readiness.require(DRAIN);
        self.advance(Phase::Draining);
        let mut threads = lock(&self.threads);
        // Upstream's too are refused from now on, and answer what they were asked (spec/control.md §14).
        if let Some(stats) = &threads.stats {
            stats.stop.send_replace(true);
        }
        if !threads.await_workers(deadline) {
            let text = "drain duration expired with pending connections, forcefully shutting down";
            self.shared.log.warn("drain", text, &[]);
            self.advance(Phase::Forced);
            threads.await_workers(AFTER_FORCE);
        }
        self.shared.log.info("drain", "shutdown complete", &[]);
        self.shared.cut.load(Ordering::Relaxed) == 0
    }

    /// Ends everything now. Stopping twice changes nothing.
    pub fn stop(&self) {
        self.shared.readiness.require(DRAIN);
        self.advance(Phase::Forced);
        let mut threads = lock(&self.threads);
        threads.await_workers(AFTER_FORCE);
        threads.stats = None;
        // A worker that did not end in time is left behind rather than waited for: the process is leaving.
        for thread in threads.workers.drain(..).filter(JoinHandle::is_finished) {
            let _ = thread.join();
        }
        let _ = self.shared.log.flush(LAST_LINES);
    }

    fn advance(&self, to: Phase) {
        self.shared.phase.send_if_modified(|phase| {
            let forward = *phase < to;
            if forward {
                *phase = to;
            }
            forward
        });
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open_log(settings: &Settings, losses: Arc<Losses>) -> Result<Logger, StartError> {
    let mut filter = settings.log_level.clone();
    if settings.access_log.format == LogFormat::Off {
        filter.push_str(",access=off");
    }
    let filter =
        Filter::startup(&filter).map_err(|error| SettingsError(format!("logLevel: {error}")))?;
    let output = match &settings.access_log.path {
        Some(path) => log::Output::File(path.clone()),
        None => log::Output::Stdout,
    };
    let format = match settings.access_log.format {
        LogFormat::Json => log::Format::Json,
        LogFormat::Off | LogFormat::Plain => log::Format::Plain,
    };
    let access = settings
        .access_log
        .template
        .map(|LogTemplate::Envoy| log::Format::Envoy);
    let settings = log::Settings {
        format,
        access,
        output,
        filter,
    };
    Ok(Logger::start(settings, losses)?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panic left behind is still a whole value: both are changed by single assignments.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
