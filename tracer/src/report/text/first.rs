//! The first screen: the answer within 24 lines of 80 columns, those included that the caller writes below it.
//!
//! In this order: how high; how it ended; what the kernel says; what grows; who held the peak, two lines each, as many as there
//! is room for and none of less than a hundredth; what was left; and of what was not seen, what makes the answer wrong. The
//! rest is in [`write_all`](super::write_all).

use std::io;

use super::super::arenas;
use super::super::javascript::runs_javascript;
use super::super::model::{Completion, Profile};
use super::super::name::{NamedFrame, module_name};
use super::books::FAR;
use super::holders::{grown, holder_of_moment};
use super::page::{Page, Style};
use super::processes::Shown;
use super::told::{Row, Rows};
use super::{amount, ending, headline, held_in, in_arenas, kinds, resident, subject, trust};
use crate::live::Holder;
use crate::record::Origin;
use crate::units::{size, time};

/// Lines of a terminal.
const LINES: usize = 24;
/// Lines that the caller writes below: an empty one, where the recording is, what to type next.
const BELOW: usize = 3;
/// Most holders of the peak.
const HOLDERS: usize = 5;
/// Most of those that grow.
const GROWING: usize = 2;
/// A name has at least so many characters where there are others beside it that can be left out.
const LEAST_NAME: usize = 24;
/// Most sentences on what was not seen.
const SENTENCES: usize = 3;
/// Stacks that are cut are told of where such a part of the whole has them.
const CUT_PART: u64 = 10;

/// Writes the first screen; `top` holders, if that many were asked for.
pub(super) fn write(page: &mut Page<'_>, profile: &Profile, top: Option<usize>) -> io::Result<()> {
    let with_counts = headline(page, profile)?;
    kinds(page, profile, with_counts)?;
    subject(page, profile)?;
    ending::write(page, profile)?;
    cut_short(page, profile)?;
    kernels_word(page, profile)?;
    resident::kept(page, profile)?;
    resident::before(page, profile)?;
    growing(page, profile)?;
    let (heading, snapshot) = holder_of_moment(profile);
    let (rows, whole) = (
        Rows::of(profile, &snapshot.holders),
        snapshot.listed_bytes(),
    );
    let mut rest = Vec::new();
    let below = {
        let mut page = page.onto(&mut rest);
        left(&mut page, profile)?;
        unnamed_javascript(&mut page, profile)?;
        let cut = cut(profile, rows.largest.iter().take(HOLDERS), whole);
        not_seen(&mut page, profile, cut)?;
        page.lines
    };
    let used = page.lines + below + BELOW;
    // Besides: an empty line, the heading, and how much the others hold.
    let free = LINES.saturating_sub(used + 3);
    let processes = Shown::of(profile, &snapshot);
    let lines = processes.as_ref().map_or(0, Shown::lines);
    // A list of processes has its place where that leaves two holders, or all there are; otherwise they have one line.
    let is_list = free.saturating_sub(lines) / 2 >= rows.largest.len().min(2);
    let lines = if is_list { lines } else { 1 };
    let room = free.saturating_sub(lines) / 2;
    let most = top.unwrap_or_else(|| room.clamp(1, HOLDERS));
    at_the_peak(page, &heading, &rows, whole, most, top.is_some())?;
    match processes {
        Some(processes) if is_list => processes.write(page)?,
        Some(processes) => processes.write_brief(page)?,
        None => {}
    }
    page.raw(&rest, below)
}

fn cut_short(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let Some(reason) = profile.completion.cut_reason() else {
        return Ok(());
    };
    let at = time::offset(profile.since_start(profile.ended).0);
    let text = match profile.completion {
        Completion::Cut(_) => format!("This recording stops early, at {at}: {reason}."),
        _ => format!("This recording stops at {at}: {reason}."),
    };
    page.prose(Style::Warning, (0, 0), &text)
}

/// What the kernel says: RSS, the limit, and when that is reached.
fn kernels_word(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let (peak, end) = (&profile.memory.peak, &profile.memory.end);
    let at =
        |held: Option<u64>, when: &str| held.map(|held| format!("{} {when}", size::short(held)));
    let near = peak
        .at
        .is_some_and(|at| at.0.abs_diff(profile.peak.at.0) <= FAR);
    let when = match peak.inherited {
        // So little is not worth the words.
        bytes if bytes.saturating_mul(100) < peak.rss.unwrap_or(0) => "at the peak".to_owned(),
        bytes => format!(
            "at the peak ({} of it inherited, counted once)",
            size::short(bytes)
        ),
    };
    let at_peak = at(peak.rss, &when).filter(|_| near);
    let sizes: Vec<String> = [at_peak, at(end.rss, "at the end")]
        .into_iter()
        .flatten()
        .collect();
    if sizes.is_empty() {
        return Ok(());
    }
    let mut text = format!("RSS {}", sizes.join(", "));
    let limit = end.cgroup_limit.or(peak.cgroup_limit);
    let charge = end.cgroup_current.or(peak.cgroup_current);
    if let (Some(charge), Some(limit)) = (charge, limit) {
        text += &format!(
            "; its cgroup stands at {} of {}",
            size::percent(charge, limit),
            size::short(limit)
        );
    }
    page.prose(Style::Plain, (0, 0), &text)
}

fn growing(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let answer = grown(profile);
    if answer.holders.is_empty() {
        return Ok(());
    }
    // The beginning of a program is no leak: what grew by a hundredth of the peak at least. What was attached to may be watched for
    // too short a time for that.
    let grew = answer.bytes as f64 * profile.duration_ns() as f64 / 1e9;
    let is_launched = profile
        .processes
        .first()
        .is_some_and(|first| first.process.origin == Origin::Launched);
    if is_launched && grew < profile.peak.bytes as f64 / 100.0 {
        return Ok(());
    }
    let rows = Rows::of(profile, &answer.holders);
    let rate = answer.unit.short(answer.bytes);
    page.heading(&format!("What grows: {rate} together"))?;
    for Row { told, one } in rows.largest.iter().take(GROWING) {
        let front = format!("  {:>11}  ", answer.unit.short(one.holder.bytes));
        page.line(&[
            (Style::Plain, &front),
            (
                told.style,
                &told.first(page.width.saturating_sub(front.chars().count())),
            ),
        ])?;
    }
    super::until_the_limit(page, profile)
}

fn at_the_peak(
    page: &mut Page<'_>,
    heading: &str,
    rows: &Rows,
    whole: u64,
    most: usize,
    asked: bool,
) -> io::Result<()> {
    let large = rows
        .largest
        .iter()
        .filter(|row| asked || row.one.holder.bytes.saturating_mul(100) >= whole);
    let shown = large.take(most).count().max(1).min(rows.largest.len());
    if shown == 0 {
        return Ok(());
    }
    page.heading(heading)?;
    for row in &rows.largest[..shown] {
        two_lines(page, row, whole)?;
    }
    let (count, bytes) = rows.besides(shown);
    if count == 0 {
        return Ok(());
    }
    let text = format!(
        "  {:>9}  {:>7}  {} more",
        size::short(bytes),
        size::percent(bytes, whole),
        size::thousands(count as u64),
    );
    page.line(&[(Style::Dim, &text)])
}

fn two_lines(page: &mut Page<'_>, row: &Row, whole: u64) -> io::Result<()> {
    let Row { told, one } = row;
    let Holder {
        bytes,
        kind,
        blocks,
        ..
    } = one.holder;
    let front = format!(
        "  {:>9}  {:>7}  ",
        size::short(bytes),
        size::percent(bytes, whole)
    );
    let indent = front.chars().count();
    let room = page.width.saturating_sub(indent);
    let first = told.first(room);
    // The line of source text, if all of it fits beside.
    let source = told.source.as_ref().map(|source| format!("  {source}"));
    let source = source.filter(|source| first.chars().count() + source.chars().count() <= room);
    page.line(&[
        (Style::Plain, &front),
        (told.style, &first),
        (Style::Dim, source.as_deref().unwrap_or_default()),
    ])?;
    let mut second = " ".repeat(indent);
    if one.arenas > 0 {
        let told = in_arenas(one.arenas);
        let whole = format!("{told}; {}", arenas::ADVICE);
        second += &match indent + whole.chars().count() <= page.width {
            true => whole,
            false => format!("{told}; {}", arenas::SHORT_ADVICE),
        };
        return page.line(&[(Style::Dim, &second)]);
    }
    second += &amount(kind, blocks);
    second += &told.callers(page.width.saturating_sub(second.chars().count()));
    page.line(&[(Style::Dim, &second)])
}

/// What was live at the end, in one line.
fn left(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let (peak, end) = (&profile.peak, &profile.end);
    if profile.totals.allocations == 0 && end.holders.is_empty() || peak.holders.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let text = if end.holders.is_empty() {
        "Live at the end: nothing".to_owned()
    } else if end.holders == peak.holders {
        "Live at the end: the same".to_owned()
    } else {
        let rows = Rows::of(profile, &end.holders);
        let bytes = size::short(end.bytes);
        let counts = held_in(end, profile.peak_of.single());
        let mut text = format!("Live at the end: {bytes} in {counts}, most by ");
        if text.chars().count() + LEAST_NAME > page.width {
            text = format!("Live at the end: {bytes}, most by ");
        }
        let room = page.width.saturating_sub(text.chars().count());
        if let Some(most) = rows.largest.first() {
            text += &most.told.brief(room);
        }
        text
    };
    page.line(&[(Style::Plain, &text)])
}

/// What makes JavaScript's functions seen, where holders run some that have no name.
fn unnamed_javascript(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let (_, snapshot) = holder_of_moment(profile);
    let is_unnamed = |holder: &Holder| {
        let frames = profile.frames(holder.stack).unwrap_or_default();
        let runs = |frame: &NamedFrame<'_>| frame.function.is_some_and(runs_javascript);
        frames.iter().any(runs) && !frames.iter().any(NamedFrame::is_of_runtime)
    };
    let mut largest = snapshot.holders.iter().take(HOLDERS);
    if !largest.any(is_unnamed) {
        return Ok(());
    }
    let text = "To see functions of JavaScript, start node with --perf-basic-prof \
                --interpreted-frames-native-stack";
    page.prose(Style::Dim, (0, 2), text)
}

/// Where and why callers are missing, if they are in much of what is shown.
fn cut<'r>(profile: &Profile, shown: impl Iterator<Item = &'r Row>, whole: u64) -> Option<String> {
    // Whom the loader maps for is of no interest.
    let is_missed = |row: &&Row| row.told.is_cut && !row.told.is_of_loader;
    let cut: Vec<&Row> = shown.filter(is_missed).collect();
    let bytes = cut.iter().map(|row| row.one.holder.bytes);
    if bytes.fold(0, u64::saturating_add) < whole / CUT_PART {
        return None;
    }
    let largest = cut.iter().max_by_key(|row| row.one.holder.bytes)?;
    let frames = profile.frames(largest.one.holder.stack)?;
    let module = frames.last().and_then(|frame| frame.module)?;
    let place = match module.is_anonymous() {
        true => "code in no file".to_owned(),
        false => module_name(module),
    };
    let why = trust::why_cut(&profile.quality)?;
    Some(format!(
        "Callers are missing where stacks are cut, in {place}: {why}."
    ))
}

/// What was not seen, if that makes the answer wrong; and where stacks are cut.
fn not_seen(page: &mut Page<'_>, profile: &Profile, cut: Option<String>) -> io::Result<()> {
    let grave: Vec<String> = trust::grave(profile).into_iter().chain(cut).collect();
    if grave.is_empty() {
        return Ok(());
    }
    page.blank()?;
    for sentence in grave.iter().take(SENTENCES) {
        page.prose(Style::Warning, (0, 2), sentence)?;
    }
    match grave.len().saturating_sub(SENTENCES) {
        0 => Ok(()),
        1 => page.line(&[(Style::Warning, "and 1 more doubt: see --verbose")]),
        more => {
            let text = format!("and {more} more doubts: see --verbose");
            page.line(&[(Style::Warning, &text)])
        }
    }
}
