//! The account of what could not be seen.

use serde::{Deserialize, Serialize};

use crate::event::ProcessId;

/// What could not be seen. Every field is a count; see each report's `quality`.
///
/// Unknown fields of a newer writer are ignored, missing ones are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Quality {
    /// Allocations the full ring had no room for.
    pub lost_allocations: u64,
    /// Frees the full ring had no room for.
    pub lost_frees: u64,
    /// Forks, execs and exits the full ring had no room for.
    pub lost_process_events: u64,
    /// Stack definitions the full stack ring had no room for (each is sent again at its next use).
    pub lost_stacks: u64,
    /// Stacks that events refer to and that never came.
    pub undefined_stacks: u64,
    /// Stacks cut at the depth limit.
    pub truncated_depth: u64,
    /// Stacks cut where memory could not be read.
    pub truncated_unreadable: u64,
    /// Stacks cut in a file whose unwind table was not there yet.
    pub truncated_pending: u64,
    /// Stacks cut in code that its file has no call frame information for.
    pub truncated_no_rule: u64,
    /// Stacks cut at an address where no code was known to be.
    pub truncated_no_code: u64,
    /// Stacks cut at an unwind rule that the tables cannot express.
    pub truncated_unsupported: u64,
    /// Stacks cut in code compiled at run time that kept no frame pointers.
    pub truncated_frame_pointer: u64,
    /// Events without a stack, because no walk buffer was free.
    pub no_walk_buffer: u64,
    /// Calls not followed: the table of threads was full.
    pub threads_full: u64,
    /// Calls not followed: too many under way in one thread.
    pub calls_too_deep: u64,
    /// Calls whose return was never seen.
    pub missed_returns: u64,
    /// Returns whose entry was never seen.
    pub unpaired_returns: u64,
    /// Calls not followed because a return probe would have killed the target.
    pub unsafe_returns: u64,
    /// Results that could not be read from the target.
    pub unreadable_results: u64,
    /// Two stacks had the same identity.
    pub stack_collisions: u64,
    /// Events that made no sense.
    pub malformed_events: u64,
    /// Sampled blocks not followed: the table of sampled blocks had no room for them.
    pub dropped_samples: u64,
    /// Children whose probes could not be placed.
    pub unfollowed_children: u64,
    /// Processes that may have allocated and freed in the memory of another one.
    pub sharers: u64,
    /// Marks left out: more than one process or user may make, or no room for them in the event ring.
    pub dropped_marks: u64,
    /// Connections to the recorder's socket that were closed unanswered: of other users, or too many at once.
    pub refused_mark_connections: u64,
    /// Times at which the recorder was stopped (Ctrl-Z) and its probes were out.
    pub pauses: Vec<Pause>,
    /// Functions that were not probed, because a process had patched them in memory.
    pub patched_functions: u64,
    /// Probes that somebody wrote over while they were in.
    pub lost_probes: u64,
    /// What could not be seen of Python.
    pub python: PythonQuality,
    /// What each process lost; those that lost nothing are not among them.
    pub losses: Vec<ProcessLosses>,
    /// Notes for the reader, such as an interposed allocator.
    pub notes: Vec<String>,
}

/// A time at which nothing of the target was seen, nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When the probes were taken out.
    pub from_ns: u64,
    /// When they were in again; the end of the recording, if they never were.
    pub to_ns: u64,
}

/// What could not be seen of Python: where it could not, stacks have native frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PythonQuality {
    /// Stacks of threads whose Python state was not their own, or could not be read.
    pub state_unknown: u64,
    /// Stacks with a Python frame that could not be read, or was none: those beyond it are missing.
    pub unreadable: u64,
    /// Stacks with more Python frames than are kept.
    pub depth: u64,
    /// Code objects the full stack ring had no room for (each is sent again at its next use).
    pub lost_code: u64,
    /// Code objects, or frames, whose function is not known.
    pub nameless: u64,
    /// Code objects whose line table could not be read.
    pub lineless: u64,
    /// Stacks in which native and Python frames do not pair up.
    pub unpaired: u64,
}

/// What one process lost to a ring that was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessLosses {
    /// The process whose events were lost.
    pub process: ProcessId,
    /// Allocations, failed ones included.
    pub allocations: u64,
    /// What they asked for, bytes.
    pub allocated_bytes: u64,
    /// Number of lost frees.
    pub frees: u64,
    /// How large the blocks were by glibc's chunk headers, at most, bytes.
    pub freed_bytes: u64,
    /// Of both, those that were refused so that other processes found room.
    pub over_share: u64,
    /// Frees that found no room in their ring and were sent by another way; not lost.
    pub spilled: u64,
}
