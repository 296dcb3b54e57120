use super::*;

const SECOND: Duration = Duration::from_secs(1);
const NEVER: Duration = Duration::ZERO;

#[test]
fn a_loop_that_nobody_has_heard_of_has_no_lag() {
    assert_eq!(ControlLoop::default().lag(Instant::now()), None);
}

#[test]
fn a_loop_that_hangs_is_later_and_later_though_it_says_nothing() {
    let (heard, start) = (ControlLoop::default(), Instant::now());
    heard.beat(start, NEVER, SECOND);
    assert_eq!(heard.lag(start + SECOND), Some(NEVER));
    assert_eq!(heard.lag(start + 5 * SECOND), Some(4 * SECOND));
    assert_eq!(heard.lag(start + 500 * SECOND), Some(499 * SECOND));
}

#[test]
fn a_stutter_is_seen_by_whoever_looks_within_the_minute_and_forgotten_after_two() {
    let (heard, start) = (ControlLoop::default(), Instant::now());
    let late = Duration::from_millis(300);
    for second in 0..200 {
        let lag = if second == 3 { late } else { NEVER };
        heard.beat(start + second * SECOND, lag, SECOND);
        let shown = heard.lag(start + second * SECOND).unwrap();
        match second {
            0..3 => assert_eq!(shown, NEVER),
            3..=63 => assert_eq!(shown, late, "{second}"),
            125.. => assert_eq!(shown, NEVER, "{second}"),
            _ => {}
        }
    }
}
