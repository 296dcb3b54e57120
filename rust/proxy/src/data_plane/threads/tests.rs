use std::cell::Cell;
use std::rc::Rc;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::super::DataPlane;
use super::*;
use crate::capture::listener::accept;
use crate::settings::Settings;
use crate::tasks;

fn data_plane() -> DataPlane {
    let settings = serde_json::json!({
        "workload": {"name": "web", "namespace": "default", "serviceAccount": "web"},
        "listeners": {}, "workers": 2, "accessLog": {"format": "off"}, "logLevel": "off",
    });
    DataPlane::new(Settings::parse(settings.to_string().as_bytes()).unwrap()).unwrap()
}

/// What readiness says of workers, what is reported, and how many panics were counted.
fn after(run: impl FnOnce() -> std::io::Result<()>) -> (Vec<String>, Vec<Event>, u64) {
    let data_plane = data_plane();
    outlive(1, &data_plane.shared, run);
    let missing = data_plane.shared.readiness.missing();
    let workers = missing
        .into_iter()
        .filter(|task| task.starts_with("worker"));
    (
        workers.collect(),
        data_plane.take_events(),
        data_plane.shared.metrics.panics().load(Relaxed),
    )
}

#[test]
fn a_worker_that_panics_makes_the_node_not_ready_at_once_and_is_reported() {
    let (missing, events, panics) = after(|| panic!("as no worker should"));
    assert_eq!(missing, ["worker 1"]);
    assert_eq!(events, [Event::WorkerFailed { worker: 1 }]);
    assert_eq!(panics, 1);
}

#[test]
fn so_does_one_that_cannot_go_on() {
    let (missing, events, panics) = after(|| Err(std::io::Error::other("no descriptors")));
    assert_eq!(missing, ["worker 1"]);
    assert_eq!(events, [Event::WorkerFailed { worker: 1 }]);
    assert_eq!(panics, 0);
}

#[test]
fn one_that_was_told_to_end_is_missed_by_nobody() {
    assert_eq!(after(|| Ok(())), (Vec::new(), Vec::new(), 0));
}

/// The listener and what waits in its queue stay; only the one connection is lost.
#[test]
fn a_listener_that_panics_serves_the_next_connection() {
    let data_plane = data_plane();
    let shared = data_plane.shared.clone();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    tasks::count_panics(shared.metrics.panics());
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        let listener = Rc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
        let address = listener.local_addr().unwrap();
        let (served, mut serving) = tokio::sync::mpsc::channel(1);
        let first = Rc::new(Cell::new(true));
        let accepting = shared.clone();
        let service = move || {
            let (listener, shared) = (listener.clone(), accepting.clone());
            let (served, first) = (served.clone(), first.clone());
            async move {
                accept(&listener, "test", &shared, |_, peer| {
                    assert!(!first.replace(false), "a mistake");
                    served.try_send(peer).unwrap();
                })
                .await;
            }
        };
        let task = tasks::spawn_local(tasks::persist(service, || {}));
        let mut clients = Vec::new();
        for _ in 0..2 {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let peer = timeout(Duration::from_secs(20), serving.recv())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(peer, clients[1].local_addr().unwrap());
        assert_eq!(shared.metrics.panics().load(Relaxed), 1);
        task.abort();
    });
}
