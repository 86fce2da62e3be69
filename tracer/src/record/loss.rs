//! Something that was not seen, written down as it happened.

use serde::{Deserialize, Serialize};

/// Something that was not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Since when, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The process that it concerns; `None`: all of them.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The command line of that process.
    #[serde(default)]
    pub command: String,
    /// What it is.
    pub kind: LossKind,
    /// Why, or of what, in words.
    #[serde(default)]
    pub why: String,
}

/// A kind of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossKind {
    /// All probes were taken out before the recording was over.
    ProbesRemoved,
    /// Tracing of a process that ran on was ended.
    LetGo,
    /// A program's allocator could not be probed.
    Untraced,
    /// The thread that carried the probes of a process ended.
    CarrierEnded,
    /// A program mapped another C library than the one that was probed before it ran.
    OtherLibrary,
    /// No call of a program was seen, from its start to its end.
    NothingSeen,
    /// System calls about mappings could not be followed.
    MappingsUntraced,
    /// A process has another allocator, which is not followed.
    OtherAllocator,
    /// Names, of stacks or threads, for which the recorder had no room.
    Unnamed,
    /// A process of the scope could not be traced.
    NotAttached,
    /// Processes of which nothing is known, and which may have been of the scope.
    Unsure,
    /// There were more than are written down.
    More,
    /// What a newer writer tells apart.
    #[serde(other)]
    Unknown,
}
