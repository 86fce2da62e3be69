//! Packing.

use hashbrown::HashMap;

use super::blocks::{self, Names};
use super::mapping::{IS_BY_ALLOCATOR, IS_COMMITTED, IS_FILE, IS_SHARED, IS_STACK, KEEPS_OLD};
use super::{Column, Kind, Known, TICK};
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, FunctionIndex, ProcessId, StackIndex, Tid};
use crate::record::format::MAX_EVENTS;
use crate::record::varint::{put, put_difference};

/// Packs the events of one chunk after another.
pub(in crate::record) struct EventPacker {
    columns: [Vec<u8>; Column::COUNT],
    known: Known,
    threads: HashMap<(ProcessId, Tid), usize, foldhash::fast::RandomState>,
    tags: Tags,
    names: Names,
    count: usize,
}

/// The tags of a chunk, by what they mean: its kind, and above that eight bits one more than its function, or 0.
struct Tags {
    all: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// Some of them, where they are found without a hash: each event looks for one, and most for the same few.
    near: [(u64, u64); 256],
}

impl Tags {
    fn new() -> Self {
        Self {
            all: HashMap::default(),
            near: [(0, 0); 256],
        }
    }

    /// Its ordinal, and whether it is new.
    fn of(&mut self, meaning: u64) -> (u64, bool) {
        // The kind, which has five bits, and the lowest three of the function.
        let near = &mut self.near[(meaning & 31 | meaning >> 3 & 0xe0) as usize];
        if near.0 == meaning {
            return (near.1, false);
        }
        let fresh = self.all.len() as u64;
        let tag = *self.all.entry(meaning).or_insert(fresh);
        *near = (meaning, tag);
        (tag, tag == fresh)
    }

    fn clear(&mut self) {
        self.all.clear();
        self.near = [(0, 0); 256];
    }
}

impl EventPacker {
    pub(in crate::record) fn new() -> Self {
        let names = Names::new();
        Self {
            columns: Default::default(),
            known: Known::new(names.next()),
            threads: HashMap::default(),
            tags: Tags::new(),
            names,
            count: 0,
        }
    }

    /// How many events this chunk holds.
    pub(in crate::record) fn count(&self) -> usize {
        self.count
    }

    /// How many bytes its columns have.
    pub(in crate::record) fn bytes(&self) -> usize {
        self.columns.iter().map(Vec::len).sum()
    }

    /// The columns of this chunk.
    pub(in crate::record) fn columns(&self) -> &[Vec<u8>; Column::COUNT] {
        &self.columns
    }

    /// The number of the first block that comes in this chunk.
    pub(in crate::record) fn first_block(&self) -> u64 {
        self.known.first_block
    }

    /// Begins the next chunk.
    pub(in crate::record) fn clear(&mut self) {
        for column in &mut self.columns {
            column.clear();
        }
        self.known = Known::new(self.names.next());
        self.threads.clear();
        self.tags.clear();
        self.count = 0;
    }

    /// Adds an event. The caller sees to it that there are at most [`MAX_EVENTS`].
    pub(in crate::record) fn push(&mut self, event: &Event) {
        debug_assert!(self.count < MAX_EVENTS, "the chunk is full");
        self.count += 1;
        let Event {
            at,
            process,
            thread,
            call,
        } = self.names.rename(event);
        let at = at.0 / TICK;
        let before = std::mem::replace(&mut self.known.at, at);
        put_difference(self.column(Column::Times), at, before);
        let thread = self.thread(process, thread);
        match call {
            Call::Allocated {
                function,
                address,
                size,
                stack,
            } => {
                let kinds = (Kind::Allocated, Kind::AllocatedAt);
                self.come(thread, kinds, function, address);
                self.size(size);
                self.stack(stack);
            }
            Call::Failed {
                function,
                size,
                stack,
            } => {
                self.tag(Kind::Failed, Some(function));
                self.size(size);
                self.stack(stack);
            }
            Call::Freed { address, header } => {
                self.retired(thread, (Kind::Freed, Kind::FreedKnown), address, header);
            }
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => {
                let kinds = (Kind::ResizeBegan, Kind::ResizeBeganKnown);
                self.retired(thread, kinds, address, header);
                self.rest(slot.into());
            }
            Call::Resized {
                function,
                address,
                size,
                stack,
                slot,
            } => {
                let kinds = (Kind::Resized, Kind::ResizedAt);
                self.come(thread, kinds, function, address);
                self.size(size);
                self.stack(stack);
                self.rest(slot.into());
            }
            Call::ResizeFailed {
                address,
                size,
                slot,
            } => {
                self.tag(Kind::ResizeFailed, None);
                self.block(thread, address);
                self.size(size);
                self.rest(slot.into());
            }
            Call::ResizeFreed { address, slot } => {
                self.tag(Kind::ResizeFreed, None);
                self.block(thread, address);
                self.rest(slot.into());
            }
            Call::Mapping(mapping) => self.mapping(thread, mapping),
            Call::Forked { child } => {
                self.tag(Kind::Forked, None);
                self.rest(child.0);
            }
            Call::Executed { next } => {
                self.tag(Kind::Executed, None);
                self.rest(next.0);
            }
            Call::Exited { status } => {
                self.tag(Kind::Exited, None);
                self.rest(status);
            }
            Call::OomVictim => self.tag(Kind::OomVictim, None),
            Call::Sampling { exponent } => {
                self.tag(Kind::Sampling, None);
                self.rest(exponent.into());
            }
        }
    }

    fn mapping(&mut self, thread: usize, mapping: Mapping) {
        match mapping {
            Mapping::Mapped {
                range,
                traits,
                stack,
            } => {
                let Traits {
                    committed,
                    file,
                    shared,
                    stack: of_thread,
                    by_allocator,
                } = traits;
                self.tag(Kind::Mapped, None);
                self.range_of(thread, range, stack);
                self.flags(&[
                    (committed, IS_COMMITTED),
                    (file, IS_FILE),
                    (shared, IS_SHARED),
                    (of_thread, IS_STACK),
                    (by_allocator, IS_BY_ALLOCATOR),
                ]);
            }
            Mapping::UnmapBegan { range } => {
                self.tag(Kind::UnmapBegan, None);
                self.range(thread, range);
            }
            Mapping::UnmapFailed => self.tag(Kind::UnmapFailed, None),
            Mapping::RemapBegan { range } => {
                self.tag(Kind::RemapBegan, None);
                self.range(thread, range);
            }
            Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            } => {
                self.tag(Kind::Remapped, None);
                self.range_of(thread, range, stack);
                self.flags(&[(by_allocator, IS_BY_ALLOCATOR), (keeps_old, KEEPS_OLD)]);
            }
            Mapping::RemapFailed => self.tag(Kind::RemapFailed, None),
            Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            } => {
                self.tag(Kind::BreakMoved, None);
                self.address(thread, old);
                self.address(thread, new);
                self.stack(stack);
                self.flags(&[(by_allocator, IS_BY_ALLOCATOR)]);
            }
            Mapping::Protected {
                range,
                committed,
                stack,
            } => {
                self.tag(Kind::Protected, None);
                self.range_of(thread, range, stack);
                self.flags(&[(committed, IS_COMMITTED)]);
            }
            Mapping::Discarded { range } => {
                self.tag(Kind::Discarded, None);
                self.range(thread, range);
            }
        }
    }

    fn range(&mut self, thread: usize, range: Range) {
        self.address(thread, range.start);
        self.size(range.length);
    }

    fn range_of(&mut self, thread: usize, range: Range, stack: StackIndex) {
        self.range(thread, range);
        self.stack(stack);
    }

    fn flags(&mut self, flags: &[(bool, u8)]) {
        let set = flags.iter().filter(|(is, _)| *is);
        self.rest(set.fold(0, |bits, (_, bit)| bits | u32::from(*bit)));
    }

    fn column(&mut self, column: Column) -> &mut Vec<u8> {
        &mut self.columns[column as usize]
    }

    fn tag(&mut self, kind: Kind, function: Option<FunctionIndex>) {
        let function = function.map_or(0, |function| u64::from(function.0) + 1);
        let (tag, is_new) = self.tags.of(function << 8 | kind as u64);
        put(self.column(Column::Tags), tag);
        if is_new {
            let meanings = self.column(Column::NewTags);
            put(meanings, kind as u64);
            put(meanings, function);
        }
    }

    fn thread(&mut self, process: ProcessId, tid: Tid) -> usize {
        let fresh = self.known.threads.len();
        let thread = *self.threads.entry((process, tid)).or_insert(fresh);
        put(self.column(Column::Threads), thread as u64);
        if thread == fresh {
            let pair = self.column(Column::NewThreads);
            put(pair, process.0.into());
            put(pair, tid.0.into());
            self.known.meet(process, tid);
        }
        thread
    }

    /// A block came: as the first of these kinds if it has the next number, else as the second.
    fn come(
        &mut self,
        thread: usize,
        kinds: (Kind, Kind),
        function: FunctionIndex,
        address: Address,
    ) {
        if blocks::number(address) == Some(self.known.next_block) {
            self.known.come();
            self.tag(kinds.0, Some(function));
        } else {
            self.tag(kinds.1, Some(function));
            self.block(thread, address);
        }
    }

    /// A block goes: as the first of these kinds with its header, if that tells something, else as the second.
    fn retired(&mut self, thread: usize, kinds: (Kind, Kind), address: Address, header: u64) {
        if header == 0 {
            self.tag(kinds.1, None);
        } else {
            self.tag(kinds.0, None);
            put(self.column(Column::Headers), header);
        }
        self.block(thread, address);
    }

    /// Which block: by how far it lies from what its thread named last, or by how many came since, whichever is
    /// less; 0 and its address if it has no number.
    fn block(&mut self, thread: usize, address: Address) {
        let Some(number) = blocks::number(address) else {
            put(self.column(Column::Blocks), 0);
            self.address(thread, address);
            return;
        };
        let last = std::mem::replace(&mut self.known.threads[thread].block, number);
        let step = number.wrapping_sub(last).cast_signed();
        let step = ((step << 1) ^ (step >> 63)).cast_unsigned();
        // Nothing overflows: numbers have 59 bits.
        let by_step = 2 * step;
        let shorter = match self.known.next_block.checked_sub(number) {
            Some(ago) => by_step.min(2 * ago + 1),
            None => by_step,
        };
        put(self.column(Column::Blocks), shorter + 1);
    }

    fn address(&mut self, thread: usize, Address(address): Address) {
        let last = std::mem::replace(&mut self.known.threads[thread].address, address);
        put_difference(self.column(Column::Addresses), address, last);
    }

    fn size(&mut self, size: u64) {
        put(self.column(Column::Sizes), size);
    }

    fn stack(&mut self, stack: StackIndex) {
        put(self.column(Column::Stacks), stack.0.into());
    }

    fn rest(&mut self, value: u32) {
        put(self.column(Column::Rest), value.into());
    }
}
