//! One thread, one runtime, its own connections for life.
//!
//! Nothing that a connection needs while it runs is shared with another thread but what is read-only
//! (`Shared::snapshot`, certificates) or a counter. `data_plane.rs` starts workers and tells them to end.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mesh::identity::Identity;
use mesh::route::Target;
use mesh::workload::Workload;
use tokio::sync::{Mutex, mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, yield_now};
use tokio::time::{sleep, timeout};

use crate::capture::WayIn;
use crate::capture::listener::accept;
use crate::connections::{ConnectionTable, Cut, Guarded, Inquiry};
use crate::control::{Event, Phase};
use crate::data_plane::component::{Component, Share};
use crate::dns::Resolver;
use crate::doors::Doors;
use crate::error::{Error, Side, Stage};
use crate::pairs::{Pairs, labels_of};
use crate::random::Random;
use crate::relay::spent::SpentSockets;
use crate::shared::Shared;
use crate::tasks::{spawn_holding, spawn_local};
use crate::telemetry::Recorder;
use crate::telemetry::log::Level;
use crate::tls::WorkloadCertificate;
use crate::tunnel::client::Dialer;
use crate::tunnel::held;
use crate::tunnel::pool::TunnelPool;
use crate::tunnel::revocation;
use crate::tunnel::set::TunnelSet;
use crate::turns::Turns;
use crate::{inbound, outbound, passthrough, sys, tasks};

/// How often a worker says that it is alive (the readiness check allows 5 s).
const HEARTBEAT: Duration = Duration::from_millis(500);
/// What tunnels get to say goodbye in after everything was cut.
const FAREWELL: Duration = Duration::from_secs(2);

/// Flights of handshakes worked on before the worker looks at its sockets again. One is 100 us and more, the look 1 us.
const HANDSHAKES: usize = 1;

/// How much longer than a client a server keeps a tunnel without streams.
const SERVER_PATIENCE: Duration = Duration::from_secs(30);

/// What a listener's connections are for.
#[derive(Clone)]
pub(crate) enum Purpose {
    Inbound { transparent: bool },
    InboundPlaintext { transparent: bool },
    Outbound(WayIn),
}

/// A bound socket of this worker.
pub(crate) struct Listening {
    pub(crate) socket: TcpListener,
    pub(crate) name: String,
    pub(crate) purpose: Purpose,
    pub(crate) component: Arc<Component>,
}

/// What the tasks of one thread share.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Rc<TunnelPool>,
    /// For what is not pooled.
    pub(crate) dialer: Rc<Dialer>,
    pub(crate) tunnels: Rc<TunnelSet>,
    pub(crate) connections: Rc<ConnectionTable>,
    pub(crate) pairs: Pairs,
    pub(crate) recorder: Rc<Recorder>,
    pub(crate) spent: Rc<SpentSockets>,
    pub(crate) random: Random,
    resolver: Rc<Resolver>,
    pub(crate) doors: Rc<Doors>,
    /// For what peers send during a handshake, on either side.
    pub(crate) handshakes: Rc<Turns>,
    tasks: RefCell<Vec<JoinHandle<()>>>,
}

/// Runs a worker on the current thread until the data plane ends.
pub(crate) fn run(
    id: usize,
    shared: Arc<Shared>,
    listeners: Vec<Listening>,
    inquiries: mpsc::Receiver<Inquiry>,
) -> std::io::Result<()> {
    sys::block_sigpipe()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tasks::count_panics(shared.metrics.panics());
    let _shown = shared
        .metrics
        .runtime(id, runtime.metrics(), tasks::alive());
    let local = LocalSet::new();
    let worker = Rc::new(Worker::new(shared));
    local.block_on(&runtime, worker.live(id, listeners, inquiries))?;
    // Tasks that are left hold sockets; dropping them here, before the runtime, closes these.
    drop(local);
    Ok(())
}

impl Worker {
    fn new(shared: Arc<Shared>) -> Self {
        let tunnels = Rc::new(TunnelSet::default());
        let handshakes = Turns::new(HANDSHAKES);
        let dialer = Rc::new(Dialer {
            engine: shared.client_engine(),
            timeouts: shared.timeouts(),
            connect: shared.settings.deadlines.dial,
            keepalive: shared.keepalive(),
            mark: shared.settings.packet_mark,
            tunnels: tunnels.clone(),
            metrics: shared.metrics.clone(),
            handshakes: handshakes.clone(),
        });
        let pool = &shared.settings.pool;
        let recorder = Rc::new(shared.metrics.recorder());
        Self {
            pairs: Pairs::new(recorder.clone(), shared.log.clone()),
            recorder,
            pool: Rc::new(TunnelPool::new(dialer.clone(), pool.max_streams, pool.idle)),
            dialer,
            tunnels,
            connections: Rc::default(),
            spent: Rc::default(),
            random: Random::new(),
            resolver: Rc::new(shared.resolver()),
            doors: Rc::default(),
            handshakes,
            tasks: RefCell::default(),
            shared,
        }
    }

    async fn live(
        self: Rc<Self>,
        id: usize,
        listeners: Vec<Listening>,
        inquiries: mpsc::Receiver<Inquiry>,
    ) -> std::io::Result<()> {
        let mut phase = self.shared.phase.subscribe();
        self.keep("heartbeat", move |worker| worker.beat(id));
        self.keep("policies", Self::watch_policies);
        self.keep("revocations", |worker| {
            revocation::watch(worker.shared.clone(), worker.tunnels.clone())
        });
        self.keep("pool", Self::sweep_pool);
        let inquiries = Rc::new(Mutex::new(inquiries));
        self.keep("inquiries", move |worker| {
            worker.answer(id, inquiries.clone())
        });
        let mut accepting = Vec::new();
        for listening in listeners {
            let listener = Rc::new(tokio::net::TcpListener::from_std(listening.socket)?);
            let component = Rc::new(Share::new(listening.component));
            accepting.push((listener, listening.name, listening.purpose, component));
        }
        if reached(&mut phase, Phase::Running).await < Phase::Draining {
            let begin = |(listener, name, purpose, component): (Rc<_>, String, Purpose, Rc<_>)| {
                let listen = move |worker: Rc<Self>| {
                    let (listener, component) = (Rc::clone(&listener), Rc::clone(&component));
                    worker.listen(listener, name.clone(), purpose.clone(), component)
                };
                self.begin("listener", listen)
            };
            let tasks: Vec<_> = accepting.into_iter().map(begin).collect();
            reached(&mut phase, Phase::Draining).await;
            // Dropping the tasks closes the listeners: nobody connects to a node that is leaving.
            for task in tasks {
                task.abort();
                let _ = task.await;
            }
        }
        self.drain(&mut phase).await;
        for task in self.tasks.take() {
            task.abort();
        }
        Ok(())
    }

    /// Lets running connections finish until the deadline, then cuts them.
    async fn drain(&self, phase: &mut watch::Receiver<Phase>) {
        self.tunnels.close_when_idle();
        let finished = async {
            loop {
                self.connections.emptied().await;
                // Those that were made since: a connection that was being opened when the drain began dials its own.
                self.tunnels.close_all_when_idle();
                self.tunnels.emptied().await;
                if self.connections.len() == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = finished => return,
            _ = reached(phase, Phase::Forced) => {}
        }
        let left = self.connections.len();
        if left > 0 {
            self.shared.cut.fetch_add(left, Ordering::Relaxed);
            let text = format!("drain deadline reached; connections cut: {left}");
            self.shared.log.warn("drain", &text, &[]);
        }
        self.connections.cut_all(Cut::Drained);
        // First the streams' resets, then the tunnels under them.
        let _ = timeout(FAREWELL, self.connections.emptied()).await;
        self.tunnels.abort();
        let _ = timeout(FAREWELL, self.tunnels.emptied()).await;
    }

    async fn listen(
        self: Rc<Self>,
        listener: Rc<tokio::net::TcpListener>,
        name: String,
        purpose: Purpose,
        component: Rc<Share>,
    ) {
        match purpose {
            Purpose::Inbound { transparent } => {
                accept(&listener, &name, &self.shared, |socket, peer| {
                    let serving = inbound::serve(self.clone(), socket, peer, transparent);
                    spawn_holding(component.clone(), serving);
                })
                .await;
            }
            Purpose::InboundPlaintext { transparent } => {
                accept(&listener, &name, &self.shared, |socket, client| {
                    let serving = passthrough::serve(self.clone(), socket, client, transparent);
                    spawn_holding(component.clone(), serving);
                })
                .await;
            }
            Purpose::Outbound(way) => {
                let way = Rc::new(way);
                accept(&listener, &name, &self.shared, |socket, peer| {
                    let serving = outbound::serve(self.clone(), socket, peer, way.clone());
                    spawn_holding(component.clone(), serving);
                })
                .await;
            }
        }
    }

    /// The workload that this node stands for.
    ///
    /// # Errors
    /// Nobody has told us about it within the deadline.
    pub(crate) async fn local_workload(&self) -> Result<Arc<Workload>, Error> {
        if let Some(workload) = self.shared.local_workload() {
            return Ok(workload);
        }
        let mut version = self.shared.mesh_version.subscribe();
        let found = async {
            loop {
                version.mark_unchanged();
                if let Some(workload) = self.shared.local_workload() {
                    return workload;
                }
                if version.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(self.shared.settings.deadlines.workload, found)
            .await
            .map_err(|_| {
                let info = &self.shared.settings.workload;
                let text = format!(
                    "failed to fetch information about local workload: {}.{} ({})",
                    info.service_account, info.namespace, info.name
                );
                Error::new(Stage::Lookup, Side::Local, "unknown_workload", text)
            })
    }

    /// The certificate of one of our identities; asks for it if it is not there.
    ///
    /// # Errors
    /// It did not come within the deadline.
    pub(crate) async fn certificate(
        &self,
        identity: &Identity,
    ) -> Result<Arc<WorkloadCertificate>, Error> {
        if let Some(certificate) = self.shared.credentials.get(identity) {
            return Ok(certificate);
        }
        self.shared.events.report(Event::CredentialWanted {
            identity: identity.clone(),
            now: true,
        });
        let limit = self.shared.settings.deadlines.credential;
        self.shared
            .credentials
            .wait_for(identity, limit)
            .await
            .map_err(|none| {
                let text = format!("identity error: {none}");
                Error::new(Stage::Identity, Side::Local, "no_certificate_of_ours", text)
            })
    }

    /// Addresses of a destination that has nothing but a name; `None` if nobody could tell.
    pub(crate) async fn resolve(&self, source: &Workload, hostname: &str) -> Option<Vec<IpAddr>> {
        let shared = &self.shared;
        let source = labels_of(source, "");
        shared.metrics.resolved_on_demand(&source, hostname);
        match self.resolver.resolve(hostname).await {
            Ok(addresses) => Some(addresses),
            Err(error) => {
                let log = &shared.log;
                let text = error.to_string();
                log.repeating(Level::Warn, "resolve", "proxy::dns", &text, &[]);
                None
            }
        }
    }

    /// Refuses what would come straight back to us.
    pub(crate) fn refuse_self_call(&self, target: &Target) -> Result<(), Error> {
        match target {
            Target::Address(address) if self.shared.is_self_call(address) => Err(self_call()),
            Target::Address(_) | Target::Host { .. } => Ok(()),
        }
    }

    /// Refuses plain connections that were meant for a port of ours: passed on, they would come in again.
    pub(crate) fn refuse_own_port(&self, destination: &SocketAddr) -> Result<(), Error> {
        if self.shared.traffic_ports().contains(&destination.port()) {
            return Err(self_call());
        }
        Ok(())
    }

    /// Begins a service that ends with the worker.
    fn keep<F>(self: &Rc<Self>, name: &'static str, service: impl Fn(Rc<Self>) -> F + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let task = self.begin(name, service);
        self.tasks.borrow_mut().push(task);
    }

    /// Begins a service: something that the worker's connections count on, and that begins again if it panics.
    fn begin<F>(
        self: &Rc<Self>,
        name: &'static str,
        service: impl Fn(Rc<Self>) -> F + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output = ()> + 'static,
    {
        let (worker, log) = (self.clone(), self.shared.clone());
        spawn_local(tasks::persist(
            move || service(worker.clone()),
            move || {
                let text = format!(
                    "{name}: begins again after a panic, a mistake of ours; please report it"
                );
                log.log
                    .repeating(Level::Error, "panic", "proxy::worker", &text, &[]);
            },
        ))
    }

    async fn beat(self: Rc<Self>, id: usize) {
        loop {
            self.shared.heartbeats.beat(id);
            if held::is_over_a_burst() {
                sys::return_free_memory();
            }
            sleep(HEARTBEAT).await;
        }
    }

    async fn watch_policies(self: Rc<Self>) {
        let mut version = self.shared.policy_version.subscribe();
        // After a panic: what it had not come to by then is still to be asked about.
        version.mark_changed();
        while version.changed().await.is_ok() {
            let mut next = Some(0);
            while let Some(start) = next {
                // The newest each time: a change that came meanwhile is heard of at once where it can be, and by
                // everybody in the next round.
                let (ended, behind) = self.connections.recheck(&self.shared.snapshot(), start);
                next = behind;
                // They end now, and everybody else has a turn; words come after deeds.
                yield_now().await;
                self.tell_ended(&ended);
            }
        }
    }

    fn tell_ended(&self, ended: &[Guarded]) {
        let (log, target) = (&self.shared.log, "proxy::connection_manager");
        if !log.enabled(Level::Info, target) {
            return;
        }
        for guarded in ended {
            let text = format!(
                "connection {guarded} closed because it's no longer allowed after a policy update"
            );
            log.info(target, &text, &[]);
        }
    }

    /// Tells operators of our connections.
    async fn answer(self: Rc<Self>, id: usize, inquiries: Rc<Mutex<mpsc::Receiver<Inquiry>>>) {
        let mut inquiries = inquiries.lock().await;
        while let Some(inquiry) = inquiries.recv().await {
            let census = self.connections.census(inquiry.most).await;
            // Failing means that nobody waits any more.
            let _ = inquiry.answer.try_send((id, census));
        }
    }

    async fn sweep_pool(self: Rc<Self>) {
        loop {
            sleep(self.pool.sweep_interval()).await;
            self.pool.sweep();
            // A little later than a client of ours would do it itself.
            let idle = self.shared.settings.pool.idle + SERVER_PATIENCE;
            self.tunnels.close_idle(idle);
        }
    }
}

fn self_call() -> Error {
    Error::new(
        Stage::Lookup,
        Side::Downstream,
        "self_call",
        "attempted recursive call to ourselves",
    )
}

/// Waits until the data plane has come at least as far as `wanted`, and says how far it is.
async fn reached(phase: &mut watch::Receiver<Phase>, wanted: Phase) -> Phase {
    match phase.wait_for(|phase| *phase >= wanted).await {
        Ok(phase) => *phase,
        // Whoever steers us is gone.
        Err(_) => Phase::Forced,
    }
}
