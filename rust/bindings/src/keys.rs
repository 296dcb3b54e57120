//! Private keys that Python can hold but not read.

use std::sync::Arc;

use mesh::identity::Identity;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

/// A private key that never becomes Python bytes.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct PrivateKey(pub(crate) Arc<proxy::tls::PrivateKey>);

/// When the leaf of a chain (PEM) counts: `(not_before, not_after)`, seconds since 1970.
#[pyfunction]
#[expect(
    clippy::cast_precision_loss,
    reason = "exact to the second for 285 million years"
)]
pub(crate) fn validity(py: Python<'_>, chain: Vec<u8>) -> PyResult<(f64, f64)> {
    py.detach(|| proxy::tls::validity_of(&chain))
        .map(|(not_before, not_after)| (not_before as f64, not_after as f64))
        .map_err(|error| errors::credential(&error))
}

#[pymethods]
impl PrivateKey {
    /// A fresh ECDSA P-256 key.
    #[staticmethod]
    fn generate(py: Python<'_>) -> PyResult<Self> {
        py.detach(proxy::tls::PrivateKey::generate)
            .map(|key| Self(Arc::new(key)))
            .map_err(|error| errors::key(&error))
    }

    /// A signing request (PEM PKCS#10) for a SPIFFE ID, signed by this key.
    fn csr<'py>(&self, py: Python<'py>, identity: &str) -> PyResult<Bound<'py, PyBytes>> {
        let identity = Identity::parse(identity).map_err(|error| errors::identity(&error))?;
        let key = self.0.clone();
        let pem = py
            .detach(|| key.csr(&identity))
            .map_err(|error| errors::key(&error))?;
        Ok(PyBytes::new(py, &pem))
    }

    fn __repr__(&self) -> &'static str {
        "PrivateKey(<secret>)"
    }
}
