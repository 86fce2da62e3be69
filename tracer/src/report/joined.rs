//! Holders whose stacks read alike are one holder.
//!
//! The same two lines of source are many stacks where a plugin is opened again and again, or code is compiled anew, or many processes
//! run one program: other addresses, other files, other processes. To a reader they are the same place. Stacks read
//! alike where each frame has the same functions at the same lines of the same file, or, without a name, the same place in a
//! file of the same name.
//!
//! Within a process they are joined as a recording is replayed, before it is asked who grows: a leak of a hundred small holders
//! grows in none of them. Across processes they are joined as they are listed, so that what each process holds is still known.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;

use super::model::Locations;
use crate::event::{StackIndex, Tid};
use crate::live::{Holder, HolderKey, Kind, Lives, Snapshot};
use crate::record::{FrameIndex, FrameKind, FunctionName, ModuleIndex};

/// Which stacks read alike.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Of a stack that reads as an earlier one does, the first of them.
    first: HashMap<StackIndex, StackIndex>,
}

/// What is read of a code location.
#[derive(PartialEq, Eq, Hash)]
enum Reading<'a> {
    Named(FrameKind, Option<&'a OsStr>, &'a [FunctionName]),
    InFile(FrameKind, &'a OsStr, u64),
    /// It is in no file, or a runtime's.
    Elsewhere(FrameKind, Option<ModuleIndex>, u64),
    Unknown(FrameIndex),
}

impl<'a> Reading<'a> {
    fn of(index: FrameIndex, locations: &'a Locations) -> Self {
        let Some(frame) = locations.frames.get(&index) else {
            return Self::Unknown(index);
        };
        let module = frame
            .module
            .and_then(|module| locations.modules.get(&module));
        let file = module.and_then(|module| module.path.file_name());
        match (locations.names.get(&index), file) {
            (Some(functions), file) if !functions.is_empty() => {
                Self::Named(frame.kind, file, functions)
            }
            (_, Some(file)) if file != "[anon]" => Self::InFile(frame.kind, file, frame.offset),
            _ => Self::Elsewhere(frame.kind, frame.module, frame.offset),
        }
    }
}

impl Joined {
    /// Compares all stacks of a recording.
    ///
    /// Of each stack 128 bits of hash are kept in place of its frames: two hashes of 64 bits with other seeds. That two of a
    /// million stacks have the same by chance happens once in 10^26 recordings.
    pub(super) fn of(locations: &Locations) -> Self {
        let mut numbers: HashMap<Reading<'_>, u32, FixedState> = HashMap::default();
        let mut number_of: HashMap<FrameIndex, u32, FixedState> = HashMap::default();
        let mut stacks: Vec<_> = locations.stacks.values().collect();
        stacks.sort_unstable_by_key(|stack| stack.index);
        let seeds = [FixedState::with_seed(1), FixedState::with_seed(2)];
        let mut firsts: HashMap<[u64; 2], StackIndex, FixedState> = HashMap::default();
        let mut joined = Self::default();
        let mut read = Vec::new();
        for stack in stacks {
            read.clear();
            for &frame in &stack.frames {
                read.push(*number_of.entry(frame).or_insert_with(|| {
                    let next = numbers.len() as u32;
                    *numbers.entry(Reading::of(frame, locations)).or_insert(next)
                }));
            }
            let hashes = seeds
                .each_ref()
                .map(|seed| seed.hash_one((&read, stack.truncated)));
            let first = *firsts.entry(hashes).or_insert(stack.index);
            if first != stack.index {
                joined.first.insert(stack.index, first);
            }
        }
        joined
    }

    fn first_of(&self, stack: StackIndex) -> StackIndex {
        self.first.get(&stack).copied().unwrap_or(stack)
    }

    /// Joins holders; the largest come first, as before.
    pub(super) fn holders(&self, holders: &mut Vec<Holder>) {
        if self.first.is_empty() {
            return;
        }
        for holder in holders.iter_mut() {
            holder.stack = self.first_of(holder.stack);
        }
        join_by(holders, Holder::key);
    }

    /// Joins the holders of a moment.
    pub(super) fn snapshot(&self, snapshot: &mut Snapshot) {
        self.holders(&mut snapshot.holders);
    }

    /// Joins what came and went.
    pub(super) fn lives(&self, lives: Vec<Lives>) -> Vec<Lives> {
        if self.first.is_empty() {
            return lives;
        }
        let mut place: HashMap<HolderKey, usize> = HashMap::new();
        let mut joined: Vec<Lives> = Vec::with_capacity(lives.len());
        for mut one in lives {
            one.stack = self.first_of(one.stack);
            let next = joined.len();
            match *place.entry(one.key()).or_insert(next) {
                at if at < next => joined[at].lives.append(&mut one.lives),
                _ => joined.push(one),
            }
        }
        joined
    }
}

/// Holders that read alike, of all processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Together {
    /// The sum. Its process is that of the largest of them.
    pub holder: Holder,
    /// In so many processes.
    pub processes: usize,
}

/// Joins the holders of all processes that read alike, largest first.
pub fn together(holders: &[Holder]) -> Vec<Together> {
    let mut processes: HashMap<(StackIndex, Option<Tid>, Kind), usize> = HashMap::new();
    for holder in holders {
        *processes.entry(place(holder)).or_default() += 1;
    }
    let mut joined = holders.to_vec();
    join_by(&mut joined, place);
    joined
        .into_iter()
        .map(|holder| Together {
            holder,
            processes: processes[&place(&holder)],
        })
        .collect()
}

fn place(holder: &Holder) -> (StackIndex, Option<Tid>, Kind) {
    (holder.stack, holder.thread, holder.kind)
}

/// Makes one of the holders with the same key. Errors of estimates add up as those of independent ones do.
fn join_by<K: Eq + std::hash::Hash>(holders: &mut Vec<Holder>, key: impl Fn(&Holder) -> K) {
    let mut at: HashMap<K, usize> = HashMap::with_capacity(holders.len());
    let mut joined: Vec<Holder> = Vec::with_capacity(holders.len());
    for holder in holders.drain(..) {
        let next = joined.len();
        match *at.entry(key(&holder)).or_insert(next) {
            earlier if earlier < next => {
                let sum = &mut joined[earlier];
                sum.bytes = sum.bytes.saturating_add(holder.bytes);
                sum.blocks = sum.blocks.saturating_add(holder.blocks);
                let error = (sum.error_bytes as f64).hypot(holder.error_bytes as f64);
                sum.error_bytes = error as u64;
            }
            _ => joined.push(holder),
        }
    }
    joined.sort_by_key(|holder| {
        let amount = std::cmp::Reverse((holder.bytes, holder.blocks));
        (
            amount,
            holder.process,
            holder.stack,
            holder.kind,
            holder.thread,
        )
    });
    *holders = joined;
}
