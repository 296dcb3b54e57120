//! Our engine against the `h2` crate, as client and as server, over an in-memory pipe with random plans.
//!
//! A plan says for each stream how much goes up and down, in which pieces, and how it ends. Both sides must hear
//! exactly that: the same bytes, the same ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use hbone::{Config, ErrorCode, Event, ResponseHead, StreamId};
use proptest::prelude::*;
use support::{connect, pattern};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{mpsc, oneshot};

/// One stream.
#[derive(Clone, Copy, Debug)]
struct Plan {
    up: usize,
    down: usize,
    piece: usize,
    /// How the client's and the server's direction end.
    client: Finish,
    server: Finish,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// END_STREAM on the last DATA.
    WithData,
    /// END_STREAM by itself.
    Apart,
    /// RST_STREAM(CANCEL) once all was sent.
    Reset,
}

/// How a side saw a stream end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    End,
    Reset(u32),
}

type Outcomes = BTreeMap<usize, (Vec<u8>, Ending)>;

#[derive(Clone, Debug)]
struct Scenario {
    plans: Vec<Plan>,
    /// Protocol defaults (64 KiB windows, 16 KiB frames) instead of large ones, on our side and on theirs.
    ours_small: bool,
    theirs_small: bool,
    pipe: usize,
    read: usize,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let size = prop_oneof![Just(0_usize), 1..100_usize, 1..400_000_usize];
    let finish = || prop_oneof![3 => Just(Finish::WithData), 3 => Just(Finish::Apart), 1 => Just(Finish::Reset)];
    let plan = (size.clone(), size, 1_usize..60_000, finish(), finish()).prop_map(
        |(up, down, piece, client, server)| Plan {
            up,
            down,
            piece,
            client,
            server,
        },
    );
    let plans = proptest::collection::vec(plan, 1..12);
    (
        plans,
        any::<bool>(),
        any::<bool>(),
        100_usize..100_000,
        1_usize..70_000,
    )
        .prop_map(|(plans, ours_small, theirs_small, pipe, read)| Scenario {
            plans,
            ours_small,
            theirs_small,
            pipe,
            read,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 50, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn our_client_and_their_server_agree(scenario in scenarios()) {
        let (ours, theirs) = run(&scenario, Config::client());
        judge(&scenario, &ours, &theirs)?;
    }

    #[test]
    fn their_client_and_our_server_agree(scenario in scenarios()) {
        let (ours, theirs) = run(&scenario, Config::server());
        judge(&scenario, &theirs, &ours)?;
    }
}

/// h2 ends a connection over some hundred DATA frames below 256 bytes that wait to be read (bytes missing to 256 are summed up to half its
/// connection window, at least 25,600).
/// Our proxy gathers small writes for such peers; here small frames are the point.
const SMALL_FRAMES: usize = 1 << 30;

/// Compares what both sides heard with the plan.
fn judge(scenario: &Scenario, client: &Outcomes, server: &Outcomes) -> Result<(), TestCaseError> {
    for (at, plan) in scenario.plans.iter().enumerate() {
        judge_direction(&server[&at], plan.up, plan.client, plan.server)?;
        judge_direction(&client[&at], plan.down, plan.server, plan.client)?;
    }
    Ok(())
}

fn judge_direction(
    (heard, ending): &(Vec<u8>, Ending),
    sent: usize,
    sender: Finish,
    hearer: Finish,
) -> Result<(), TestCaseError> {
    let expected = pattern(sent);
    prop_assert!(expected.starts_with(heard), "in order, nothing invented");
    let is_end = *ending == Ending::End;
    prop_assert!(
        !is_end || (heard.len() == sent && sender != Finish::Reset),
        "an end is whole"
    );
    let is_orderly = sender != Finish::Reset && hearer != Finish::Reset;
    prop_assert!(is_end || !is_orderly, "{ending:?} though nobody reset");
    let is_cancel = matches!(ending, Ending::End | Ending::Reset(8));
    prop_assert!(is_cancel, "{ending:?}");
    Ok(())
}

fn run(scenario: &Scenario, mut config: Config) -> (Outcomes, Outcomes) {
    if scenario.ours_small {
        (config.stream_window, config.stream_window_max) = (65_535, 65_535);
        (config.connection_window, config.max_frame_size) = (65_535, 16_384);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (left, right) = tokio::io::duplex(scenario.pipe);
        let (done, ours_done) = oneshot::channel();
        let is_client = config.role == hbone::Role::Client;
        let ours = Ours::new(config, scenario).drive(left, done);
        let both = async {
            if is_client {
                tokio::join!(ours, their_server(right, scenario.clone(), ours_done))
            } else {
                tokio::join!(ours, their_client(right, scenario.clone(), ours_done))
            }
        };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("nobody waits for ever")
    })
}

/// A driver for our engine: what `proxy::tunnel` does, without TLS.
struct Ours {
    engine: hbone::Connection,
    scenario: Scenario,
    streams: BTreeMap<StreamId, Live>,
    outcomes: Outcomes,
    out: Vec<u8>,
    opened: usize,
}

struct Live {
    at: usize,
    payload: Vec<u8>,
    heard: Vec<u8>,
    left: usize,
    /// Our direction has ended.
    finished: bool,
    answered: bool,
}

impl Ours {
    fn new(config: Config, scenario: &Scenario) -> Self {
        Self {
            engine: hbone::Connection::new(config),
            scenario: scenario.clone(),
            streams: BTreeMap::new(),
            outcomes: Outcomes::new(),
            out: Vec::new(),
            opened: 0,
        }
    }

    fn is_client(&self) -> bool {
        self.engine.role() == hbone::Role::Client
    }

    async fn drive(mut self, io: DuplexStream, done: oneshot::Sender<()>) -> Outcomes {
        let mut done = Some(done);
        let (mut reader, mut writer) = tokio::io::split(io);
        let mut input = vec![0; self.scenario.read];
        loop {
            self.open_streams();
            self.write_streams();
            if self.is_done()
                && let Some(done) = done.take()
            {
                let _ = done.send(());
            }
            tokio::select! {
                read = reader.read(&mut input) => match read {
                    Ok(0) | Err(_) => return self.outcomes,
                    Ok(n) => self.hear(&input[..n]),
                },
                written = writer.write(&self.out), if !self.out.is_empty() => match written {
                    Ok(n) => drop(self.out.drain(..n)),
                    Err(_) => return self.outcomes,
                },
            }
        }
    }

    fn is_done(&self) -> bool {
        self.outcomes.len() == self.scenario.plans.len()
            && self.streams.values().all(|live| live.finished)
            && self.out.is_empty()
    }

    fn open_streams(&mut self) {
        while self.is_client() && self.opened < self.scenario.plans.len() && self.engine.can_open()
        {
            let id = self
                .engine
                .open(&connect(&format!("10.0.0.7:{}", self.opened)))
                .unwrap();
            let left = self.scenario.plans[self.opened].up;
            self.begin(id, self.opened, left, false);
            self.opened += 1;
        }
    }

    fn begin(&mut self, id: StreamId, at: usize, left: usize, answered: bool) {
        let live = Live {
            at,
            payload: pattern(left),
            heard: Vec::new(),
            left,
            finished: false,
            answered,
        };
        self.streams.insert(id, live);
    }

    fn write_streams(&mut self) {
        let is_client = self.is_client();
        for (id, live) in &mut self.streams {
            let plan = self.scenario.plans[live.at];
            let finish = if is_client { plan.client } else { plan.server };
            if !live.answered {
                continue;
            }
            while live.left > 0 && self.out.len() < 100_000 {
                let len = live.left.min(plan.piece);
                let len = len
                    .min(self.engine.sendable(*id))
                    .min(self.engine.max_data());
                if len == 0 {
                    break;
                }
                let is_last = len == live.left && finish == Finish::WithData;
                let header = self.engine.send(*id, len, is_last).unwrap();
                take_output(&mut self.engine, &mut self.out);
                self.out.extend_from_slice(&header);
                let from = live.payload.len() - live.left;
                self.out.extend_from_slice(&live.payload[from..from + len]);
                live.left -= len;
                live.finished |= is_last;
            }
            if live.left == 0 && !live.finished {
                live.finished = true;
                if finish == Finish::Reset {
                    self.engine.reset(*id, ErrorCode::Cancel);
                    let heard = std::mem::take(&mut live.heard);
                    self.outcomes
                        .entry(live.at)
                        .or_insert((heard, Ending::Reset(8)));
                } else {
                    self.engine.finish(*id).unwrap();
                }
            }
        }
        take_output(&mut self.engine, &mut self.out);
    }

    fn hear(&mut self, mut input: &[u8]) {
        loop {
            let received = self.engine.receive(input).expect("an honest peer");
            input = &input[received.consumed..];
            match received.event {
                None => return,
                Some(event) => self.on(event),
            }
        }
    }

    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Request { stream, head, .. } => {
                let authority = head.authority.unwrap();
                let at: usize = authority.rsplit(':').next().unwrap().parse().unwrap();
                self.engine
                    .respond(stream, &ResponseHead::status(200), false)
                    .unwrap();
                self.begin(stream, at, self.scenario.plans[at].down, true);
            }
            Event::Response { stream, head, end } => {
                assert_eq!(head.status, 200);
                let live = self.streams.get_mut(&stream).unwrap();
                live.answered = true;
                if end {
                    self.ended(stream, Ending::End);
                }
            }
            Event::Data { stream, bytes } => {
                let live = self.streams.get_mut(&stream).unwrap();
                live.heard.extend_from_slice(bytes);
                self.engine.release(stream, bytes.len());
            }
            Event::End { stream } => self.ended(stream, Ending::End),
            Event::Reset { stream, code, .. } => {
                self.ended(stream, Ending::Reset(code.into()));
                self.streams.get_mut(&stream).unwrap().finished = true;
            }
            _ => {}
        }
    }

    fn ended(&mut self, stream: StreamId, ending: Ending) {
        let live = self.streams.get_mut(&stream).unwrap();
        let heard = std::mem::take(&mut live.heard);
        self.outcomes.entry(live.at).or_insert((heard, ending));
    }
}

fn take_output(engine: &mut hbone::Connection, out: &mut Vec<u8>) {
    out.extend_from_slice(engine.output());
    let n = engine.output().len();
    engine.output_sent(n);
}

async fn their_server(
    io: DuplexStream,
    scenario: Scenario,
    ours_done: oneshot::Receiver<()>,
) -> Outcomes {
    let mut builder = h2::server::Builder::new();
    builder.data_frame_budget(SMALL_FRAMES);
    if !scenario.theirs_small {
        builder
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        builder.max_frame_size(1 << 20);
    }
    let (tell, told) = mpsc::unbounded_channel();
    let plans = scenario.plans.clone();
    let connection = tokio::spawn(async move {
        let mut connection = builder
            .handshake::<_, Bytes>(io)
            .await
            .expect("a handshake");
        while let Some(request) = connection.accept().await {
            let Ok((request, mut respond)) = request else {
                return;
            };
            let port = request.uri().authority().unwrap().port_u16().unwrap();
            let (at, tell) = (usize::from(port), tell.clone());
            let plan = plans[at];
            let sender = respond.send_response(http::Response::new(()), false);
            tokio::spawn(async move {
                let Ok(sender) = sender else { return };
                let body = request.into_body();
                let outcome = their_stream(sender, body, plan.down, plan.piece, plan.server).await;
                let _ = tell.send((at, outcome));
            });
        }
    });
    gather(told, scenario.plans.len(), ours_done, connection).await
}

async fn their_client(
    io: DuplexStream,
    scenario: Scenario,
    ours_done: oneshot::Receiver<()>,
) -> Outcomes {
    let mut builder = h2::client::Builder::new();
    builder.data_frame_budget(SMALL_FRAMES);
    if !scenario.theirs_small {
        builder
            .initial_window_size(1 << 20)
            .initial_connection_window_size(4 << 20);
        builder.max_frame_size(1 << 20);
    }
    let (requests, connection) = builder
        .handshake::<_, Bytes>(io)
        .await
        .expect("a handshake");
    let connection = tokio::spawn(async move { drop(connection.await) });
    let (tell, told) = mpsc::unbounded_channel();
    for (at, plan) in scenario.plans.iter().copied().enumerate() {
        let (requests, tell) = (requests.clone(), tell.clone());
        tokio::spawn(async move {
            let request = http::Request::connect(format!("10.0.0.7:{at}"))
                .body(())
                .unwrap();
            let mut requests = requests.ready().await.expect("a place");
            let (response, sender) = requests.send_request(request, false).expect("a stream");
            let outcome = match response.await {
                Ok(response) => {
                    let body = response.into_body();
                    their_stream(sender, body, plan.up, plan.piece, plan.client).await
                }
                Err(error) => (Vec::new(), reset_of(&error)),
            };
            let _ = tell.send((at, outcome));
        });
    }
    gather(told, scenario.plans.len(), ours_done, connection).await
}

/// Both directions of one stream of theirs.
async fn their_stream(
    mut sender: h2::SendStream<Bytes>,
    mut body: h2::RecvStream,
    length: usize,
    piece: usize,
    finish: Finish,
) -> (Vec<u8>, Ending) {
    let (tell_reset, was_reset) = oneshot::channel::<()>();
    let sending = async move {
        let bytes = Bytes::from(pattern(length));
        let mut sent = 0;
        while sent < length {
            let len = piece.min(length - sent);
            sender.reserve_capacity(len);
            let given = std::future::poll_fn(|cx| sender.poll_capacity(cx)).await;
            let Some(Ok(given)) = given else { return };
            let len = len.min(given);
            if len == 0 {
                continue;
            }
            let is_last = sent + len == length && finish == Finish::WithData;
            if sender
                .send_data(bytes.slice(sent..sent + len), is_last)
                .is_err()
            {
                return;
            }
            sent += len;
        }
        match finish {
            Finish::Reset => {
                sender.send_reset(Reason::CANCEL);
                let _ = tell_reset.send(());
            }
            Finish::Apart => drop(sender.send_data(Bytes::new(), true)),
            Finish::WithData if length == 0 => drop(sender.send_data(Bytes::new(), true)),
            Finish::WithData => {}
        }
    };
    let receiving = async move {
        let mut heard = Vec::new();
        let mut was_reset = Some(was_reset);
        loop {
            let next = tokio::select! {
                next = body.data() => next,
                reset = async { was_reset.as_mut().unwrap().await }, if was_reset.is_some() => {
                    was_reset = None;
                    if reset.is_ok() {
                        return (heard, Ending::Reset(8));
                    }
                    continue;
                }
            };
            match next {
                None => return (heard, Ending::End),
                Some(Err(error)) => return (heard, reset_of(&error)),
                Some(Ok(bytes)) => {
                    let _ = body.flow_control().release_capacity(bytes.len());
                    heard.extend_from_slice(&bytes);
                }
            }
        }
    };
    tokio::join!(sending, receiving).1
}

fn reset_of(error: &h2::Error) -> Ending {
    assert!(error.is_reset(), "{error}");
    Ending::Reset(error.reason().expect("a code").into())
}

/// Waits for every stream of theirs, then for ours, while their connection goes on.
async fn gather(
    mut told: mpsc::UnboundedReceiver<(usize, (Vec<u8>, Ending))>,
    count: usize,
    ours_done: oneshot::Receiver<()>,
    connection: tokio::task::JoinHandle<()>,
) -> Outcomes {
    let mut outcomes = Outcomes::new();
    while outcomes.len() < count {
        let (at, outcome) = told.recv().await.expect("every stream has an outcome");
        outcomes.insert(at, outcome);
    }
    ours_done.await.expect("ours ends too");
    connection.abort();
    outcomes
}
