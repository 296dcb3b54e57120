//! The data plane as its owner sees it: start, apply, install, drain, stop.
//!
//! Owns the worker threads and is the only writer of what they read. Plain Rust, callable from any thread;
//! `bindings` puts it before Python. What it is taught of the mesh is in `learning.rs`, what it shows in `shown.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mesh::identity::Identity;
use mesh::store::MeshStore;
use tokio::sync::watch;

use crate::connections::Inquiries;
use crate::control::{Event, Events, Phase};
use crate::demand::Demand;
use crate::settings::{LogFormat, LogTemplate, Settings, SettingsError};
use crate::shared::Shared;
use crate::sys;
use crate::telemetry::log::{self, Filter, Logger, Losses};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Heartbeats, Readiness};
use crate::tls::{self, CredentialStore, CrlError, RevocationList, WorkloadCertificate};

pub(crate) mod component;
mod learning;
mod opened;
mod shown;
mod threads;

use learning::Learned;
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

/// What log lines get to be written in at the end (spec/control.md §13).
const LAST_LINES: Duration = Duration::from_secs(1);

/// A running data plane.
pub struct DataPlane {
    shared: Arc<Shared>,
    mesh: Mutex<Learned>,
    threads: Mutex<Threads>,
    inquiries: Inquiries,
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
            // The control side may have done it and said so.
            Ok(sys::DescriptorLimit { before, after }) if before == after => {}
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
            let mut opened = Opened::open(&self.shared)?;
            threads.bound = opened.bound.clone();
            // Set once: only the first start comes here.
            let _ = self
                .shared
                .own
                .set(opened.own_addresses(operators, self.shared.settings.operator_tunnels));
            let listening = std::mem::take(&mut opened.listening);
            threads.start(&self.shared, opened, &self.inquiries)?;
            self.tell_started(&listening, operators);
        }
        Ok(threads.bound.clone())
    }

    /// Upstream's lines of a start, for operators who know them (spec/control.md §13).
    fn tell_started(&self, listening: &[Established], admin: &[SocketAddr]) {
        let log = &self.shared.log;
        log.info("app", "proxy mode enabled", &[]);
        let admin = admin.iter().map(|address| Established::admin(*address));
        let (traffic, operators): (Vec<_>, _) = listening
            .iter()
            .partition(|each| each.transparent.is_some());
        for each in traffic {
            each.tell(log);
        }
        self.shared.readiness.complete_and_tell(PROXY, log);
        log.info("app", "no dns proxy created", &[]);
        admin.for_each(|each| each.tell(log));
        for each in operators {
            each.tell(log);
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
            threads.tell_overdue();
            self.advance(Phase::Forced);
            threads.await_workers(AFTER_FORCE);
        }
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
