//! The ways an application's connection comes in, and how each learns its target.

use std::io;
use std::time::Duration;

use mesh::route::Target;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::original_dst::OriginalDestination;
use super::socks5::{self, Negotiation, Outcome, Refusal, Step};
use crate::error::{Error, Side, Stage};
use crate::telemetry::log::Level;
use crate::worker::Worker;

/// How an application reaches us.
#[derive(Clone, Debug)]
pub(crate) enum WayIn {
    /// Redirected by the kernel.
    Captured {
        /// The listener has IP_TRANSPARENT: the local address is the target.
        transparent: bool,
    },
    /// A port of ours that leads to one target.
    Forward(Target),
    /// SOCKS5.
    Socks,
}

impl WayIn {
    /// Finds where the application wants to go.
    ///
    /// # Errors
    /// The negotiation failed or took too long; the client has its reply.
    pub(crate) async fn target(
        &self,
        socket: &TcpStream,
        worker: &Worker,
    ) -> Result<Target, Error> {
        match self {
            Self::Forward(target) => Ok(target.clone()),
            Self::Captured { transparent } => {
                let (destination, warning) = OriginalDestination::of(socket, *transparent)
                    .map_err(|error| negotiation_failed("original_dst", &error.to_string()))?;
                if let Some(warning) = warning {
                    worker.shared.log.repeating(
                        Level::Warn,
                        "original_dst",
                        "proxy::capture",
                        &warning.to_string(),
                        &[],
                    );
                }
                Ok(Target::Address(destination.0))
            }
            Self::Socks => {
                let limit = worker.shared.settings.deadlines.socks;
                match timeout(limit, negotiate(socket)).await {
                    Ok(target) => target,
                    Err(_) => Err(negotiation_failed(
                        "socks_timeout",
                        &format!("SOCKS5 negotiation took longer than {limit:?}"),
                    )),
                }
            }
        }
    }

    /// Tells a SOCKS client how it went; the others need no telling.
    ///
    /// # Errors
    /// The client has gone.
    pub(crate) async fn confirm(&self, socket: &TcpStream, outcome: Outcome) -> io::Result<()> {
        match self {
            Self::Socks => write(socket, socks5::reply(outcome)).await,
            Self::Captured { .. } | Self::Forward(_) => Ok(()),
        }
    }
}

/// Reads no byte behind the request: those are the application's.
async fn negotiate(socket: &TcpStream) -> Result<Target, Error> {
    let mut negotiation = Negotiation::new();
    let mut buffer = [0; 300];
    loop {
        let seen = socket.peek(&mut buffer).await.map_err(lost)?;
        if seen == 0 {
            return Err(negotiation_failed(
                "socks_closed",
                "SOCKS5 client closed the connection",
            ));
        }
        let received = match negotiation.receive(&buffer[..seen]) {
            Ok(received) => received,
            Err(refusal) => return Err(refuse(socket, refusal).await),
        };
        take(socket, &mut buffer[..received.consumed])
            .await
            .map_err(lost)?;
        match received.step {
            Step::NeedMore => {}
            Step::Reply(bytes) => write(socket, bytes).await.map_err(lost)?,
            Step::Target(socks5::Target::Address(address)) => return Ok(Target::Address(address)),
            Step::Target(socks5::Target::Host { hostname, port }) => {
                return Ok(Target::Host { hostname, port });
            }
        }
    }
}

async fn refuse(socket: &TcpStream, refusal: Refusal) -> Error {
    // A client that has gone needs no reply.
    let _ = timeout(Duration::from_secs(1), write(socket, refusal.reply())).await;
    negotiation_failed("socks_refused", &refusal.to_string())
}

/// Takes bytes that were seen to be there.
async fn take(socket: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.readable().await?;
        match socket.try_read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => bytes = &mut bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn write(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn lost(error: io::Error) -> Error {
    negotiation_failed("socks_closed", &format!("SOCKS5 client lost: {error}"))
}

fn negotiation_failed(reason: &'static str, text: &str) -> Error {
    Error::new(Stage::Negotiation, Side::Downstream, reason, text)
}
