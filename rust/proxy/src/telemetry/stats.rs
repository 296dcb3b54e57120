//! The two HTTP ports that outsiders poll: metrics (15020) and readiness (15021).
//!
//! Answered here, in Rust, so that a busy control side cannot make a node look dead. Plain HTTP/1.1 with a
//! bound on everything; what is true is decided in `metrics.rs` and `readiness.rs`.

mod answer;
mod body;
mod compress;
mod encoding;
mod server;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::log::Logger;
use super::metrics::Metrics;
use super::readiness::Readiness;
use super::text::Value;

/// The ports that are wanted; a missing one is not served.
#[derive(Debug, Default)]
pub struct Listeners {
    pub metrics: Option<TcpListener>,
    pub readiness: Option<TcpListener>,
}

/// What is told to whoever asks.
#[derive(Clone, Debug)]
pub struct State {
    pub metrics: Arc<Metrics>,
    pub readiness: Arc<Readiness>,
    pub logger: Logger,
}

/// Serves until `stop` says true (or its sender is gone), then finishes what is under way. Runs on any tokio
/// runtime with time and I/O; errors only if a listener cannot be registered there.
pub async fn serve(
    listeners: Listeners,
    state: State,
    stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let turns = Arc::new(Semaphore::new(SCRAPES));
    let metrics = listeners.metrics.map(tokio_listener).transpose()?;
    let readiness = listeners.readiness.map(tokio_listener).transpose()?;
    let logger = &state.logger;
    let scrapes = async {
        if let Some(listener) = metrics {
            let address = listener.local_addr();
            let state = state.clone();
            let answer = move |request| {
                let (state, turns) = (state.clone(), Arc::clone(&turns));
                async move { answer::metrics(&state.metrics, turns, &request).await }
            };
            server::run("stats", accepting(&listener), answer, logger, stop.clone()).await;
            tell_drained(logger, "stats", address);
        }
    };
    let probes = async {
        if let Some(listener) = readiness {
            let address = listener.local_addr();
            let state = state.clone();
            let answer = move |request| {
                let answer = answer::readiness(&state.readiness, &request);
                std::future::ready(answer)
            };
            server::run(
                "readiness",
                accepting(&listener),
                answer,
                logger,
                stop.clone(),
            )
            .await;
            tell_drained(logger, "readiness", address);
        }
    };
    tokio::join!(scrapes, probes);
    Ok(())
}

fn tokio_listener(listener: TcpListener) -> io::Result<tokio::net::TcpListener> {
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

fn tell_drained(logger: &Logger, component: &str, address: io::Result<SocketAddr>) {
    let fields = [
        ("address", address.map_or(Value::Absent, Value::Address)),
        ("component", Value::Text(component)),
    ];
    logger.info(server::TARGET, "listener drained", &fields);
}

fn accepting(
    listener: &tokio::net::TcpListener,
) -> impl AsyncFnMut() -> io::Result<tokio::net::TcpStream> {
    async move || listener.accept().await.map(|(stream, _)| stream)
}

/// Scrapes under way at once: at the series limit one is some 90 MB of text, made as it is sent, but even its numbers
/// are a few MB.
const SCRAPES: usize = 4;

#[cfg(test)]
mod tests;
