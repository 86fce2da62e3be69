//! What could not be seen, from both sides.

use std::collections::HashSet;

use highwater_common::counter::Counter;

use super::{Session, clock, stacks::Stacks};
use crate::{
    model,
    probe::kernel::Kernel,
    record::{Entry, Loss, LossKind, Pause, ProcessLosses, PythonQuality, Quality},
    symbol::SymbolCounters,
    target::Target,
};

/// What the session itself counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) malformed_events: u64,
    /// Processes of the target, a launched one included, that were not followed, or not from their beginning.
    pub(super) unfollowed_children: u64,
    /// Processes that ended in their parent's memory, and may have changed it.
    pub(super) missed_sharers: u64,
    /// Functions that were not probed because a process had patched them.
    pub(super) patched_functions: u64,
    /// Probes that somebody wrote over while they were in.
    pub(super) lost_probes: u64,
    /// Marks beyond what each target and user may make.
    dropped_marks: u64,
    /// Connections for marks that were closed unanswered.
    refused_connections: u64,
    /// When the probes were out.
    pub(super) pauses: Vec<Pause>,
    notes: Vec<String>,
    /// The same: a target may give cause for many.
    noted: HashSet<String>,
    /// Notes beyond the most that are kept.
    more_notes: u64,
    /// Losses written down so far: of a kind, one a process.
    told: HashSet<(LossKind, Option<u32>)>,
}

/// Notes that are kept; how many more there were is told.
const MOST_NOTES: usize = 256;
/// Longest note, and longest reason of a loss, bytes. Longer ones are cut: 256 of them fit into an entry of the recording.
const MOST_NOTE_BYTES: usize = 2 << 10;

/// Losses that are written down, at most.
const MOST_TOLD: usize = 1000;

impl Tally {
    /// Counts marks that were too many.
    pub(super) fn drop_marks(&mut self, count: u64) {
        self.dropped_marks += count;
    }

    /// Counts what the socket for marks did not take: connections, and marks that were too many.
    pub(super) fn refuse_marks(&mut self, (connections, marks): (u64, u64)) {
        self.refused_connections += connections;
        self.dropped_marks += marks;
    }

    /// Says something to the reader of the recording, once.
    pub(super) fn note(&mut self, note: String) {
        let note = bounded(note);
        if self.has_room_for(&note) {
            log::warn!("{note}");
        }
        self.remark(note);
    }

    /// The same, where it does not matter enough to say it while tracing.
    pub(super) fn remark(&mut self, note: String) {
        let note = bounded(note);
        if self.has_room_for(&note) {
            self.noted.insert(note.clone());
            self.notes.push(note);
        } else if !self.noted.contains(&note) {
            self.more_notes += 1;
        }
    }

    /// Whether it is new, and not one too many.
    fn has_room_for(&self, note: &str) -> bool {
        self.notes.len() < MOST_NOTES && !self.noted.contains(note)
    }

    /// Says what kept names from being found.
    pub(super) fn note_symbols(&mut self, symbols: &SymbolCounters) {
        for (count, what) in [
            (
                symbols.failed_modules(),
                "mapped files could not be searched for names",
            ),
            (
                symbols.failed_debug_info(),
                "files have debug information that could not be used",
            ),
            (
                symbols.refused_frames(),
                "code locations were not looked up: too many waited at once",
            ),
            (
                symbols.refused_perf_maps(),
                "perf maps were not used, or not wholly: of another user, older than the process, or too long",
            ),
            (
                symbols.malformed_perf_lines(),
                "lines of perf maps made no sense",
            ),
            (
                symbols.refused_perf_lines(),
                "entries of perf maps found no room: 256 MiB hold those of all processes",
            ),
            (
                symbols.late_debug_info(),
                "files' debug information was still being fetched when the recording was finished",
            ),
        ] {
            if count > 0 {
                self.notes.push(format!("{count} {what}"));
            }
        }
        if symbols.debuginfod_missing() {
            self.notes.push(
                "DEBUGINFOD_URLS is set, but debuginfod-find is not installed: no debug information was fetched".to_owned(),
            );
        }
    }

    /// Everything so far.
    pub(super) fn sum(
        &self,
        kernel: &Kernel,
        stacks: &Stacks,
        folded_frames: u64,
        python: PythonQuality,
        losses: Vec<ProcessLosses>,
    ) -> Quality {
        let Self {
            malformed_events,
            unfollowed_children,
            missed_sharers,
            dropped_marks,
            refused_connections,
            pauses,
            patched_functions,
            lost_probes,
            notes,
            noted: _,
            more_notes,
            told: _,
        } = self;
        let mut notes = notes.clone();
        if *more_notes > 0 {
            notes.push(format!(
                "{more_notes} more notes such as these were left out"
            ));
        }
        if folded_frames > 0 {
            notes.push(format!(
                "{folded_frames} code locations beyond the most that are told apart were folded into one per file"
            ));
        }
        let sharers = kernel.counter(Counter::SharedMemoryChanged);
        Quality {
            lost_allocations: kernel.counter(Counter::LostAllocations),
            lost_frees: kernel.counter(Counter::LostFrees),
            lost_process_events: kernel.counter(Counter::LostProcessEvents),
            lost_stacks: kernel.counter(Counter::LostStacks),
            undefined_stacks: stacks.undefined(),
            truncated_depth: kernel.counter(Counter::TruncatedDepth),
            truncated_unreadable: kernel.counter(Counter::TruncatedUnreadable),
            truncated_pending: kernel.counter(Counter::TruncatedPending),
            truncated_no_rule: kernel.counter(Counter::TruncatedNoRule),
            truncated_no_code: kernel.counter(Counter::TruncatedNoCode),
            truncated_unsupported: kernel.counter(Counter::TruncatedUnsupported),
            truncated_frame_pointer: kernel.counter(Counter::TruncatedFramePointer),
            no_walk_buffer: kernel.counter(Counter::NoWalkBuffer),
            threads_full: kernel.counter(Counter::ThreadsFull),
            calls_too_deep: kernel.counter(Counter::CallsTooDeep),
            missed_returns: kernel.counter(Counter::MissedReturns),
            unpaired_returns: kernel.counter(Counter::UnpairedReturns),
            unsafe_returns: kernel.counter(Counter::UnsafeReturns),
            unreadable_results: kernel.counter(Counter::UnreadableResults),
            stack_collisions: stacks.collisions(),
            malformed_events: *malformed_events,
            dropped_samples: kernel.counter(Counter::DroppedSamples),
            unfollowed_children: *unfollowed_children,
            // Those that the kernel side saw may be among those that ended, or have called exec.
            sharers: sharers.max(*missed_sharers),
            dropped_marks: kernel.counter(Counter::DroppedMarks) + dropped_marks,
            refused_mark_connections: *refused_connections,
            pauses: pauses.clone(),
            patched_functions: *patched_functions,
            lost_probes: *lost_probes,
            python: PythonQuality {
                state_unknown: kernel.counter(Counter::PythonStateUnknown),
                unreadable: kernel.counter(Counter::PythonUnreadable),
                depth: kernel.counter(Counter::PythonDepth),
                lost_code: kernel.counter(Counter::LostPythonCode),
                ..python
            },
            losses,
            notes,
        }
    }
}

/// A text that may name what a target has chosen, cut where it is too long.
fn bounded(mut text: String) -> String {
    const CUT: &str = "...";
    if text.len() > MOST_NOTE_BYTES {
        text.truncate(text.floor_char_boundary(MOST_NOTE_BYTES - CUT.len()));
        text.push_str(CUT);
    }
    text
}

impl Session {
    /// Writes down something that is not seen from now on; of a process, if it is one's. Of a kind, once a process.
    pub(super) fn lose(&mut self, kind: LossKind, target: Option<&Target>, why: String) {
        let pid = target.map(|target| target.pid);
        let told = &mut self.quality.told;
        let kind = match told.len() {
            0..MOST_TOLD => kind,
            _ => LossKind::More,
        };
        let key = match kind {
            LossKind::More => (kind, None),
            kind => (kind, pid),
        };
        if !told.insert(key) {
            return;
        }
        let command = target.map_or_else(String::new, |target| bounded(target.command.clone()));
        let loss = Loss {
            at_ns: clock::monotonic().0,
            pid,
            command,
            kind,
            why: bounded(why),
        };
        let told = model::Loss::Told {
            since_start_ns: self.started.elapsed().as_nanos() as u64,
            loss: loss.clone(),
        };
        log::warn!("{told}");
        self.write_pending();
        self.write(&Entry::Loss(loss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_bounded_in_number_and_length_and_those_left_out_are_counted() {
        let mut tally = Tally::default();
        for number in 0..MOST_NOTES + 10 {
            tally.remark(format!("{number} {}", "x".repeat(100_000)));
        }
        assert_eq!(tally.notes.len(), MOST_NOTES);
        assert_eq!(tally.more_notes, 10);
        let bytes: usize = tally.notes.iter().map(String::len).sum();
        assert_eq!(bytes, MOST_NOTES * MOST_NOTE_BYTES);
        assert!(tally.notes.iter().all(|note| note.ends_with("x...")));
    }

    #[test]
    fn a_note_said_again_is_no_other() {
        let mut tally = Tally::default();
        for _ in 0..3 {
            tally.remark("x".repeat(100_000));
        }
        assert_eq!((tally.notes.len(), tally.more_notes), (1, 0));
    }

    #[test]
    fn a_short_note_stays_as_it_is() {
        assert_eq!(bounded("short".to_owned()), "short");
    }
}
