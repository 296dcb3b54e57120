//! A configuration dump as Python reads it.

use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

/// The text of a configuration dump while it is written; see `proxy::dump`.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct Dump(pub(crate) proxy::dump::Dump);

#[pymethods]
impl Dump {
    fn next_piece<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let piece = py.detach(|| self.0.next_piece(PATIENCE));
        match piece {
            Ok(piece) => Ok(PyBytes::new(py, &piece.unwrap_or_default())),
            Err(error) => Err(errors::dump(error)),
        }
    }
}

/// The writer needs milliseconds for a piece; sorting a million names, the longest step, about a second.
const PATIENCE: Duration = Duration::from_secs(10);
