//! UTC timestamps of log lines: RFC 3339 with microseconds, as upstream writes them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Displays as `2026-11-22T22:43:34.491299Z`. Times before 1970 show as its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timestamp(pub(super) SystemTime);

/// The same with milliseconds, as Envoy writes `%START_TIME%`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Milliseconds(pub(super) SystemTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = second(self.0, f)?;
        write!(f, ".{:06}Z", since.subsec_micros())
    }
}

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = second(self.0, f)?;
        write!(f, ".{:03}Z", since.subsec_millis())
    }
}

/// Writes a time down to its second; gives all of it.
fn second(at: SystemTime, f: &mut fmt::Formatter<'_>) -> Result<Duration, fmt::Error> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    write!(
        f,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60,
    )?;
    Ok(since)
}

/// Year, month and day of a day counted from 1970-01-01.
///
/// Years begin in March here, so that the leap day is the last of its year; an era is 400 years of 146,097
/// days (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests;
