//! Answers of delta ADS, and what is held of them, as Python handles them.
//!
//! A message stays the `bytes` that the stream brought: what is read here points into it. Counterpart in Python, for tests
//! without a data plane: `ztunnel.testing.delta`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh::delta::{self, Response};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

use crate::errors;

/// One answer of delta ADS (`DeltaDiscoveryResponse`), read as far as the control side needs it.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct DeltaResponse(pub(crate) Response<PyBackedBytes>);

#[pymethods]
impl DeltaResponse {
    #[new]
    fn new(py: Python<'_>, message: Bound<'_, PyBytes>) -> PyResult<Self> {
        let message = PyBackedBytes::from(message);
        let read = py.detach(|| Response::read(message));
        read.map(Self)
            .map_err(|error| errors::value(error.to_string()))
    }

    #[getter]
    fn type_url(&self) -> &str {
        self.0.type_url()
    }

    #[getter]
    fn nonce(&self) -> &str {
        self.0.nonce()
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.count()
    }

    #[getter]
    fn payload(&self) -> usize {
        self.0.payload()
    }

    #[getter]
    fn removed(&self) -> Vec<&str> {
        self.0.removed().collect()
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn answers(&self, py: Python<'_>, wanted: Vec<String>) -> Vec<String> {
        py.detach(|| {
            let answered = self.0.answers(&borrowed(&wanted));
            answered.into_iter().map(ToOwned::to_owned).collect()
        })
    }

    fn __repr__(&self) -> String {
        format!(
            "DeltaResponse(type_url={:?}, nonce={:?}, count={}, removed=<{} names>)",
            self.0.type_url(),
            self.0.nonce(),
            self.0.count(),
            self.0.removed_count()
        )
    }
}

/// Names and versions held of one type, compactly.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct Ledger(Mutex<delta::Ledger>);

#[pymethods]
impl Ledger {
    #[new]
    fn new() -> Self {
        Self(Mutex::default())
    }

    fn __len__(&self, py: Python<'_>) -> usize {
        py.detach(|| self.lock().len())
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn record(&self, py: Python<'_>, response: &DeltaResponse, rejected: Vec<String>) {
        py.detach(|| self.lock().record(&response.0, &borrowed(&rejected)));
    }

    #[expect(
        clippy::needless_pass_by_value,
        reason = "owned values cross the boundary"
    )]
    fn forget(&self, py: Python<'_>, names: Vec<String>) {
        py.detach(|| {
            let mut ledger = self.lock();
            for name in &names {
                ledger.forget(name);
            }
        });
    }

    fn versions(&self, py: Python<'_>, limit: usize) -> Option<Vec<(String, String)>> {
        py.detach(|| {
            let ledger = self.lock();
            let held = ledger.versions(limit)?;
            let owned = held.into_iter().map(|h| (h.name.to_owned(), h.version));
            Some(owned.collect())
        })
    }

    fn missing(&self, py: Python<'_>, response: &DeltaResponse) -> Vec<String> {
        py.detach(|| {
            let ledger = self.lock();
            let missing = ledger.missing(&response.0);
            missing.into_iter().map(ToOwned::to_owned).collect()
        })
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        format!("Ledger(<{} names>)", self.__len__(py))
    }
}

impl Ledger {
    /// Never taken with the interpreter held: whoever has it may be waiting for the interpreter.
    fn lock(&self) -> MutexGuard<'_, delta::Ledger> {
        // A panic while it was held would leave a name that is not held; it is sent again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}
