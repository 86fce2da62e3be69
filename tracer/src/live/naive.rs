//! The naive twin of the live set: it keeps a full copy of the state at every moment that may be the peak, and finds
//! the peak by adding up each copy from scratch. The rules of each call are written down once more, as plainly as they
//! can be.

use super::{Kinds, Moment, Scope, Snapshot, Totals};
use crate::event::{Call, Event, Nanos, ProcessId};

mod process;
mod state;

use process::{Old, Process, Sums};
use state::{State, level, view};

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
