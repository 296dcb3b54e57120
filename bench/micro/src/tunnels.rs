//! Two engines with memory between them.

use hbone::{Config, Connection, Event, Fields, RequestHead, ResponseHead, StreamId};

/// A client and a server that have said hello.
#[derive(Clone)]
pub struct Pair {
    /// The opening side.
    pub client: Connection,
    /// The answering side.
    pub server: Connection,
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// Prefaces and SETTINGS exchanged.
    pub fn new() -> Self {
        let mut pair = Self {
            client: Connection::new(Config::client()),
            server: Connection::new(Config::server()),
        };
        pair.exchange();
        pair
    }

    /// Carries control bytes both ways until nobody has any; answers requests with 200. Gives the streams that were
    /// asked for, as the server names them.
    pub fn exchange(&mut self) -> Vec<StreamId> {
        let mut asked = Vec::new();
        loop {
            let (up, down) = (taken(&mut self.client), taken(&mut self.server));
            if up.is_empty() && down.is_empty() {
                return asked;
            }
            hear(&mut self.client, &down);
            let requests = hear(&mut self.server, &up);
            for stream in &requests {
                let ok = ResponseHead::status(200);
                let answered = self.server.respond(*stream, &ok, false);
                answered.expect("a request waits for its answer");
            }
            asked.extend(requests);
        }
    }

    /// A tunnel as both ends name it.
    pub fn open(&mut self) -> (StreamId, StreamId) {
        let ours = self.client.open(&request()).expect("there is room");
        let theirs = self.exchange();
        (ours, theirs[0])
    }

    /// Ends a tunnel in order, both ways.
    pub fn close(&mut self, (ours, theirs): (StreamId, StreamId)) {
        self.client.finish(ours).expect("it is open");
        self.server.finish(theirs).expect("it is open");
        self.exchange();
    }

    /// A DATA frame of `size` from client to server, in the bytes that cross the wire.
    pub fn frame(&mut self, stream: StreamId, size: usize, wire: &mut Vec<u8>) {
        let header = self.client.send(stream, size, false);
        wire.extend_from_slice(&header.expect("the window is open"));
        wire.resize(wire.len() + size, 7);
    }
}

/// Hands bytes to an engine as a driver does; gives the requests among them.
pub fn hear(engine: &mut Connection, mut input: &[u8]) -> Vec<StreamId> {
    let mut requests = Vec::new();
    loop {
        let received = engine.receive(input).expect("both ends are ours");
        input = &input[received.consumed..];
        match received.event {
            Some(Event::Data { stream, bytes }) => engine.release(stream, bytes.len()),
            Some(Event::Request { stream, .. }) => requests.push(stream),
            Some(_) => {}
            None => return requests,
        }
    }
}

/// The control bytes that an engine has to say.
pub fn taken(engine: &mut Connection) -> Vec<u8> {
    let bytes = engine.output().to_vec();
    engine.output_sent(bytes.len());
    bytes
}

/// A request as the proxy makes it.
pub fn request() -> RequestHead {
    let fields = Fields::new()
        .with(
            "baggage",
            "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=app,service.name=app",
        )
        .with("forwarded", "for=\"10.0.0.1:4711\"")
        .with(
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00",
        );
    RequestHead::connect("10.0.0.7:8080", fields)
}
