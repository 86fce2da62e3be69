//! The live set: which blocks and ranges of addresses are live, and who holds them. Pure: no I/O, and no clock but that of the events.
//!
//! What each call does:
//!
//! | call | live set | totals |
//! |---|---|---|
//! | `Allocated` | one block more; a block that was live at this address is retired first | an allocation, perhaps a replaced block |
//! | `Failed` | | a failed allocation |
//! | `Freed`, known | the block is retired | a free |
//! | `Freed`, unknown | the baseline shrinks by what the chunk header says, if that can be | an unmatched free |
//! | `ResizeBegan` | as `Freed`, tentatively | |
//! | `Resized` | the new block, as in `Allocated` | a free, or unmatched free, of the old block and an allocation |
//! | `ResizeFailed` | the old block lives on; if its address is another block's by now, that one survives | a failed allocation, perhaps a replaced block |
//! | `ResizeFreed` | | a free, or unmatched free, of the old block |
//! | `Mapped` | the range is live, of the kind that its traits make it; what lay there is retired first | an mmap |
//! | `UnmapBegan` | what lies in the range is retired, tentatively: heads, tails and middles too | an unmap; what we did not see mapped is unmatched |
//! | `RemapBegan` | as `UnmapBegan` | |
//! | `UnmapFailed`, `RemapFailed` | what the thread's last call retired lives on, where nothing newer has come | what was counted at the beginning is taken back |
//! | `Remapped` | the new range is what the old one was, held by the caller; more of it is as the old one's end | |
//! | `BreakMoved` | the pages between are live, or retired | |
//! | `Protected` | private memory turns from reserved to committed, held by the caller from here on, or back | |
//! | `Discarded` | | a discard |
//! | `Forked` | the child starts with what its parent holds; for all together nothing comes | |
//! | `Executed`, `Exited` | ends | |
//! | `Sampling` | from here on a block stands for more than itself: `sampling` | |
//!
//! An end of a resize without its beginning is an unpaired one: `Resized` adds its block all the same, `ResizeFreed`
//! retires what lies at the address, `ResizeFailed` leaves all as it is. So is a beginning without an end, found when
//! the same slot of the same thread begins the next one: its old block is taken to be gone.
//!
//! Of mappings it is the same with `mremap`: a lone `Remapped` adds its range. A beginning is over at the next call of its
//! thread about mappings, whichever that is, since the success of `munmap` says nothing. What the allocator maps is
//! followed but of no kind, and `munmap` of what we never saw mapped leaves the baseline alone: how much of it was
//! memory is not known.
//!
//! Heap blocks and committed private mappings make the level that decides on the peak. The other kinds are followed
//! beside it: to a peak they come or go as so many bytes of nothing, so what each of them was at the peak is as exact.
//!
//! A process that is not known is opened by its first event, without a baseline. One that has ended stays so: what is
//! said of it later changes nothing.
//!
//! What a process held before we looked, its baseline, cannot be listed, but it can shrink, and the peak is that of
//! *baseline + live − freed baseline*. The baseline itself is constant, so the level that decides on the peak leaves it
//! out. When a process ends, the rest of its baseline goes, for all of them together. A forked child's baseline is its
//! parent's memory: for all together it neither comes with the fork nor goes with the child.
//!
//! So it is with blocks and ranges: what a family holds together counts once, for as long as any of them holds it. `process/kin.rs`
//! has how.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::{Call, Event, Nanos, ProcessId};

mod books;
mod chunks;
mod families;
mod fold;
mod holdings;
mod kin;
mod kind;
mod lifetimes;
mod mappings;
mod movements;
#[cfg(test)]
mod naive;
mod neighbours;
pub(crate) mod paged;
mod process;
mod ranges;
mod remains;
mod sampling;
mod snapshot;
#[cfg(test)]
mod tests;
mod totals;
mod view;

use books::{Balance, Books};
use families::Families;
pub use fold::{Fold, FoldHead, FoldedFamily, FoldedHolding, FoldedProcess};
pub use kind::{Kind, Kinds};
pub use lifetimes::{Era, Life, Lives, Timeline};
use lifetimes::{Eras, Scene};
pub use movements::Movement;
use process::Process;
pub use remains::Remains;
use sampling::Sampling;
pub use snapshot::{Amount, Holder, HolderKey, Moment, Scope, Snapshot};
pub use totals::Totals;
use view::sorted;

/// The live blocks and ranges of all traced processes, who holds them, and the peak of each and of all together.
///
/// Each event costs O(1), but for a fork (one copy of holders and ranges; blocks are shared, at a cost that
/// `fork_map.rs` bounds), an end (one pass over the holders), and those about mappings: O(log n) of n ranges, for each range that they touch.
/// What others of a family may hold too costs a look into the books of these when it is freed, up to the first who does;
/// and one for each such block when a process ends before those that it forked.
#[derive(Debug)]
pub struct LiveSet {
    all: Books,
    processes: Vec<Process>,
    index_of: HashMap<ProcessId, usize, FixedState>,
    /// Index of the process of the latest event: almost every one is of the same as the one before.
    latest: usize,
    /// Who descends from whom.
    families: Families,
    /// How many processes are not gone: those that are traced now, and those that we let go of.
    open: usize,
    /// The latest moment that we heard of.
    now: Nanos,
    /// Just before the process ended that was the last to be traced.
    last_end: LastEnd,
    /// How allocations are sampled now.
    sampling: Sampling,
    scene: Scene,
    /// When the eras are, if they are told apart.
    eras: Option<Eras>,
    /// What came and went, if that is told, and was not asked for yet.
    movements: Vec<Movement>,
    /// Processes that are gone, in the order in which they ended.
    ended: VecDeque<ProcessId>,
    /// Totals of those that were taken out.
    totals_of_shed: Totals,
}

/// The state of all just before a process ended and left none.
#[derive(Clone, Copy, Debug, Default)]
struct LastEnd {
    at: Nanos,
    balance: Balance,
    /// Index of the process.
    process: usize,
}

impl Default for LiveSet {
    fn default() -> Self {
        Self::new()
    }
}

impl LiveSet {
    /// Nothing is traced yet.
    pub fn new() -> Self {
        Self {
            all: Books::new(Nanos(0), Kinds::OF_THE_PEAK),
            processes: Vec::new(),
            index_of: HashMap::default(),
            latest: 0,
            families: Families::default(),
            open: 0,
            now: Nanos(0),
            last_end: LastEnd::default(),
            sampling: Sampling::default(),
            scene: Scene::default(),
            eras: None,
            movements: Vec::new(),
            ended: VecDeque::new(),
            totals_of_shed: Totals::default(),
        }
    }

    /// Tells apart what the threads of a process hold.
    pub fn by_thread(mut self) -> Self {
        self.scene.threads = true;
        self
    }

    /// Has the peak of these kinds together, in place of that of heap and mappings. What is [folded](Self::unfold) knows the
    /// latter alone.
    pub fn with_peak_of(mut self, kinds: Kinds) -> Self {
        self.all = Books::new(Nanos(0), kinds);
        self
    }

    /// The kinds that the peak is made of.
    pub fn peak_of(&self) -> Kinds {
        self.all.level()
    }

    /// Keeps when what was held came and went, for [`timeline`](Self::timeline).
    pub fn with_timeline(mut self) -> Self {
        self.scene.eras = true;
        self.eras = Some(Eras::default());
        self
    }

    /// Keeps how much was held when, but not by whom: a [`timeline`](Self::timeline) without lives.
    pub fn with_eras(mut self) -> Self {
        self.eras = Some(Eras::default());
        self
    }

    /// Tells what comes and goes one by one, for [`movements`](Self::movements).
    pub fn with_movements(mut self) -> Self {
        self.scene.movements = true;
        self
    }

    /// What came and went since this was last asked. Somebody has to ask: what is not fetched is kept.
    pub fn movements(&mut self) -> impl Iterator<Item = Movement> {
        self.movements.drain(..)
    }

    /// Whether any process is traced now, or was let go of.
    pub fn is_tracing(&self) -> bool {
        self.open > 0
    }

    /// A process is traced from here on. `baseline_bytes`: what it holds already, the cap for what frees of unknown
    /// blocks may take away.
    ///
    /// It may come after the first event of the process. A forked child takes over what its parent has left, whatever
    /// is given here, before or after its `Forked`.
    pub fn open(&mut self, process: ProcessId, at: Nanos, baseline_bytes: u64) {
        self.enter_era(at);
        let index = self.find_or_open(process, at);
        let process = &mut self.processes[index];
        process.opened = true;
        if process.ended.is_none() {
            process.set_baseline(baseline_bytes);
            self.now = self.now.max(at);
        }
    }

    /// Applies an event to the books of its process and to those of all.
    pub fn apply(&mut self, event: &Event) {
        let at = event.at;
        self.enter_era(at);
        let index = self.find_or_open(event.process, at);
        let process = &mut self.processes[index];
        if process.ended.is_some() {
            return;
        }
        process.begun = true;
        self.now = self.now.max(at);
        // Whether the process answers for what the call puts back, if it does.
        let mut answers = true;
        if process.kin.lives {
            answers = self.before(index, event);
        }
        let process = &mut self.processes[index];
        let all = &mut self.all;
        let thread = event.thread;
        let scene = self.scene;
        match event.call {
            Call::Allocated {
                function: _,
                address,
                size,
                stack,
            } => process.allocate(all, at, address, size, scene.asker(stack, thread)),
            Call::Failed { .. } => process.totals.failed(),
            Call::Freed { address, header } => process.free(all, address, Some(header)),
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => process.begin_resize(all, (thread, slot), address, header),
            Call::Resized {
                function: _,
                address,
                size,
                stack,
                slot,
            } => {
                let asker = scene.asker(stack, thread);
                process.resize(all, at, (thread, slot), address, size, asker);
            }
            Call::ResizeFailed {
                address,
                size: _,
                slot,
            } => process.fail_resize(all, at, (thread, slot), address, answers),
            Call::ResizeFreed { address, slot } => {
                process.free_by_resize(all, (thread, slot), address);
            }
            Call::Mapping(mapping) => process.map(all, at, thread, mapping),
            Call::Forked { child } => self.fork(index, child, at),
            // The next program is opened when it is heard of: until then it holds nothing.
            Call::Executed { next: _ } | Call::Exited { status: _ } => self.end(index, at),
            Call::Sampling { exponent } => self.sample(Sampling(exponent)),
            Call::OomVictim => {}
        }
        self.fetch_movements(index);
        if let Some(eras) = &mut self.eras {
            if let Call::Allocated { size, .. } | Call::Resized { size, .. } = event.call {
                eras.came(size);
            }
            eras.reach(saturate(self.all.now().live.bytes));
        }
    }

    /// Of a process that something happened to.
    fn fetch_movements(&mut self, index: usize) {
        if self.scene.movements {
            self.processes[index].hand_over_movements(&mut self.movements);
        }
    }

    /// The era of this moment begins, if it has not.
    fn enter_era(&mut self, at: Nanos) {
        let Some(eras) = &mut self.eras else { return };
        let Some(entered) = eras.enter(at) else {
            return;
        };
        self.scene.era = entered.era;
        self.scene.halvings += entered.halvings;
        for process in &mut self.processes {
            for _ in 0..entered.halvings {
                process.halve_eras();
            }
            process.begin_era(self.scene);
        }
    }

    /// When what was held came and went, if that was [kept](Self::with_timeline).
    pub fn timeline(&mut self) -> Option<Timeline> {
        let eras = self.eras.as_ref()?;
        let mut lives = Vec::new();
        if !self.scene.eras {
            return Some(eras.timeline(lives));
        }
        for process in &mut self.processes {
            let id = process.id;
            for (holding, of_holding) in process.lives(&self.all) {
                lives.push(Lives {
                    process: id,
                    stack: holding.stack,
                    thread: holding.thread,
                    kind: holding.kind,
                    lives: of_holding,
                });
            }
        }
        Some(eras.timeline(lives))
    }

    /// All that was ever asked for, by who asked: `bytes` and `blocks` are what came, whether or not it went again.
    pub fn allocated(&self) -> Vec<Holder> {
        let mut snapshot = Snapshot::default();
        for process in &self.processes {
            let allocated = process.now().map(|(holding, _)| Holder {
                process: process.id,
                stack: holding.stack,
                thread: holding.thread,
                kind: holding.kind,
                bytes: holding.allocated.bytes,
                error_bytes: 0,
                blocks: holding.allocated.blocks,
            });
            snapshot
                .holders
                .extend(allocated.filter(|holder| holder.blocks > 0));
        }
        sorted(snapshot).holders
    }

    /// Allocations are sampled so from here on, in all processes.
    fn sample(&mut self, sampling: Sampling) {
        self.sampling = sampling;
        for process in &mut self.processes {
            process.sample(sampling);
        }
    }

    /// A process is gone, and what it held with it.
    pub fn close(&mut self, process: ProcessId, at: Nanos) {
        if let Some(&index) = self.index_of.get(&process) {
            self.enter_era(at);
            self.end(index, at);
        }
    }

    /// We let go of a process that runs on: what it held then still counts, for nothing of it was handed back. What is
    /// said of it later changes nothing.
    pub fn detach(&mut self, process: ProcessId, at: Nanos) {
        if let Some(&index) = self.index_of.get(&process) {
            self.enter_era(at);
            let process = &mut self.processes[index];
            if process.ended.is_none() {
                process.ended = Some(at);
                self.now = self.now.max(at);
            }
        }
    }

    /// The latest moment that it heard of.
    pub fn now(&self) -> Nanos {
        self.now
    }

    /// Bytes live in all traced processes now, of the kinds that make the level.
    pub fn live_bytes(&self) -> u64 {
        saturate(self.all.now().live.bytes)
    }

    /// What was freed so far that was there before it was traced, bytes.
    pub fn freed_baseline_bytes(&self) -> u64 {
        saturate(self.all.now().freed_baseline)
    }

    /// Blocks and mappings live in all traced processes now.
    pub fn live_blocks(&self) -> u64 {
        self.all.now().live.blocks
    }

    /// Bytes that were seen asked for and live at the peak of all.
    pub fn peak_bytes(&self) -> u64 {
        saturate(self.all.at_peak().live.bytes)
    }

    /// The moment of the peak of all; zero if nothing was ever traced.
    pub fn peak_at(&self) -> Nanos {
        self.all.clock.peak_at()
    }

    /// Totals of all processes, those that ended included.
    pub fn totals(&self) -> Totals {
        let mut totals = self.totals_of_shed;
        for process in &self.processes {
            totals.add(&process.totals);
        }
        totals
    }

    /// Totals of one process; `None` if it was never heard of.
    pub fn process_totals(&self, process: ProcessId) -> Option<Totals> {
        let index = *self.index_of.get(&process)?;
        Some(self.processes[index].totals)
    }

    fn find_or_open(&mut self, id: ProcessId, at: Nanos) -> usize {
        let latest = self.processes.get(self.latest);
        if latest.is_some_and(|process| process.id == id) {
            return self.latest;
        }
        if let Some(&index) = self.index_of.get(&id) {
            self.latest = index;
            return index;
        }
        let index = self.processes.len();
        let mut process = Process::new(id, &mut self.all, at, self.scene);
        process.sample(self.sampling);
        self.processes.push(process);
        self.index_of.insert(id, index);
        self.open += 1;
        index
    }

    /// The child starts with what its parent holds.
    ///
    /// One of which something happened before is past its beginning and gets nothing. The kernel reports a fork before
    /// the child first runs, so only a damaged recording says such a thing.
    fn fork(&mut self, parent: usize, child: ProcessId, at: Nanos) {
        let child = self.find_or_open(child, at);
        let Process { begun, ended, .. } = &self.processes[child];
        if !begun && ended.is_none() {
            self.inherit(parent, child, at);
            self.fetch_movements(child);
        }
    }

    fn end(&mut self, index: usize, at: Nanos) {
        if self.processes[index].ended.is_some() {
            return;
        }
        self.now = self.now.max(at);
        self.open -= 1;
        if self.open == 0 {
            self.last_end = LastEnd {
                at,
                balance: self.all.now(),
                process: index,
            };
        }
        if self.processes[index].kin.lives {
            self.hand_all_over(index);
        }
        self.processes[index].end(&mut self.all, at);
        self.leave_family(index);
        self.ended.push_back(self.processes[index].id);
        self.fetch_movements(index);
    }
}

fn saturate(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
