//! Moments and spans that were named while recording.

use crate::event::Nanos;
use crate::record::MarkKind;

/// A moment or span that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The name that was given to it.
    pub name: String,
    /// Whether it is a moment, or a span.
    pub kind: MarkKind,
    /// When, or when it began.
    pub at: Nanos,
    /// When it ended, if it is a span that did.
    pub ended: Option<Nanos>,
}
