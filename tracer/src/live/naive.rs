//! The naive twin of the live set: it keeps a full copy of the state at every moment that may be the peak, and finds
//! the peak by adding up each copy from scratch. The rules of each call are written down once more, as plainly as they
//! can be.

use std::collections::BTreeMap;

use super::{Holder, Moment, Scope, Snapshot, Totals};
use crate::event::{Address, Call, Event, Nanos, ProcessId, StackIndex, Tid};

#[derive(Clone, Copy, Debug, PartialEq)]
struct Block {
    size: u64,
    stack: StackIndex,
}

/// The old block of a resize under way, or what its chunk header took away of the baseline.
#[derive(Clone, Copy, Debug)]
enum Old {
    Block(Block),
    Unmatched(u64),
}

#[derive(Clone, Debug, Default)]
struct Process {
    blocks: BTreeMap<Address, Block>,
    resizes: BTreeMap<(Tid, u8), (Address, Old)>,
    /// What it held when tracing began; `None` until we are told.
    baseline: Option<u64>,
    inherited: bool,
    freed_baseline: u64,
    begun: bool,
    totals: Totals,
    ended: bool,
}

impl Process {
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

    fn live_bytes(&self) -> i128 {
        self.blocks
            .values()
            .map(|block| i128::from(block.size))
            .sum()
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

    fn add(&mut self, address: Address, block: Block) {
        self.totals.allocations += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(block.size);
        if self.blocks.insert(address, block).is_some() {
            self.totals.replaced_blocks += 1;
        }
    }
}

/// Everything at one moment.
type State = BTreeMap<ProcessId, Process>;

fn level(state: &State, scope: Scope) -> i128 {
    match scope {
        Scope::All => {
            let each = state.values();
            each.map(|process| process.live_bytes() - process.freed_for_all())
                .sum()
        }
        Scope::Process(id) => state[&id].live_bytes() - i128::from(state[&id].freed_baseline),
    }
}

fn saturate(bytes: i128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn view(state: &State, scope: Scope, at: Nanos) -> Snapshot {
    let mut sums: BTreeMap<(ProcessId, StackIndex), (i128, u64)> = BTreeMap::new();
    let mut freed_baseline = 0;
    for (&id, process) in state {
        match scope {
            Scope::All => freed_baseline += process.freed_for_all(),
            Scope::Process(only) if only == id => {
                freed_baseline += i128::from(process.freed_baseline);
            }
            Scope::Process(_) => continue,
        }
        for block in process.blocks.values() {
            let (bytes, blocks) = sums.entry((id, block.stack)).or_default();
            *bytes += i128::from(block.size);
            *blocks += 1;
        }
    }
    let mut holders: Vec<Holder> = sums
        .iter()
        .map(|(&(process, stack), &(bytes, blocks))| Holder {
            process,
            stack,
            bytes: saturate(bytes),
            blocks,
        })
        .collect();
    // The sort is stable, and they are in the order of process and stack.
    holders.sort_by_key(|holder| (u64::MAX - holder.bytes, u64::MAX - holder.blocks));
    Snapshot {
        at,
        bytes: saturate(sums.values().map(|(bytes, _)| bytes).sum()),
        blocks: sums.values().map(|(_, blocks)| blocks).sum(),
        freed_baseline_bytes: saturate(freed_baseline),
        holders,
    }
}

/// The twin of [`LiveSet`](super::LiveSet).
#[derive(Default)]
pub(super) struct Naive {
    now: Nanos,
    state: State,
    /// The state after everything that made a level rise, if only by nothing.
    rises: Vec<(Scope, Nanos, State)>,
    /// The state before each end of a process.
    ends: Vec<(ProcessId, Nanos, State)>,
}

impl Naive {
    fn rose(&mut self, scope: Scope, at: Nanos) {
        self.rises.push((scope, at, self.state.clone()));
    }

    fn meet(&mut self, id: ProcessId, at: Nanos) -> &mut Process {
        let known = self.state.contains_key(&id);
        self.state.entry(id).or_default();
        if !known {
            self.rose(Scope::All, at);
            self.rose(Scope::Process(id), at);
        }
        self.state.entry(id).or_default()
    }

    pub(super) fn open(&mut self, id: ProcessId, at: Nanos, baseline_bytes: u64) {
        let process = self.meet(id, at);
        if process.ended {
            return;
        }
        process.baseline.get_or_insert(baseline_bytes);
        self.now = self.now.max(at);
    }

    pub(super) fn close(&mut self, id: ProcessId, at: Nanos) {
        let state = self.state.clone();
        let Some(process) = self.state.get_mut(&id).filter(|process| !process.ended) else {
            return;
        };
        self.ends.push((id, at, state));
        process.ended = true;
        process.blocks.clear();
        self.now = self.now.max(at);
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let (id, at) = (event.process, event.at);
        let process = self.meet(id, at);
        if process.ended {
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
                process.add(address, Block { size, stack });
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
                process.add(address, Block { size, stack });
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
            Call::Mapping(_) => {}
            Call::Forked { child } => {
                let parent = process.clone();
                let process = self.meet(child, at);
                if !process.begun && !process.ended {
                    let mut left = parent.baseline.unwrap_or(0) - parent.freed_baseline;
                    process.blocks = parent.blocks;
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
                }
            }
            Call::Executed { .. } | Call::Exited { .. } => self.close(id, at),
            Call::OomVictim => {}
        }
        self.now = self.now.max(at);
        for scope in rises {
            self.rose(scope, at);
        }
    }

    pub(super) fn snapshot(&self, scope: Scope, moment: Moment) -> Snapshot {
        if let Scope::Process(id) = scope
            && !self.state.contains_key(&id)
        {
            return Snapshot::default();
        }
        match moment {
            Moment::Peak => {
                let rises = self.rises.iter().filter(|(of, _, _)| *of == scope);
                // Of several maxima, `max_by_key` gives the last.
                match rises.max_by_key(|(_, _, state)| level(state, scope)) {
                    Some((_, at, state)) => view(state, scope, *at),
                    None => Snapshot::default(),
                }
            }
            Moment::End => {
                let mut ends = self.ends.iter().rev();
                let end = match scope {
                    Scope::All if self.state.values().any(|process| !process.ended) => None,
                    Scope::All => ends.next(),
                    Scope::Process(id) => ends.find(|(ended, _, _)| *ended == id),
                };
                match end {
                    Some((_, at, state)) => view(state, scope, *at),
                    None => view(&self.state, scope, self.now),
                }
            }
        }
    }

    /// What all processes hold now.
    pub(super) fn held(&self) -> Snapshot {
        view(&self.state, Scope::All, self.now)
    }

    pub(super) fn totals(&self, id: ProcessId) -> Option<Totals> {
        self.state.get(&id).map(|process| process.totals)
    }
}
