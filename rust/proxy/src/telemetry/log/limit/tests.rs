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
