//! All processes of the twin at one moment: what they hold, for whom it counts, and what a live set would say of it.

use std::collections::{BTreeMap, BTreeSet};

use super::process::{Page, Process, Sums, Thing, sums};
use crate::event::{Nanos, ProcessId, StackIndex};
use crate::live::{Amount, Holder, Kind, Kinds, Scope, Snapshot};

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub(super) processes: BTreeMap<ProcessId, Process>,
    /// Of each thing that is held, for whom it counts in the books of all.
    pub(super) answers: BTreeMap<Thing, ProcessId>,
    /// Whom each process forked, in order.
    pub(super) children: BTreeMap<ProcessId, Vec<ProcessId>>,
}

impl State {
    /// Parents before their children, elder children before younger ones.
    pub(super) fn in_order(&self) -> Vec<ProcessId> {
        fn add(state: &State, id: ProcessId, order: &mut Vec<ProcessId>) {
            order.push(id);
            for child in state.children.get(&id).into_iter().flatten() {
                add(state, *child, order);
            }
        }
        let forked: BTreeSet<&ProcessId> = self.children.values().flatten().collect();
        let roots = self.processes.keys().filter(|id| !forked.contains(id));
        let mut order = Vec::new();
        roots.for_each(|root| add(self, *root, &mut order));
        order
    }

    /// Each thing counts for the one for whom it did, if that one holds it still, or else for the first that holds it.
    pub(super) fn settle(&mut self) {
        let mut answers: BTreeMap<Thing, ProcessId> = BTreeMap::new();
        for id in self.in_order() {
            for (thing, ..) in self.processes[&id].things() {
                let is_first = !answers.contains_key(&thing);
                if is_first || self.answers.get(&thing) == Some(&id) {
                    answers.insert(thing, id);
                }
            }
        }
        self.answers = answers;
    }

    /// What each stack of a process holds that counts for it, by these answers. Pages that came at different times are no one range.
    pub(super) fn joint(&self, id: ProcessId, answers: &BTreeMap<Thing, ProcessId>) -> Sums {
        let process = &self.processes[&id];
        let things = process.things();
        let mine: BTreeSet<Thing> = things
            .map(|(thing, ..)| thing)
            .filter(|thing| answers.get(thing) == Some(&id))
            .collect();
        let blocks = process.blocks.iter().filter(|&(&address, block)| {
            mine.contains(&Thing::Block(address, block.size, block.origin))
        });
        let numbers: BTreeSet<u64> = mine
            .iter()
            .filter_map(|thing| match thing {
                Thing::Page(number, ..) => Some(*number),
                Thing::Block(..) => None,
            })
            .collect();
        let pages = process.pages.iter();
        let pages = pages.filter(|(number, _)| numbers.contains(number));
        let pages: BTreeMap<u64, Page> = pages.map(|(number, page)| (*number, *page)).collect();
        sums(blocks.map(|(_, block)| block), &pages, |one, other| {
            one == other
        })
    }

    /// What each stack of a process holds in these books.
    pub(super) fn sums(&self, scope: Scope, id: ProcessId) -> Sums {
        match scope {
            Scope::All => self.joint(id, &self.answers),
            Scope::Process(_) => self.processes[&id].sums(),
        }
    }

    /// What a process inherited, or what of all others answer for.
    pub(super) fn inherited(&self, scope: Scope) -> u64 {
        let of = |process: &Process| -> u128 {
            let things = process.things();
            let things = things.filter(|(_, kind, _)| kind.makes_the_peak());
            let counted = things.filter(|(thing, ..)| match (scope, thing) {
                (Scope::All, _) => self.answers.get(thing) != Some(&process.id),
                (_, Thing::Block(.., (by, _)) | Thing::Page(.., (by, _))) => *by != process.id,
            });
            counted.map(|(_, _, bytes)| u128::from(bytes)).sum()
        };
        let bytes: u128 = match scope {
            Scope::All => self.processes.values().map(of).sum(),
            Scope::Process(id) => of(&self.processes[&id]),
        };
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }
}

pub(super) fn level(state: &State, scope: Scope, kinds: Kinds) -> i128 {
    let live = |id: ProcessId| -> i128 {
        let sums = state.sums(scope, id).into_iter();
        let of_level = sums.filter(|((_, kind), _)| kinds.contains(*kind));
        of_level.map(|(_, (bytes, _))| bytes).sum()
    };
    // The baseline counts as the heap does.
    let baseline = i128::from(kinds.contains(Kind::Heap));
    match scope {
        Scope::All => {
            let each = state.processes.values();
            each.map(|process| live(process.id) - baseline * process.freed_for_all())
                .sum()
        }
        Scope::Process(id) => live(id) - baseline * i128::from(state.processes[&id].freed_baseline),
    }
}

pub(super) fn saturate(bytes: i128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

pub(super) fn view(state: &State, scope: Scope, kinds: Kinds, at: Nanos) -> Snapshot {
    let mut sums: BTreeMap<(ProcessId, StackIndex, Kind), (i128, u64)> = BTreeMap::new();
    let mut freed_baseline = 0;
    for (&id, process) in &state.processes {
        match scope {
            Scope::All => freed_baseline += process.freed_for_all(),
            Scope::Process(only) if only == id => {
                freed_baseline += i128::from(process.freed_baseline);
            }
            Scope::Process(_) => continue,
        }
        for ((stack, kind), sum) in state.sums(scope, id) {
            sums.insert((id, stack, kind), sum);
        }
    }
    let of = |kind: Kind| {
        let of_kind = sums.iter().filter(move |((.., other), _)| *other == kind);
        of_kind.fold((0_i128, 0), |(bytes, blocks), (_, more)| {
            (bytes + more.0, blocks + more.1)
        })
    };
    let of_level = Kind::ALL.map(|kind| match kinds.contains(kind) {
        true => of(kind),
        false => (0, 0),
    });
    let mut holders: Vec<Holder> = sums
        .iter()
        .map(|(&(process, stack, kind), &(bytes, blocks))| Holder {
            error_bytes: 0,
            process,
            stack,
            thread: None,
            kind,
            bytes: saturate(bytes),
            blocks,
        })
        .collect();
    // The sort is stable, and they are in the order of process, stack and kind.
    holders.sort_by_key(|holder| (u64::MAX - holder.bytes, u64::MAX - holder.blocks));
    Snapshot {
        error_bytes: 0,
        at,
        bytes: saturate(of_level.iter().map(|(bytes, _)| bytes).sum()),
        blocks: of_level.iter().map(|(_, blocks)| blocks).sum(),
        by_kind: Kind::ALL.map(|kind| {
            let (bytes, blocks) = of(kind);
            Amount {
                bytes: saturate(bytes),
                blocks,
            }
        }),
        freed_baseline_bytes: saturate(freed_baseline),
        inherited_bytes: state.inherited(scope),
        holders,
    }
}
