//! The production matcher without a data plane: what would happen to a connection, and why.
//!
//! JSON in, JSON out: facts are written by people and tools, and an answer is for reading.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use mesh::authorize::ConnectionFacts;
use mesh::explain::{
    InboundExplanation, explain_authorize, explain_inbound, explain_plaintext, explain_route,
};
use mesh::identity::Identity;
use mesh::route::{InboundFacts, RouteFacts, Target};
use mesh::snapshot::MeshSnapshot;
use mesh::store::MeshStore;
use mesh::workload::Workload;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::data_plane::Resource;
use crate::errors;

/// The port on which peers accept HBONE unless the facts say otherwise.
const HBONE_PORT: u16 = 15008;

/// The ports of a data plane, which no request may reach unless the facts name others (spec/dataplane.md §1).
const RESERVED_PORTS: [u16; 3] = [15001, 15006, HBONE_PORT];

/// The mesh as it would be after applying some resources.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct Mesh(Arc<MeshSnapshot>);

/// What is asked. `source` and `workload` are uids; `target` and `authority` are `ip:port` or `hostname:port`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Facts {
    /// Who opens the connection (route).
    source: Option<String>,
    /// The address it comes from, else the first of `source` (route).
    client: Option<IpAddr>,
    /// What it is opened to (route).
    target: Option<String>,
    /// What a tunnel asks for at its end (inbound).
    authority: Option<String>,
    /// Where that tunnel ended, else the first address of `workload` (inbound).
    local_address: Option<IpAddr>,
    /// Which service the peer says it means (inbound).
    host: Option<String>,
    /// Where a plain connection was going (inbound).
    captured: Option<SocketAddr>,
    /// Who is asked to take it (authorize, inbound).
    workload: Option<String>,
    /// Where it comes from (authorize).
    source_address: Option<SocketAddr>,
    /// Where it would go (authorize).
    destination: Option<SocketAddr>,
    /// Who it is, by certificate (authorize).
    identity: Option<String>,
    #[serde(default)]
    network: String,
    hbone_port: Option<u16>,
    reserved_ports: Option<Vec<u16>>,
    /// Which of equally good endpoints: a share of their total weight, 0 to 1.
    #[serde(default)]
    choice: f64,
}

#[pymethods]
impl Mesh {
    #[new]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn new(py: Python<'_>, resources: Vec<PyRef<'_, Resource>>) -> PyResult<Self> {
        let resources: Vec<Resource> = resources.iter().map(|each| (**each).clone()).collect();
        py.detach(|| {
            let mut store = MeshStore::new();
            let upserts: Vec<_> = resources.iter().map(Resource::borrow).collect();
            let applied = store.apply(&upserts, &[]);
            match applied.rejections.first() {
                Some(rejection) => Err(errors::value(rejection.to_string())),
                None => Ok(Self(store.snapshot())),
            }
        })
    }

    fn route<'py>(&self, py: Python<'py>, facts: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        answer(py, &facts, |facts| self.routed(facts))
    }

    fn authorize<'py>(&self, py: Python<'py>, facts: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        answer(py, &facts, |facts| self.authorized(facts, None))
    }

    fn inbound<'py>(&self, py: Python<'py>, facts: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        answer(py, &facts, |facts| told(self.arriving(facts)?))
    }

    fn explain<'py>(&self, py: Python<'py>, facts: Vec<u8>) -> PyResult<Bound<'py, PyBytes>> {
        answer(py, &facts, |facts| self.explained(facts))
    }

    fn __repr__(&self) -> String {
        format!(
            "Mesh({} workloads, {} services, {} policies)",
            self.0.workload_count(),
            self.0.service_count(),
            self.0.policy_count()
        )
    }
}

impl Mesh {
    fn routed(&self, facts: &Facts) -> Result<Value, String> {
        let source = self.workload(facts.source.as_deref(), "source")?;
        let target = target(facts.target.as_deref(), "target")?;
        let client = facts.client.or_else(|| source.addresses.first().copied());
        let route_facts = RouteFacts {
            source: &source,
            client: client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            target: &target,
            network: &facts.network,
            hbone_port: facts.hbone_port.unwrap_or(HBONE_PORT),
        };
        let mut choose = |total: u64| {
            let share = facts.choice.clamp(0.0, 1.0);
            ((total as f64 * share) as u64).min(total.saturating_sub(1))
        };
        told(explain_route(&self.0, &route_facts, &mut choose))
    }

    /// Where a request or a plain connection goes at its destination.
    fn arriving(&self, facts: &Facts) -> Result<InboundExplanation, String> {
        let local = self.workload(facts.workload.as_deref(), "workload")?;
        if let Some(destination) = facts.captured {
            return Ok(explain_plaintext(&self.0, &local, destination));
        }
        let authority = authority(facts.authority.as_deref())?;
        let address = facts
            .local_address
            .or_else(|| local.addresses.first().copied());
        let inbound_facts = InboundFacts {
            local: &local,
            local_address: address.ok_or("localAddress: missing")?,
            target: &authority,
            network: &facts.network,
            reserved_ports: facts.reserved_ports.as_deref().unwrap_or(&RESERVED_PORTS),
        };
        let host = facts.host.as_deref();
        Ok(explain_inbound(&self.0, &inbound_facts, host))
    }

    /// `destination` is where it turned out to go, if the facts do not say where it would.
    fn authorized(&self, facts: &Facts, destination: Option<SocketAddr>) -> Result<Value, String> {
        let workload = self.workload(facts.workload.as_deref(), "workload")?;
        let identity = facts.identity.as_deref().map(Identity::parse).transpose();
        let destination = facts.destination.or(destination);
        let connection = ConnectionFacts {
            source: facts.source_address.ok_or("sourceAddress: missing")?,
            destination: destination.ok_or("destination: missing")?,
            identity: identity.map_err(|error| format!("identity: {error}"))?,
        };
        told(explain_authorize(&self.0, &workload, &connection))
    }

    /// Every question that the facts suffice for. What arrives nowhere is not judged.
    fn explained(&self, facts: &Facts) -> Result<Value, String> {
        let leaves = facts.target.is_some();
        let routed = leaves.then(|| self.routed(facts)).transpose()?;
        let arrives = facts.authority.is_some() || facts.captured.is_some();
        let inbound = arrives.then(|| self.arriving(facts)).transpose()?;
        let there = inbound.as_ref().and_then(|told| told.route.as_ref());
        let destination = there.map(|route| route.destination);
        let judged = match &inbound {
            None => facts.workload.is_some(),
            Some(_) => destination.is_some() && facts.source_address.is_some(),
        };
        let authorized = judged.then(|| self.authorized(facts, destination));
        Ok(json!({
            "route": routed,
            "inbound": inbound.map(told).transpose()?,
            "authorize": authorized.transpose()?,
        }))
    }

    fn workload(&self, uid: Option<&str>, field: &str) -> Result<Arc<Workload>, String> {
        let uid = uid.ok_or_else(|| format!("{field}: missing"))?;
        self.0
            .workload_by_uid(uid)
            .cloned()
            .ok_or_else(|| format!("{field}: no such workload: {uid}"))
    }
}

fn told(explanation: impl Serialize) -> Result<Value, String> {
    serde_json::to_value(explanation).map_err(|error| error.to_string())
}

fn target(text: Option<&str>, field: &str) -> Result<Target, String> {
    let text = text.ok_or_else(|| format!("{field}: missing"))?;
    Target::parse(text).ok_or_else(|| format!("{field}: need `ip:port` or `hostname:port`: {text}"))
}

/// A target whose name is compared byte by byte, as it came: unlike people, peers are taken at their word.
fn authority(text: Option<&str>) -> Result<Target, String> {
    let target = target(text, "authority")?;
    let as_written = text.and_then(|text| text.rsplit_once(':'));
    Ok(match (target, as_written) {
        (Target::Host { port, .. }, Some((hostname, _))) => Target::Host {
            hostname: hostname.to_owned(),
            port,
        },
        (target, _) => target,
    })
}

fn answer<'py>(
    py: Python<'py>,
    facts: &[u8],
    question: impl FnOnce(&Facts) -> Result<Value, String> + Send,
) -> PyResult<Bound<'py, PyBytes>> {
    let json = py.detach(|| {
        let facts: Facts = serde_json::from_slice(facts)
            .map_err(|error| errors::value(format!("facts: {error}")))?;
        question(&facts).map_err(errors::value)
    })?;
    Ok(PyBytes::new(py, json.to_string().as_bytes()))
}

#[cfg(test)]
mod tests;
