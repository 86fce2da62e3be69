//! A holder in the words of the first screen; those that read the same there are one row.

use std::collections::HashMap;

use super::super::arenas;
use super::super::fit::fitted;
use super::super::joined::{Together, together};
use super::super::model::Profile;
use super::super::name::{NamedFrame, UNKNOWN_STACK};
use super::super::telling::{Role, most_telling};
use super::holders::whose;
use super::page::Style;
use crate::live::Holder;
use crate::words::printable;

/// So many of the largest holders are compared; what a smaller one holds changes no row that is shown.
const COMPARED: usize = 256;

/// So many callers are compared.
const CALLERS_COMPARED: usize = 2;

/// A row of the first screen.
pub(super) struct Row {
    pub(super) told: Told,
    pub(super) one: Together,
}

/// Rows, largest first.
pub(super) struct Rows {
    pub(super) largest: Vec<Row>,
    /// How many smaller ones there are, and what they hold, bytes.
    pub(super) rest: (usize, u64),
}

impl Rows {
    /// Of holders that differ in nothing that is shown of them, one row is made: the same line of source, called from the same
    /// places. Their stacks differ in frames that the screen leaves out.
    pub(super) fn of(profile: &Profile, holders: &[Holder]) -> Self {
        let listed = together(profile, holders);
        let (compared, rest) = listed.split_at(COMPARED.min(listed.len()));
        let mut places: HashMap<_, usize> = HashMap::new();
        let mut largest: Vec<Row> = Vec::new();
        for one in compared {
            let told = Told::of(profile, one);
            let reads = (one.holder.kind, told.reading());
            let next = largest.len();
            match *places.entry(reads).or_insert(next) {
                at if at < next => largest[at].one.add(one),
                _ => largest.push(Row { told, one: *one }),
            }
        }
        largest.sort_by_key(|row| std::cmp::Reverse(row.one.holder.bytes));
        let bytes = rest.iter().map(|one| one.holder.bytes);
        Self {
            largest,
            rest: (rest.len(), bytes.fold(0, u64::saturating_add)),
        }
    }

    /// How many rows there are besides the first few, and what they hold, bytes.
    pub(super) fn besides(&self, shown: usize) -> (usize, u64) {
        let (count, bytes) = self.rest;
        let others = self.largest.iter().skip(shown);
        let others_bytes = others.map(|row| row.one.holder.bytes);
        (
            count + self.largest.len().saturating_sub(shown),
            others_bytes.fold(bytes, u64::saturating_add),
        )
    }
}

/// A caller's name is folded to so many characters.
const CALLER: usize = 28;

/// A holder in words.
pub(super) struct Told {
    /// Whose it is, where there are several processes.
    whose: String,
    label: String,
    place: Option<String>,
    pub(super) source: Option<String>,
    /// Who called it, each as label and place.
    callers: Vec<String>,
    /// The outermost frame of the program's own, where callers are left out.
    root: Option<String>,
    /// In its place where it is further out than what is shown: which of the callers is the innermost line that somebody wrote
    /// for this program, in no package.
    own_line: Option<usize>,
    pub(super) is_cut: bool,
    /// It is the loader's: nothing more telling is in the stack.
    pub(super) is_of_loader: bool,
    pub(super) style: Style,
}

impl Told {
    pub(super) fn of(profile: &Profile, one: &Together) -> Self {
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
                is_of_loader: false,
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
                frame.whereabouts(),
                frame.source.map(|source| printable(source).into_owned()),
                frame.is_of_runtime(),
            ),
        };
        let callers = telling.get(1..).unwrap_or_default();
        let root = frames.iter().rfind(|frame| frame.role() == Role::Own);
        let is_own_line = |frame: &&NamedFrame<'_>| frame.is_of_runtime() && !frame.is_of_package();
        let is_told = telling.first().is_some_and(is_own_line);
        let own_line = callers.iter().position(is_own_line);
        // What was inlined into plumbing is often called as what it is in.
        let first = telling.first().filter(|frame| frame.is_plumbing());
        let first = first.map(caller);
        let callers = callers.iter().map(caller);
        let callers = callers.skip_while(|told| first.as_ref() == Some(told));
        Self {
            whose: whose(profile, one),
            label,
            place,
            source,
            callers: callers.collect(),
            root: root.map(|frame| match frame.is_of_runtime() {
                true => caller(&frame),
                false => fitted(&frame.label(), CALLER),
            }),
            own_line: own_line.filter(|_| !is_told),
            is_cut: profile.is_truncated(stack),
            is_of_loader: telling.first().is_some_and(|frame| frame.is_of_loader()),
            style: if python {
                Style::BoldPython
            } else {
                Style::Bold
            },
        }
    }

    /// What is compared of it.
    fn reading(&self) -> (String, Vec<String>, Option<String>, bool) {
        let callers = self.callers.iter().take(CALLERS_COMPARED).cloned();
        (
            self.first(usize::MAX),
            callers.collect(),
            self.root.clone(),
            self.is_cut,
        )
    }

    /// As [`Told::first`] has it, but without the place where that leaves too little of the name.
    pub(super) fn brief(&self, room: usize) -> String {
        let whole = self.first(usize::MAX);
        match whole.chars().count() <= room {
            true => whole,
            false => {
                let left = room.saturating_sub(self.whose.chars().count());
                format!("{}{}", self.whose, fitted(&self.label, left.max(16)))
            }
        }
    }

    /// Label and place in so many columns; a long name gives way to the place, which is where to look.
    pub(super) fn first(&self, room: usize) -> String {
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
    pub(super) fn callers(&self, room: usize) -> String {
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
    match frame.whereabouts() {
        Some(place) => format!("{label} ({place})"),
        None => label,
    }
}
