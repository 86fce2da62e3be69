//! Packing.

use hashbrown::HashMap;

use super::blocks::{self, Names};
use super::mapping::{
    BREAK_MOVED, DISCARDED, IS_BY_ALLOCATOR, IS_COMMITTED, IS_FILE, IS_SHARED, IS_STACK, KEEPS_OLD,
    MAPPED, PROTECTED, REMAP_BEGAN, REMAP_FAILED, REMAPPED, UNMAP_BEGAN, UNMAP_FAILED,
};
use super::{Column, Known, TICK, call};
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, Function, ProcessId, StackIndex, Tid};
use crate::record::format::MAX_EVENTS;
use crate::record::varint::{put, put_difference};

/// Packs the events of one chunk after another.
pub(in crate::record) struct EventPacker {
    columns: [Vec<u8>; Column::COUNT],
    known: Known,
    threads: HashMap<(ProcessId, Tid), usize, foldhash::fast::RandomState>,
    names: Names,
    count: usize,
}

impl EventPacker {
    pub(in crate::record) fn new() -> Self {
        let names = Names::new();
        Self {
            columns: Default::default(),
            known: Known::new(names.next()),
            threads: HashMap::default(),
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
                let calls = (call::ALLOCATED, call::ALLOCATED_AT);
                self.come(thread, calls, function, address);
                self.size(size);
                self.stack(stack);
            }
            Call::Failed {
                function,
                size,
                stack,
            } => {
                self.tag(call::FAILED, Some(function));
                self.size(size);
                self.stack(stack);
            }
            Call::Freed { address, header } => {
                self.retired(thread, (call::FREED, call::FREED_KNOWN), address, header);
            }
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => {
                let calls = (call::RESIZE_BEGAN, call::RESIZE_BEGAN_KNOWN);
                self.retired(thread, calls, address, header);
                self.rest(slot.into());
            }
            Call::Resized {
                function,
                address,
                size,
                stack,
                slot,
            } => {
                let calls = (call::RESIZED, call::RESIZED_AT);
                self.come(thread, calls, function, address);
                self.size(size);
                self.stack(stack);
                self.rest(slot.into());
            }
            Call::ResizeFailed {
                address,
                size,
                slot,
            } => {
                self.tag(call::RESIZE_FAILED, None);
                self.block(thread, address);
                self.size(size);
                self.rest(slot.into());
            }
            Call::ResizeFreed { address, slot } => {
                self.tag(call::RESIZE_FREED, None);
                self.block(thread, address);
                self.rest(slot.into());
            }
            Call::Mapping(mapping) => self.mapping(thread, mapping),
            Call::Forked { child } => {
                self.tag(call::FORKED, None);
                self.rest(child.0);
            }
            Call::Executed { next } => {
                self.tag(call::EXECUTED, None);
                self.rest(next.0);
            }
            Call::Exited { status } => {
                self.tag(call::EXITED, None);
                self.rest(status);
            }
            Call::OomVictim => self.tag(call::OOM_VICTIM, None),
            Call::Sampling { exponent } => {
                self.tag(call::SAMPLING, None);
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
                self.mapping_tag(MAPPED);
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
                self.mapping_tag(UNMAP_BEGAN);
                self.range(thread, range);
            }
            Mapping::UnmapFailed => self.mapping_tag(UNMAP_FAILED),
            Mapping::RemapBegan { range } => {
                self.mapping_tag(REMAP_BEGAN);
                self.range(thread, range);
            }
            Mapping::Remapped {
                range,
                keeps_old,
                by_allocator,
                stack,
            } => {
                self.mapping_tag(REMAPPED);
                self.range_of(thread, range, stack);
                self.flags(&[(by_allocator, IS_BY_ALLOCATOR), (keeps_old, KEEPS_OLD)]);
            }
            Mapping::RemapFailed => self.mapping_tag(REMAP_FAILED),
            Mapping::BreakMoved {
                old,
                new,
                by_allocator,
                stack,
            } => {
                self.mapping_tag(BREAK_MOVED);
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
                self.mapping_tag(PROTECTED);
                self.range_of(thread, range, stack);
                self.flags(&[(committed, IS_COMMITTED)]);
            }
            Mapping::Discarded { range } => {
                self.mapping_tag(DISCARDED);
                self.range(thread, range);
            }
        }
    }

    fn mapping_tag(&mut self, what: u8) {
        self.column(Column::Tags).push(what << 4 | call::MAPPING);
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

    fn tag(&mut self, call: u8, function: Option<Function>) {
        let function = function.map_or(0, |f| f as u8);
        self.column(Column::Tags).push(function << 4 | call);
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

    /// A block came: by the first of these calls if it has the next number, else by the second.
    fn come(&mut self, thread: usize, calls: (u8, u8), function: Function, address: Address) {
        if blocks::number(address) == Some(self.known.next_block) {
            self.known.come();
            self.tag(calls.0, Some(function));
        } else {
            self.tag(calls.1, Some(function));
            self.block(thread, address);
        }
    }

    /// A block goes: by the first of these calls with its header, if that tells something, else by the second.
    fn retired(&mut self, thread: usize, calls: (u8, u8), address: Address, header: u64) {
        if header == 0 {
            self.tag(calls.1, None);
        } else {
            self.tag(calls.0, None);
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
