//! Holders whose stacks read alike are one holder.
//!
//! The same two lines of source are many stacks where a plugin is opened again and again, or code is compiled anew, or many
//! processes run one program: other addresses, other files, other processes. To a reader they are the same place. Two
//! stacks are
//!
//! - **the same** where each frame lies at the same place in a file of the same name, or, of code in no file, has the same functions at
//!   the same lines. Within a process they are one holder from the replay on, before it is asked who grows: a leak of a
//!   hundred small holders grows in none of them;
//! - **alike** where each frame has the same functions at the same lines. These are joined as they are listed, and those of all
//!   processes with them, so that what each place and each process holds is still known to programs.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;

use foldhash::fast::FixedState;

use super::model::{Locations, Profile};
use super::telling::most_telling;
use crate::event::{ProcessId, StackIndex, Tid};
use crate::live::{Holder, HolderKey, Kind, Lives, Snapshot};
use crate::record::{FrameIndex, FrameKind, FunctionName, ModuleIndex};
use crate::words::printable;

/// Which stacks are the same.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// Of a stack that is the same as an earlier one, the first of them.
    first: Firsts,
    /// Of a stack that reads like an earlier one, the first of them.
    alike: Firsts,
}

/// Of stacks, the first in their group; of those that are not here, they themselves.
pub(super) type Firsts = HashMap<StackIndex, StackIndex, FixedState>;

fn first_in(firsts: &Firsts, stack: StackIndex) -> StackIndex {
    firsts.get(&stack).copied().unwrap_or(stack)
}

/// What is read of a code location.
#[derive(PartialEq, Eq, Hash)]
enum Reading<'a> {
    /// The offset counts where it is one in a file.
    Named(
        FrameKind,
        Option<&'a OsStr>,
        &'a [FunctionName],
        Option<u64>,
    ),
    InFile(FrameKind, &'a OsStr, u64),
    /// It is in no file, or a runtime's.
    Elsewhere(FrameKind, Option<ModuleIndex>, u64),
    Unknown(FrameIndex),
}

impl<'a> Reading<'a> {
    fn of(index: FrameIndex, locations: &'a Locations, exact: bool) -> Self {
        let Some(frame) = locations.frames.get(&index) else {
            return Self::Unknown(index);
        };
        let module = frame
            .module
            .and_then(|module| locations.modules.get(&module));
        let file = module.and_then(|module| module.path.file_name());
        let in_file = module.is_some_and(|module| !module.is_anonymous());
        match (locations.names.get(&index), file) {
            (Some(functions), file) if !functions.is_empty() => {
                let offset = (exact && in_file).then_some(frame.offset);
                Self::Named(frame.kind, file, functions, offset)
            }
            (_, Some(file)) if in_file => Self::InFile(frame.kind, file, frame.offset),
            _ => Self::Elsewhere(frame.kind, frame.module, frame.offset),
        }
    }
}

impl Joined {
    /// Compares all stacks of a recording.
    pub(super) fn of(locations: &Locations) -> Self {
        Self {
            first: Self::firsts(locations, true),
            alike: Self::firsts(locations, false),
        }
    }

    /// How many stacks are the same, by the first of them, where they are several.
    pub(super) fn counts(&self) -> HashMap<StackIndex, u64, FixedState> {
        let mut counts = HashMap::default();
        for first in self.first.values() {
            *counts.entry(*first).or_insert(1) += 1;
        }
        counts
    }

    /// Stacks that read like others.
    pub(super) fn alike(self) -> Firsts {
        self.alike
    }

    /// What two nodes read is the same where their frames do, and what their callers do: so each node is looked at once, whatever
    /// the number of stacks that go through it.
    fn firsts(locations: &Locations, exact: bool) -> Firsts {
        let stacks = &locations.stacks;
        let mut readings: HashMap<Reading<'_>, u32, FixedState> = HashMap::default();
        let mut reading_of: HashMap<FrameIndex, u32, FixedState> = HashMap::default();
        for (_, frame) in stacks.nodes() {
            reading_of.entry(frame).or_insert_with(|| {
                let next = readings.len() as u32;
                let reading = Reading::of(frame, locations, exact);
                *readings.entry(reading).or_insert(next)
            });
        }
        // Of each node, the first that reads as it does. Where no two frames read alike, no two nodes do.
        let mut like: Vec<u32> = (0..stacks.count() as u32).collect();
        if readings.len() < reading_of.len() {
            let mut first: HashMap<(u32, u32), u32, FixedState> = HashMap::default();
            for (number, (caller, frame)) in (1..).zip(stacks.nodes()) {
                let read = (like[caller.number()], reading_of[&frame]);
                like[number as usize] = *first.entry(read).or_insert(number);
            }
        }
        let mut first_at: Vec<[Option<StackIndex>; 2]> = vec![[None; 2]; like.len()];
        let mut same = Firsts::default();
        for (stack, node, truncated) in stacks.sorted() {
            let first_at = &mut first_at[like[node.number()] as usize][usize::from(truncated)];
            let first = *first_at.get_or_insert(stack);
            if first != stack {
                same.insert(stack, first);
            }
        }
        same
    }

    /// Joins holders; the largest come first, as before.
    pub(super) fn holders(&self, holders: &mut Vec<Holder>) {
        if self.first.is_empty() {
            return;
        }
        for holder in holders.iter_mut() {
            holder.stack = first_in(&self.first, holder.stack);
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
            one.stack = first_in(&self.first, one.stack);
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
    /// It is so many arenas of Python's small objects, whatever their stacks; 0: something else.
    pub arenas: u64,
}

impl Together {
    /// In how many loads of a file of code it asked for what it holds, and the name of the file, where that was loaded again and again. Each
    /// load has addresses of its own, so what is asked for in two of them has two stacks, which are the same.
    pub(super) fn loads(&self, profile: &Profile) -> Option<(u64, String)> {
        if profile.loads.is_empty() || self.processes > 1 {
            return None;
        }
        let frames = profile.frames(self.holder.stack)?;
        let module = most_telling(&frames, 1).first()?.module?;
        let loads = profile
            .loads
            .get(&(self.holder.process, ModuleIndex(module.index)))?;
        let stacks = profile.same.get(&self.holder.stack)?;
        let name = module.path.file_name()?.to_string_lossy();
        Some((*loads.min(stacks), printable(&name).into_owned()))
    }

    /// Adds what reads the same.
    pub(super) fn add(&mut self, other: &Self) {
        add(&mut self.holder, &other.holder);
        self.processes = self.processes.max(other.processes);
        self.arenas = self.arenas.saturating_add(other.arenas);
    }
}

/// Adds what a holder holds. Errors of estimates add up as those of independent ones do.
fn add(sum: &mut Holder, holder: &Holder) {
    sum.bytes = sum.bytes.saturating_add(holder.bytes);
    sum.blocks = sum.blocks.saturating_add(holder.blocks);
    let error = (sum.error_bytes as f64).hypot(holder.error_bytes as f64);
    sum.error_bytes = error as u64;
}

/// Joins the holders of all processes that read alike, largest first; and all of Python's arenas.
pub fn together(profile: &Profile, holders: &[Holder]) -> Vec<Together> {
    joined(&profile.alike, &profile.arenas, holders)
}

/// Of what [`together`] made one, the parts, largest first, each of stacks that read alike.
pub(super) fn parts(profile: &Profile, one: &Together, holders: &[Holder]) -> Vec<Together> {
    let is_part = |holder: &&Holder| {
        one.arenas > 0 && is_arena(&profile.arenas, holder) && holder.thread == one.holder.thread
    };
    let parts: Vec<Holder> = holders.iter().filter(is_part).copied().collect();
    joined(&profile.alike, &Arenas::new(), &parts)
}

/// Stacks on which arenas were mapped, and how long each is.
type Arenas = HashMap<StackIndex, u64>;

pub(super) fn is_arena(arenas: &Arenas, holder: &Holder) -> bool {
    holder.kind == Kind::Mapping && arenas.contains_key(&holder.stack)
}

fn joined(alike: &Firsts, arenas: &Arenas, holders: &[Holder]) -> Vec<Together> {
    let place = |holder: &Holder| -> (Option<StackIndex>, Option<Tid>, Kind) {
        let stack = first_in(alike, holder.stack);
        let stack = (!is_arena(arenas, holder)).then_some(stack);
        (stack, holder.thread, holder.kind)
    };
    let mut processes: HashMap<_, HashSet<ProcessId>> = HashMap::new();
    for holder in holders {
        let of_place = processes.entry(place(holder)).or_default();
        of_place.insert(holder.process);
    }
    let mut joined = holders.to_vec();
    join_by(&mut joined, place);
    joined
        .into_iter()
        .map(|holder| Together {
            holder,
            processes: processes[&place(&holder)].len(),
            arenas: match arenas.get(&holder.stack) {
                Some(size) if is_arena(arenas, &holder) => holder.blocks.max(holder.bytes / size),
                _ => 0,
            },
        })
        .collect()
}

/// Makes one of the holders with the same key.
fn join_by<K: Eq + std::hash::Hash>(holders: &mut Vec<Holder>, key: impl Fn(&Holder) -> K) {
    let mut at: HashMap<K, usize> = HashMap::with_capacity(holders.len());
    let mut joined: Vec<Holder> = Vec::with_capacity(holders.len());
    for holder in holders.drain(..) {
        let next = joined.len();
        match *at.entry(key(&holder)).or_insert(next) {
            earlier if earlier < next => add(&mut joined[earlier], &holder),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::question::{Question, When};
    use super::super::script::{MIB, Script, answer};
    use super::*;
    use crate::live::Amount;
    use crate::record::{Entry, Frame, FrameNames, Loads, Module};

    const LOAD: [&str; 2] = ["row@src/table.c:12", "load@src/table.c:40"];

    /// What is held at the peak, by the innermost function and its line: all processes together.
    fn held(profile: &Profile) -> Vec<(String, u64, usize)> {
        let listed = together(profile, &profile.peak.holders).into_iter();
        listed
            .map(|one| {
                let frames = profile.frames(one.holder.stack).unwrap();
                (frames[0].label_and_place(), one.holder.bytes, one.processes)
            })
            .collect()
    }

    /// A stack of one frame in a module that is loaded for it: a plugin, or memory of a compiler.
    fn in_module(script: &mut Script, stack: u32, path: &str, offset: u64) {
        script.entries.push(Entry::Module(Module {
            index: stack,
            path: path.into(),
            build_id: None,
        }));
        let index = FrameIndex(stack * 100);
        script.entries.push(Entry::Frame(Frame {
            index,
            module: Some(ModuleIndex(stack)),
            offset,
            kind: FrameKind::Native,
        }));
        script.entries.push(Entry::Names(FrameNames {
            frame: index,
            functions: vec![FunctionName {
                function: "run".to_owned(),
                file: Some("plugin.c".to_owned()),
                line: Some(7),
            }],
            source: None,
        }));
        script.push_stack(stack, vec![index], false);
    }

    #[test]
    fn one_place_in_files_of_one_name_is_one_holder_and_so_is_one_function_in_no_file() {
        let mut script = Script::launched("host");
        for (stack, path, offset) in [
            (1, "/opt/p1.so", 0x100),
            (2, "/opt/copy/p1.so", 0x100),
            (3, "/opt/p1.so", 0x200),
            (4, "/opt/p2.so", 0x100),
            (5, "[anon]", 0x7f00),
            (6, "[anon]", 0x7f80),
        ] {
            in_module(&mut script, stack, path, offset);
            script.allocate(0, u64::from(stack), stack, MIB << stack);
        }
        let profile = script.closed();
        let in_mib = |bytes: u64| bytes / MIB;
        let holders = profile.peak.holders.iter();
        let bytes: Vec<u64> = holders.map(|holder| in_mib(holder.bytes)).collect();
        assert_eq!(bytes, [96, 16, 8, 6]);
        // To a reader, the two places on one line of p1.so are one as well.
        let rows: Vec<u64> = held(&profile).iter().map(|row| in_mib(row.1)).collect();
        assert_eq!(rows, [96, 16, 14]);
    }

    #[test]
    fn processes_that_run_one_program_are_one_row_and_each_keeps_what_it_held() {
        let mut script = Script::launched("master");
        script.stack(1, &LOAD);
        for child in 1..=8 {
            script.fork(0, child, 10);
            script.allocate(child, 20, 1, u64::from(child) * MIB);
        }
        let profile = script.closed();
        let row = "row (src/table.c:12)".to_owned();
        assert_eq!(held(&profile), [(row, 36 * MIB, 8)]);
        assert_eq!(profile.peak.holders.len(), 8);
    }

    #[test]
    fn a_leak_behind_a_plugin_that_is_opened_anew_each_time_grows() {
        let mut script = Script::launched("host");
        for second in 0..20_u32 {
            in_module(&mut script, second + 1, "/opt/p1.so", 0x100);
            script.allocate(0, u64::from(second) * 1000 + 1, second + 1, MIB);
        }
        script.close(20_000, "interrupted");
        let profile = script.closed_for(&Question::default());
        let growing = answer(&profile, When::Growing);
        assert_eq!(growing.holders.len(), 1, "{growing:?}");
        let rate = growing.bytes as f64 / MIB as f64;
        assert!((rate - 1.0).abs() < 0.1, "{rate} MiB/s");
    }

    #[test]
    fn a_holder_says_in_how_many_loads_of_its_file_it_asked() {
        let mut script = Script::launched("host");
        in_module(&mut script, 1, "/opt/p1.so", 0x100);
        script.allocate(0, 1, 1, MIB);
        for load in 2..=20 {
            script.push_stack(load, vec![FrameIndex(100)], false);
            script.allocate(0, load.into(), load, MIB);
        }
        script.stack(30, &LOAD);
        script.allocate(0, 30, 30, MIB);
        let loaded = |count| {
            let mut script = script.clone();
            script.entries.push(Entry::Loads(Loads {
                process: ProcessId(0),
                module: ModuleIndex(1),
                count,
            }));
            let profile = script.closed();
            let rows = together(&profile, &profile.peak.holders);
            let loads: Vec<_> = rows.iter().map(|one| one.loads(&profile)).collect();
            loads
        };
        let of = |count| Some((count, "p1.so".to_owned()));
        assert_eq!(loaded(20), [of(20), None]);
        // In the other loads it asked for nothing.
        assert_eq!(loaded(50), [of(20), None]);
    }

    proptest! {
        #[test]
        fn joining_keeps_every_byte_and_block(
            held in prop::collection::vec((0..5_u32, 0..4_u32, 1..1000_u64, 1..9_u64), 0..40),
        ) {
            let holders: Vec<Holder> = held
                .iter()
                .map(|&(process, stack, bytes, blocks)| {
                    let key = HolderKey {
                        process: ProcessId(process),
                        stack: StackIndex(stack),
                        thread: None,
                        kind: Kind::Heap,
                    };
                    Holder::of(key, Amount { bytes, blocks })
                })
                .collect();
            let joined = joined(&Firsts::default(), &Arenas::new(), &holders);
            for stack in 0..4 {
                let of = |holder: &&Holder| holder.stack == StackIndex(stack);
                let before: Vec<&Holder> = holders.iter().filter(of).collect();
                let after: Vec<&Together> =
                    joined.iter().filter(|one| one.holder.stack == StackIndex(stack)).collect();
                prop_assert_eq!(after.len(), usize::from(!before.is_empty()));
                let sum = |amount: fn(&Holder) -> u64| before.iter().map(|holder| amount(holder)).sum::<u64>();
                for one in after {
                    prop_assert_eq!(one.holder.bytes, sum(|holder| holder.bytes));
                    prop_assert_eq!(one.holder.blocks, sum(|holder| holder.blocks));
                }
            }
            prop_assert!(joined.is_sorted_by_key(|one| std::cmp::Reverse(one.holder.bytes)));
        }
    }
}
