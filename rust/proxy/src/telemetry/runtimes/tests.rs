use std::sync::atomic::AtomicUsize;

use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
}

fn shown(runtimes: &Runtimes) -> String {
    let mut text = Exposition::default();
    runtimes.show(&mut text);
    String::from_utf8(text.into_bytes()).unwrap()
}

#[test]
fn every_worker_that_runs_is_shown_under_its_number() {
    let (first, second) = (runtime(), runtime());
    let runtimes = Arc::<Runtimes>::default();
    assert_eq!(shown(&runtimes), "");
    let one = runtimes.show_worker(1, second.metrics(), Arc::new(AtomicUsize::new(3)));
    let zero = runtimes.show_worker(0, first.metrics(), Arc::new(AtomicUsize::new(4)));
    first.block_on(tokio::task::yield_now());
    let text = shown(&runtimes);
    assert!(text.contains("\ntokio_num_workers 2\n"), "{text}");
    assert!(text.contains("\ntokio_num_alive_tasks 7\n"), "{text}");
    let parks: Vec<_> = text
        .lines()
        .filter(|line| line.starts_with("tokio_worker_park_count_total"))
        .collect();
    assert!(parks[0].starts_with("tokio_worker_park_count_total{worker=\"0\"} "));
    assert_eq!(parks[1], "tokio_worker_park_count_total{worker=\"1\"} 0");
    assert!(
        text.contains("\ntokio_worker_total_busy_duration_seconds_total{worker=\"1\"} 0.0\n"),
        "{text}"
    );
    drop(zero);
    assert!(shown(&runtimes).contains("\ntokio_num_workers 1\n"));
    drop(one);
    assert_eq!(shown(&runtimes), "");
}
