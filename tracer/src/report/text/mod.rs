//! The report for a person: the first screen. It answers, in this order: how high, what that was made of, how it ended,
//! who held it, what was left, and how far all of this can be trusted.

mod books;
mod ending;
mod first;
mod holders;
mod page;
mod processes;
mod resident;
mod statistics;
mod table;
mod told;
mod tree;
mod trust;

use std::io::{self, Write};

use self::page::{Page, Style};
pub use self::statistics::write_statistics;
pub use self::table::write_table;
pub use self::tree::write_tree;
pub(super) use self::trust::said as trust;
use super::answer::{Answer, Unit};
use super::model::{Completion, ProcessProfile, Profile};
use crate::live::{Kind, Snapshot};
use crate::record::{EndReason, Origin, Process};
use crate::units::{size, time};
use crate::words::printable;

/// The table of the books does not get narrower.
const NARROWEST: usize = 72;

/// How to write the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextOptions {
    /// Most holders listed at the peak; `None`: as many as there is room for.
    pub top: Option<usize>,
    /// All there is to tell, not the first screen.
    pub verbose: bool,
    /// Most characters in a line; 72 if it is less.
    pub width: usize,
    /// Bold, dim and yellow. Whether the output is a terminal, and `NO_COLOR`, are the caller's to know.
    pub colour: bool,
}

impl TextOptions {
    /// Most holders that a list has.
    fn most(&self) -> usize {
        self.top.unwrap_or(TOP)
    }
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            top: None,
            verbose: false,
            width: 100,
            colour: false,
        }
    }
}

/// Holders listed where nothing else was asked for.
const TOP: usize = 10;

/// Writes the first screen, or all there is to tell.
///
/// # Errors
///
/// What `out` says.
pub fn write(profile: &Profile, options: &TextOptions, out: &mut dyn Write) -> io::Result<()> {
    let mut page = Page::new(out, options.width.max(NARROWEST), options.colour);
    match options.verbose {
        true => write_all(&mut page, profile, options.most()),
        false => first::write(&mut page, profile, options.top),
    }
}

/// Writes all there is to tell.
fn write_all(page: &mut Page<'_>, profile: &Profile, top: usize) -> io::Result<()> {
    let with_counts = headline(page, profile)?;
    kinds(page, profile, with_counts)?;
    subject(page, profile)?;
    ending::write(page, profile)?;
    if let Some(reason) = profile.completion.cut_reason() {
        let text = format!(
            "This recording stops early, at {}: {reason}. Everything up to there is below.",
            time::offset(profile.since_start(profile.ended).0)
        );
        page.prose(Style::Warning, (0, 0), &text)?;
    }
    books::write(page, profile)?;
    resident::all_before(page, profile)?;
    holders::at_the_peak(page, profile, top)?;
    holders::at_the_end(page, profile, top)?;
    holders::that_grow(page, profile)?;
    holders::of_each_process(page, profile)?;
    trust::write(page, profile)
}

/// Writes what a question comes to.
///
/// # Errors
///
/// What `out` says.
pub fn write_answer(
    profile: &Profile,
    answer: &Answer,
    options: &TextOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page::new(out, options.width.max(NARROWEST), options.colour);
    head_of_answer(&mut page, profile, answer)?;
    holders::of_answer(&mut page, profile, answer, options.most())?;
    trust::write(&mut page, profile)
}

/// How much it is, of what, when.
fn head_of_answer(page: &mut Page<'_>, profile: &Profile, answer: &Answer) -> io::Result<()> {
    let when = answer
        .at
        .map_or_else(String::new, |at| format!(", {}", moment(profile, at)));
    let amount = answer.unit.headline(answer.bytes);
    page.line(&[
        (Style::Bold, &amount),
        (Style::Plain, " "),
        (Style::Plain, &answer.words),
        (Style::Plain, &when),
    ])?;
    if answer.of_bytes > answer.bytes {
        let text = format!(
            "{} of {}: the rest does not match what was asked for",
            size::percent(answer.bytes, answer.of_bytes),
            answer.unit.headline(answer.of_bytes)
        );
        page.prose(Style::Dim, (0, 0), &text)?;
    }
    subject(page, profile)?;
    match answer.unit {
        Unit::Bytes => Ok(()),
        Unit::BytesPerSecond => growth(page, profile, answer),
    }
}

/// Whether anybody grows, and how long that can go on.
fn growth(page: &mut Page<'_>, profile: &Profile, answer: &Answer) -> io::Result<()> {
    if answer.holders.is_empty() {
        let text = match profile.duration_ns() {
            0..2_000_000_000 => "Nobody's growth can be told in less than 2 seconds.",
            _ => "Nobody holds more and more.",
        };
        return page.line(&[(Style::Plain, text)]);
    }
    until_the_limit(page, profile)
}

/// When the cgroup is full, at the rate of what grows. Of a process that has ended there is nothing to tell.
fn until_the_limit(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let runs_on =
        |process: &ProcessProfile| matches!(process.end_reason(), None | Some(EndReason::Detached));
    let Some(seconds) = profile.seconds_to_limit() else {
        return Ok(());
    };
    if !profile.main_process().is_some_and(runs_on) {
        return Ok(());
    }
    let limit = profile.memory.end.cgroup_limit.unwrap_or(0);
    let left = (seconds * 1e9) as u64;
    let when = profile.unix_ns(profile.ended).saturating_add(left);
    let clock = time::rfc3339_seconds(when).map(|clock| format!(" ({clock})"));
    let text = format!(
        "At this rate the memory cgroup is full, at {}, {} after the end of this recording{}.",
        size::headline(limit),
        time::duration(left),
        clock.unwrap_or_default(),
    );
    page.prose(Style::Warning, (0, 0), &text)
}

/// The peak, and beside it what was there before we came: attached late, the traced part alone would be no answer. Whether there was no
/// room for the numbers of blocks and mappings, which [`kinds`] then tells.
fn headline(page: &mut Page<'_>, profile: &Profile) -> io::Result<bool> {
    let peak = &profile.peak;
    let (memory, attach) = (&profile.memory.peak, &profile.memory.attach);
    let kind = profile.peak_of.single();
    let before = memory.before_attach.or(attach.before_attach);
    let before = before.filter(|before| *before > 0 && kind.is_none_or(|kind| kind == Kind::Heap));
    let at = moment(profile, peak.at);
    if profile.totals.allocations == 0 && peak.blocks == 0 {
        let text = match profile.duration_ns() {
            0 => "No allocation was seen.".to_owned(),
            ns => format!("No allocation was seen in {}.", time::duration(ns)),
        };
        page.line(&[(Style::Bold, &text)])?;
        let Some(before) = before else {
            return Ok(false);
        };
        let text = format!(
            "{} were there before attach; who holds those was not seen.",
            size::headline(before)
        );
        page.prose(Style::Bold, (0, 0), &text)?;
        return Ok(false);
    }
    let (bytes, rest) = match before {
        Some(before) if peak.blocks == 0 => (size::headline(before), format!(" {at}")),
        Some(_) => (
            size::headline(peak.bytes),
            format!(" traced in {}, {at}", held_in(peak, kind)),
        ),
        None => (
            size::headline(peak.bytes),
            format!(" in {}, {at}", held_in(peak, kind)),
        ),
    };
    let (about, off) = match profile.sample_bytes() {
        Some(_) if peak.bytes > 0 => (
            "≈ ",
            format!(" ± {}", size::percent(peak.error_bytes, peak.bytes)),
        ),
        _ => ("", String::new()),
    };
    let bytes = format!("{about}{bytes}{off}");
    let peak_of = match kind {
        None => "Peak: ".to_owned(),
        Some(kind) => format!("Peak of {}: ", called(kind)),
    };
    let lengths = [&peak_of, &bytes, &rest].map(|text| text.chars().count());
    let are_apart = kind.is_none()
        && peak.of(Kind::Mapping).bytes > 0
        && lengths.iter().sum::<usize>() > page.width;
    let rest = match (are_apart, before) {
        (false, _) => rest,
        (true, None) => format!(" {at}"),
        (true, Some(_)) => format!(" traced {at}"),
    };
    page.line(&[
        (Style::Bold, &peak_of),
        (Style::Bold, &bytes),
        (Style::Plain, &rest),
    ])?;
    if profile.peak_of != profile.kinds.level() {
        let text = "This recording holds totals in place of single events: the peak is that of heap and mappings together.";
        page.prose(Style::Plain, (0, 0), text)?;
    }
    let text = match before {
        None => return Ok(are_apart),
        Some(_) if peak.blocks == 0 => {
            "all of it there before attach; who holds it was not seen.".to_owned()
        }
        Some(before) => {
            format!(
                "on top of {} that were there before attach; who holds those was not seen.",
                size::headline(before)
            )
        }
    };
    page.prose(Style::Bold, (6, 6), &text)?;
    Ok(are_apart)
}

/// At least so many characters of a command line are shown.
const LEAST_COMMAND: usize = 16;

/// What was traced, and for how long.
fn subject(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    if let Some(scope) = profile.opening.options.get("scope") {
        let text = of_scope(profile, &printable(scope));
        return page.prose(Style::Plain, (0, 0), &text);
    }
    let Some(main) = profile.main_process() else {
        return page.line(&[(Style::Plain, "No process was traced.")]);
    };
    let (origin, short_origin) = match profile.processes[0].process.origin {
        Origin::Launched => ("traced from its start", "from its start"),
        _ => ("attached to while it ran", "attached to"),
    };
    let others = match profile.processes.len() {
        1 => String::new(),
        2 => ", with 1 more process".to_owned(),
        count => format!(
            ", with {} more processes",
            size::thousands(count as u64 - 1)
        ),
    };
    let told = |origin: &str| {
        format!(
            " (pid {}), {origin}, for {}{others}",
            main.process.pid,
            time::duration(profile.duration_ns())
        )
    };
    let mut rest = told(origin);
    if rest.chars().count() + LEAST_COMMAND > page.width {
        rest = told(short_origin);
    }
    let room = page
        .width
        .saturating_sub(rest.chars().count())
        .max(LEAST_COMMAND);
    let command = page::cut(&printable(&main.process.command), room);
    page.line(&[(Style::Plain, &command), (Style::Plain, &rest)])
}

/// `cgroup /x: 12 processes, 3 alive at the end, in 10 s`
fn of_scope(profile: &Profile, scope: &str) -> String {
    let is_next = |one: &&ProcessProfile| {
        let Process {
            origin,
            parent,
            pid,
            ..
        } = one.process;
        matches!(origin, Origin::Executed { .. })
            && parent
                .and_then(|parent| profile.process(parent))
                .is_some_and(|before| before.process.pid == pid)
    };
    // A process that calls exec stays one.
    let count = profile.processes.iter().filter(|one| !is_next(one)).count();
    let lives = |one: &&ProcessProfile| {
        let ended = one.ended.as_ref();
        ended.is_none_or(|ended| ended.reason == EndReason::Detached)
    };
    let alive = profile.processes.iter().filter(lives).count();
    let took = time::duration(profile.duration_ns());
    let alive = match (count, alive) {
        (0, _) => return format!("{scope}: no process was traced, in {took}"),
        (_, 0) => "none alive at the end".to_owned(),
        (count, alive) if count == alive => "alive at the end".to_owned(),
        (_, alive) => format!("{} alive at the end", size::thousands(alive as u64)),
    };
    let processes = match count {
        1 => "1 process".to_owned(),
        count => format!("{} processes", size::thousands(count as u64)),
    };
    format!("{scope}: {processes}, {alive}, in {took}")
}

/// `at +12.5s (2026-01-02T03:04:17Z)`
fn moment(profile: &Profile, at: crate::event::Nanos) -> String {
    let offset = time::offset(profile.since_start(at).0);
    match time::rfc3339_seconds(profile.unix_ns(at)) {
        Some(clock) => format!("at {offset} ({clock})"),
        None => format!("at {offset}"),
    }
}

/// `12 blocks`, `1 mapping`.
fn amount(kind: Kind, count: u64) -> String {
    let (one, many) = match kind {
        Kind::Heap => ("block", "blocks"),
        Kind::Mapping => ("mapping", "mappings"),
        Kind::ThreadStack => ("thread stack", "thread stacks"),
        Kind::Reserved => ("reserved range", "reserved ranges"),
        Kind::File => ("range of a file", "ranges of files"),
        Kind::Shared => ("shared range", "shared ranges"),
    };
    match count {
        1 => format!("1 {one}"),
        count => format!("{} {many}", size::thousands(count)),
    }
}

/// How many arenas, in words: `22 arenas`.
fn in_arenas(count: u64) -> String {
    match count {
        1 => "1 arena".to_owned(),
        count => format!("{} arenas", size::thousands(count)),
    }
}

/// What a kind is called in a sentence.
fn called(kind: Kind) -> &'static str {
    match kind {
        Kind::Heap => "the heap",
        Kind::Mapping => "mappings",
        Kind::ThreadStack => "thread stacks",
        Kind::Reserved => "reserved address space",
        Kind::File => "mapped files",
        Kind::Shared => "shared memory",
    }
}

/// In how many blocks and mappings it was held, or in how many of the one kind that was asked for.
fn held_in(snapshot: &Snapshot, kind: Option<Kind>) -> String {
    if let Some(kind) = kind {
        return amount(kind, snapshot.of(kind).blocks);
    }
    let blocks = amount(Kind::Heap, snapshot.of(Kind::Heap).blocks);
    match snapshot.of(Kind::Mapping).blocks {
        0 => blocks,
        mappings => format!("{blocks} and {}", amount(Kind::Mapping, mappings)),
    }
}

/// What the peak was made of, if not of blocks alone, and what address space there was beside it.
fn kinds(page: &mut Page<'_>, profile: &Profile, with_counts: bool) -> io::Result<()> {
    let peak = &profile.peak;
    let short = |kind| size::short(peak.of(kind).bytes);
    if let Some(asked) = profile.peak_of.single() {
        let others = Kind::ALL.into_iter();
        let others = others.filter(|kind| *kind != asked && peak.of(*kind).bytes > 0);
        let others: Vec<String> = others
            .map(|kind| format!("{} {}", called(kind), short(kind)))
            .collect();
        if others.is_empty() {
            return Ok(());
        }
        let text = format!("beside it at that moment: {}", others.join(", "));
        return page.prose(Style::Dim, (6, 6), &text);
    }
    if peak.of(Kind::Mapping).bytes > 0 {
        let (heap, mappings) = (short(Kind::Heap), short(Kind::Mapping));
        let text = match with_counts {
            false => format!("heap {heap}, mappings {mappings}"),
            true => format!(
                "heap {heap} in {}, {mappings} in {}",
                amount(Kind::Heap, peak.of(Kind::Heap).blocks),
                amount(Kind::Mapping, peak.of(Kind::Mapping).blocks)
            ),
        };
        page.prose(Style::Plain, (6, 6), &text)?;
    }
    let apart = [
        (Kind::ThreadStack, "thread stacks"),
        (Kind::Reserved, "reserved"),
        (Kind::File, "files"),
        (Kind::Shared, "shared"),
    ];
    let apart: Vec<String> = apart
        .into_iter()
        .filter(|(kind, _)| peak.of(*kind).bytes > 0)
        .map(|(kind, name)| format!("{name} {}", short(kind)))
        .collect();
    if apart.is_empty() {
        return Ok(());
    }
    let text = format!("address space apart from that: {}", apart.join(", "));
    page.prose(Style::Dim, (6, 6), &text)
}

/// Whether the recording was finished in order.
fn closing_reason(profile: &Profile) -> Option<&str> {
    match &profile.completion {
        Completion::Closed(closing) => Some(&closing.reason),
        Completion::Unfinished | Completion::Cut(_) | Completion::UnderWay => None,
    }
}

#[cfg(test)]
mod tests;
