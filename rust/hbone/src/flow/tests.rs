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
fn credit_is_told_in_steps_of_half_a_window() {
    let mut window = ReceiveWindow::new(100, 100);
    assert!(window.arrive(80));
    window.hold(80);
    assert_eq!(window.release(49, &mut plenty(), &no_pace()), None);
    assert_eq!(window.release(1, &mut plenty(), &no_pace()), Some(50));
    assert_eq!(window.release(30, &mut plenty(), &no_pace()), None);
    assert_eq!(window.available(), 70);
    assert!(!window.arrive(71));
    assert!(window.arrive(70));
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

/// Drains `window` in quarters of what it was at first, `apart` microseconds from each other; the sizes it had.
fn drain(window: &mut ReceiveWindow, pace: &mut Pace, apart: u64, growth: &mut Growth) -> Vec<u32> {
    let mut sizes = vec![window.size];
    let piece = window.size / 4;
    for _ in 0..200 {
        pace.tell(pace.now() + apart);
        assert!(window.arrive(piece));
        window.hold(piece);
        window.release(piece, growth, pace);
        if sizes.last() != Some(&window.size) {
            sizes.push(window.size);
        }
    }
    sizes
}

#[test]
fn a_window_that_holds_the_peer_back_doubles_and_stops_at_its_most() {
    // A window takes 80 ms, as long as the way there and back; the last one half as long.
    let sizes = drain(
        &mut ReceiveWindow::new(100, 300),
        &mut away(80_000),
        10_000,
        &mut plenty(),
    );
    assert_eq!(sizes, [100, 200, 300]);
}

#[test]
fn a_window_grows_to_what_the_distance_asks_for_and_no_further() {
    for (round_trip, apart, times) in [(80, 20, 2), (80, 30, 1), (800, 20, 16), (79, 2, 16)] {
        let mut window = ReceiveWindow::new(BULK, MAX_WINDOW);
        drain(&mut window, &mut away(round_trip), apart, &mut plenty());
        assert_eq!(window.size, times * BULK, "{round_trip} {apart}");
    }
}

#[test]
fn bulk_earns_a_window_of_one_mebibyte_wherever_the_peer_is() {
    for (apart, size) in [(60, BULK), (1_250, BULK / 2), (1_300, BULK / 4)] {
        let mut window = ReceiveWindow::new(BULK / 4, MAX_WINDOW);
        drain(&mut window, &mut away(10), apart, &mut plenty());
        assert_eq!(window.size, size, "{apart}");
    }
}

#[test]
fn nothing_grows_without_a_clock_or_a_measurement() {
    let mut window = ReceiveWindow::new(100, 300);
    assert_eq!(drain(&mut window, &mut no_pace(), 20, &mut plenty()), [100]);
    for _ in 0..200 {
        assert!(window.arrive(60));
        window.hold(60);
        window.release(60, &mut plenty(), &no_pace());
    }
    assert_eq!(window.size, 100);
}

#[test]
fn a_reader_that_is_behind_keeps_its_window() {
    let mut window = ReceiveWindow::new(100, 300);
    assert!(window.arrive(100));
    window.hold(100);
    let pace = away(1_000_000);
    for _ in 0..200 {
        let Some(room) = window.release(49, &mut plenty(), &pace) else {
            window.release(1, &mut plenty(), &pace);
            assert!(window.arrive(50));
            window.hold(50);
            continue;
        };
        panic!("{room}");
    }
    assert_eq!(window.size, 100);
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
    let mut growth = Growth::of(300);
    let grow = |window: &mut ReceiveWindow, growth: &mut Growth| {
        drain(window, &mut away(1_000_000), 1, growth);
        window.grown()
    };
    let mut first = ReceiveWindow::new(100, 400);
    let mut second = ReceiveWindow::new(100, 400);
    assert_eq!(
        grow(&mut first, &mut growth),
        150,
        "half of the connection's window is there"
    );
    assert_eq!(grow(&mut second, &mut growth), 0);
    growth.put_back(first.grown());
    assert_eq!(grow(&mut second, &mut growth), 150);
}
