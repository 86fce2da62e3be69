//! The first screen: the answer within 24 lines of 80 columns, those included that the caller writes below it.
//!
//! In this order: how high; how it ended; what the kernel says; what grows; who held the peak, two lines each, as many as there
//! is room for and none of less than a hundredth; what was left; and of what was not seen, what makes the answer wrong. The
//! rest is in [`write_all`](super::write_all).

use std::io;

use super::super::arenas;
use super::super::fit::fitted;
use super::super::javascript::runs_javascript;
use super::super::joined::{Together, together};
use super::super::model::{Completion, Profile};
use super::super::name::{NamedFrame, UNKNOWN_STACK};
use super::super::telling::{Role, most_telling};
use super::books::FAR;
use super::holders::{grown, holder_of_moment, whose};
use super::page::{Page, Style};
use super::{amount, ending, headline, held_in, in_arenas, kinds, resident, subject, trust};
use crate::live::{Holder, Snapshot};
use crate::units::{size, time};
use crate::words::printable;

/// Lines of a terminal.
const LINES: usize = 24;
/// Lines that the caller writes below: an empty one, where the recording is, what to type next.
const BELOW: usize = 3;
/// Most holders of the peak, and the fewest that are shown however little room there is.
const HOLDERS: usize = 5;
const LEAST_HOLDERS: usize = 2;
/// Most of those that grow.
const GROWING: usize = 2;
/// Most sentences on what was not seen.
const SENTENCES: usize = 3;

/// Writes the first screen; `top` holders, if that many were asked for.
pub(super) fn write(page: &mut Page<'_>, profile: &Profile, top: Option<usize>) -> io::Result<()> {
    headline(page, profile)?;
    kinds(page, profile)?;
    subject(page, profile)?;
    ending::write(page, profile)?;
    cut_short(page, profile)?;
    kernels_word(page, profile)?;
    resident::kept(page, profile)?;
    resident::before(page, profile)?;
    growing(page, profile)?;
    let mut rest = Vec::new();
    let below = {
        let mut page = page.onto(&mut rest);
        left(&mut page, profile)?;
        unnamed_javascript(&mut page, profile)?;
        not_seen(&mut page, profile)?;
        page.lines
    };
    let used = page.lines + below + BELOW;
    // Besides: an empty line, the heading, and how much the others hold.
    let room = LINES.saturating_sub(used + 3) / 2;
    let most = top.unwrap_or_else(|| room.clamp(LEAST_HOLDERS, HOLDERS));
    let (heading, snapshot) = holder_of_moment(profile);
    at_the_peak(page, profile, &heading, &snapshot, most, top.is_some())?;
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
        0 => "at the peak".to_owned(),
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
    let listed = together(profile, &answer.holders);
    let rate = answer.unit.short(answer.bytes);
    page.heading(&format!("What grows: {rate} together"))?;
    for one in listed.iter().take(GROWING) {
        let front = format!("  {:>11}  ", answer.unit.short(one.holder.bytes));
        let told = Told::of(profile, one);
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
    profile: &Profile,
    heading: &str,
    snapshot: &Snapshot,
    most: usize,
    asked: bool,
) -> io::Result<()> {
    let whole = snapshot.listed_bytes();
    let listed = together(profile, &snapshot.holders);
    let large = listed
        .iter()
        .filter(|one| asked || one.holder.bytes.saturating_mul(100) >= whole);
    let shown = large.take(most).count().max(1).min(listed.len());
    let Some(shown) = listed.get(..shown).filter(|shown| !shown.is_empty()) else {
        return Ok(());
    };
    page.heading(heading)?;
    for one in shown {
        two_lines(page, profile, one, whole)?;
    }
    let rest = &listed[shown.len()..];
    if rest.is_empty() {
        return Ok(());
    }
    let bytes = rest
        .iter()
        .fold(0_u64, |sum, one| sum.saturating_add(one.holder.bytes));
    let text = format!(
        "  {:>9}  {:>7}  {} more",
        size::short(bytes),
        size::percent(bytes, whole),
        size::thousands(rest.len() as u64),
    );
    page.line(&[(Style::Dim, &text)])
}

fn two_lines(page: &mut Page<'_>, profile: &Profile, one: &Together, whole: u64) -> io::Result<()> {
    let Holder {
        bytes,
        kind,
        blocks,
        ..
    } = one.holder;
    let told = Told::of(profile, one);
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
        second += &format!("{}; {}", in_arenas(one.arenas), arenas::ADVICE);
        return page.line(&[(Style::Dim, &second)]);
    }
    second += &amount(kind, blocks);
    second += &told.callers(page.width.saturating_sub(second.chars().count()));
    page.line(&[(Style::Dim, &second)])
}

/// A caller's name is folded to so many characters.
const CALLER: usize = 28;

/// A holder in words.
struct Told {
    /// Whose it is, where there are several processes.
    whose: String,
    label: String,
    place: Option<String>,
    source: Option<String>,
    /// Who called it, each as label and place.
    callers: Vec<String>,
    /// The outermost frame of the program's own, where callers are left out.
    root: Option<String>,
    /// In its place where it is further out than what is shown: which of the callers is the innermost line that somebody wrote
    /// for this program, in no package.
    own_line: Option<usize>,
    is_cut: bool,
    style: Style,
}

impl Told {
    fn of(profile: &Profile, one: &Together) -> Self {
        if one.arenas > 0 {
            return Self {
                whose: whose(profile, one),
                label: arenas::LABEL.to_owned(),
                place: None,
                source: None,
                callers: Vec::new(),
                root: None,
                own_line: None,
                is_cut: false,
                style: Style::BoldPython,
            };
        }
        let stack = one.holder.stack;
        let frames = profile.frames(stack).unwrap_or_default();
        let telling = most_telling(&frames, usize::MAX);
        let (label, place, source, python) = match telling.first() {
            None => (UNKNOWN_STACK.to_owned(), None, None, false),
            Some(frame) => (
                frame.label(),
                frame.place(),
                frame.source.map(|source| printable(source).into_owned()),
                frame.is_of_runtime(),
            ),
        };
        let callers = telling.get(1..).unwrap_or_default();
        let root = frames.iter().rfind(|frame| frame.role() == Role::Own);
        let is_own_line = |frame: &&NamedFrame<'_>| frame.is_of_runtime() && !frame.is_of_package();
        let is_told = telling.first().is_some_and(is_own_line);
        let own_line = callers.iter().position(is_own_line);
        Self {
            whose: whose(profile, one),
            label,
            place,
            source,
            callers: callers.iter().map(caller).collect(),
            root: root.map(|frame| match frame.is_of_runtime() {
                true => caller(&frame),
                false => fitted(&frame.label(), CALLER),
            }),
            own_line: own_line.filter(|_| !is_told),
            is_cut: profile.is_truncated(stack),
            style: if python {
                Style::BoldPython
            } else {
                Style::Bold
            },
        }
    }

    /// Label and place in so many columns; a long name gives way to the place, which is where to look.
    fn first(&self, room: usize) -> String {
        let room = room.saturating_sub(self.whose.chars().count());
        let told = match &self.place {
            Some(place) => {
                let left = room.saturating_sub(place.chars().count() + 3).max(16);
                format!("{} ({place})", fitted(&self.label, left))
            }
            None => fitted(&self.label, room.max(16)),
        };
        format!("{}{told}", self.whose)
    }

    /// The callers that fit in so many columns, how many more there are, and the outermost.
    fn callers(&self, room: usize) -> String {
        let count = self.callers.len();
        let own_line = |left: usize| self.own_line.filter(|at| *at >= count - left);
        let root = |left: usize| match own_line(left) {
            Some(at) => self.callers.get(at),
            None => self.root.as_ref(),
        };
        let tail = |left: usize| match (left, root(left)) {
            (0, _) if self.is_cut => " ← … (cut)".to_owned(),
            (0, _) => String::new(),
            (1, Some(root)) if !self.is_cut => format!(" ← {root}"),
            (left, Some(root)) if !self.is_cut => format!(" … {} more, {root}", left - 1),
            (left, _) => format!(" … {left} more (cut)"),
        };
        let joined = |shown: usize| {
            let shown = self.callers[..shown].iter();
            let shown: String = shown.map(|caller| format!(" ← {caller}")).collect();
            shown
        };
        let fitting = (0..=count).rev().find_map(|shown| {
            let text = joined(shown) + &tail(count - shown);
            (text.chars().count() <= room).then_some(text)
        });
        fitting.unwrap_or_default()
    }
}

fn caller(frame: &&NamedFrame<'_>) -> String {
    let label = fitted(&frame.label(), CALLER);
    match frame.place() {
        Some(place) => format!("{label} ({place})"),
        None => label,
    }
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
        let most = together(profile, &end.holders);
        let most = most.first().map(|one| Told::of(profile, one).first(30));
        format!(
            "Live at the end: {} in {}, most by {}",
            size::short(end.bytes),
            held_in(end, profile.peak_of.single()),
            most.unwrap_or_default(),
        )
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

/// What was not seen, if that makes the answer wrong.
fn not_seen(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let grave: Vec<String> = trust::grave(profile);
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
