//! The store under fire: readers at full speed while a writer applies changes, and without it (`src/readers.rs`).
//!
//! `cargo run --release -p micro --example store_fire [SECONDS [WORKLOADS [READERS [CHANGES]]]]`. Rounds with and without
//! changes take turns; a reader that finds a torn view ends the program. With fewer processors than threads the 99th of
//! a hundred is a look that was interrupted, or is not, by luck: look at the ratio's median over the rounds.

#![expect(clippy::print_stdout, reason = "a benchmark reports to whoever ran it")]

use std::time::Duration;

use micro::readers::{Findings, run};

fn main() {
    let mut given = std::env::args()
        .skip(1)
        .map(|n| n.parse().expect("a number"));
    let mut next = |default: u32| given.next().unwrap_or(default);
    let (seconds, workloads, readers, changes) = (next(60), next(100_000), next(8), next(1_000));
    let rounds = if seconds < 20 { 1 } else { 5 };
    let time = Duration::from_secs(seconds.into()) / rounds;
    let mut ratios = Vec::new();
    for _ in 0..rounds {
        let [quiet, fire] = [0, changes].map(|changes| {
            let found = run(readers, workloads, time, changes);
            print(&found);
            found
        });
        ratios.push(fire.p99.as_secs_f64() / quiet.p99.as_secs_f64());
    }
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ratios.len() / 2];
    println!("p99 with changes / without, median of {rounds} rounds: {ratio:.2}");
}

fn print(found: &Findings) {
    println!(
        "{:>6} changes of {:>5.1} us, {:>10} looks: median {:>6.2} us, p99 {:>7.2} us",
        found.changes,
        found.change.as_secs_f64() * 1e6,
        found.looks,
        found.median.as_secs_f64() * 1e6,
        found.p99.as_secs_f64() * 1e6,
    );
}
