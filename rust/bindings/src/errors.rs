//! One conversion of the core's errors to Python's, in one place.
//!
//! The classes are Python's own (`ztunnel/errors.py`), so that `except` clauses need not know this module.

use proxy::data_plane::StartError;
use proxy::dump::DumpError;
use proxy::settings::SettingsError;
use proxy::tls::{CredentialError, CrlError, KeyError};
use pyo3::PyErr;

mod python {
    pyo3::import_exception!(ztunnel.errors, CredentialError);
    pyo3::import_exception!(ztunnel.errors, DataPlaneClosed);
    pyo3::import_exception!(ztunnel.errors, SettingsError);
}

pub(crate) fn settings(error: &SettingsError) -> PyErr {
    python::SettingsError::new_err(error.to_string())
}

pub(crate) fn start(error: StartError) -> PyErr {
    match error {
        StartError::Settings(error) => settings(&error),
        StartError::Io(error) => error.into(),
    }
}

pub(crate) fn credential(error: &CredentialError) -> PyErr {
    python::CredentialError::new_err(error.to_string())
}

pub(crate) fn identity(error: &mesh::identity::IdentityError) -> PyErr {
    python::CredentialError::new_err(error.to_string())
}

pub(crate) fn key(error: &KeyError) -> PyErr {
    python::CredentialError::new_err(error.to_string())
}

pub(crate) fn dump(error: DumpError) -> PyErr {
    match error {
        DumpError::NotJson(..) => value(error.to_string()),
        DumpError::Thread(error) => error.into(),
        DumpError::Stopped => pyo3::exceptions::PyOSError::new_err(error.to_string()),
    }
}

pub(crate) fn closed() -> PyErr {
    python::DataPlaneClosed::new_err("the data plane was stopped")
}

pub(crate) fn value(message: String) -> PyErr {
    pyo3::exceptions::PyValueError::new_err(message)
}

pub(crate) fn crl(error: &CrlError) -> PyErr {
    python::CredentialError::new_err(error.to_string())
}
