//! The running data plane as Python steers it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mesh::decode;
use mesh::identity::Identity;
use proxy::settings::Settings;
use proxy::telemetry::StreamEnd;
use proxy::tls::WorkloadCertificate;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::delta::{DeltaResponse, borrowed};
use crate::dump::Dump;
use crate::errors;
use crate::events::Event;
use crate::keys::PrivateKey;

/// One thing of the mesh, as bytes.
#[pyclass(frozen, get_all, module = "ztunnel._ztunnel")]
#[derive(Clone)]
pub(crate) struct Resource {
    /// What it is: `ztunnel.local/{Workload,Service,Authorization}`, an object of the local file as JSON, or
    /// `type.googleapis.com/istio.{workload.Address,security.Authorization}`, Istio's protobuf.
    type_url: String,
    /// Its key: a workload's uid, `namespace/hostname`, `namespace/name`.
    name: String,
    /// The thing itself, in the encoding that `type_url` names.
    value: Vec<u8>,
}

#[pymethods]
impl Resource {
    #[new]
    #[pyo3(signature = (*, type_url, name, value))]
    fn new(type_url: String, name: String, value: Vec<u8>) -> Self {
        Self {
            type_url,
            name,
            value,
        }
    }

    fn __repr__(&self) -> String {
        format!(
            "Resource(type_url={:?}, name={:?}, value=<{} bytes>)",
            self.type_url,
            self.name,
            self.value.len()
        )
    }
}

impl Resource {
    pub(crate) fn borrow(&self) -> decode::Resource<'_> {
        decode::Resource {
            type_url: &self.type_url,
            name: &self.name,
            value: &self.value,
        }
    }
}

/// A resource that was not applied, and why.
#[pyclass(frozen, get_all, module = "ztunnel._ztunnel")]
pub(crate) struct Rejection {
    /// As in the resource.
    type_url: String,
    /// As in the resource.
    name: String,
    /// One sentence.
    reason: String,
}

#[pymethods]
impl Rejection {
    fn __repr__(&self) -> String {
        format!(
            "Rejection(type_url={:?}, name={:?}, reason={:?})",
            self.type_url, self.name, self.reason
        )
    }
}

impl From<decode::Rejection> for Rejection {
    fn from(rejection: decode::Rejection) -> Self {
        Self {
            type_url: rejection.type_url,
            name: rejection.name,
            reason: rejection.reason,
        }
    }
}

/// Listeners, workers, tunnels. Does nothing before `start`.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct DataPlane {
    core: Arc<proxy::DataPlane>,
    stopped: AtomicBool,
    process: u32,
}

#[pymethods]
impl DataPlane {
    #[new]
    fn new(py: Python<'_>, settings: Vec<u8>) -> PyResult<Self> {
        py.detach(|| {
            let settings = Settings::parse(&settings).map_err(|error| errors::settings(&error))?;
            let core = proxy::DataPlane::new(settings).map_err(errors::start)?;
            Ok(Self {
                core: Arc::new(core),
                stopped: AtomicBool::new(false),
                process: std::process::id(),
            })
        })
    }

    #[pyo3(signature = (operators=Vec::new()))]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn start(&self, py: Python<'_>, operators: Vec<String>) -> PyResult<BTreeMap<String, String>> {
        self.alive()?;
        let operators = operators
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| errors::value(format!("not an address with a port: {text}")))
            })
            .collect::<PyResult<Vec<SocketAddr>>>()?;
        let bound = py
            .detach(|| self.core.start_beside(&operators))
            .map_err(errors::start)?;
        Ok(bound
            .into_iter()
            .map(|(name, address)| (name, address.to_string()))
            .collect())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn apply(
        &self,
        py: Python<'_>,
        resources: Vec<PyRef<'_, Resource>>,
        removed: Vec<(String, String)>,
    ) -> PyResult<Vec<Rejection>> {
        self.alive()?;
        let resources: Vec<Resource> = resources.iter().map(|each| (**each).clone()).collect();
        let rejections = py.detach(|| {
            let upserts: Vec<_> = resources.iter().map(Resource::borrow).collect();
            let removed: Vec<_> = removed.iter().map(|(t, n)| (&**t, &**n)).collect();
            self.core.apply(&upserts, &removed)
        });
        Ok(rejections.into_iter().map(Rejection::from).collect())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn apply_delta(
        &self,
        py: Python<'_>,
        response: &DeltaResponse,
        also_removed: Vec<String>,
    ) -> PyResult<Vec<Rejection>> {
        self.alive()?;
        let rejections = py.detach(|| self.core.apply_delta(&response.0, &borrowed(&also_removed)));
        Ok(rejections.into_iter().map(Rejection::from).collect())
    }

    fn count_xds_end(&self, reason: &str) -> PyResult<()> {
        let end = StreamEnd::parse(reason)
            .ok_or_else(|| errors::value(format!("no end that a stream has: {reason}")))?;
        self.core.count_xds_end(end);
        Ok(())
    }

    fn not_there(&self, py: Python<'_>, name: &str) -> PyResult<()> {
        self.alive()?;
        py.detach(|| self.core.not_there(name));
        Ok(())
    }

    fn mark_synced(&self) -> PyResult<()> {
        self.alive()?;
        self.core.mark_synced();
        Ok(())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn install(
        &self,
        py: Python<'_>,
        identity: &str,
        key: &PrivateKey,
        chain: Vec<u8>,
        roots: Vec<u8>,
    ) -> PyResult<()> {
        self.alive()?;
        let identity = Identity::parse(identity).map_err(|error| errors::identity(&error))?;
        let key = key.0.clone();
        py.detach(|| {
            let certificate = WorkloadCertificate::new(identity, &key, &chain, &roots)?;
            self.core.install(certificate);
            Ok(())
        })
        .map_err(|error| errors::credential(&error))
    }

    fn no_certificate(&self, identity: &str, reason: &str) -> PyResult<()> {
        self.alive()?;
        let identity = Identity::parse(identity).map_err(|error| errors::identity(&error))?;
        self.core.fail(&identity, reason);
        Ok(())
    }

    fn forget(&self, identity: &str) -> PyResult<()> {
        self.alive()?;
        let identity = Identity::parse(identity).map_err(|error| errors::identity(&error))?;
        self.core.forget(&identity);
        Ok(())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn revoke(&self, py: Python<'_>, crl: Vec<u8>) -> PyResult<usize> {
        self.alive()?;
        py.detach(|| self.core.revoke(&crl))
            .map_err(|error| errors::crl(&error))
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.core.event_descriptor()
    }

    fn take_events(&self) -> Vec<Event> {
        self.core
            .take_events()
            .into_iter()
            .map(Event::from)
            .collect()
    }

    fn metrics<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        let text = py.detach(|| self.core.metrics());
        PyBytes::new(py, text.as_bytes())
    }

    fn dump<'py>(&self, py: Python<'py>, section: &str) -> PyResult<Bound<'py, PyBytes>> {
        let json = py.detach(|| self.core.dump(section));
        match json {
            Some(json) => Ok(PyBytes::new(py, &json)),
            None => Err(errors::value(format!("no such section: {section}"))),
        }
    }

    fn open_dump(&self, py: Python<'_>, sections: BTreeMap<String, Vec<u8>>) -> PyResult<Dump> {
        self.alive()?;
        let dump = py.detach(|| self.core.open_dump(sections));
        dump.map(Dump).map_err(errors::dump)
    }

    fn log_filter(&self) -> String {
        self.core.log_filter()
    }

    fn change_log_filter(&self, reset: bool, directives: Option<&str>) -> PyResult<String> {
        self.core
            .change_log_filter(reset, directives)
            .map_err(|error| errors::value(error.to_string()))
    }

    fn loop_turned(&self, late: f64, period: f64) -> PyResult<()> {
        let duration = |seconds| {
            Duration::try_from_secs_f64(seconds)
                .map_err(|_| errors::value(format!("not a duration in seconds: {seconds}")))
        };
        self.core
            .control_loop_turned(duration(late)?, duration(period)?);
        Ok(())
    }

    fn heartbeats(&self) -> Vec<f64> {
        self.core.heartbeats()
    }

    fn drain(&self, py: Python<'_>, deadline: f64) -> PyResult<bool> {
        self.alive()?;
        let deadline = Duration::try_from_secs_f64(deadline)
            .map_err(|_| errors::value(format!("not a duration in seconds: {deadline}")))?;
        Ok(py.detach(|| self.core.drain(deadline)))
    }

    fn stop(&self, py: Python<'_>) {
        // A forked child has no worker threads to end, and their locks may be held for ever.
        if self.process == std::process::id() {
            self.stopped.store(true, Ordering::Relaxed);
            py.detach(|| self.core.stop());
        }
    }

    fn __repr__(&self) -> String {
        let state = if self.stopped.load(Ordering::Relaxed) {
            "stopped"
        } else {
            "open"
        };
        format!("DataPlane({state})")
    }
}

impl Drop for DataPlane {
    fn drop(&mut self) {
        if self.process != std::process::id() {
            // A forked child has no threads to end, and waiting for them would never return: what it inherited stays.
            std::mem::forget(self.core.clone());
        }
    }
}

impl DataPlane {
    fn alive(&self) -> PyResult<()> {
        let forked = self.process != std::process::id();
        if forked || self.stopped.load(Ordering::Relaxed) {
            return Err(errors::closed());
        }
        Ok(())
    }
}
