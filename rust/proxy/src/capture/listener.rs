//! Accepting connections and never giving up on it.
//!
//! What an accepted connection is for is decided by who asked for the listener.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::accept::AcceptPause;
use crate::telemetry::log::{Level, Logger};

/// Connections taken in one go before other tasks of the worker get their turn.
const BATCH: usize = 32;
/// Accepts until the task is dropped, and hands every connection to `serve`.
///
/// An error ends nothing: out of descriptors, it waits for some to be freed (spec/reliability.md U1, U2).
pub(crate) async fn accept(
    listener: TcpListener,
    name: &str,
    log: &Logger,
    serve: impl Fn(TcpStream, SocketAddr),
) {
    let mut pause = AcceptPause::new();
    let mut batch = 0;
    loop {
        match listener.accept().await {
            Ok((socket, peer)) => {
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
                log.repeating(
                    Level::Warn,
                    "accept",
                    "proxy::listener",
                    &format!("{name}: accept failed, trying again in {wait:?}: {error}"),
                    &[],
                );
                sleep(wait).await;
            }
        }
    }
}
