//! A kind of traffic by the name that operators know it by, from its listeners to the end of its last connection.
//!
//! Whoever serves some of it holds it, so that the last one to let go is the end of it. Decides nothing: when it is to
//! end is `data_plane.rs`'s, what is served the worker's.

use std::sync::Arc;

use tokio::sync::watch;

use crate::control::Phase;
use crate::shared::Shared;
use crate::telemetry::Value;
use crate::telemetry::log::Logger;

const TARGET: &str = "drain";

/// Tells of its end when it is dropped, if that is the end of a drain.
pub(crate) struct Component {
    name: String,
    phase: watch::Receiver<Phase>,
    log: Logger,
}

impl Component {
    /// What comes in by the listener of this name.
    pub(super) fn of_listener(listener: &str, shared: &Shared) -> Arc<Self> {
        // As upstream calls them here; its listener has another name for plain traffic.
        let name = match listener {
            "inboundPlaintext" => "inbound passthrough",
            other => other,
        };
        Arc::new(Self {
            name: name.into(),
            phase: shared.phase.subscribe(),
            log: shared.log.clone(),
        })
    }

    /// Its time is over, and some of it is left.
    pub(super) fn tell_overdue(&self) {
        let text = "drain duration expired with pending connections, forcefully shutting down";
        self.log.warn(TARGET, text, &self.about());
    }

    fn about(&self) -> [(&'static str, Value<'_>); 1] {
        [("component", Value::Text(&self.name))]
    }
}

/// One worker's hold on it, which its connections share without atomics.
pub(crate) struct Share {
    _of: Arc<Component>,
}

impl Share {
    pub(crate) const fn new(of: Arc<Component>) -> Self {
        Self { _of: of }
    }
}

impl Drop for Component {
    fn drop(&mut self) {
        // What ends before is a start that failed, or a worker; both have words of their own.
        if *self.phase.borrow() >= Phase::Draining {
            self.log.info(TARGET, "shutdown complete", &self.about());
        }
    }
}
