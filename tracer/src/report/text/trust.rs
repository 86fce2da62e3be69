//! How far the numbers can be trusted: every loss there was, in words, with what it means.

use std::collections::HashMap;
use std::io;

use super::super::model::{Completion, Profile};
use super::page::{Page, Style};
use crate::event::{Nanos, ProcessId};
use crate::live::Totals;
use crate::record::{Origin, Pause, ProcessLosses, PythonQuality, Quality};
use crate::units::{size, time};
use crate::words::printable;

pub(super) fn write(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    if profile.processes.is_empty() {
        return Ok(());
    }
    page.heading("How far to trust this")?;
    let sentences = sentences(profile);
    if sentences.iter().all(|(style, _)| *style != Style::Warning) {
        let text = match profile.completion {
            Completion::Closed(_) => "  Nothing was lost: every event was seen.",
            _ => "  Up to where the recording stops, nothing was lost.",
        };
        page.line(&[(Style::Plain, text)])?;
    }
    for (style, sentence) in sentences {
        page.prose(style, (2, 4), &sentence)?;
    }
    Ok(())
}

/// The same for other views: whether it makes sizes wrong, and what is said.
pub(in crate::report) fn said(profile: &Profile) -> Vec<(bool, String)> {
    let sentences = sentences(profile).into_iter();
    sentences
        .map(|(style, sentence)| (style == Style::Warning, sentence))
        .collect()
}

/// Everything that is not zero. First what makes sizes wrong, then what hides who it was, then what is worth knowing.
fn sentences(profile: &Profile) -> Vec<(Style, String)> {
    // Taken apart, so that a new counter cannot be forgotten here.
    let Quality {
        lost_allocations,
        lost_frees,
        lost_process_events,
        lost_stacks,
        truncated_depth,
        truncated_unreadable,
        truncated_pending,
        truncated_no_rule,
        truncated_no_code,
        truncated_unsupported,
        truncated_frame_pointer,
        no_walk_buffer,
        threads_full,
        calls_too_deep,
        missed_returns,
        unpaired_returns,
        unsafe_returns,
        unreadable_results,
        stack_collisions,
        malformed_events,
        dropped_samples,
        python,
        unfollowed_children,
        dropped_marks,
        refused_mark_connections,
        pauses,
        patched_functions,
        lost_probes,
        losses,
        notes,
    } = &profile.quality;
    let Totals {
        failed_allocations,
        unmatched_frees,
        unmatched_freed_bytes,
        replaced_blocks,
        unpaired_resizes,
        allocations: _,
        allocated_bytes: _,
        frees: _,
        freed_bytes: _,
        unmatched_unmaps,
        unmatched_unmapped_bytes,
        mmaps: _,
        mapped_bytes: _,
        unmaps: _,
        unmapped_bytes: _,
        discards: _,
        discarded_bytes: _,
    } = &profile.totals;
    let mut said = Sentences::default();
    let lost = lost_allocations.saturating_add(*lost_frees);
    let off = how_far_off(profile, lost);
    let larger = larger_ring(profile);
    let more = match larger.as_str() {
        "" => "",
        _ => " (more are kept with --ring 64MiB)",
    };
    let lost_in_words = format!(
        "lost ({} and {}): the ring was full{larger}{off}",
        counted(*lost_allocations, "allocation", "allocations"),
        counted(*lost_frees, "free", "frees")
    );
    said.warn(lost, "event was", "events were", &lost_in_words);
    said.0.extend(by_process(profile, losses));
    said.warn(
        *dropped_samples,
        "sampled block was",
        "sampled blocks were",
        "left out: their table was full; what is reported is less than what was held",
    );
    said.warn(
        *lost_process_events,
        "fork, exec or exit was",
        "forks, execs and exits were",
        &format!(
            "lost: the ring was full{larger}; a process may be missing, or count after its end"
        ),
    );
    said.warn(
        *threads_full,
        "call was",
        "calls were",
        &format!("not followed: too many threads were in the allocator at once{more}"),
    );
    said.warn(
        *calls_too_deep,
        "call was",
        "calls were",
        "not followed: too many signal handlers were in the allocator at once",
    );
    said.warn(
        *missed_returns,
        "call was",
        "calls were",
        "never seen to return: not counted",
    );
    said.warn(
        *unsafe_returns,
        "call was",
        "calls were",
        "not followed: a return probe there could have harmed the target",
    );
    said.warn(
        *unreadable_results,
        "block is",
        "blocks are",
        "missing: the address could not be read from the target",
    );
    said.warn(
        *malformed_events,
        "event was",
        "events were",
        "left out as senseless",
    );
    said.warn(
        *unfollowed_children,
        "process was",
        "processes were",
        "not followed, or not from the beginning: no probes could be placed in time",
    );
    of_pauses(pauses, profile, &mut said);
    said.warn(
        *patched_functions,
        "function was",
        "functions were",
        "not probed, because the process has patched them in memory: their calls are missing",
    );
    said.warn(
        *lost_probes,
        "probe was",
        "probes were",
        "overwritten while it recorded: calls since then are missing",
    );
    for process in &profile.processes {
        if let Origin::Forked {
            missed_ns: missed @ 1..,
        }
        | Origin::Executed {
            missed_ns: missed @ 1..,
        } = process.process.origin
        {
            let (pid, missed) = (process.process.pid, time::duration(missed));
            said.0.push((
                Style::Warning,
                format!("Process {pid} ran for {missed} before its probes were in place."),
            ));
        }
    }
    said.warn(
        *replaced_blocks,
        "block no longer counts",
        "blocks no longer count",
        "whose address was handed out again: the free was not seen",
    );
    if profile.folded {
        said.0.push((
            Style::Plain,
            "It holds totals for each stack in place of single events: the peak and the end are exact, other moments known to the nearest of 128 steps."
                .to_owned(),
        ));
    }
    said.note(
        *unpaired_resizes,
        "realloc was",
        "reallocs were",
        "seen in part only",
    );
    said.note(
        *unpaired_returns,
        "call was",
        "calls were",
        "under way when tracing began: what came of that counts as held before attach",
    );
    said.note(
        *no_walk_buffer,
        "event has",
        "events have",
        "no stack, as no buffer was free: see (unknown stack)",
    );
    said.note(
        *lost_stacks,
        "stack was",
        "stacks were",
        &format!("lost once, as the ring was full{larger}: sent again at the next use"),
    );
    said.note(
        *stack_collisions,
        "stack was",
        "stacks were",
        "mistaken for another at first: see (unknown stack)",
    );
    said.note(
        *dropped_marks,
        "mark was",
        "marks were",
        "left out: too many in a second or in all for one process or user, or the ring was full",
    );
    said.note(
        *refused_mark_connections,
        "connection to the recorder was",
        "connections to the recorder were",
        "closed unanswered: from another user, or too many at once",
    );
    of_python(python, &mut said);
    said.note(
        *truncated_depth,
        "stack was",
        "stacks were",
        "too deep: the end nearest to main is missing",
    );
    said.note(
        *truncated_unreadable,
        "stack was",
        "stacks were",
        "cut where the stack's memory could not be read",
    );
    said.note(
        *truncated_pending,
        "stack was",
        "stacks were",
        "cut in code that had just been mapped, before its unwind table was there",
    );
    said.note(
        *truncated_no_rule,
        "stack was",
        "stacks were",
        "cut in code that its file has no call frame information for",
    );
    said.note(
        *truncated_no_code,
        "stack was",
        "stacks were",
        "cut at an address where no code was known to be",
    );
    said.note(
        *truncated_unsupported,
        "stack was",
        "stacks were",
        "cut at an unwind rule that the tables have no words for",
    );
    said.note(
        *truncated_frame_pointer,
        "stack was",
        "stacks were",
        "cut in code compiled at run time, which keeps no frame pointers",
    );
    said.note(
        profile.unresolved_frames(),
        "code location has",
        "code locations have",
        "no name: shown as module+offset",
    );
    said.note(
        *failed_allocations,
        "allocation",
        "allocations",
        "failed: the allocator returned NULL",
    );
    let unmatched = format!(
        "of memory from before tracing began: {} in all",
        size::short(*unmatched_freed_bytes)
    );
    said.note(*unmatched_frees, "free was", "frees were", &unmatched);
    let unmatched = format!(
        "of ranges that were not seen mapped: {} of address space in all",
        size::short(*unmatched_unmapped_bytes)
    );
    said.note(*unmatched_unmaps, "munmap was", "munmaps were", &unmatched);
    if let Some(bytes) = profile.sample_bytes() {
        said.0.push((
            Style::Plain,
            format!(
                "Allocations were sampled, one in {} asked for: sizes and counts are estimates, right on average and within ± of \
                 what is said 19 times in 20. What was freed of the memory held before attach was not followed.",
                size::short(bytes)
            ),
        ));
    }
    if profile.opening.redacted {
        let text = "Arguments were left out of command lines, as asked for by --redact.";
        said.0.push((Style::Plain, text.to_owned()));
    }
    said.0.extend(
        notes
            .iter()
            .map(|note| (Style::Plain, printable(note).into_owned())),
    );
    said.0
}

/// The option that makes this loss less likely: tables grow with the ring, up to this size.
fn larger_ring(profile: &Profile) -> String {
    /// What a program that does nothing but allocate needs.
    const ENOUGH: u64 = 64 << 20;
    let ring = profile.opening.options.get("ring_bytes");
    match ring.and_then(|bytes| bytes.parse::<u64>().ok()) {
        Some(ring) if ring < ENOUGH => {
            format!(" (it had {}; larger: --ring 64MiB)", size::short(ring))
        }
        _ => String::new(),
    }
}

/// By how much what is reported as live may be off: upwards by blocks whose allocation was lost, downwards by those whose free
/// was.
fn how_far_off(profile: &Profile, lost: u64) -> String {
    if lost == 0 {
        return String::new();
    }
    if profile.quality.losses.is_empty() {
        // Of a recording that has no sizes of what was lost.
        let Totals {
            allocations,
            allocated_bytes,
            ..
        } = profile.totals;
        let off = allocated_bytes
            .checked_div(allocations)
            .map(|average| average.saturating_mul(lost));
        return off.map_or_else(String::new, |off| {
            format!(
                " (by the average block, the live set may be off by up to {})",
                size::short(off)
            )
        });
    }
    format!(
        "; what was live may have been up to {} more than reported, or {} less",
        size::short(profile.live_may_be_more_bytes()),
        size::short(profile.live_may_be_less_bytes()),
    )
}

/// What each process lost, where there are several.
fn by_process(profile: &Profile, losses: &[ProcessLosses]) -> Vec<(Style, String)> {
    let lost = losses
        .iter()
        .filter(|losses| losses.allocations + losses.frees > 0);
    if profile.processes.len() < 2 {
        return Vec::new();
    }
    let pids: HashMap<ProcessId, u32> = profile
        .processes
        .iter()
        .map(|process| (process.process.id, process.process.pid))
        .collect();
    lost.map(|losses| {
        let pid = pids.get(&losses.process).copied().unwrap_or(0);
        let text = format!(
            "  of process {pid}: {} and {}, {} of them so that others found room",
            counted(losses.allocations, "allocation", "allocations"),
            counted(losses.frees, "free", "frees"),
            size::thousands(losses.over_share),
        );
        (Style::Warning, text)
    })
    .collect()
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        size::thousands(count),
        if count == 1 { one } else { many }
    )
}

#[derive(Default)]
struct Sentences(Vec<(Style, String)>);

impl Sentences {
    /// Of what makes sizes and counts wrong; nothing for 0.
    fn warn(&mut self, count: u64, one: &str, many: &str, rest: &str) {
        self.say(Style::Warning, count, one, many, rest);
    }

    /// Of what does not; nothing for 0.
    fn note(&mut self, count: u64, one: &str, many: &str, rest: &str) {
        self.say(Style::Plain, count, one, many, rest);
    }

    fn say(&mut self, style: Style, count: u64, one: &str, many: &str, rest: &str) {
        if count > 0 {
            self.0
                .push((style, format!("{} {rest}.", counted(count, one, many))));
        }
    }
}

/// More pauses than this are told by their number and their sum.
const PAUSES_TOLD: usize = 8;

/// When the probes were out.
fn of_pauses(pauses: &[Pause], profile: &Profile, said: &mut Sentences) {
    for pause in pauses.iter().take(PAUSES_TOLD) {
        let text = format!(
            "Nothing was seen from {} to {}: the recorder was stopped, and its probes were out. Blocks from that time are missing, and              blocks freed in it count as live.",
            time::offset(profile.since_start(Nanos(pause.from_ns)).0),
            time::offset(profile.since_start(Nanos(pause.to_ns)).0),
        );
        said.0.push((Style::Warning, text));
    }
    if let Some(more) = pauses.get(PAUSES_TOLD..).filter(|more| !more.is_empty()) {
        let length = |pause: &Pause| pause.to_ns.saturating_sub(pause.from_ns);
        let sum = more.iter().map(length).fold(0, u64::saturating_add);
        let text = format!(
            "The recorder was stopped {} times more, for {} in all.",
            more.len(),
            time::duration(sum)
        );
        said.0.push((Style::Warning, text));
    }
}

/// What is missing of Python: stacks of native frames are there in any case.
fn of_python(python: &PythonQuality, said: &mut Sentences) {
    let PythonQuality {
        state_unknown,
        unreadable,
        depth,
        lost_code,
        nameless,
        lineless,
        unpaired,
    } = *python;
    said.note(
        state_unknown,
        "stack has",
        "stacks have",
        "native frames only: the thread's Python state could not be read, or was another's",
    );
    said.note(
        unreadable,
        "stack has",
        "stacks have",
        "a Python frame that could not be read: those beyond it are missing",
    );
    said.note(
        depth,
        "stack has",
        "stacks have",
        "too many Python frames: the outermost are missing",
    );
    said.note(
        lost_code,
        "Python function was",
        "Python functions were",
        "not told, as the ring was full: told again at the next use",
    );
    said.note(
        nameless,
        "Python frame has",
        "Python frames have",
        "no name: their function was not told, or its name could not be read",
    );
    said.note(
        lineless,
        "Python function has",
        "Python functions have",
        "no lines: the line table could not be read",
    );
    said.note(
        unpaired,
        "stack has",
        "stacks have",
        "Python and native frames that do not pair up: their order may be wrong",
    );
}
