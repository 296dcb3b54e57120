//! Plain connections on their way in: 15006, what reaches a captured pod without a tunnel.
//!
//! Nobody vouches for these clients: policy sees their address and no identity (spec/dataplane.md §11). Counterpart for
//! what comes through tunnels: `inbound.rs`. Here is also what every plain connection does once both its sockets are
//! there, which `outbound.rs` shares.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use mesh::authorize::ConnectionFacts;
use mesh::route::{InboundRefusal, Target, guess_service, plaintext};
use tokio::net::TcpStream;

use crate::capture::WayIn;
use crate::connection::ConnectionRecord;
use crate::connections::{Guarded, Registration};
use crate::deliver::Delivery;
use crate::error::{Error, Side, Stage};
use crate::outbound::patience;
use crate::policy::permit;
use crate::relay::abort::{abort, abort_now, finish, guard};
use crate::relay::{RelayEnd, copy};
use crate::sys;
use crate::telemetry::Reporter;
use crate::telemetry::access_log::Direction;
use crate::telemetry::metrics;
use crate::worker::Worker;

/// Serves one captured connection, from accept to its end.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    socket: TcpStream,
    client: SocketAddr,
    transparent: bool,
) {
    let _open = worker.recorder.socket(Reporter::Destination);
    let registration = worker.connections.register();
    let connection = Connection {
        client: sys::canonical(client),
        socket: Rc::new(socket),
        started: Instant::now(),
        worker,
        registration,
        transparent,
    };
    connection.run().await;
}

struct Connection {
    worker: Rc<Worker>,
    socket: Rc<TcpStream>,
    client: SocketAddr,
    started: Instant,
    registration: Registration,
    /// The listener may keep the client's address toward the application.
    transparent: bool,
}

/// A connection that was turned down, with the record if it had come so far.
struct Refusal {
    error: Error,
    record: Option<Box<ConnectionRecord>>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            error,
            record: None,
        }
    }
}

impl From<InboundRefusal> for Refusal {
    fn from(refusal: InboundRefusal) -> Self {
        let text = refusal.to_string();
        Error::new(Stage::Lookup, Side::Downstream, "destination", text).into()
    }
}

impl Connection {
    /// Opening is boxed: what it needs is given back, not kept for as long as the connection lives.
    async fn run(self) {
        let opened = Box::pin(self.open()).await;
        match opened {
            Ok((application, record)) => {
                let sockets = (self.socket, application);
                join(&self.worker, sockets, record, self.registration.cut()).await;
            }
            Err((refusal, destination)) => self.refuse(refusal, destination),
        }
    }

    async fn open(
        &self,
    ) -> Result<(Rc<TcpStream>, ConnectionRecord), (Refusal, Option<SocketAddr>)> {
        let way = WayIn::Captured {
            transparent: self.transparent,
        };
        let destination = match way.target(&self.socket, &self.worker).await {
            Ok(Target::Address(destination)) => sys::canonical(destination),
            Ok(Target::Host { .. }) => unreachable!("captured traffic has addresses"),
            Err(error) => return Err((error.into(), None)),
        };
        self.connect(destination)
            .await
            .map_err(|refusal| (refusal, Some(destination)))
    }

    /// The checks, in the order in which upstream makes them.
    async fn connect(
        &self,
        destination: SocketAddr,
    ) -> Result<(Rc<TcpStream>, ConnectionRecord), Refusal> {
        let worker = &self.worker;
        let shared = &worker.shared;
        worker.refuse_own_port(&destination)?;
        let workload = worker.local_workload().await?;
        let snapshot = shared.snapshot();
        let route = plaintext(&snapshot, &workload, destination)?;
        let service = guess_service(&route.candidates, None, destination.port());
        let source = shared.peer_workload(&snapshot, self.client.ip());
        let record = ConnectionRecord::plaintext(
            &worker.pairs,
            self.started,
            (self.client, route.destination),
            source,
            &workload,
            service,
        );
        let facts = ConnectionFacts {
            source: self.client,
            destination: route.destination,
            identity: None,
        };
        // Registered first: a policy that changes between the two lines ends the connection instead of missing it.
        self.registration.guard(Guarded {
            workload: workload.uid.clone(),
            facts: facts.clone(),
            host: None,
        });
        let kept = self.transparent.then(|| self.client.ip());
        let delivery = Delivery::straight(route.destination, kept);
        let dialled = match permit(shared, &workload, &facts) {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                biased;
                error = self.registration.cut() => Err(error),
                dialled = delivery.dial(shared) => dialled,
            },
        };
        match dialled {
            Ok(application) => {
                guard(&application);
                Ok((Rc::new(application), record))
            }
            Err(error) => Err(Refusal {
                error,
                record: Some(Box::new(record)),
            }),
        }
    }

    /// Never by a FIN, which reads as an empty answer.
    fn refuse(self, refusal: Refusal, destination: Option<SocketAddr>) {
        let Refusal { error, record } = refusal;
        let shared = &self.worker.shared;
        shared.metrics.refused(metrics::Side::Inbound, error.reason);
        match record {
            Some(record) => record.close(Err(&error)),
            None => shared.deny_early(Direction::Inbound, self.client, destination, &error),
        }
        abort_now(&self.socket);
    }
}

/// A plain connection whose two sockets are there: bytes both ways, the record's end, both closes.
pub(crate) async fn join(
    worker: &Worker,
    (downstream, upstream): (Rc<TcpStream>, Rc<TcpStream>),
    record: ConnectionRecord,
    cut: impl Future<Output = Error>,
) {
    let flows = (&*record.received, &*record.sent);
    let means = worker.shared.means();
    let end = copy::copy(&downstream, &upstream, flows, means, cut).await;
    match &end {
        RelayEnd::Finished | RelayEnd::Reset(_) => record.close(Ok(())),
        RelayEnd::Failed(error) | RelayEnd::Cut(error) => record.close(Err(error)),
    }
    for (socket, side) in [(upstream, Side::Upstream), (downstream, Side::Downstream)] {
        match &end {
            RelayEnd::Finished => finish(&socket),
            RelayEnd::Cut(_) => worker.spent.abort(socket),
            RelayEnd::Failed(_) | RelayEnd::Reset(_) => abort(socket, patience(&end, side)).await,
        }
    }
}
