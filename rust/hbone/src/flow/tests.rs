use super::*;

fn plenty() -> Growth {
    Growth::of(MAX_WINDOW)
}

/// A clock that stands still, and no peer measured.
fn no_pace() -> Pace {
    Pace::default()
}

/// A peer that is so many microseconds away.
fn away(round_trip: u64) -> Pace {
    let mut pace = Pace::default();
    pace.tell(1);
    assert!(pace.probes());
    pace.tell(1 + round_trip);
    pace.answered();
    pace
}

#[test]
fn a_send_window_below_zero_lets_nothing_go_and_recovers() {
    let mut window = SendWindow::new(100);
    window.take(80);
    window.shift(-50).unwrap();
    assert_eq!(window.open(), 0);
    window.shift(30).unwrap();
    assert_eq!(window.open(), 0);
    window.shift(1).unwrap();
    assert_eq!(window.open(), 1);
}

#[test]
fn a_send_window_ends_at_two_gibibytes() {
    let mut window = SendWindow::new(MAX_WINDOW - 1);
    assert_eq!(window.shift(1), Ok(()));
    assert_eq!(window.shift(1), Err(Overflow));
    assert_eq!(window.open(), MAX_WINDOW as usize, "unchanged");
}

#[test]
fn credit_is_told_in_steps_of_an_eighth_of_a_window() {
    let mut window = ReceiveWindow::new(80, 80);
    assert!(window.arrive(60));
    window.hold(60);
    assert_eq!(window.release(9, &mut plenty(), &no_pace()), None);
    assert_eq!(window.release(1, &mut plenty(), &no_pace()), Some(10));
    assert_eq!(window.release(9, &mut plenty(), &no_pace()), None);
    assert_eq!(window.available(), 30);
    assert!(!window.arrive(31));
    assert!(window.arrive(30));
}

#[test]
fn releasing_more_than_was_held_credits_what_was_held() {
    let mut window = ReceiveWindow::new(100, 100);
    assert!(window.arrive(60));
    window.hold(60);
    assert_eq!(window.release(1000, &mut plenty(), &no_pace()), Some(60));
    assert_eq!(window.release(1000, &mut plenty(), &no_pace()), None);
    assert_eq!(window.available(), 100);
}

/// A sender behind `round_trip` microseconds that has `speed` bytes a microsecond: it fills the window, and waits for
/// credit where that is used up first. The sizes that the window had.
fn drain(window: &mut ReceiveWindow, round_trip: u64, speed: u64, growth: &mut Growth) -> Vec<u32> {
    let mut pace = away(round_trip);
    let mut sizes = vec![window.size];
    let piece = window.size / 4;
    for _ in 0..800 {
        let window_limited = u64::from(piece) * round_trip / u64::from(window.size);
        let apart = window_limited.max(u64::from(piece) / speed).max(1);
        pace.tell(pace.now() + apart);
        assert!(window.arrive(piece));
        window.hold(piece);
        window.release(piece, growth, &pace);
        if sizes.last() != Some(&window.size) {
            sizes.push(window.size);
        }
    }
    sizes
}

#[test]
fn a_window_that_holds_the_peer_back_doubles_and_stops_at_its_most() {
    let mut window = ReceiveWindow::new(BULK, 3 * BULK);
    let sizes = drain(&mut window, 80_000, 1000, &mut plenty());
    assert_eq!(sizes, [BULK, 2 * BULK, 3 * BULK]);
}

#[test]
fn a_window_grows_to_what_the_distance_asks_for() {
    // 80 ms at 200 bytes a microsecond are 16 MB: the next doubling stays, the one after it would bring nothing.
    for (round_trip, speed, times) in [
        (80_000, 200, 16),
        (8_000, 200, 2),
        (80_000, 20, 2),
        (100, 1, 1),
    ] {
        let mut window = ReceiveWindow::new(BULK, MAX_WINDOW);
        drain(&mut window, round_trip, speed, &mut plenty());
        // It may be trying whether more would help.
        let settled = match window.trial {
            Trial::Grown { .. } | Trial::Counts { .. } => window.size / 2,
            Trial::None | Trial::Failed { .. } => window.size,
        };
        assert_eq!(settled, times * BULK, "{round_trip} {speed}");
    }
}

#[test]
fn a_window_that_brought_nothing_is_taken_back_and_tried_again_later() {
    let mut window = ReceiveWindow::new(BULK, MAX_WINDOW);
    let mut pace = away(100_000);
    let mut growth = plenty();
    // As fast as the sender can, whatever the window: 1 MiB in 20 ms, in a queue that makes the round trip long.
    let mut sizes = Vec::new();
    for _ in 0..1000 {
        pace.tell(pace.now() + 5_000);
        assert!(window.arrive(BULK / 4));
        window.hold(BULK / 4);
        window.release(BULK / 4, &mut growth, &pace);
        if sizes.last() != Some(&window.size) {
            sizes.push(window.size);
        }
    }
    // Five seconds: three attempts.
    assert_eq!(
        sizes,
        [BULK, 2 * BULK, BULK, 2 * BULK, BULK, 2 * BULK, BULK]
    );
    assert_eq!(growth.0, plenty().0);
    assert!(window.available() <= i64::from(BULK));
}

/// Records do not divide a window: credit that comes in too large steps would leave half of it unused.
#[test]
fn a_far_sender_of_records_gets_all_of_its_window_and_more() {
    const RECORD: u32 = 16_375;
    let mut window = ReceiveWindow::new(BULK / 4, 4 * BULK);
    let (round_trip, mut pace, mut growth) = (80_000, away(80_000), plenty());
    let mut credit = std::collections::VecDeque::from([(0, u64::from(BULK / 4))]);
    let (mut room, mut sent) = (0_u64, 0_u64);
    let start = pace.now();
    while pace.now() - start < 4_000_000 {
        pace.tell(pace.now() + 100);
        while credit.front().is_some_and(|(at, _)| *at <= pace.now()) {
            room += credit.pop_front().unwrap().1;
        }
        if room >= u64::from(RECORD) && window.arrive(RECORD) {
            room -= u64::from(RECORD);
            sent += u64::from(RECORD);
            window.hold(RECORD);
            if let Some(more) = window.release(RECORD, &mut growth, &pace) {
                credit.push_back((pace.now() + round_trip, u64::from(more)));
            }
        }
    }
    assert_eq!(window.size, 4 * BULK);
    // 4 MiB each 80 ms are 52 MB/s; most of the four seconds at that.
    assert!(sent > 140_000_000, "{sent}");
}

#[test]
fn what_a_window_was_made_smaller_by_is_forgotten() {
    let mut window = ReceiveWindow::new(BULK, MAX_WINDOW);
    drain(&mut window, 100_000, 1, &mut plenty());
    for _ in 0..100 {
        drain(&mut window, 100_000, 50, &mut plenty());
        let most = window.size * 2;
        assert!(
            window.returned <= most,
            "{} {}",
            window.returned,
            window.size
        );
    }
}

#[test]
fn less_is_on_its_way_while_somebody_waits_and_all_of_it_again_afterwards() {
    let mut window = ReceiveWindow::new(BULK, BULK);
    let mut pace = away(10);
    pace.contest(true);
    let take = |window: &mut ReceiveWindow, pace: &Pace, bytes: u32| {
        assert!(window.arrive(bytes));
        window.hold(bytes);
        window.release(bytes, &mut plenty(), pace)
    };
    for _ in 0..BULK / CONTESTED - 1 {
        assert_eq!(take(&mut window, &pace, CONTESTED), None);
    }
    assert_eq!(window.available(), i64::from(CONTESTED));
    for _ in 0..100 {
        assert_eq!(take(&mut window, &pace, CONTESTED / 2), Some(CONTESTED / 2));
    }
    pace.contest(false);
    assert_eq!(take(&mut window, &pace, 1), Some(BULK - CONTESTED + 1));
    assert_eq!(window.available(), i64::from(BULK));
}

#[test]
fn bulk_earns_a_window_of_one_mebibyte_wherever_the_peer_is() {
    for (speed, size) in [(2_000, BULK), (100, BULK / 2), (20, BULK / 4)] {
        let mut window = ReceiveWindow::new(BULK / 4, MAX_WINDOW);
        drain(&mut window, 10, speed, &mut plenty());
        assert_eq!(window.size, size, "{speed}");
    }
}

#[test]
fn nothing_grows_without_a_clock() {
    let mut window = ReceiveWindow::new(100, 300);
    for _ in 0..200 {
        assert!(window.arrive(60));
        window.hold(60);
        window.release(60, &mut plenty(), &no_pace());
    }
    assert_eq!(window.size, 100);
}

#[test]
fn a_reader_that_is_behind_keeps_its_window() {
    let mut window = ReceiveWindow::new(800, 3000);
    assert!(window.arrive(800));
    window.hold(800);
    let mut pace = away(1_000_000);
    for _ in 0..200 {
        pace.tell(pace.now() + 10);
        // As soon as it takes some, as much is there again: seven eighths always wait for it.
        let room = window.release(100, &mut plenty(), &pace).unwrap();
        assert!(window.arrive(room));
        window.hold(room);
    }
    assert_eq!(window.size, 800);
}

#[test]
fn every_byte_of_a_window_is_somewhere() {
    let mut window = ReceiveWindow::new(1000, 8000);
    let mut seed = 0x9e37_79b9_u32;
    for _ in 0..10_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let bytes = (seed >> 8) % 700;
        match seed % 3 {
            0 if window.arrive(bytes) => window.hold(bytes),
            1 if window.arrive(bytes) => {
                window.give_back(bytes);
            }
            _ => {
                window.release(bytes, &mut plenty(), &no_pace());
            }
        }
        let total = window.available + i64::from(window.held) + i64::from(window.returned);
        assert_eq!(total, i64::from(window.size));
    }
}

#[test]
fn windows_share_what_they_may_grow_by() {
    let mut growth = Growth::of(600);
    let grow = |window: &mut ReceiveWindow, growth: &mut Growth| {
        drain(window, 10, 1000, growth);
        window.grown()
    };
    let mut first = ReceiveWindow::new(100, 400);
    let mut second = ReceiveWindow::new(100, 400);
    assert_eq!(
        grow(&mut first, &mut growth),
        150,
        "a quarter of the connection's window is there"
    );
    assert_eq!(grow(&mut second, &mut growth), 0);
    growth.put_back(first.grown());
    assert_eq!(grow(&mut second, &mut growth), 150);
}
