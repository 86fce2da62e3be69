//! Why a recording gives no report.

use thiserror::Error;

use crate::record::reader::ReadError;
use crate::units::time;

/// Why a recording gives no report at all.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It could not be read from the very start.
    #[error("the recording cannot be read")]
    Unreadable(#[from] ReadError),
    /// It is sound, but says nothing of how it came to be.
    #[error(
        "the recording has no opening: it was cut before its writer had written anything; record again"
    )]
    NoOpening,
    /// It has no such mark.
    #[error("the recording has no mark `{name}`{}", told(marks))]
    NoMark {
        /// The name asked for.
        name: String,
        /// The names that there are.
        marks: Vec<String>,
    },
    /// It does not reach to the moment asked for.
    #[error("the recording goes from +0s to {}: there is nothing at {}", time::offset(*lasts_ns), time::offset(*asked_ns))]
    Beyond {
        /// The moment, nanoseconds after the start.
        asked_ns: u64,
        /// How long the recording is, nanoseconds.
        lasts_ns: u64,
    },
    /// It was folded, and this takes single events.
    #[error(
        "the recording holds totals in place of single events (it was made with --aggregate, or reached its --max-size), so it cannot \
         tell {what}. It can tell the peak, the end, other moments (--at), what grows (--growing) and what was asked for in \
         all (--allocated); for more, record anew without --aggregate and with a larger --max-size"
    )]
    Folded {
        /// What was asked for.
        what: &'static str,
    },
}

/// What a folded recording is asked for that it does not have.
pub(super) fn folded(what: &'static str) -> ReplayError {
    ReplayError::Folded { what }
}

/// The first few names are enough of an error: a program may have named a hundred thousand moments.
const NAMES_IN_AN_ERROR: usize = 12;

fn told(marks: &[String]) -> String {
    match marks {
        [] => {
            "; it has none: `highwater mark NAME` names a moment while one is recorded".to_owned()
        }
        marks if marks.len() > NAMES_IN_AN_ERROR => format!(
            "; it has {} and {} more",
            marks[..NAMES_IN_AN_ERROR].join(", "),
            marks.len() - NAMES_IN_AN_ERROR
        ),
        marks => format!("; it has {}", marks.join(", ")),
    }
}
