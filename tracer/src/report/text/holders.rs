//! Who held it: stacks with what they hold, largest first.

use std::borrow::Cow;
use std::io;

use super::super::answer::{Answer, Unit};
use super::super::arenas;
use super::super::fit::fitted;
use super::super::joined::{Together, parts, together};
use super::super::model::{ProcessProfile, Profile};
use super::super::name::UNKNOWN_STACK;
use super::super::question::{Question, When};
use super::super::rows::callers;
use super::super::telling::most_telling;
use super::page::{Page, Style};
use super::{amount, held_in, in_arenas};
use crate::live::{Holder, Snapshot};
use crate::units::{size, time};
use crate::words::printable;

/// Lines for one stack at the peak.
const STACK_LINES: usize = 4;
/// Arenas of Python for which it is said what they were mapped for.
const TRIGGERS: usize = 10;
/// Holders named of what was live at the end.
const END_TOP: usize = 3;
/// Holders named of those that grow.
const GROWING_TOP: usize = 3;
/// Most processes that are listed one by one.
const MOST_PROCESSES: usize = 20;

pub(super) fn at_the_peak(page: &mut Page<'_>, profile: &Profile, top: usize) -> io::Result<()> {
    if profile.peak.holders.is_empty() {
        return Ok(());
    }
    page.heading("Who held it at the peak")?;
    list(page, profile, &Listed::at(&profile.peak), top, STACK_LINES)
}

pub(super) fn at_the_end(page: &mut Page<'_>, profile: &Profile, top: usize) -> io::Result<()> {
    let (peak, end) = (&profile.peak, &profile.end);
    if profile.totals.allocations == 0 && end.holders.is_empty() {
        return Ok(());
    }
    if end.holders.is_empty() {
        page.heading("Live at the end: nothing")
    } else if end.holders == peak.holders {
        page.heading("Live at the end: the same as at the peak")
    } else {
        let text = format!(
            "Live at the end: {} in {}, at {}",
            size::headline(end.bytes),
            held_in(end, profile.peak_of.single()),
            time::offset(profile.since_start(end.at).0)
        );
        page.heading(&text)?;
        // Where the peak was what was there before attach, this is the only list there is.
        match peak.holders.is_empty() {
            true => list(page, profile, &Listed::at(end), top, STACK_LINES),
            false => list(page, profile, &Listed::at(end), END_TOP.min(top), 1),
        }
    }
}

pub(super) fn of_answer(
    page: &mut Page<'_>,
    profile: &Profile,
    answer: &Answer,
    top: usize,
) -> io::Result<()> {
    if answer.holders.is_empty() {
        return Ok(());
    }
    page.heading("Who")?;
    let listed = Listed {
        holders: &answer.holders,
        unit: answer.unit,
        whole: answer.bytes,
    };
    list(page, profile, &listed, top, STACK_LINES)
}

/// Who holds more and more.
pub(super) fn grown(profile: &Profile) -> Answer {
    let question = Question {
        when: When::Growing,
        ..Question::default()
    };
    Answer::of(profile, &question)
}

/// The holders that are shown first, of which moment, and what that moment is called: the peak, or where that was before
/// attach, the most that was traced.
pub(super) fn holder_of_moment(profile: &Profile) -> (String, Cow<'_, Snapshot>) {
    if !profile.peak.holders.is_empty() {
        return (
            "Who held it at the peak".to_owned(),
            Cow::Borrowed(&profile.peak),
        );
    }
    let traced = most_traced(profile);
    let at = time::offset(profile.since_start(traced.at).0);
    let bytes = size::short(traced.listed_bytes());
    let heading = format!("Who held most of what was traced: {bytes} at {at}");
    (heading, traced)
}

/// The moment at which most of what was traced was live: the end of an era, or of all.
fn most_traced(profile: &Profile) -> Cow<'_, Snapshot> {
    let eras = profile.timeline.eras.iter().enumerate();
    let highest = eras.max_by_key(|(_, era)| era.end);
    match highest {
        Some((era, of)) if of.end > profile.end.bytes => {
            Cow::Owned(profile.timeline.snapshot(None, era))
        }
        _ => Cow::Borrowed(&profile.end),
    }
}

/// Who holds more and more, if anybody does, and how long that can go on.
pub(super) fn that_grow(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let answer = grown(profile);
    if answer.holders.is_empty() {
        return Ok(());
    }
    page.heading("What grows")?;
    let listed = Listed {
        holders: &answer.holders,
        unit: answer.unit,
        whole: answer.bytes,
    };
    list(page, profile, &listed, GROWING_TOP, 1)?;
    super::until_the_limit(page, profile)
}

/// What is listed, and of how much.
struct Listed<'a> {
    holders: &'a [Holder],
    unit: Unit,
    whole: u64,
}

impl<'a> Listed<'a> {
    fn at(snapshot: &'a Snapshot) -> Self {
        Self {
            holders: &snapshot.holders,
            unit: Unit::Bytes,
            whole: snapshot.listed_bytes(),
        }
    }
}

fn list(
    page: &mut Page<'_>,
    profile: &Profile,
    listed: &Listed<'_>,
    top: usize,
    lines: usize,
) -> io::Result<()> {
    let Listed {
        holders,
        unit,
        whole,
    } = *listed;
    let joined = together(profile, holders);
    let (shown, rest) = joined.split_at(top.min(joined.len()));
    let sizes: Vec<String> = shown
        .iter()
        .map(|one| unit.short(one.holder.bytes))
        .collect();
    let counts: Vec<String> = shown
        .iter()
        .map(|one| match one.arenas > 0 {
            true => in_arenas(one.arenas),
            false => amount(one.holder.kind, one.holder.blocks),
        })
        .collect();
    let widest = |texts: &[String]| {
        texts
            .iter()
            .map(|text| text.chars().count())
            .max()
            .unwrap_or(0)
    };
    let (size_width, count_width) = (widest(&sizes), widest(&counts));
    for ((one, size), count) in shown.iter().zip(&sizes).zip(&counts) {
        let share = size::percent(one.holder.bytes, whole);
        let front = format!("  {size:>size_width$}  {share:>7}  {count:>count_width$}  ");
        let width = page.width.saturating_sub(front.chars().count());
        let stack = match one.arenas > 0 {
            true => arena_lines(profile, one, listed, lines, width),
            false => stack_lines(profile, one, lines, width),
        };
        let mut stack = stack.into_iter();
        let first = stack.next().unwrap_or_default();
        let style = if first.python {
            Style::BoldPython
        } else {
            Style::Bold
        };
        first.print(page, &front, style)?;
        let indent = " ".repeat(front.chars().count() + 2);
        for line in stack {
            let style = if line.python {
                Style::Python
            } else {
                Style::Dim
            };
            line.print(page, &indent, style)?;
        }
    }
    if rest.is_empty() {
        return Ok(());
    }
    let bytes = rest
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(one.holder.bytes));
    let text = format!(
        "  and {} more stacks with {} ({}) together",
        size::thousands(rest.len() as u64),
        unit.short(bytes),
        size::percent(bytes, whole)
    );
    page.line(&[(Style::Dim, &text)])
}

/// One frame of a listed stack.
#[derive(Default)]
struct Line {
    text: String,
    /// The line of source text.
    source: Option<String>,
    python: bool,
}

impl Line {
    fn print(&self, page: &mut Page<'_>, front: &str, style: Style) -> io::Result<()> {
        let source = self.source.as_ref().map(|source| format!("  {source}"));
        page.line(&[
            (Style::Plain, front),
            (style, &self.text),
            (Style::Dim, source.as_deref().unwrap_or_default()),
        ])
    }
}

/// The most telling frames, innermost first: the caller of the allocator, who called that, and so on.
fn stack_lines(profile: &Profile, one: &Together, lines: usize, width: usize) -> Vec<Line> {
    let frames = profile
        .frames(one.holder.stack)
        .filter(|frames| !frames.is_empty());
    let mut stack = match &frames {
        None => vec![Line {
            text: UNKNOWN_STACK.to_owned(),
            ..Line::default()
        }],
        Some(frames) => most_telling(frames, lines.max(3))
            .into_iter()
            .map(|frame| Line {
                text: match frame.whereabouts() {
                    // A long name gives way to the place, which is where to look.
                    Some(place) => {
                        let room = width.saturating_sub(place.chars().count() + 5).max(16);
                        format!("{} ({place})", fitted(&frame.label(), room))
                    }
                    None => frame.label(),
                },
                source: frame.source.map(|source| printable(source).into_owned()),
                python: frame.is_of_runtime(),
            })
            .collect(),
    };
    if lines == 1
        && let Some(frames) = &frames
        && let Some(callers) = callers(&most_telling(frames, 3)[1..])
    {
        stack.truncate(1);
        stack[0].text = format!("{} ← {callers}", stack[0].text);
        stack[0].source = None;
    }
    stack.truncate(lines);
    if let Some(first) = stack.first_mut() {
        first.text = whose(profile, one) + &first.text;
    }
    stack
}

/// Python's arenas, and below, what each was mapped for, which says little of who holds it.
fn arena_lines(
    profile: &Profile,
    one: &Together,
    listed: &Listed<'_>,
    lines: usize,
    width: usize,
) -> Vec<Line> {
    let plain = |text: String| Line {
        text,
        ..Line::default()
    };
    let label = whose(profile, one) + arenas::LABEL;
    if lines == 1 {
        return vec![plain(format!("{label}; {}", arenas::ADVICE))];
    }
    let mut all = vec![plain(label), plain(arenas::ADVICE.to_owned())];
    let triggers = parts(profile, one, listed.holders);
    for trigger in triggers.iter().take(TRIGGERS) {
        let size = listed.unit.short(trigger.holder.bytes);
        let first = stack_lines(profile, trigger, 1, width).into_iter().next();
        let mut line = first.unwrap_or_default();
        line.text = format!("{size} mapped for {}", line.text);
        all.push(line);
    }
    let more = triggers.len().saturating_sub(TRIGGERS);
    if more > 0 {
        all.push(plain(format!(
            "and for {} others",
            size::thousands(more as u64)
        )));
    }
    all
}

/// `[4243] ` where there are several processes, `[8 processes] ` where more than one of them is meant; `[50 loads of p1.so] ` where that
/// was loaded again and again.
pub(super) fn whose(profile: &Profile, one: &Together) -> String {
    let loads = one.loads(profile);
    let loads = loads.map_or_else(String::new, |(loads, file)| {
        format!("[{} loads of {file}] ", size::thousands(loads))
    });
    process_of(profile, one) + &loads
}

fn process_of(profile: &Profile, one: &Together) -> String {
    if profile.processes.len() < 2 {
        return String::new();
    }
    match (one.processes, profile.process(one.holder.process)) {
        (0 | 1, Some(process)) => format!("[{}] ", process.process.pid),
        (0 | 1, None) => String::new(),
        (many, _) => format!("[{} processes] ", size::thousands(many as u64)),
    }
}

pub(super) fn of_each_process(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    if profile.processes.len() < 2 {
        return Ok(());
    }
    let mut processes: Vec<&ProcessProfile> = profile.processes.iter().collect();
    processes.sort_by_key(|process| std::cmp::Reverse(process.peak.bytes));
    page.heading("Peak of each process")?;
    let rows = processes.iter().take(MOST_PROCESSES).map(|process| {
        let at = profile.since_start(process.peak.at);
        let when = if process.peak.blocks == 0 {
            String::new()
        } else {
            format!("at {}", time::offset(at.0))
        };
        let inherited = match process.peak.inherited_bytes {
            0 => String::new(),
            bytes => format!("inherited {}", size::short(bytes)),
        };
        let size = size::short(process.peak.bytes);
        ([size, when, inherited], &process.process)
    });
    let rows: Vec<_> = rows.collect();
    let width = |column: usize| {
        let widths = rows.iter().map(|(cells, _)| cells[column].len());
        widths.max().unwrap_or(0)
    };
    let [size_width, when_width, inherited_width] = [0, 1, 2].map(width);
    let gap = if inherited_width > 0 { 2 } else { 0 };
    for ([size, when, inherited], process) in rows {
        let front = format!(
            "  {size:>size_width$}  {when:<when_width$}{:gap$}{inherited:<inherited_width$}  [{}] ",
            "", process.pid
        );
        page.line(&[
            (Style::Plain, &front),
            (Style::Plain, &printable(&process.command)),
        ])?;
    }
    match processes.len().saturating_sub(MOST_PROCESSES) {
        0 => {}
        rest => page.line(&[(
            Style::Dim,
            &format!("  and {} more processes", size::thousands(rest as u64)),
        )])?,
    }
    if inherited_width == 0 {
        return Ok(());
    }
    let text =
        "What a process inherited from the one that forked it counts once in the peak of all.";
    page.prose(Style::Dim, (2, 2), text)
}
