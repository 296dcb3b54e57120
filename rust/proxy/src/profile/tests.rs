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

/// The processor time of a thread outside of the kernel, in hundredths of a second (proc_pid_stat(5), `utime`).
fn ticks(thread: &std::path::Path) -> u64 {
    let stat = std::fs::read_to_string(std::path::Path::new("/proc").join(thread).join("stat"));
    let stat = stat.unwrap();
    let (_, behind_its_name) = stat.rsplit_once(')').unwrap();
    let utime = behind_its_name.split_whitespace().nth(11).unwrap();
    utime.parse().unwrap()
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
        let (tell, told) = std::sync::mpsc::channel();
        let until = &done;
        let digs = move || {
            let itself = std::fs::read_link("/proc/thread-self").unwrap();
            tell.send(itself).unwrap();
            dig(until)
        };
        digger.spawn_scoped(scope, digs).unwrap();
        let thread = told.recv().unwrap();
        // A hundred periods of its own time, however much of ours that takes where others have the processors.
        let deadline = Instant::now() + Duration::from_secs(60);
        while ticks(&thread) < 50 && Instant::now() < deadline {
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
