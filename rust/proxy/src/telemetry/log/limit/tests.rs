use super::*;

#[test]
fn ten_a_second_pass_and_the_rest_is_counted_once() {
    let mut limiter = Limiter::default();
    let start = Instant::now();
    let admissions: Vec<_> = (0..100)
        .map(|_| limiter.admit("refused", MOST, start))
        .collect();
    assert!(admissions[..10].iter().all(|one| *one == Admission::Passes));
    assert_eq!(admissions[10], Admission::FirstHeld);
    assert!(admissions[11..].iter().all(|one| *one == Admission::Held));
    assert!(limiter.is_holding());
    assert!(limiter.report(start).is_empty(), "the second is not over");
    assert_eq!(limiter.report(start + PERIOD), [("refused", 90)]);
    assert!(!limiter.is_holding());
    assert!(limiter.report(start + PERIOD).is_empty());
    assert_eq!(
        limiter.admit("refused", MOST, start + PERIOD),
        Admission::Passes
    );
}

#[test]
fn classes_do_not_share_their_allowance() {
    let mut limiter = Limiter::default();
    let start = Instant::now();
    for _ in 0..100 {
        limiter.admit("refused", MOST, start);
    }
    assert_eq!(limiter.admit("accept", MOST, start), Admission::Passes);
}

#[test]
fn a_class_that_floods_on_is_reported_again() {
    let mut limiter = Limiter::default();
    let start = Instant::now();
    for second in 0..3 {
        let now = start + PERIOD * second;
        for _ in 0..15 {
            limiter.admit("refused", MOST, now);
        }
        assert_eq!(limiter.report(now + PERIOD), [("refused", 5)]);
    }
}

#[test]
fn a_flood_without_a_pause_is_reported_while_it_lasts() {
    let mut limiter = Limiter::default();
    let start = Instant::now();
    let (mut passed, mut told) = (0, 0);
    for step in 0..3_000 {
        // The writer looks at the very moment when the flood goes on, which is when there is a line to write.
        let now = start + PERIOD / 1_000 * step;
        passed += u64::from(limiter.admit("refused", MOST, now) == Admission::Passes);
        let reported = limiter.report(now);
        told += reported.iter().map(|(_, count)| count).sum::<u64>();
    }
    let held_back = 3_000 - passed;
    assert!(
        held_back - told <= 1_000,
        "only the last second's are not told: {told} of {held_back}"
    );
}

#[test]
fn a_class_may_have_a_larger_allowance() {
    let mut limiter = Limiter::default();
    let start = Instant::now();
    for _ in 0..MOST_DENIED {
        let admission = limiter.admit("not_tls", MOST_DENIED, start);
        assert_eq!(admission, Admission::Passes);
    }
    let admission = limiter.admit("not_tls", MOST_DENIED, start);
    assert_eq!(admission, Admission::FirstHeld);
}
