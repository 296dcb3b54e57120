//! The sockets of a data plane before anything runs: opened all or none, and told of once they serve.
//!
//! What listens where is `settings`' business, what is done with a connection is the worker's. Counterpart: `threads.rs`.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Weak};

use mesh::route::Target;

use super::StartError;
use super::component::Component;
use crate::capture::WayIn;
use crate::settings::SettingsError;
use crate::shared::{OwnAddresses, Shared};
use crate::sys::{self, AcceptedOptions, ListenOptions, ReusePort};
use crate::telemetry::Value;
use crate::telemetry::log::Logger;
use crate::telemetry::stats;
use crate::worker::{Listening, Purpose};

/// Names of the listeners that carry no traffic.
const ADMIN: &str = "admin";
const METRICS: &str = "metrics";
const READINESS: &str = "readiness";

/// What has been bound, by worker.
pub(super) struct Opened {
    pub(super) listeners: Vec<Vec<Listening>>,
    pub(super) bound: BTreeMap<String, SocketAddr>,
    pub(super) stats: stats::Listeners,
    /// In the order in which they were opened.
    pub(super) listening: Vec<Established>,
    /// Held by whoever serves them.
    pub(super) components: Vec<Weak<Component>>,
}

/// A listener as its log line tells of it.
pub(super) struct Established {
    name: String,
    address: SocketAddr,
    /// Those that carry traffic only.
    pub(super) transparent: Option<bool>,
}

impl Established {
    /// The control side's own port.
    pub(super) fn admin(address: SocketAddr) -> Self {
        Self {
            name: ADMIN.into(),
            address,
            transparent: None,
        }
    }

    pub(super) fn tell(&self, log: &Logger) {
        // Module and component as upstream calls them.
        let (target, component) = match self.name.as_str() {
            "inbound" => ("proxy::inbound", "inbound"),
            "inboundPlaintext" => ("proxy::inbound_passthrough", "inbound plaintext"),
            "outbound" => ("proxy::outbound", "outbound"),
            "socks5" => ("proxy::socks5", "socks5"),
            ADMIN => ("hyper_util", ADMIN),
            METRICS => ("hyper_util", "stats"),
            READINESS => ("hyper_util", "readiness"),
            forward => ("proxy::forward", forward),
        };
        let fields = [
            ("address", Value::Address(self.address)),
            ("component", Value::Text(component)),
            (
                "transparent",
                self.transparent.map_or(Value::Absent, Value::Flag),
            ),
        ];
        log.info(target, "listener established", &fields);
    }
}

impl Opened {
    pub(super) fn open(shared: &Shared) -> Result<Self, StartError> {
        let settings = &shared.settings;
        let mut opened = Self {
            listeners: (0..settings.workers).map(|_| Vec::new()).collect(),
            bound: BTreeMap::new(),
            stats: stats::Listeners::default(),
            listening: Vec::new(),
            components: Vec::new(),
        };
        let listeners = &settings.listeners;
        let source = settings.original_source;
        let keepalive = settings.keepalive.of_sockets();
        let tunnels = AcceptedOptions {
            keepalive: keepalive.clone(),
            abort_on_close: false,
        };
        // Until both sides are complete an application's connection ends with a RST, even if this process is killed.
        let applications = AcceptedOptions {
            keepalive,
            abort_on_close: true,
        };
        if let Some(address) = listeners.inbound {
            let purpose = |transparent| Purpose::Inbound { transparent };
            opened.group(shared, "inbound", address, source, &tunnels, purpose)?;
        }
        if let Some(address) = listeners.inbound_plaintext {
            let purpose = |transparent| Purpose::InboundPlaintext { transparent };
            opened.group(
                shared,
                "inboundPlaintext",
                address,
                source,
                &applications,
                purpose,
            )?;
        }
        if let Some(address) = listeners.outbound {
            let purpose = |transparent| Purpose::Outbound(WayIn::Captured { transparent });
            opened.group(shared, "outbound", address, source, &applications, purpose)?;
        }
        if let Some(address) = listeners.socks5 {
            let way = |_| Purpose::Outbound(WayIn::Socks);
            opened.group(shared, "socks5", address, Some(false), &applications, way)?;
        }
        for (index, forward) in listeners.forwards.iter().enumerate() {
            let target = Target::parse(&forward.target).ok_or_else(|| {
                SettingsError(format!(
                    "listeners.forwards[{index}].target: need `ip:port` or `hostname:port`: {}",
                    forward.target
                ))
            })?;
            let way = |_| Purpose::Outbound(WayIn::Forward(target.clone()));
            let name = format!("forwards[{index}]");
            opened.group(
                shared,
                &name,
                forward.listen,
                Some(false),
                &applications,
                way,
            )?;
        }
        opened.stats.metrics = opened.single(METRICS, listeners.metrics)?;
        opened.stats.readiness = opened.single(READINESS, listeners.readiness)?;
        Ok(opened)
    }

    /// `operator_tunnels`: peers may ask for metrics and readiness through a tunnel, as upstream lets them.
    pub(super) fn own_addresses(
        &self,
        operators: &[SocketAddr],
        operator_tunnels: bool,
    ) -> OwnAddresses {
        let (mut traffic, mut operators) = (Vec::new(), operators.to_vec());
        for (name, address) in &self.bound {
            if [METRICS, READINESS].contains(&name.as_str()) {
                if !operator_tunnels {
                    operators.push(*address);
                }
            } else {
                traffic.push(*address);
            }
        }
        OwnAddresses::new(&traffic, &operators)
    }

    /// One listener per worker on the same port.
    fn group(
        &mut self,
        shared: &Shared,
        name: &str,
        address: SocketAddr,
        transparent: Option<bool>,
        accepted: &AcceptedOptions,
        purpose: impl Fn(bool) -> Purpose,
    ) -> Result<(), StartError> {
        let options = ListenOptions {
            reuse_port: ReusePort::First,
            transparent,
            accepted: accepted.clone(),
            ..ListenOptions::default()
        };
        let group = sys::listen_group(address, self.listeners.len(), &options)?;
        let component = Component::of_listener(name, shared);
        self.components.push(Arc::downgrade(&component));
        for (worker, listener) in group.into_iter().enumerate() {
            let bound = listener.socket.local_addr()?;
            if worker == 0 {
                self.bound.insert(name.into(), bound);
                self.listening.push(Established {
                    name: name.into(),
                    address: bound,
                    transparent: Some(listener.transparent),
                });
            }
            self.listeners[worker].push(Listening {
                purpose: purpose(listener.transparent),
                socket: listener.socket,
                name: name.into(),
                component: component.clone(),
            });
        }
        Ok(())
    }

    fn single(
        &mut self,
        name: &str,
        address: Option<SocketAddr>,
    ) -> Result<Option<TcpListener>, StartError> {
        let Some(address) = address else {
            return Ok(None);
        };
        let listener = sys::listen(address, &ListenOptions::default())?;
        let bound = listener.socket.local_addr()?;
        self.bound.insert(name.into(), bound);
        self.listening.push(Established {
            name: name.into(),
            address: bound,
            transparent: None,
        });
        Ok(Some(listener.socket))
    }
}
