//! How far the numbers can be trusted: every loss there was, in words, with what it means.

use std::collections::HashMap;
use std::io;

use super::super::model::{Completion, Profile};
use super::page::{Page, Style};
use crate::event::ProcessId;
use crate::live::Totals;
use crate::model::{Affects, Loss, losses};
use crate::record::{LossKind, ProcessLosses, Quality};
use crate::units::size;
use crate::words::printable;

/// More processes that lost events are told together.
const LOSERS_TOLD: usize = 8;

pub(super) fn write(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    if profile.processes.is_empty() {
        return Ok(());
    }
    page.heading("How far to trust this")?;
    let sentences = sentences(profile, Late::OneByOne);
    if sentences.iter().all(|(style, _)| *style != Style::Warning) {
        let all_known = profile
            .losses
            .iter()
            .all(|loss| loss.affects() == Affects::Nothing);
        let text = match (&profile.completion, all_known) {
            (Completion::Closed(_), true) => "  Nothing was lost: every event was seen.",
            (Completion::Closed(_), false) => "  Every event was seen.",
            (_, true) => "  Up to where the recording stops, nothing was lost.",
            (_, false) => "  Up to where the recording stops, every event was seen.",
        };
        page.line(&[(Style::Plain, text)])?;
    }
    for (style, sentence) in sentences {
        page.prose(style, (2, 4), &sentence)?;
    }
    Ok(())
}

/// What makes the answer wrong, in few sentences: processes whose probes were late are told together. An allocator that was not seen
/// is among them: the figures are right, but what was held in its blocks counts for whoever made it take memory.
pub(super) fn grave(profile: &Profile) -> Vec<String> {
    let is_other_allocator = |loss: &&Loss| match loss {
        Loss::Told { loss, .. } => loss.kind == LossKind::OtherAllocator,
        _ => false,
    };
    let other_allocators = profile.losses.iter().filter(is_other_allocator);
    let other_allocators: Vec<String> = other_allocators
        .map(|loss| printable(&without_folders(&loss.to_string())).into_owned())
        .collect();
    let sentences = sentences(profile, Late::Together).into_iter();
    let grave = sentences.filter(|(style, _)| *style == Style::Warning);
    let mut grave: Vec<String> = grave.map(|(_, sentence)| sentence).collect();
    grave.extend(other_allocators);
    grave
}

/// The text with absolute paths cut down to the names of their files.
fn without_folders(text: &str) -> String {
    let words = text.split(' ').map(|word| match word.strip_prefix('/') {
        Some(path) => path.rsplit('/').next().unwrap_or(path),
        None => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Why most of the stacks that are cut are.
pub(super) fn why_cut(quality: &Quality) -> Option<&'static str> {
    let reasons = [
        (
            quality.truncated_pending,
            "it had just been mapped, and its unwind table was not there yet",
        ),
        (
            quality.truncated_no_code,
            "the next address was in no code that was known",
        ),
        (quality.truncated_depth, "they are too deep"),
        (
            quality.truncated_unreadable,
            "the memory of the stack could not be read",
        ),
        (
            quality.truncated_no_rule,
            "its file has no call frame information there",
        ),
        (
            quality.truncated_unsupported,
            "its unwind rule is one that the tables have no words for",
        ),
        (
            quality.truncated_frame_pointer,
            "code compiled at run time keeps no frame pointers",
        ),
    ];
    let most = reasons.into_iter().max_by_key(|(count, _)| *count);
    most.filter(|(count, _)| *count > 0).map(|(_, why)| why)
}

/// The same for other views, with all processes that were late in one sentence: whether it makes sizes wrong, and what is said.
pub(in crate::report) fn said(profile: &Profile) -> Vec<(bool, String)> {
    let sentences = sentences(profile, Late::Together).into_iter();
    sentences
        .map(|(style, sentence)| (style == Style::Warning, sentence))
        .collect()
}

/// How processes are told whose probes were late.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Late {
    /// The first of them each by itself: there is room for all that is known.
    OneByOne,
    /// In one sentence.
    Together,
}

/// Everything that is not zero. First what makes sizes wrong, then what hides who it was, then what is worth knowing.
fn sentences(profile: &Profile, late: Late) -> Vec<(Style, String)> {
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
    let grave = profile
        .losses
        .iter()
        .filter(|loss| loss.is_grave())
        .cloned();
    let mut grave: Vec<Loss> = grave.collect();
    if late == Late::Together {
        losses::join_late(&mut grave);
    }
    for loss in &grave {
        said.0
            .push((Style::Warning, printable(&loss.to_string()).into_owned()));
        if matches!(loss, Loss::Events { .. }) {
            said.0.extend(by_process(profile, &profile.quality.losses));
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
    for loss in profile.losses.iter().filter(|loss| !loss.is_grave()) {
        said.0
            .push((Style::Plain, printable(&loss.to_string()).into_owned()));
    }
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
        profile
            .quality
            .notes
            .iter()
            .map(|note| (Style::Plain, printable(note).into_owned())),
    );
    said.0
}

/// What each process lost, where there are several.
fn by_process(profile: &Profile, losses: &[ProcessLosses]) -> Vec<(Style, String)> {
    if profile.processes.len() < 2 {
        return Vec::new();
    }
    let events = |losses: &ProcessLosses| losses.allocations.saturating_add(losses.frees);
    let mut lost: Vec<&ProcessLosses> = losses.iter().filter(|of| events(of) > 0).collect();
    lost.sort_by_key(|of| std::cmp::Reverse(events(of)));
    let pids: HashMap<ProcessId, u32> = profile
        .processes
        .iter()
        .map(|process| (process.process.id, process.process.pid))
        .collect();
    let line = |whose: String, of: &[&ProcessLosses]| {
        let sum = |count: fn(&ProcessLosses) -> u64| {
            let counts = of.iter().map(|losses| count(losses));
            counts.fold(0, u64::saturating_add)
        };
        let text = format!(
            "  of {whose}: {} and {}, {} of them so that others found room",
            counted(sum(|of| of.allocations), "allocation", "allocations"),
            counted(sum(|of| of.frees), "free", "frees"),
            size::thousands(sum(|of| of.over_share)),
        );
        (Style::Warning, text)
    };
    let (first, rest) = lost.split_at(lost.len().min(LOSERS_TOLD));
    let mut lines: Vec<_> = first
        .iter()
        .map(|losses| {
            let pid = pids.get(&losses.process);
            let whose = pid.map_or("other processes".to_owned(), |pid| format!("process {pid}"));
            line(whose, &[losses])
        })
        .collect();
    if !rest.is_empty() {
        lines.push(line(
            counted(rest.len() as u64, "more process", "more processes"),
            rest,
        ));
    }
    lines
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
