//! Two sockets joined: traffic that leaves the mesh or stays outside the tunnel.
//!
//! Both directions, their ends and their turns; how the bytes get from one socket into the other is `splice.rs`'s.
//! Counterpart of `halves.rs`, with the same rules for ends.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::rc::Rc;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::splice::{Carrier, Fault, Taken};
use super::{LAST_BYTES, Means, PATIENCE, RelayEnd};
use crate::connection::Flow;
use crate::error::{Error, Side, Stage};

/// Steps of one direction before other tasks of the worker get their turn. Copied they are 384 KiB and take some 60 µs;
/// a spliced one counts twice, so that a turn is at most 2 MiB and 150 µs.
const STEPS_PER_TURN: u32 = 4;

/// One direction.
struct Half<'c> {
    from: &'c TcpStream,
    to: &'c TcpStream,
    side: Side,
    flow: &'c Flow,
    means: Means,
    /// Writing to `from` has failed. That took the error off the socket, whose end now looks like a FIN.
    from_failed: &'c Cell<bool>,
    to_failed: &'c Cell<bool>,
}

/// Relays until both sides have ended, one was reset, or `cut` says so.
pub(crate) async fn copy(
    downstream: &Rc<TcpStream>,
    upstream: &Rc<TcpStream>,
    (up_flow, down_flow): (&Flow, &Flow),
    means: Means,
    cut: impl Future<Output = Error>,
) -> RelayEnd {
    let mut cut = pin!(cut);
    let (downstream_failed, upstream_failed) = (Cell::new(false), Cell::new(false));
    let up = Half {
        from: downstream,
        to: upstream,
        side: Side::Downstream,
        flow: up_flow,
        means,
        from_failed: &downstream_failed,
        to_failed: &upstream_failed,
    };
    let down = Half {
        from: upstream,
        to: downstream,
        side: Side::Upstream,
        flow: down_flow,
        means,
        from_failed: &upstream_failed,
        to_failed: &downstream_failed,
    };
    let (mut sending, mut receiving) = (pin!(up.run()), pin!(down.run()));
    let (mut sent, mut received) = (false, false);
    while !(sent && received) {
        tokio::select! {
            biased;
            error = &mut cut => return RelayEnd::Cut(error),
            ended = &mut sending, if !sent => match ended {
                Ok(()) => sent = true,
                Err(failed) => {
                    // What the failed side had said before is still on its way the other direction.
                    if failed.writing && !received {
                        tokio::select! {
                            biased;
                            error = &mut cut => return RelayEnd::Cut(error),
                            _ = timeout(PATIENCE, receiving) => {}
                        }
                    }
                    return failed.end;
                }
            },
            ended = &mut receiving, if !received => match ended {
                Ok(()) => received = true,
                Err(failed) => {
                    if failed.writing && !sent {
                        tokio::select! {
                            biased;
                            error = &mut cut => return RelayEnd::Cut(error),
                            _ = timeout(PATIENCE, sending) => {}
                        }
                    }
                    return failed.end;
                }
            },
            () = failure(downstream), if sent => return RelayEnd::Reset(Side::Downstream),
            () = failure(upstream), if received => return RelayEnd::Reset(Side::Upstream),
        }
    }
    RelayEnd::Finished
}

struct Failed {
    end: RelayEnd,
    writing: bool,
}

impl Half<'_> {
    async fn run(&self) -> Result<(), Failed> {
        let mut carrier = Carrier::new(self.from, self.to, self.flow, self.means);
        let mut turn = 0;
        loop {
            turn += if carrier.is_bulk() { 2 } else { 1 };
            if turn >= STEPS_PER_TURN {
                turn = 0;
                // Readiness costs nothing of tokio's budget: a fast pair would keep the worker to itself.
                tokio::task::yield_now().await;
            }
            self.from
                .readable()
                .await
                .map_err(|error| self.read_failed(&error))?;
            match carrier.carry().map_err(|fault| self.failed(&fault))? {
                Taken::End if self.from_failed.get() => {
                    return Err(Failed {
                        end: RelayEnd::Reset(self.side),
                        writing: false,
                    });
                }
                Taken::End => {
                    // Failing means that the other end is gone, which its own half finds.
                    let _ = SockRef::from(self.to).shutdown(Shutdown::Write);
                    return Ok(());
                }
                Taken::Nothing | Taken::Some => {}
            }
            while carrier.is_loaded() {
                self.await_writable().await?;
                carrier.unload().map_err(|fault| self.failed(&fault))?;
            }
        }
    }

    /// Waits until `to` takes bytes, but not for ever for a `from` that has reset meanwhile.
    async fn await_writable(&self) -> Result<(), Failed> {
        let writable = tokio::select! {
            biased;
            writable = self.to.writable() => Ok(writable),
            () = failure(self.from) => timeout(LAST_BYTES, self.to.writable()).await,
        };
        match writable {
            Ok(writable) => writable.map_err(|error| self.write_failed(&error)),
            Err(_) => Err(Failed {
                end: RelayEnd::Reset(self.side),
                writing: false,
            }),
        }
    }

    fn failed(&self, fault: &Fault) -> Failed {
        match fault {
            Fault::Read(error) => self.read_failed(error),
            Fault::Write(error) => self.write_failed(error),
        }
    }

    fn read_failed(&self, error: &io::Error) -> Failed {
        Failed {
            end: ended(self.side, error),
            writing: false,
        }
    }

    fn write_failed(&self, error: &io::Error) -> Failed {
        self.to_failed.set(true);
        let side = match self.side {
            Side::Downstream => Side::Upstream,
            _ => Side::Downstream,
        };
        Failed {
            end: ended(side, error),
            writing: true,
        }
    }
}

fn ended(side: Side, error: &io::Error) -> RelayEnd {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::ConnectionAborted => RelayEnd::Reset(side),
        _ => {
            let direction = if side == Side::Downstream {
                "send"
            } else {
                "receive"
            };
            RelayEnd::Failed(Error::new(
                Stage::Relay,
                side,
                "io",
                format!("{direction}: io error: {error}"),
            ))
        }
    }
}

/// Resolves when a socket whose FIN was read is reset.
async fn failure(socket: &TcpStream) {
    loop {
        match socket.ready(Interest::ERROR).await {
            Ok(ready) if ready.is_error() => return,
            Ok(_) => tokio::task::yield_now().await,
            Err(_) => return,
        }
    }
}
