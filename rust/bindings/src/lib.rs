//! The Python face of the data plane: the module `ztunnel._ztunnel`.
//!
//! Converts and nothing else: every method takes owned values, lets the interpreter go, calls the core, converts
//! back. Rust never calls Python. The documented types stand in `python/ztunnel/_ztunnel.pyi`.

mod data_plane;
mod decide;
mod delta;
mod dump;
mod errors;
mod events;
mod keys;
mod profile;

use pyo3::prelude::*;

/// The version of the compiled half, equal to the package's.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The commit, its state, the compiler and the profile of this build; `build.rs` finds them out.
#[pyfunction]
fn build() -> (&'static str, &'static str, &'static str, &'static str) {
    (
        env!("ZTUNNEL_GIT_REVISION"),
        env!("ZTUNNEL_BUILD_STATUS"),
        env!("ZTUNNEL_RUST_VERSION"),
        env!("ZTUNNEL_BUILD_PROFILE"),
    )
}

/// No core of this process, and no look into its memory for others of the same user.
#[pyfunction]
fn forbid_dumps() -> PyResult<()> {
    Ok(proxy::sys::forbid_dumps()?)
}

/// The compiled half of ztunnel.
#[pymodule]
mod _ztunnel {
    #[pymodule_export]
    use super::data_plane::{DataPlane, Rejection, Resource};
    #[pymodule_export]
    use super::decide::Mesh;
    #[pymodule_export]
    use super::delta::{DeltaResponse, Ledger};
    #[pymodule_export]
    use super::dump::Dump;
    #[pymodule_export]
    use super::events::Event;
    #[pymodule_export]
    use super::keys::{PrivateKey, validity};
    #[pymodule_export]
    use super::profile::{CpuProfile, allocator_figures};
    #[pymodule_export]
    use super::{build, forbid_dumps, version};
}
