//! A CPU profile of the process's own threads, and its allocator, as Python asks for them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proxy::sys;
use pyo3::prelude::*;

/// Samples while it lives; see `proxy::profile`.
#[pyclass(frozen, module = "ztunnel._ztunnel")]
pub(crate) struct CpuProfile(Mutex<proxy::profile::CpuProfile>);

/// Thread, its name, periods, addresses from the innermost on.
type Stack = (i32, String, u64, Vec<usize>);
/// Function, file, line.
type Function = (String, String, u32);

#[pymethods]
impl CpuProfile {
    #[new]
    fn new(py: Python<'_>, period: f64, skipped: Vec<i32>) -> PyResult<Self> {
        let period = Duration::try_from_secs_f64(period)
            .ok()
            .filter(|period| *period >= SHORTEST)
            .ok_or_else(|| crate::errors::value(format!("not a period in seconds: {period}")))?;
        let profile = py.detach(|| proxy::profile::CpuProfile::start(period, skipped))?;
        Ok(Self(Mutex::new(profile)))
    }

    fn finish(&self, py: Python<'_>) -> (Vec<Stack>, HashMap<usize, Vec<Function>>, u64) {
        let found = py.detach(|| {
            let mut profile = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            profile.finish()
        });
        let stacks = found.stacks.into_iter();
        let stacks = stacks.map(|s| (s.thread, s.thread_name, s.periods, s.addresses));
        let frames = found.frames.into_iter().map(|(address, frame)| {
            let functions = frame.functions.into_iter();
            (
                address,
                functions.map(|f| (f.name, f.file, f.line)).collect(),
            )
        });
        (stacks.collect(), frames.collect(), found.lost)
    }
}

/// What the C library's allocator holds: `arenas`, `used`, `free`, `mapped`, in bytes; nothing where it does not say.
#[pyfunction]
pub(crate) fn allocator_figures() -> HashMap<&'static str, usize> {
    let Some(figures) = sys::allocator_figures() else {
        return HashMap::new();
    };
    HashMap::from([
        ("arenas", figures.arenas),
        ("used", figures.used),
        ("free", figures.free),
        ("mapped", figures.mapped),
    ])
}

/// What the kernel's clocks can tell apart.
const SHORTEST: Duration = Duration::from_millis(1);
