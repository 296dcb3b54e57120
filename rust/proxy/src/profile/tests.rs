use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::*;

#[inline(never)]
fn dig(until: &AtomicBool) -> u64 {
    let mut sum = 0_u64;
    while !until.load(Relaxed) {
        sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
    }
    sum
}

#[test]
fn a_profile_says_which_thread_spent_its_time_where() {
    let _turn = crate::sys::sampling_turn();
    let done = AtomicBool::new(false);
    let mut profile = CpuProfile::start(Duration::from_millis(5), Vec::new()).unwrap();
    let refused = CpuProfile::start(Duration::from_millis(5), Vec::new()).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ResourceBusy);
    std::thread::scope(|scope| {
        // Begun after the profile was: it is found all the same.
        let digger = Builder::new().name("digger".into());
        digger.spawn_scoped(scope, || dig(&done)).unwrap();
        let began = Instant::now();
        // The CPU time of a thread that spins, not a wait for something that could tell.
        while began.elapsed() < Duration::from_millis(600) {
            std::thread::yield_now();
        }
        done.store(true, Relaxed);
    });
    let found = profile.finish();
    let of_digger: Vec<_> = found
        .stacks
        .iter()
        .filter(|s| s.thread_name == "digger")
        .collect();
    let periods: u64 = of_digger.iter().map(|stack| stack.periods).sum();
    assert!(periods >= 10, "{periods}");
    let digs = |address| {
        let functions = &found.frames[address].functions;
        functions
            .iter()
            .any(|function| function.name.contains("dig"))
    };
    assert!(
        of_digger
            .iter()
            .any(|stack| stack.addresses.iter().any(digs))
    );
    assert!(profile.finish().stacks.is_empty());
}
