//! One HTTP port: accept, bound, serve. Never ends on an error (spec/reliability.md U1).

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time;

use super::body::Body;
use crate::capture::accept::AcceptPause;
use crate::telemetry::log::{Level, Logger};
use crate::telemetry::text::Value;

/// Accepts until told to stop, then waits for the connections that are left.
pub(super) async fn run<Answer, Answering>(
    name: &'static str,
    mut accept: impl AsyncFnMut() -> io::Result<TcpStream>,
    answer: Answer,
    logger: &Logger,
    mut stop: watch::Receiver<bool>,
) where
    Answer: Fn(Request<Incoming>) -> Answering + Clone + Send + 'static,
    Answering: Future<Output = Response<Body>> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut pause = AcceptPause::new();
    loop {
        let next = async {
            // First the slot: who finds no room waits in the kernel's queue.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok(stream) => {
                pause.succeeded();
                let connection = serve(stream, answer.clone(), stop.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) => {
                let fields = [
                    ("component", Value::Text(name)),
                    ("error", Value::Bare(&error)),
                ];
                logger.repeating(Level::Warn, name, TARGET, "accept failed", &fields);
                if let Some(pause) = pause.failed(&error) {
                    time::sleep(pause).await;
                }
            }
        }
    }
    // All slots free again: nobody is left.
    let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
    let _ = slots.acquire_many(all).await;
}

async fn serve<Answer, Answering>(
    stream: TcpStream,
    answer: Answer,
    mut stop: watch::Receiver<bool>,
) where
    Answer: Fn(Request<Incoming>) -> Answering,
    Answering: Future<Output = Response<Body>>,
{
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answering = answer(request);
        async move { Ok::<_, Infallible>(answering.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .max_buf_size(HEADER_BYTES)
        .half_close(true)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let to_the_end = async {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = stopped(&mut stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = time::timeout(FINISH_WITHIN, connection).await;
    };
    // An error or a timeout has nobody to be told to: the client sees its connection closed.
    let _ = time::timeout(LIFETIME, to_the_end).await;
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Upstream's module of this name serves its HTTP ports.
pub(super) const TARGET: &str = "hyper_util";

/// Of spec/reliability.md §8: probes and scrapers are few.
const CONNECTIONS: usize = 64;
const HEADER_BYTES: usize = 8 * 1024;
const HEADERS_WITHIN: Duration = Duration::from_secs(2);
/// After the order to stop: enough for the answer under way.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
/// A reader that takes nothing must not keep its answer in memory for ever.
const LIFETIME: Duration = Duration::from_secs(60);
