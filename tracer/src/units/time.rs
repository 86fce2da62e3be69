//! Times, as people write and read them.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use thiserror::Error;

const SECOND: u64 = 1_000_000_000;

/// A moment as its distance in nanoseconds from the start of the recording: `+12.5s`, in the first second `+0.025s`.
pub fn offset(ns: u64) -> String {
    if ns < SECOND {
        return format!("+0.{:03}s", ns / 1_000_000);
    }
    let tenths = ns.saturating_add(SECOND / 20) / (SECOND / 10);
    format!("+{}.{}s", tenths / 10, tenths % 10)
}

/// How long something took, in the two largest units that matter: `3 ms`, `12.5 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(ns: u64) -> String {
    let tenths = ns.saturating_add(SECOND / 20) / (SECOND / 10);
    let seconds = ns.saturating_add(SECOND / 2) / SECOND;
    let minutes = seconds / 60;
    match ns {
        0..1_000_000 => format!("{} µs", ns / 1000),
        1_000_000..1_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ if seconds < 60 => format!("{}.{} s", tenths / 10, tenths % 10),
        _ if minutes < 60 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// A wall clock time to the nanosecond, RFC 3339 UTC.
pub fn rfc3339(unix_ns: u64) -> Option<String> {
    timestamp(unix_ns).map(|time| time.to_string())
}

/// A wall clock time to the second, RFC 3339 UTC.
pub fn rfc3339_seconds(unix_ns: u64) -> Option<String> {
    timestamp(unix_ns / SECOND * SECOND).map(|time| time.to_string())
}

fn timestamp(unix_ns: u64) -> Option<Timestamp> {
    Timestamp::from_nanosecond(i128::from(unix_ns)).ok()
}

/// A length of time: a number and a unit (`us`, `ms`, `s`, `m` or `min`, `h`), seconds without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length(pub Duration);

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LengthError {
    /// It does not begin with a number.
    #[error("a time is a number and a unit, such as 30s")]
    NoNumber,
    /// What follows the number is not a unit.
    #[error("`{0}` is no unit of time; there are us, ms, s, m and h")]
    UnknownUnit(String),
    /// More than 64 bits of seconds.
    #[error("that is too long")]
    TooLong,
}

impl FromStr for Length {
    type Err = LengthError;

    fn from_str(text: &str) -> Result<Self, LengthError> {
        let unit_at = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let number: f64 = number.parse().map_err(|_| LengthError::NoNumber)?;
        let scale = match unit.trim() {
            "" | "s" => 1.0,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            unit => return Err(LengthError::UnknownUnit(unit.to_owned())),
        };
        Duration::try_from_secs_f64(number * scale)
            .map(Self)
            .map_err(|_| LengthError::TooLong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_from_the_start() {
        assert_eq!(offset(0), "+0.000s");
        assert_eq!(offset(999_999_999), "+0.999s");
        assert_eq!(offset(SECOND), "+1.0s");
        assert_eq!(offset(12_460_000_000), "+12.5s");
        assert_eq!(offset(3_725_400_000_000), "+3725.4s");
        assert!(offset(u64::MAX).ends_with('s'));
    }

    #[test]
    fn durations_use_the_units_that_matter() {
        assert_eq!(duration(250_000), "250 µs");
        assert_eq!(duration(42_900_000), "42 ms");
        assert_eq!(duration(1_000_000_000), "1.0 s");
        assert_eq!(duration(59_440_000_000), "59.4 s");
        assert_eq!(duration(59_970_000_000), "1 min 0 s");
        assert_eq!(duration(200_000_000_000), "3 min 20 s");
        assert_eq!(duration(7_500_000_000_000), "2 h 5 min");
    }

    #[test]
    fn wall_clock_times_are_rfc_3339() {
        let unix_ns = 1_767_323_045_123_456_789;
        assert_eq!(
            rfc3339(unix_ns).as_deref(),
            Some("2026-01-02T03:04:05.123456789Z")
        );
        assert_eq!(
            rfc3339_seconds(unix_ns).as_deref(),
            Some("2026-01-02T03:04:05Z")
        );
        assert!(rfc3339(u64::MAX).is_some());
    }

    #[test]
    fn lengths_of_time_are_read_with_and_without_a_unit() {
        for (text, expected) in [
            ("90", Duration::from_secs(90)),
            ("1.5m", Duration::from_secs(90)),
            ("2 min", Duration::from_secs(120)),
            ("250ms", Duration::from_millis(250)),
            ("12.5s", Duration::from_millis(12_500)),
            ("3us", Duration::from_micros(3)),
            ("0", Duration::ZERO),
        ] {
            assert_eq!(text.parse(), Ok(Length(expected)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_length_of_time_is_told_why() {
        for text in ["", "-1", "x", "nan", "1.2.3s", "."] {
            assert_eq!(text.parse::<Length>(), Err(LengthError::NoNumber), "{text}");
        }
        for text in ["3 weeks", "1e300h"] {
            let read = text.parse::<Length>();
            assert!(matches!(read, Err(LengthError::UnknownUnit(_))), "{text}");
        }
        let endless = format!("{}h", "9".repeat(300));
        assert_eq!(endless.parse::<Length>(), Err(LengthError::TooLong));
    }
}
