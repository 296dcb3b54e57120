//! Accepting connections and never giving up on it.
//!
//! What an accepted connection is for is decided by who asked for the listener.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::accept::AcceptPause;
use crate::shared::Shared;
use crate::sys;
use crate::telemetry::Value;
use crate::telemetry::log::Level;
use crate::telemetry::metrics::Side;

/// Connections taken in one go before other tasks of the worker get their turn: some 10 us each with the task that it
/// becomes. Taking more would not empty the queue sooner, as each of them has work to do.
const BATCH: usize = 32;

/// Accepts until the task is dropped, and hands every connection to `serve`.
///
/// An error ends nothing: out of descriptors, it waits for some to be freed (spec/reliability.md U1, U2).
pub(crate) async fn accept(
    listener: &TcpListener,
    name: &str,
    shared: &Shared,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    let mut pause = AcceptPause::new();
    let mut batch = 0;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
                if sys::touches_reserve(&socket) {
                    refuse(socket, name, shared);
                    sleep(pause.exhausted()).await;
                    continue;
                }
                pause.succeeded();
                serve(socket, peer);
                batch += 1;
                if batch == BATCH {
                    batch = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                let Some(wait) = pause.failed(&error) else {
                    continue;
                };
                // Upstream's words. Fewer than ten a second, as each time it is waited for longer.
                let text = format!("Failed TCP handshake {error}");
                let fields = [
                    ("listener", Some(name).into()),
                    ("retry", Value::Milliseconds(wait)),
                ];
                let log = &shared.log;
                log.repeating(Level::Error, "accept", "proxy::listener", &text, &fields);
                sleep(wait).await;
            }
        }
    }
}

/// The last descriptors are for those who tell how we are: a connection that would take one is reset.
fn refuse(socket: TcpStream, name: &str, shared: &Shared) {
    // Failing means that the client has gone already.
    let _ = sys::abort_on_close(&socket);
    shared.metrics.refused(Side::Inbound, "no_descriptors");
    let text = format!(
        "{name}: connection refused: too few file descriptors; is RLIMIT_NOFILE large enough?"
    );
    let log = &shared.log;
    log.repeating(Level::Warn, "no_descriptors", "proxy::listener", &text, &[]);
}
