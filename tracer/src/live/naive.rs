//! The naive twin of the live set: it keeps a full copy of the state at every moment that may be the peak, and finds
//! the peak by adding up each copy from scratch. The rules of each call are written down once more, as plainly as they
//! can be.

use std::collections::{BTreeMap, BTreeSet};

use super::process::Block as RealBlock;
use super::{Amount, Holder, Kind, Kinds, Moment, Scope, Snapshot, Totals};
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, Nanos, ProcessId, StackIndex, Tid};

const PAGE: u64 = 4096;

/// Who asked for something, and how often that one had forked by then.
type Origin = (ProcessId, u32);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    size: u64,
    stack: StackIndex,
    origin: Origin,
}

/// What is the same wherever in a family it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Block(Address, u64, Origin),
    Page(u64, StackIndex, [bool; 5], Origin),
}

/// The old block of a resize under way, or what its chunk header took away of the baseline.
#[derive(Clone, Copy, Debug)]
enum Old {
    Block(Block),
    Unmatched(u64),
}

/// What a page of the address space was asked for as, and by whom.
type Page = (StackIndex, Traits, Origin);

fn kind((_, traits, _): Page) -> Option<Kind> {
    let Traits {
        committed,
        file,
        shared,
        stack,
        by_allocator,
    } = traits;
    match (by_allocator, file, shared, committed, stack) {
        (true, ..) => None,
        (_, true, ..) => Some(Kind::File),
        (_, _, true, ..) => Some(Kind::Shared),
        (_, _, _, false, _) => Some(Kind::Reserved),
        (.., true) => Some(Kind::ThreadStack),
        (.., false) => Some(Kind::Mapping),
    }
}

/// What `munmap` or `mremap` retired: where it began, how many pages, and those that were there.
#[derive(Clone, Debug)]
struct Retired {
    remap: bool,
    first: u64,
    count: u64,
    pages: BTreeMap<u64, Page>,
    grows_as: Option<Page>,
}

/// The twin knows whole pages only.
fn pages(range: Range) -> std::ops::Range<u64> {
    let first = range.start.0 / PAGE;
    first..first + range.length / PAGE
}

/// Bytes of those that are not the allocator's.
fn counted<'a>(pages: impl IntoIterator<Item = &'a Page>) -> u64 {
    let pages = pages.into_iter().filter(|page| kind(**page).is_some());
    pages.count() as u64 * PAGE
}

#[derive(Clone, Debug)]
struct Process {
    id: ProcessId,
    /// How often it forked.
    forks: u32,
    pages: BTreeMap<u64, Page>,
    retired: BTreeMap<Tid, Retired>,
    blocks: BTreeMap<Address, Block>,
    resizes: BTreeMap<(Tid, u8), (Address, Old)>,
    /// What it held when tracing began; `None` until we are told.
    baseline: Option<u64>,
    inherited: bool,
    freed_baseline: u64,
    begun: bool,
    totals: Totals,
    ended: bool,
    detached: Option<Nanos>,
}

type Sums = BTreeMap<(StackIndex, Kind), (i128, u64)>;

impl Process {
    fn new(id: ProcessId) -> Self {
        Self {
            id,
            forks: 0,
            pages: BTreeMap::new(),
            retired: BTreeMap::new(),
            blocks: BTreeMap::new(),
            resizes: BTreeMap::new(),
            baseline: None,
            inherited: false,
            freed_baseline: 0,
            begun: false,
            totals: Totals::default(),
            ended: false,
            detached: None,
        }
    }

    fn origin(&self) -> Origin {
        (self.id, self.forks)
    }

    /// Each thing that it holds, of which kind that is, and its bytes.
    fn things(&self) -> impl Iterator<Item = (Thing, Kind, u64)> {
        let blocks = self.blocks.iter().map(|(&address, block)| {
            let thing = Thing::Block(address, block.size, block.origin);
            (thing, Kind::Heap, block.size)
        });
        let pages = self.pages.iter().filter_map(|(&number, &page)| {
            let (stack, traits, origin) = page;
            let Traits {
                committed,
                file,
                shared,
                stack: of_thread,
                by_allocator,
            } = traits;
            let traits = [committed, file, shared, of_thread, by_allocator];
            let thing = Thing::Page(number, stack, traits, origin);
            Some((thing, kind(page)?, PAGE))
        });
        blocks.chain(pages)
    }

    fn own_baseline(&self) -> i128 {
        match (self.inherited, self.baseline) {
            (false, Some(bytes)) => bytes.into(),
            _ => 0,
        }
    }

    fn freed_for_all(&self) -> i128 {
        match (self.ended, self.inherited) {
            (true, _) => self.own_baseline(),
            (false, true) => 0,
            (false, false) => self.freed_baseline.into(),
        }
    }

    /// What each stack holds of each kind. Pages that follow each other and are alike are one range.
    fn sums(&self) -> Sums {
        let alike = |one: Page, other: Page| (one.0, one.1) == (other.0, other.1);
        sums(self.blocks.values(), &self.pages, alike)
    }

    fn put(&mut self, number: u64, (stack, traits): (StackIndex, Traits)) {
        let page = (stack, traits, self.origin());
        let old = self.pages.insert(number, page);
        self.totals.unmapped_bytes += counted(&old);
        self.totals.mapped_bytes += counted([&page]);
    }

    fn remove_pages(&mut self, range: std::ops::Range<u64>) -> BTreeMap<u64, Page> {
        let gone = range.filter_map(|number| Some((number, self.pages.remove(&number)?)));
        let gone: BTreeMap<u64, Page> = gone.collect();
        self.totals.unmapped_bytes += counted(gone.values());
        gone
    }

    fn begin(&mut self, remap: bool, range: Range) -> Retired {
        let range = pages(range);
        let last = if range.is_empty() {
            range.start
        } else {
            range.end - 1
        };
        let grows_as = self.pages.get(&last).copied();
        let (first, count) = (range.start, range.end - range.start);
        Retired {
            remap,
            first,
            count,
            pages: self.remove_pages(range),
            grows_as,
        }
    }

    fn reinstate(&mut self, retired: &Retired) {
        for (number, page) in &retired.pages {
            if !self.pages.contains_key(number) {
                self.pages.insert(*number, *page);
                self.totals.unmapped_bytes -= counted([page]);
            }
        }
    }

    fn map(&mut self, thread: Tid, mapping: Mapping) {
        let mut last = self.retired.remove(&thread);
        let ends_remap = matches!(mapping, Mapping::Remapped { .. } | Mapping::RemapFailed);
        if last.as_ref().is_some_and(|last| last.remap) != ends_remap {
            self.totals.unpaired_resizes += 1;
            last = None;
        }
        let private = |by_allocator| Traits {
            committed: true,
            file: false,
            shared: false,
            stack: false,
            by_allocator,
        };
        match mapping {
            Mapping::Mapped {
                range,
                traits,
                stack,
            } => {
                for page in pages(range) {
                    self.put(page, (stack, traits));
                }
                self.totals.mmaps += u64::from(range.length > 0 && !traits.by_allocator);
            }
            Mapping::UnmapBegan { range } if range.length == 0 => {}
            Mapping::UnmapBegan { range } => {
                let began = self.begin(false, range);
                let unknown = (began.count - began.pages.len() as u64) * PAGE;
                self.totals.unmaps += u64::from(counted(began.pages.values()) > 0);
                self.totals.unmatched_unmaps += u64::from(unknown > 0);
                self.totals.unmatched_unmapped_bytes += unknown;
                self.retired.insert(thread, began);
            }
            Mapping::UnmapFailed => {
                let Some(began) = last else { return };
                let unknown = (began.count - began.pages.len() as u64) * PAGE;
                self.totals.unmaps -= u64::from(counted(began.pages.values()) > 0);
                self.totals.unmatched_unmaps -= u64::from(unknown > 0);
                self.totals.unmatched_unmapped_bytes -= unknown;
                self.reinstate(&began);
            }
            Mapping::RemapBegan { range } => {
                let began = self.begin(true, range);
                self.retired.insert(thread, began);
            }
            Mapping::RemapFailed => {
                if let Some(began) = last {
                    self.reinstate(&began);
                }
            }
            Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            } => {
                let new = (stack, private(by_allocator));
                let Some(old) = last else {
                    for page in pages(range) {
                        self.put(page, new);
                    }
                    return;
                };
                if keeps_old {
                    self.reinstate(&old);
                }
                self.remove_pages(pages(range));
                for (index, page) in (0..).zip(pages(range)) {
                    if index >= old.count {
                        let traits = old.grows_as.map_or(new.1, |(_, traits, _)| traits);
                        self.put(page, (stack, traits));
                    } else if let Some((_, traits, _)) = old.pages.get(&(old.first + index)) {
                        self.put(page, (stack, *traits));
                    }
                }
            }
            Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            } => {
                let (old, new) = (old.0.div_ceil(PAGE), new.0.div_ceil(PAGE));
                for page in old..new {
                    self.put(page, (stack, private(by_allocator)));
                }
                self.remove_pages(new..old);
            }
            Mapping::Protected {
                range,
                committed,
                stack,
            } => {
                let origin = self.origin();
                for number in pages(range) {
                    if let Some(page) = self.pages.get_mut(&number) {
                        let was = kind(*page);
                        let traits = Traits {
                            committed,
                            ..page.1
                        };
                        if kind((stack, traits, origin)) != was {
                            *page = (stack, traits, origin);
                        }
                    }
                }
            }
            Mapping::Discarded { range } => {
                self.totals.discards += 1;
                self.totals.discarded_bytes += range.length;
            }
        }
    }

    fn remove(&mut self, address: Address, header: u64) -> Old {
        if let Some(block) = self.blocks.remove(&address) {
            return Old::Block(block);
        }
        let left = self.baseline.unwrap_or(0) - self.freed_baseline;
        let chunk = header - header % 8;
        let size = if header / 2 % 2 == 1 && chunk > 4096 {
            chunk - 2048
        } else {
            chunk
        };
        if chunk >= 32 && chunk.is_multiple_of(16) && size <= left {
            self.freed_baseline += size;
            Old::Unmatched(size)
        } else {
            Old::Unmatched(0)
        }
    }

    fn count_free(&mut self, old: Old) {
        match old {
            Old::Block(block) => {
                self.totals.frees += 1;
                self.totals.freed_bytes = self.totals.freed_bytes.saturating_add(block.size);
            }
            Old::Unmatched(bytes) => {
                self.totals.unmatched_frees += 1;
                self.totals.unmatched_freed_bytes += bytes;
            }
        }
    }

    fn add(&mut self, address: Address, size: u64, stack: StackIndex) {
        let block = Block {
            size: RealBlock::kept(size),
            stack,
            origin: self.origin(),
        };
        self.totals.allocations += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(block.size);
        if self.blocks.insert(address, block).is_some() {
            self.totals.replaced_blocks += 1;
        }
    }
}

fn sums<'a>(
    blocks: impl Iterator<Item = &'a Block>,
    pages: &BTreeMap<u64, Page>,
    alike: impl Fn(Page, Page) -> bool,
) -> Sums {
    let mut sums = Sums::new();
    for block in blocks {
        let (bytes, blocks) = sums.entry((block.stack, Kind::Heap)).or_default();
        *bytes += i128::from(block.size);
        *blocks += 1;
    }
    for (number, page) in pages {
        let Some(kind) = kind(*page) else { continue };
        let (bytes, ranges) = sums.entry((page.0, kind)).or_default();
        *bytes += i128::from(PAGE);
        let before = number.checked_sub(1).and_then(|before| pages.get(&before));
        if !before.is_some_and(|before| alike(*before, *page)) {
            *ranges += 1;
        }
    }
    sums
}

/// Everything at one moment.
#[derive(Clone, Debug, Default)]
struct State {
    processes: BTreeMap<ProcessId, Process>,
    /// Of each thing that is held, for whom it counts in the books of all.
    answers: BTreeMap<Thing, ProcessId>,
    /// Whom each process forked, in order.
    children: BTreeMap<ProcessId, Vec<ProcessId>>,
}

impl State {
    /// Parents before their children, elder children before younger ones.
    fn in_order(&self) -> Vec<ProcessId> {
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
    fn settle(&mut self) {
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
    fn joint(&self, id: ProcessId, answers: &BTreeMap<Thing, ProcessId>) -> Sums {
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
    fn sums(&self, scope: Scope, id: ProcessId) -> Sums {
        match scope {
            Scope::All => self.joint(id, &self.answers),
            Scope::Process(_) => self.processes[&id].sums(),
        }
    }

    /// What a process inherited, or what of all others answer for.
    fn inherited(&self, scope: Scope) -> u64 {
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

fn level(state: &State, scope: Scope, kinds: Kinds) -> i128 {
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

fn saturate(bytes: i128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn view(state: &State, scope: Scope, kinds: Kinds, at: Nanos) -> Snapshot {
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

/// The twin of [`LiveSet`](super::LiveSet).
#[derive(Default)]
pub(super) struct Naive {
    /// The kinds that the peak is made of.
    kinds: Kinds,
    now: Nanos,
    state: State,
    /// The state after everything that made a level rise, if only by nothing.
    rises: Vec<(Scope, Nanos, State)>,
    /// The state before each end of a process.
    ends: Vec<(ProcessId, Nanos, State)>,
}

impl Naive {
    pub(super) fn with_peak_of(kinds: Kinds) -> Self {
        Self {
            kinds,
            ..Self::default()
        }
    }

    fn rose(&mut self, scope: Scope, at: Nanos) {
        self.rises.push((scope, at, self.state.clone()));
    }

    fn meet(&mut self, id: ProcessId, at: Nanos) -> &mut Process {
        let processes = &mut self.state.processes;
        let known = processes.contains_key(&id);
        processes.entry(id).or_insert_with(|| Process::new(id));
        if !known {
            self.rose(Scope::All, at);
            self.rose(Scope::Process(id), at);
        }
        self.state.processes.get_mut(&id).expect("it is there")
    }

    pub(super) fn open(&mut self, id: ProcessId, at: Nanos, baseline_bytes: u64) {
        let process = self.meet(id, at);
        if process.ended || process.detached.is_some() {
            return;
        }
        process.baseline.get_or_insert(baseline_bytes);
        self.now = self.now.max(at);
    }

    pub(super) fn close(&mut self, id: ProcessId, at: Nanos) {
        let state = self.state.clone();
        let Some(process) = self
            .state
            .processes
            .get_mut(&id)
            .filter(|process| !process.ended && process.detached.is_none())
        else {
            return;
        };
        self.ends.push((id, at, state));
        process.ended = true;
        process.blocks.clear();
        process.pages.clear();
        self.state.settle();
        self.now = self.now.max(at);
    }

    pub(super) fn detach(&mut self, id: ProcessId, at: Nanos) {
        let process = self.state.processes.get_mut(&id);
        if let Some(process) =
            process.filter(|process| !process.ended && process.detached.is_none())
        {
            process.detached = Some(at);
            self.now = self.now.max(at);
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let (id, at) = (event.process, event.at);
        let process = self.meet(id, at);
        if process.ended || process.detached.is_some() {
            return;
        }
        process.begun = true;
        let mut rises = vec![];
        match event.call {
            Call::Allocated {
                address,
                size,
                stack,
                ..
            } => {
                process.add(address, size, stack);
                rises = vec![Scope::All, Scope::Process(id)];
            }
            Call::Failed { .. } => process.totals.failed_allocations += 1,
            Call::Freed { address, header } => {
                let old = process.remove(address, header);
                process.count_free(old);
            }
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => {
                if let Some((_, older)) = process.resizes.remove(&(event.thread, slot)) {
                    process.totals.unpaired_resizes += 1;
                    process.count_free(older);
                }
                let old = process.remove(address, header);
                process.resizes.insert((event.thread, slot), (address, old));
            }
            Call::Resized {
                address,
                size,
                stack,
                slot,
                ..
            } => {
                match process.resizes.remove(&(event.thread, slot)) {
                    Some((_, old)) => process.count_free(old),
                    None => process.totals.unpaired_resizes += 1,
                }
                process.add(address, size, stack);
                rises = vec![Scope::All, Scope::Process(id)];
            }
            Call::ResizeFailed { address, slot, .. } => {
                process.totals.failed_allocations += 1;
                match process.resizes.remove(&(event.thread, slot)) {
                    None => process.totals.unpaired_resizes += 1,
                    Some((began, old)) if began != address => {
                        process.totals.unpaired_resizes += 2;
                        process.count_free(old);
                    }
                    Some((_, old)) => match (process.blocks.contains_key(&address), old) {
                        (true, Old::Block(_)) => process.totals.replaced_blocks += 1,
                        (true, Old::Unmatched(_)) => process.count_free(old),
                        (false, Old::Block(block)) => {
                            process.blocks.insert(address, block);
                            rises = vec![Scope::All, Scope::Process(id)];
                        }
                        (false, Old::Unmatched(0)) => {}
                        (false, Old::Unmatched(bytes)) => {
                            process.freed_baseline -= bytes;
                            rises = vec![Scope::Process(id)];
                            if !process.inherited {
                                rises.push(Scope::All);
                            }
                        }
                    },
                }
            }
            Call::ResizeFreed { address, slot } => {
                match process.resizes.remove(&(event.thread, slot)) {
                    Some((began, old)) if began == address => process.count_free(old),
                    missing => {
                        process.totals.unpaired_resizes += 1;
                        if let Some((_, older)) = missing {
                            process.totals.unpaired_resizes += 1;
                            process.count_free(older);
                        }
                        let old = process.remove(address, 0);
                        process.count_free(old);
                    }
                }
            }
            Call::Mapping(mapping) => {
                let before = self.state.clone();
                let process = self.state.processes.get_mut(&id).expect("it is there");
                process.map(event.thread, mapping);
                self.state.settle();
                let gains = |before: &Sums, after: &Sums| {
                    after
                        .iter()
                        .any(|(key, sum)| *sum > before.get(key).copied().unwrap_or_default())
                };
                if gains(
                    &before.processes[&id].sums(),
                    &self.state.processes[&id].sums(),
                ) {
                    rises.push(Scope::Process(id));
                }
                // What others hold too went over to them before.
                let mut answers = before.answers.clone();
                for (thing, answers) in &mut answers {
                    if let Some(now) = self.state.answers.get(thing) {
                        *answers = *now;
                    }
                }
                let after = self.state.joint(id, &self.state.answers);
                if gains(&before.joint(id, &answers), &after) {
                    rises.push(Scope::All);
                }
            }
            Call::Forked { child } => {
                let parent = process.clone();
                let process = self.meet(child, at);
                if !process.begun && !process.ended && process.detached.is_none() {
                    let mut left = parent.baseline.unwrap_or(0) - parent.freed_baseline;
                    process.blocks = parent.blocks;
                    process.pages = parent.pages;
                    let forked = (parent.id, child);
                    for (address, old) in parent.resizes.into_values() {
                        match old {
                            Old::Block(block) => {
                                process.blocks.entry(address).or_insert(block);
                            }
                            Old::Unmatched(bytes) => left += bytes,
                        }
                    }
                    process.begun = true;
                    process.baseline = Some(left);
                    process.inherited = true;
                    rises = vec![Scope::All, Scope::Process(child)];
                    let parent = self.state.processes.get_mut(&forked.0);
                    parent.expect("it is there").forks += 1;
                    let children = self.state.children.entry(forked.0).or_default();
                    children.push(forked.1);
                }
            }
            Call::Executed { .. } | Call::Exited { .. } => self.close(id, at),
            Call::OomVictim | Call::Sampling { .. } => {}
        }
        self.now = self.now.max(at);
        self.state.settle();
        for scope in rises {
            self.rose(scope, at);
        }
    }

    pub(super) fn snapshot(&self, scope: Scope, moment: Moment) -> Snapshot {
        if let Scope::Process(id) = scope
            && !self.state.processes.contains_key(&id)
        {
            return Snapshot::default();
        }
        match moment {
            Moment::Peak => {
                let rises = self.rises.iter().filter(|(of, _, _)| *of == scope);
                // Of several maxima, `max_by_key` gives the last.
                match rises.max_by_key(|(_, _, state)| level(state, scope, self.kinds)) {
                    Some((_, at, state)) => view(state, scope, self.kinds, *at),
                    None => Snapshot::default(),
                }
            }
            Moment::End => {
                let mut ends = self.ends.iter().rev();
                let end = match scope {
                    Scope::All if self.state.processes.values().any(|process| !process.ended) => {
                        None
                    }
                    Scope::All => ends.next(),
                    Scope::Process(id) => ends.find(|(ended, _, _)| *ended == id),
                };
                match end {
                    Some((_, at, state)) => view(state, scope, self.kinds, *at),
                    None => {
                        let detached = match scope {
                            Scope::Process(id) => self.state.processes[&id].detached,
                            Scope::All => None,
                        };
                        view(&self.state, scope, self.kinds, detached.unwrap_or(self.now))
                    }
                }
            }
        }
    }

    /// What all processes hold now.
    pub(super) fn held(&self) -> Snapshot {
        view(&self.state, Scope::All, self.kinds, self.now)
    }

    pub(super) fn totals(&self, id: ProcessId) -> Option<Totals> {
        self.state.processes.get(&id).map(|process| process.totals)
    }
}
