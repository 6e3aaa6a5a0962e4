//! Time, as a value and as a seam.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::Invalid;

/// A moment, in microseconds since 1970-01-01T00:00:00Z. Displays as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

/// The last microsecond of the year 9999: RFC 3339 has no form for what comes after.
pub(crate) const LAST_MICROS: u64 = 253_402_300_799_999_999;

impl Timestamp {
    /// The moment so many microseconds after the Unix epoch.
    pub const fn from_micros(micros: u64) -> Self {
        Timestamp(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This moment less a duration, not before the Unix epoch.
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Timestamp(self.0.saturating_sub(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Reads RFC 3339. Digits below a microsecond round up, so that "at or after" stays true; a time before 1970 is
    /// the Unix epoch. What comes to lie behind the year 9999 is refused: there is no form to show it in.
    pub fn parse_rfc3339(text: &str) -> Result<Self, Invalid> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|error| {
            Invalid::new(format!(
                "{text:?} is not an RFC 3339 time such as 2026-01-31T09:30:00Z ({error}); in a query a + is written %2B"
            ))
        })?;
        let nanos = moment.unix_timestamp_nanos().max(0);
        let micros = (nanos + 999) / 1_000;
        let micros = u64::try_from(micros).ok().filter(|micros| *micros <= LAST_MICROS);
        micros.map(Timestamp).ok_or_else(|| {
            Invalid::new(format!(
                "{text:?} lies, in UTC and rounded up, behind the year 9999, the last that RFC 3339 has"
            ))
        })
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000).map_err(|_| fmt::Error)?;
        // Every event shows its time, and a format string with seven padded numbers is most of what that would cost.
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        for (place, digits, number) in [
            (0, 4, moment.year().unsigned_abs()),
            (5, 2, u8::from(moment.month()).into()),
            (8, 2, moment.day().into()),
            (11, 2, moment.hour().into()),
            (14, 2, moment.minute().into()),
            (17, 2, moment.second().into()),
            (20, 6, moment.microsecond()),
        ] {
            write_digits(&mut text[place..place + digits], number);
        }
        f.write_str(str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

/// Writes a number with as many digits as there is room.
fn write_digits(room: &mut [u8], mut number: u32) {
    for digit in room.iter_mut().rev() {
        // The remainder is a digit.
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// Where time comes from.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place where time enters")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is told, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows this moment.
    pub fn at(moment: Timestamp) -> Self {
        ManualClock(AtomicU64::new(moment.0))
    }

    /// Shows another moment from now on; it may lie in the past, as a machine's clock may.
    pub fn set(&self, moment: Timestamp) {
        self.0.store(moment.0, Ordering::SeqCst);
    }

    /// Goes forward.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(u64::try_from(duration.as_micros()).unwrap_or(0), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_reads_back_what_it_shows() {
        for micros in [0, 1, 999_999, 1_381_132_800_464_000, 1_795_226_400_123_456] {
            let moment = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::parse_rfc3339(&moment.to_string()), Ok(moment));
        }
    }

    #[test]
    fn digits_below_a_microsecond_round_up() {
        let exact = Timestamp::parse_rfc3339("2026-01-31T09:30:00.000001Z").unwrap();
        assert_eq!(Timestamp::parse_rfc3339("2026-01-31T09:30:00.0000001Z"), Ok(exact));
        assert_eq!(Timestamp::parse_rfc3339("2026-01-31T11:30:00.000001+02:00"), Ok(exact));
    }

    /// The last microsecond that RFC 3339 has a form for; rounding up and going to UTC lead beyond it.
    #[test]
    fn a_time_behind_the_year_9999_is_refused() {
        let last = Timestamp::parse_rfc3339("9999-12-31T23:59:59.999999Z").unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        for text in
            ["9999-12-31T23:59:59.9999991Z", "9999-12-31T23:59:59-00:01", "9999-12-31T00:00:00.5-23:59"]
        {
            let read = Timestamp::parse_rfc3339(text).map(|time| time.to_string());
            if text.contains(".5") {
                assert_eq!(read.as_deref(), Ok("9999-12-31T23:59:00.500000Z"));
            } else {
                assert!(read.unwrap_err().detail.contains("9999"), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_time_says_what_would_be_right() {
        for text in
            ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-31", "1700000000", "2026-01-31T09:30:00"]
        {
            assert!(Timestamp::parse_rfc3339(text).unwrap_err().detail.contains("RFC 3339"), "{text}");
        }
    }
}
