//! What the data plane has to say, as Python values.

use proxy::control;
use pyo3::prelude::*;

/// What the data plane has to say.
#[pyclass(frozen, get_all, module = "ztunnel._ztunnel")]
pub(crate) struct Event {
    /// `credential_wanted`, `credential_idle`, `resource_wanted`, `overflow` or `worker_failed`.
    kind: &'static str,
    /// The SPIFFE ID it is about, if it is about one.
    identity: Option<String>,
    /// `warmup` or `now` for `credential_wanted`, the name for `resource_wanted`; else a sentence, or nothing.
    detail: String,
}

#[pymethods]
impl Event {
    fn __repr__(&self) -> String {
        let identity = self.identity.as_deref().unwrap_or("None");
        format!(
            "Event(kind={:?}, identity={identity}, detail={:?})",
            self.kind, self.detail
        )
    }
}

impl From<control::Event> for Event {
    fn from(event: control::Event) -> Self {
        let (kind, identity, detail) = match event {
            control::Event::CredentialIdle(identity) => {
                ("credential_idle", Some(identity), String::new())
            }
            control::Event::CredentialWanted { identity, now } => {
                let detail = if now { "now" } else { "warmup" };
                ("credential_wanted", Some(identity), detail.into())
            }
            control::Event::Overflow { lost } => ("overflow", None, format!("events lost: {lost}")),
            control::Event::ResourceWanted(name) => ("resource_wanted", None, name),
            control::Event::WorkerFailed { worker } => {
                ("worker_failed", None, format!("worker {worker} ended"))
            }
        };
        Self {
            kind,
            identity: identity.map(|identity| identity.to_string()),
            detail,
        }
    }
}
