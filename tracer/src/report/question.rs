//! What is asked of a recording: which moment or window, and whose memory. Every view takes the same questions.

use regex::Regex;
use thiserror::Error;

use super::view::View;
use crate::event::Nanos;
use crate::live::Kinds;
use crate::units::time::Length;

/// A question. The default asks for all that made the peak.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// What is to be listed.
    pub when: When,
    /// Of which kinds.
    pub kinds: Kinds,
    /// Of these threads only: by name, or by thread id. Empty: of all.
    pub threads: Vec<String>,
    /// Of these processes only: by pid, or by the name of the program. Empty: of all.
    pub processes: Vec<String>,
    /// Of stacks only that have a frame whose function, source file or module matches.
    pub focus: Option<Regex>,
    /// Not of stacks that have such a frame.
    pub ignore: Option<Regex>,
    /// Nothing that is smaller, bytes.
    pub least: u64,
    /// Which frames of a stack are shown.
    pub view: View,
}

/// What is to be listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// What was live at the high-water mark.
    #[default]
    Peak,
    /// What was live at the end.
    End,
    /// What was live at a moment.
    At(Point),
    /// What was allocated within a window and is live at its end.
    Between(Window),
    /// Who holds more and more.
    Growing,
    /// Blocks that were freed before their thread had made so many allocations more.
    Temporary(u64),
    /// All that was ever asked for, live or not.
    Allocated,
}

/// A moment of a recording, as a user names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Point {
    /// So long after the start.
    Offset(Nanos),
    /// On the wall clock, nanoseconds since 1970-01-01 UTC.
    Clock(u64),
    /// As `highwater mark` named it; of a span its beginning.
    Mark(String),
}

/// A part of a recording from one moment to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Window {
    /// From one moment to another; from the start, to the end where there is none.
    Points(Option<Point>, Option<Point>),
    /// A span that `highwater mark` named.
    Span(String),
}

/// Why something does not read as a moment or window.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PointError {
    /// Nothing is there.
    #[error("a moment is missing; say +12.5s, 2026-01-02T03:04:05Z, or the name of a mark")]
    Missing,
    /// It begins like a time and is none.
    #[error(
        "`{0}` is not a time; say how long after the start, as in +12.5s, +90ms or +2m, or when, as in 2026-01-02T03:04:05Z"
    )]
    NotATime(String),
    /// The window has no length.
    #[error("`{0}` ends before it begins")]
    Backwards(String),
}

impl Point {
    /// Reads `+12.5s` (also `ms`, `m`, `h`), an RFC 3339 time, or the name of a mark.
    ///
    /// # Errors
    ///
    /// See [`PointError`].
    pub fn parse(text: &str) -> Result<Self, PointError> {
        let wrong = || PointError::NotATime(text.to_owned());
        if let Some(offset) = text.strip_prefix('+') {
            return self::offset(offset).map(Self::Offset).ok_or_else(wrong);
        }
        if text.is_empty() {
            return Err(PointError::Missing);
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            let ns = u64::try_from(time.as_nanosecond()).map_err(|_| wrong())?;
            return Ok(Self::Clock(ns));
        }
        // A bare number is a time, and no mark that anybody would miss.
        if text.starts_with(|first: char| first.is_ascii_digit())
            && let Some(offset) = offset(text)
        {
            return Ok(Self::Offset(offset));
        }
        Ok(Self::Mark(text.to_owned()))
    }
}

impl Window {
    /// Reads `T1..T2`, where either may be missing, or the name of a span.
    ///
    /// # Errors
    ///
    /// See [`PointError`].
    pub fn parse(text: &str) -> Result<Self, PointError> {
        let Some((from, to)) = text.split_once("..") else {
            return match Point::parse(text)? {
                Point::Mark(name) => Ok(Self::Span(name)),
                from => Ok(Self::Points(Some(from), None)),
            };
        };
        let point = |text: &str| match text.trim() {
            "" => Ok(None),
            text => Point::parse(text).map(Some),
        };
        let (from, to) = (point(from)?, point(to)?);
        match (&from, &to) {
            (Some(Point::Offset(from)), Some(Point::Offset(to))) if from >= to => {
                Err(PointError::Backwards(text.to_owned()))
            }
            (Some(Point::Clock(from)), Some(Point::Clock(to))) if from >= to => {
                Err(PointError::Backwards(text.to_owned()))
            }
            _ => Ok(Self::Points(from, to)),
        }
    }
}

/// How long after the start, read as a [`Length`] of time.
fn offset(text: &str) -> Option<Nanos> {
    let Length(offset) = text.parse().ok()?;
    u64::try_from(offset.as_nanos()).ok().map(Nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_offsets_clock_times_or_marks() {
        let offset = |ns| Ok(Point::Offset(Nanos(ns)));
        assert_eq!(Point::parse("+12.5s"), offset(12_500_000_000));
        assert_eq!(Point::parse("+90ms"), offset(90_000_000));
        assert_eq!(Point::parse("+2m"), offset(120_000_000_000));
        assert_eq!(Point::parse("3"), offset(3_000_000_000));
        assert_eq!(
            Point::parse("1970-01-01T00:00:02.5Z"),
            Ok(Point::Clock(2_500_000_000))
        );
        assert_eq!(Point::parse("warm"), Ok(Point::Mark("warm".into())));
        assert_eq!(
            Point::parse("+soon"),
            Err(PointError::NotATime("+soon".into()))
        );
        assert_eq!(Point::parse(""), Err(PointError::Missing));
    }

    #[test]
    fn windows_may_be_open_at_either_end_but_not_run_backwards() {
        let offset = |s: u64| Some(Point::Offset(Nanos(s * 1_000_000_000)));
        let points = |from, to| Ok(Window::Points(from, to));
        assert_eq!(Window::parse("+1s..+2s"), points(offset(1), offset(2)));
        assert_eq!(Window::parse("..+2s"), points(None, offset(2)));
        assert_eq!(Window::parse("+1s.."), points(offset(1), None));
        assert_eq!(
            Window::parse("warm..+9s"),
            points(Some(Point::Mark("warm".into())), offset(9))
        );
        assert_eq!(Window::parse("request"), Ok(Window::Span("request".into())));
        assert_eq!(
            Window::parse("+2s..+1s"),
            Err(PointError::Backwards("+2s..+1s".into()))
        );
    }
}
