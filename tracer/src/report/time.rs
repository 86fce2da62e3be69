//! Times, as people write and read them.

use jiff::Timestamp;

use crate::event::Nanos;

const SECOND: u64 = 1_000_000_000;

/// A moment as its distance from the start of the recording: `+12.5s`, in the first second `+0.025s`.
pub fn offset(since_start: Nanos) -> String {
    let ns = since_start.0;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_told_from_the_start() {
        assert_eq!(offset(Nanos(0)), "+0.000s");
        assert_eq!(offset(Nanos(999_999_999)), "+0.999s");
        assert_eq!(offset(Nanos(SECOND)), "+1.0s");
        assert_eq!(offset(Nanos(12_460_000_000)), "+12.5s");
        assert_eq!(offset(Nanos(3_725_400_000_000)), "+3725.4s");
        assert!(offset(Nanos(u64::MAX)).ends_with('s'));
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
}
