use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;

#[inline(never)]
fn burn(until: &AtomicBool) -> u64 {
    let mut sum = 0_u64;
    while !until.load(Relaxed) {
        for number in 0..1000_u64 {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(number));
        }
    }
    sum
}

#[test]
fn a_busy_thread_is_sampled_where_it_is_and_an_idle_one_never() {
    let _turn = turn();
    let done = &AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (numbers, told) = std::sync::mpsc::channel();
        scope.spawn(move || {
            numbers.send(this_thread()).unwrap();
            burn(done)
        });
        let busy = told.recv().unwrap();
        let mut sampling = Sampling::begin(Duration::from_millis(5)).unwrap();
        sampling.add(busy).unwrap();
        let ours = this_thread();
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut periods, mut inside) = (0, 0);
        while periods < 20 {
            assert!(Instant::now() < deadline, "{periods} samples");
            sampling.take(|sample| {
                assert_eq!(sample.thread, busy);
                assert_ne!(sample.thread, ours);
                periods += sample.periods;
                let burning = sample.stack.iter().any(|&ip| {
                    let mut found = false;
                    backtrace::resolve(ip as *mut _, |symbol| {
                        let name = symbol.name().map(|name| name.to_string());
                        found |= name.is_some_and(|name| name.contains("burn"));
                    });
                    found
                });
                inside += u64::from(burning);
            });
            std::thread::yield_now();
        }
        assert!(inside > 0, "no sample shows where the time went");
        drop(sampling);
        done.store(true, Relaxed);
    });
}

#[test]
fn there_is_one_sampler_and_a_thread_that_is_gone_is_passed_over() {
    let _turn = turn();
    let mut sampling = Sampling::begin(Duration::from_millis(10)).unwrap();
    let second = Sampling::begin(Duration::from_millis(10)).unwrap_err();
    assert_eq!(second.kind(), io::ErrorKind::ResourceBusy);
    let gone = std::thread::spawn(this_thread).join().unwrap();
    sampling.add(gone).unwrap();
    drop(sampling);
    assert!(Sampling::begin(Duration::from_millis(10)).is_ok());
}

#[test]
fn threads_have_numbers_and_names() {
    let ours = this_thread();
    assert!(threads().unwrap().contains(&ours));
    let named = std::thread::Builder::new().name("somebody".into());
    let name = named.spawn(|| thread_name(this_thread())).unwrap();
    assert_eq!(name.join().unwrap().as_deref(), Some("somebody"));
    assert_eq!(thread_name(0), None);
}

#[test]
fn what_a_late_signal_of_the_last_profile_writes_is_left_to_it() {
    let _turn = turn();
    drop(Sampling::begin(Duration::from_millis(10)).unwrap());
    let states = |index: usize| &slots()[index].state;
    states(0).store(TAKEN, Release);
    states(1).store(FULL, Release);
    let sampling = Sampling::begin(Duration::from_millis(10)).unwrap();
    assert_eq!(states(0).load(Acquire), TAKEN);
    sampling.take(|_| panic!("is of the last profile"));
    states(0).store(FREE, Release);
}
