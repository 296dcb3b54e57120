use std::time::Duration;

use super::*;

fn at(micros: u64) -> String {
    Timestamp(UNIX_EPOCH + Duration::from_micros(micros)).to_string()
}

#[test]
fn known_instants_are_written_as_known() {
    // From `date -u --date=@N +%FT%T`.
    for (seconds, expected) in [
        (0, "1970-01-01T00:00:00"),
        (951_782_399, "2000-02-28T23:59:59"),
        (951_782_400, "2000-02-29T00:00:00"),
        (951_868_800, "2000-03-01T00:00:00"),
        (1_709_164_800, "2024-02-29T00:00:00"),
        (1_735_689_599, "2024-12-31T23:59:59"),
        (1_795_387_414, "2026-11-22T22:43:34"),
        (4_107_542_400, "2100-03-01T00:00:00"),
        (253_402_300_799, "9999-12-31T23:59:59"),
    ] {
        assert_eq!(at(seconds * 1_000_000), format!("{expected}.000000Z"));
    }
}

#[test]
fn microseconds_have_six_digits() {
    assert_eq!(at(1), "1970-01-01T00:00:00.000001Z");
    assert_eq!(at(999_999), "1970-01-01T00:00:00.999999Z");
}

#[test]
fn every_day_follows_the_one_before() {
    let lengths = |year: u64| {
        let leap =
            year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
        let february = if leap { 29 } else { 28 };
        [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]
    };
    let mut expected = (1970, 1, 1);
    for day in 0..200_000 {
        assert_eq!(civil(day), expected);
        let (year, month, day) = expected;
        expected = if day < lengths(year)[usize::try_from(month - 1).unwrap()] {
            (year, month, day + 1)
        } else if month < 12 {
            (year, month + 1, 1)
        } else {
            (year + 1, 1, 1)
        };
    }
}

#[test]
fn a_clock_before_1970_does_not_panic() {
    let before = UNIX_EPOCH - Duration::from_secs(1);
    assert_eq!(Timestamp(before).to_string(), "1970-01-01T00:00:00.000000Z");
}
