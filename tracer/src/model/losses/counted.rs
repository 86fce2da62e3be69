//! Losses that are counters: what each makes wrong, and its words.

use super::{Account, Affects, Loss, larger_ring};
use crate::record::{self, Quality};

pub(super) fn counted(quality: &Quality, account: &Account<'_>) -> Vec<Loss> {
    let hint = larger_ring(account.ring_bytes);
    let more = match hint.as_str() {
        "" => "",
        _ => " (more are kept with --ring 64MiB)",
    };
    use Affects::{Everything, LowerBound, Names, Nothing};
    // Taken apart, so that a new counter cannot be forgotten here.
    let Quality {
        lost_allocations: _,
        lost_frees: _,
        lost_process_events,
        lost_stacks,
        undefined_stacks,
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
        unfollowed_children,
        sharers,
        pauses: _,
        dropped_marks,
        refused_mark_connections,
        patched_functions,
        lost_probes,
        python,
        losses: _,
        notes: _,
    } = quality;
    let record::PythonQuality {
        state_unknown,
        unreadable,
        depth,
        lost_code,
        nameless,
        lineless,
        unpaired,
    } = python;
    let all = [
        (
            dropped_samples,
            LowerBound,
            ["sampled block was", "sampled blocks were"],
            "left out: their table was full; what is reported is less than what was held".to_owned(),
        ),
        (
            lost_process_events,
            Everything,
            ["fork, exec or exit was", "forks, execs and exits were"],
            format!("lost: the ring was full{hint}; a process may be missing, or count after its end"),
        ),
        (
            threads_full,
            LowerBound,
            ["call was", "calls were"],
            format!("not followed: there was no place for what is kept of their threads{more}"),
        ),
        (
            calls_too_deep,
            LowerBound,
            ["call was", "calls were"],
            "not followed: too many signal handlers were in the allocator at once".to_owned(),
        ),
        (
            missed_returns,
            LowerBound,
            ["call was", "calls were"],
            "never seen to return: not counted".to_owned(),
        ),
        (
            unsafe_returns,
            LowerBound,
            ["call was", "calls were"],
            "not followed: a return probe there could have harmed the target".to_owned(),
        ),
        (
            unreadable_results,
            LowerBound,
            ["block is", "blocks are"],
            "missing: the address could not be read from the target".to_owned(),
        ),
        (
            malformed_events,
            Everything,
            ["event was", "events were"],
            "left out as senseless".to_owned(),
        ),
        (
            unfollowed_children,
            LowerBound,
            ["process was", "processes were"],
            "not followed, or not from the beginning: no probes could be placed in time".to_owned(),
        ),
        (
            sharers,
            Everything,
            ["process", "processes"],
            "ran in the memory of another one (by vfork or CLONE_VM): what was allocated and freed there so was not seen".to_owned(),
        ),
        (
            patched_functions,
            Everything,
            ["function was", "functions were"],
            "not probed, because the process has patched them in memory: their calls are missing".to_owned(),
        ),
        (
            lost_probes,
            Everything,
            ["probe was", "probes were"],
            "overwritten while it recorded: calls since then are missing".to_owned(),
        ),
        (
            unpaired_returns,
            Nothing,
            ["call was", "calls were"],
            "under way when tracing began: what came of that counts as held before attach".to_owned(),
        ),
        (
            no_walk_buffer,
            Names,
            ["event has", "events have"],
            "no stack, as no buffer was free: see (unknown stack)".to_owned(),
        ),
        (
            undefined_stacks,
            Names,
            ["stack is", "stacks are"],
            format!("not known, as the ring was full{hint}: see (unknown stack)"),
        ),
        (
            lost_stacks,
            Nothing,
            ["stack was", "stacks were"],
            "lost, as the ring was full, and sent again where they were used again".to_owned(),
        ),
        (
            stack_collisions,
            Names,
            ["stack was", "stacks were"],
            "mistaken for another at first: see (unknown stack)".to_owned(),
        ),
        (
            dropped_marks,
            Nothing,
            ["mark was", "marks were"],
            "left out: too many in a second or in all for one process or user, or the ring was full"
                .to_owned(),
        ),
        (
            refused_mark_connections,
            Nothing,
            ["connection to the recorder was", "connections to the recorder were"],
            "closed unanswered: from another user, or too many at once".to_owned(),
        ),
        (
            state_unknown,
            Names,
            ["stack has", "stacks have"],
            "native frames only: the thread's Python state could not be read, or was another's".to_owned(),
        ),
        (
            unreadable,
            Names,
            ["stack has", "stacks have"],
            "a Python frame that could not be read: those beyond it are missing".to_owned(),
        ),
        (
            depth,
            Names,
            ["stack has", "stacks have"],
            "too many Python frames: the outermost are missing".to_owned(),
        ),
        (
            lost_code,
            Names,
            ["Python function was", "Python functions were"],
            "not told, as the ring was full: told again at the next use".to_owned(),
        ),
        (
            nameless,
            Names,
            ["Python frame has", "Python frames have"],
            "no name: their function was not told, its name could not be read, or there was no room for it".to_owned(),
        ),
        (
            lineless,
            Names,
            ["Python function has", "Python functions have"],
            "no lines: the line table could not be read".to_owned(),
        ),
        (
            unpaired,
            Names,
            ["stack has", "stacks have"],
            "Python and native frames that do not pair up: their order may be wrong".to_owned(),
        ),
        (
            truncated_depth,
            Names,
            ["stack was", "stacks were"],
            "too deep: the end nearest to main is missing".to_owned(),
        ),
        (
            truncated_unreadable,
            Names,
            ["stack was", "stacks were"],
            "cut where the stack's memory could not be read".to_owned(),
        ),
        (
            truncated_pending,
            Names,
            ["stack was", "stacks were"],
            "cut in code that had just been mapped, before its unwind table was there".to_owned(),
        ),
        (
            truncated_no_rule,
            Names,
            ["stack was", "stacks were"],
            "cut in code that its file has no call frame information for".to_owned(),
        ),
        (
            truncated_no_code,
            Names,
            ["stack was", "stacks were"],
            "cut at an address where no code was known to be".to_owned(),
        ),
        (
            truncated_unsupported,
            Names,
            ["stack was", "stacks were"],
            "cut at an unwind rule that the tables have no words for".to_owned(),
        ),
        (
            truncated_frame_pointer,
            Names,
            ["stack was", "stacks were"],
            "cut in code compiled at run time, which keeps no frame pointers".to_owned(),
        ),
    ];
    let counted = all.into_iter().filter(|(count, ..)| **count > 0);
    counted
        .map(|(count, affects, words, rest)| Loss::Counted {
            count: *count,
            affects,
            words,
            rest,
        })
        .collect()
}
