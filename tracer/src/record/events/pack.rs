//! Packing.

use hashbrown::HashMap;

use super::{
    ALLOCATED, BREAK_MOVED, Column, DISCARDED, EXECUTED, EXITED, FAILED, FORKED, FREED,
    FREED_KNOWN, Guesses, IS_BY_ALLOCATOR, IS_COMMITTED, IS_FILE, IS_SHARED, IS_STACK, KEEPS_OLD,
    MAPPED, MAPPING, Mention, OOM_VICTIM, PROTECTED, REMAP_BEGAN, REMAP_FAILED, REMAPPED,
    RESIZE_BEGAN, RESIZE_BEGAN_KNOWN, RESIZE_FAILED, RESIZE_FREED, RESIZED, SAMPLING, Thread,
    UNMAP_BEGAN, UNMAP_FAILED, glibc_header,
};
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, Function, Nanos, ProcessId, StackIndex, Tid};
use crate::record::format::MAX_EVENTS;
use crate::record::varint::{put, put_difference};

/// Packs the events of one chunk after another.
pub(in crate::record) struct EventPacker {
    columns: [Vec<u8>; Column::COUNT],
    guesses: Guesses,
    threads: HashMap<(ProcessId, Tid), usize, foldhash::fast::RandomState>,
    /// Where in `guesses.mentions` an address was last mentioned.
    mentions: HashMap<u64, usize, foldhash::fast::RandomState>,
    count: usize,
}

impl EventPacker {
    pub(in crate::record) fn new() -> Self {
        Self {
            columns: Default::default(),
            guesses: Guesses::new(),
            threads: HashMap::default(),
            mentions: HashMap::default(),
            count: 0,
        }
    }

    /// How many events this chunk holds.
    pub(in crate::record) fn count(&self) -> usize {
        self.count
    }

    /// The columns of this chunk.
    pub(in crate::record) fn columns(&self) -> &[Vec<u8>; Column::COUNT] {
        &self.columns
    }

    /// Begins the next chunk.
    pub(in crate::record) fn clear(&mut self) {
        for column in &mut self.columns {
            column.clear();
        }
        self.guesses.clear();
        self.threads.clear();
        self.mentions.clear();
        self.count = 0;
    }

    /// Adds an event. The caller sees to it that there are at most [`MAX_EVENTS`].
    pub(in crate::record) fn push(&mut self, event: &Event) {
        debug_assert!(self.count < MAX_EVENTS, "the chunk is full");
        self.count += 1;
        let Event {
            at: Nanos(at),
            process,
            thread,
            call,
        } = *event;
        let before = std::mem::replace(&mut self.guesses.at, at);
        put_difference(self.column(Column::Times), at, before);
        let thread = self.thread(process, thread);
        match call {
            Call::Allocated {
                function,
                address,
                size,
                stack,
            } => {
                self.tag(ALLOCATED, Some(function));
                self.block(thread, address, size, stack);
            }
            Call::Failed {
                function,
                size,
                stack,
            } => {
                self.tag(FAILED, Some(function));
                self.size(stack, size);
                self.stack(stack);
            }
            Call::Freed { address, header: 0 } => {
                self.tag(FREED_KNOWN, None);
                self.retired_unread(thread, address);
            }
            Call::ResizeBegan {
                address,
                header: 0,
                slot,
            } => {
                self.tag(RESIZE_BEGAN_KNOWN, None);
                self.retired_unread(thread, address);
                self.rest(slot.into());
            }
            Call::Sampling { exponent } => {
                self.tag(SAMPLING, None);
                self.rest(exponent.into());
            }
            Call::Freed { address, header } => {
                self.tag(FREED, None);
                self.retired(thread, address, header);
            }
            Call::ResizeBegan {
                address,
                header,
                slot,
            } => {
                self.tag(RESIZE_BEGAN, None);
                self.retired(thread, address, header);
                self.rest(slot.into());
            }
            Call::Resized {
                function,
                address,
                size,
                stack,
                slot,
            } => {
                self.tag(RESIZED, Some(function));
                self.block(thread, address, size, stack);
                self.rest(slot.into());
            }
            Call::ResizeFailed {
                address,
                size,
                slot,
            } => {
                self.tag(RESIZE_FAILED, None);
                self.address(thread, address);
                self.size(StackIndex::NONE, size);
                self.rest(slot.into());
            }
            Call::ResizeFreed { address, slot } => {
                self.tag(RESIZE_FREED, None);
                self.address(thread, address);
                self.rest(slot.into());
            }
            Call::Mapping(mapping) => self.mapping(thread, mapping),
            Call::Forked { child } => {
                self.tag(FORKED, None);
                self.rest(child.0);
            }
            Call::Executed { next } => {
                self.tag(EXECUTED, None);
                self.rest(next.0);
            }
            Call::Exited { status } => {
                self.tag(EXITED, None);
                self.rest(status);
            }
            Call::OomVictim => self.tag(OOM_VICTIM, None),
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
        self.column(Column::Tags).push(what << 4 | MAPPING);
    }

    fn range(&mut self, thread: usize, range: Range) {
        self.address(thread, range.start);
        self.size(StackIndex::NONE, range.length);
    }

    fn range_of(&mut self, thread: usize, range: Range, stack: StackIndex) {
        self.address(thread, range.start);
        self.stack(stack);
        self.size(stack, range.length);
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
        let fresh = self.guesses.threads.len();
        let thread = *self.threads.entry((process, tid)).or_insert(fresh);
        put(self.column(Column::Threads), thread as u64);
        if thread == fresh {
            let pair = self.column(Column::NewThreads);
            put(pair, process.0.into());
            put(pair, tid.0.into());
            self.guesses.threads.push(Thread {
                process,
                tid,
                last_new: 0,
            });
        }
        thread
    }

    /// Writes an address and returns the chunk header that is to be expected there.
    fn address(&mut self, thread: usize, address: Address) -> u64 {
        let Address(address) = address;
        let here = self.guesses.mentions.len();
        let header = if let Some(before) = self.mentions.insert(address, here) {
            put(self.column(Column::Repeats), (here - before) as u64);
            self.guesses.mentions[before].header
        } else {
            put(self.column(Column::Repeats), 0);
            let last = &mut self.guesses.threads[thread].last_new;
            let from = std::mem::replace(last, address);
            put_difference(self.column(Column::NewAddresses), address, from);
            0
        };
        self.guesses.mentions.push(Mention { address, header });
        header
    }

    fn block(&mut self, thread: usize, address: Address, size: u64, stack: StackIndex) {
        self.address(thread, address);
        self.guesses.expect(glibc_header(size));
        self.size(stack, size);
        self.stack(stack);
    }

    fn retired_unread(&mut self, thread: usize, address: Address) {
        self.address(thread, address);
        self.guesses.expect(0);
    }

    fn retired(&mut self, thread: usize, address: Address, header: u64) {
        let expected = self.address(thread, address);
        put_difference(self.column(Column::Headers), header, expected);
        self.guesses.expect(header);
    }

    fn size(&mut self, stack: StackIndex, size: u64) {
        let last = std::mem::replace(self.guesses.size(stack), size);
        put_difference(self.column(Column::Sizes), size, last);
    }

    fn stack(&mut self, stack: StackIndex) {
        put(self.column(Column::Stacks), stack.0.into());
    }

    fn rest(&mut self, value: u32) {
        put(self.column(Column::Rest), value.into());
    }
}
