//! What all workers of a data plane read: settings, the mesh, certificates, counters.
//!
//! Readers take an `Arc` and go; the only writer is `data_plane.rs`.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use mesh::route::workload_or_miss;
use mesh::snapshot::MeshSnapshot;
use mesh::workload::Workload;
use tokio::sync::watch;

use crate::control::{Events, Phase};
use crate::demand::{Asker, Demand};
use crate::dns::{self, Resolver};
use crate::error::Error;
use crate::relay::Means;
use crate::settings::Settings;
use crate::sys;
use crate::telemetry::access_log::{Denied, Direction};
use crate::telemetry::log::Logger;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::readiness::{Heartbeats, Readiness};
use crate::tls::CredentialStore;
use crate::tunnel::Timeouts;

/// Ports that belong to ztunnels wherever they are (spec/dataplane.md §1).
const ILLEGAL_PORTS: [u16; 3] = [15001, 15006, 15008];

/// Where a data plane listens, for traffic and for its operators: no tunnel leads to either (spec/reliability.md T21).
#[derive(Debug)]
pub(crate) struct OwnAddresses {
    addresses: Vec<SocketAddr>,
    ports: Vec<u16>,
    /// Without those for operators.
    traffic: Vec<u16>,
}

impl OwnAddresses {
    pub(crate) fn new(traffic: &[SocketAddr], operators: &[SocketAddr]) -> Self {
        let addresses = [traffic, operators].concat();
        Self {
            ports: with_illegal(&addresses),
            traffic: with_illegal(traffic),
            addresses,
        }
    }

    fn includes(&self, address: &SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.addresses.iter().any(|own| {
            own.port() == address.port() && (own.ip() == ip || own.ip().is_unspecified())
        })
    }
}

fn with_illegal(addresses: &[SocketAddr]) -> Vec<u16> {
    let mut ports = ILLEGAL_PORTS.to_vec();
    ports.extend(addresses.iter().map(SocketAddr::port));
    ports.sort_unstable();
    ports.dedup();
    ports
}

pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) mesh: ArcSwap<MeshSnapshot>,
    /// Moves with every change of the mesh.
    pub(crate) mesh_version: watch::Sender<u64>,
    /// Moves with every change that may take a permission away.
    pub(crate) policy_version: watch::Sender<u64>,
    /// Moves with every list of revoked certificates.
    pub(crate) revocation_version: watch::Sender<u64>,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) credentials: CredentialStore,
    /// If the mesh is learned on demand.
    pub(crate) demand: Option<Demand>,
    pub(crate) events: Events,
    pub(crate) log: Logger,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) heartbeats: Heartbeats,
    pub(crate) readiness: Arc<Readiness>,
    /// Where this data plane listens; known once it is bound.
    pub(crate) own: OnceLock<OwnAddresses>,
    /// Connections that a drain's deadline cut.
    pub(crate) cut: AtomicUsize,
}

impl Shared {
    pub(crate) fn snapshot(&self) -> Arc<MeshSnapshot> {
        self.mesh.load_full()
    }

    pub(crate) fn local_workload(&self) -> Option<Arc<Workload>> {
        let info = &self.settings.workload;
        self.mesh
            .load()
            .local_workload(&info.name, &info.namespace, &info.service_account)
            .cloned()
    }

    /// Who a client is, by its address: for labels and logs, never for policy. One that is not known is asked for and not
    /// waited for; those that it opens later are labelled.
    pub(crate) fn peer_workload<'m>(
        &self,
        mesh: &'m MeshSnapshot,
        address: IpAddr,
    ) -> Option<&'m Arc<Workload>> {
        let network = &self.settings.network;
        let Some(demand) = &self.demand else {
            return mesh.workload_by_address(network, address);
        };
        workload_or_miss(mesh, network, address)
            .inspect_err(|missed| {
                if let Some(missed) = missed {
                    demand.wish(self, missed, Asker::Peer);
                }
            })
            .ok()
    }

    /// Whether an application here asks for one of our own ports (spec/dataplane.md §2.1 step 4). Elsewhere they are
    /// other ztunnels', whose inbound side refuses them.
    pub(crate) fn is_self_call(&self, destination: &SocketAddr) -> bool {
        let own = |own: &OwnAddresses| own.includes(destination);
        destination.ip().to_canonical().is_loopback()
            && (ILLEGAL_PORTS.contains(&destination.port()) || self.own.get().is_some_and(own))
    }

    /// Ports that no tunnel may lead to: it would come back to us.
    pub(crate) fn reserved_ports(&self) -> &[u16] {
        self.own.get().map_or(&ILLEGAL_PORTS, |own| &own.ports)
    }

    /// Ports from which traffic would come back to us. Those for operators are open to whoever reaches the node, and
    /// capture must not close them.
    pub(crate) fn traffic_ports(&self) -> &[u16] {
        self.own.get().map_or(&ILLEGAL_PORTS, |own| &own.traffic)
    }

    pub(crate) fn keepalive(&self) -> Option<sys::Keepalive> {
        self.settings.keepalive.of_sockets()
    }

    /// A worker's own.
    pub(crate) fn resolver(&self) -> Resolver {
        let settings = &self.settings;
        Resolver::new(dns::Settings {
            config: settings.resolver.config.clone(),
            servers: settings.resolver.servers.clone(),
            ipv6: settings.ipv6,
            deadline: settings.deadlines.resolve,
        })
    }

    /// How plain connections move their bytes.
    pub(crate) fn means(&self) -> Means {
        if self.settings.splice {
            Means::Splice
        } else {
            Means::Copy
        }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        let deadlines = &self.settings.deadlines;
        Timeouts {
            handshake: deadlines.handshake,
            preface: deadlines.preface,
            headers: deadlines.headers,
            ping_interval: deadlines.ping_interval,
            ping_timeout: deadlines.ping_timeout,
        }
    }

    pub(crate) fn client_engine(&self) -> hbone::Config {
        let assumed = u32::try_from(self.settings.pool.max_streams).unwrap_or(u32::MAX);
        self.engine(hbone::Config {
            assumed_peer_streams: assumed,
            ..hbone::Config::client()
        })
    }

    pub(crate) fn server_engine(&self) -> hbone::Config {
        self.engine(hbone::Config::server())
    }

    fn engine(&self, base: hbone::Config) -> hbone::Config {
        let http2 = &self.settings.http2;
        hbone::Config {
            stream_window: http2.stream_window,
            stream_window_max: http2.stream_window_max,
            connection_window: http2.connection_window,
            max_frame_size: http2.frame_size,
            ..base
        }
    }

    /// Logs a connection that ended before it could be called one.
    pub(crate) fn deny_early(
        &self,
        direction: Direction,
        source: SocketAddr,
        destination: Option<SocketAddr>,
        error: &Error,
    ) {
        let denied = Denied {
            source,
            destination,
            direction,
            error: &error.to_string(),
            ending: error.ending(),
        };
        self.log.access_denied(error.reason, &denied);
    }
}
