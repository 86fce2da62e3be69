//! The holders of an answer, summed up by what a person wants to see them by.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::FixedState;
use serde::Serialize;

use super::answer::Answer;
use super::arenas;
use super::joined::{Together, together};
use super::model::Profile;
use super::name::{self, NamedFrame, UNKNOWN_STACK};
use super::owner::Owner;
use super::package::package;
use super::telling::{Weight, most_telling};
use crate::live::Holder;
use crate::record::FrameIndex;
use crate::words;

/// What rows are made by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// One row a stack.
    #[default]
    Stack,
    /// One a function: its own is what it asked for itself, its total what stacks hold that it is on.
    Function,
    /// One a [package], crate, namespace, or file that code was mapped from, likewise.
    Module,
    /// One a thread.
    Thread,
    /// One a process.
    Process,
    /// One for all processes of an owner, and how many of them hold something.
    Owner(Owner),
}

/// One row of a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The function, module, thread, process, or the most telling frame of the stack.
    pub name: String,
    /// Where that is in the source, if it is one place.
    pub place: Option<String>,
    /// Of a stack, who called it: the next frames that tell most, ` ← ` between them.
    pub callers: Option<String>,
    /// What it asked for itself.
    pub bytes: u64,
    /// In so many blocks and ranges.
    pub blocks: u64,
    /// With what it asked for through others. Each stack counts once, however often the function is on it.
    pub total_bytes: u64,
    /// In so many blocks and ranges.
    pub total_blocks: u64,
    /// How many holders it is the sum of.
    pub holders: usize,
}

impl Row {
    fn new(name: String) -> Self {
        Self {
            name,
            place: None,
            callers: None,
            bytes: 0,
            blocks: 0,
            total_bytes: 0,
            total_blocks: 0,
            holders: 0,
        }
    }

    fn add(&mut self, holder: &Holder, own: bool) {
        if own {
            self.bytes = self.bytes.saturating_add(holder.bytes);
            self.blocks = self.blocks.saturating_add(holder.blocks);
        }
        self.total_bytes = self.total_bytes.saturating_add(holder.bytes);
        self.total_blocks = self.total_blocks.saturating_add(holder.blocks);
        self.holders += 1;
    }
}

/// Sums the holders of an answer up; largest own bytes first, then largest total.
///
/// Of functions and modules, *own* is that of the frame that tells most: the innermost one of the program's own, not
/// `operator new`. So the own bytes of all rows add up to the answer's.
pub fn rows(profile: &Profile, answer: &Answer, by: By) -> Vec<Row> {
    let mut rows = Rows::default();
    if by == By::Stack {
        for one in together(profile, &answer.holders) {
            rows.stack(profile, &one);
        }
        return rows.sorted();
    }
    match by {
        By::Stack => {}
        By::Function => rows.frames(profile, answer, function),
        By::Module => rows.frames(profile, answer, package),
        By::Thread => {
            for holder in &answer.holders {
                rows.row(thread(profile, holder)).add(holder, true);
            }
        }
        By::Process => {
            for holder in &answer.holders {
                rows.row(process(profile, holder)).add(holder, true);
            }
        }
        By::Owner(owner) => rows.owners(profile, answer, owner),
    }
    rows.sorted()
}

const UNKNOWN_PROCESS: &str = "(unknown process)";

/// Callers named of a stack that has one line.
const CALLERS: usize = 2;

/// Who called, ` ← ` between them.
pub(super) fn callers(frames: &[&NamedFrame<'_>]) -> Option<String> {
    let labels: Vec<String> = frames
        .iter()
        .take(CALLERS)
        .map(|frame| frame.label())
        .collect();
    (!labels.is_empty()).then(|| labels.join(" ← "))
}

#[derive(Default)]
struct Rows {
    list: Vec<Row>,
    by_name: HashMap<String, usize>,
}

impl Rows {
    fn sorted(self) -> Vec<Row> {
        let mut rows = self.list;
        rows.sort_by(|one, other| {
            let amounts = |row: &Row| (row.bytes, row.total_bytes, row.blocks);
            let by_amount = amounts(other).cmp(&amounts(one));
            by_amount.then_with(|| one.name.cmp(&other.name))
        });
        rows
    }

    fn row(&mut self, name: String) -> &mut Row {
        let index = self.index(name);
        &mut self.list[index]
    }

    fn index(&mut self, name: String) -> usize {
        let next = self.list.len();
        *self.by_name.entry(name).or_insert_with_key(|name| {
            self.list.push(Row::new(name.clone()));
            next
        })
    }

    fn stack(&mut self, profile: &Profile, one: &Together) {
        let frames = profile.frames(one.holder.stack).unwrap_or_default();
        let telling = most_telling(&frames, 1 + CALLERS);
        let mut row = match telling.first() {
            _ if one.arenas > 0 => Row::new(arenas::LABEL.to_owned()),
            None => Row::new(UNKNOWN_STACK.to_owned()),
            Some(frame) => {
                let mut row = Row::new(frame.label());
                row.place = frame.place();
                row.callers = callers(&telling[1..]);
                row
            }
        };
        row.add(&one.holder, true);
        row.holders = one.processes;
        self.list.push(row);
    }

    /// Of an owner of several processes, the row says how many.
    fn owners(&mut self, profile: &Profile, answer: &Answer, owner: Owner) {
        let mut pids: Vec<BTreeSet<u32>> = Vec::new();
        for holder in &answer.holders {
            let process = profile.process(holder.process);
            let process = process.map(|process| &process.process);
            let name =
                process.map_or_else(|| UNKNOWN_PROCESS.to_owned(), |process| owner.of(process));
            let index = self.index(name);
            self.list[index].add(holder, true);
            pids.resize(self.list.len(), BTreeSet::new());
            pids[index].extend(process.map(|process| process.pid));
        }
        for (row, pids) in self.list.iter_mut().zip(pids) {
            if pids.len() > 1 {
                row.name.push_str(&format!(" ×{}", pids.len()));
            }
        }
    }

    /// Of a million stacks most have the same code locations, so each is looked at once.
    fn frames(&mut self, profile: &Profile, answer: &Answer, name: fn(&NamedFrame<'_>) -> String) {
        let mut known: HashMap<FrameIndex, Vec<(usize, Weight)>, FixedState> = HashMap::default();
        // The last holder that was added to each row with what passes through it.
        let mut added_to: Vec<usize> = Vec::new();
        let mut stack = Vec::new();
        for (number, holder) in answer.holders.iter().enumerate() {
            stack.clear();
            for location in profile.locations_of(holder.stack) {
                let rows = known.entry(location).or_insert_with(|| {
                    let frames = profile.functions_at(location);
                    let row = |frame| (self.index(name(frame)), Weight::of(frame));
                    frames.iter().map(row).collect()
                });
                stack.extend_from_slice(rows);
            }
            let Some(own) = Weight::most_telling(stack.iter().map(|(_, weight)| *weight)) else {
                self.row(UNKNOWN_STACK.to_owned()).add(holder, true);
                continue;
            };
            let own = stack[own].0;
            added_to.resize(self.list.len(), usize::MAX);
            for &(row, _) in &stack {
                if added_to[row] != number {
                    added_to[row] = number;
                    self.list[row].add(holder, row == own);
                }
            }
        }
    }
}

fn function(frame: &NamedFrame<'_>) -> String {
    frame.label()
}

fn thread(profile: &Profile, holder: &Holder) -> String {
    let Some(thread) = holder.thread else {
        return "(unknown thread)".to_owned();
    };
    match profile.thread_name(holder.process, thread) {
        Some(named) => format!("{} (tid {})", words::printable(named), thread.0),
        None => format!("tid {}", thread.0),
    }
}

fn process(profile: &Profile, holder: &Holder) -> String {
    match profile.process(holder.process) {
        Some(process) => {
            let process = &process.process;
            format!("{} (pid {})", name::program(&process.command), process.pid)
        }
        None => UNKNOWN_PROCESS.to_owned(),
    }
}
