//! Unpacking, by the same steps as packing.

use super::blocks;
use super::mapping::{
    BREAK_MOVED, DISCARDED, IS_BY_ALLOCATOR, IS_COMMITTED, IS_FILE, IS_SHARED, IS_STACK, KEEPS_OLD,
    MAPPED, PROTECTED, REMAP_BEGAN, REMAP_FAILED, REMAPPED, UNMAP_BEGAN, UNMAP_FAILED,
};
use super::{Column, Known, TICK, Thread, call};
use crate::event::mapping::{Mapping, Range, Traits};
use crate::event::{Address, Call, Event, Function, Nanos, ProcessId, StackIndex, Tid};
use crate::record::damage::Damage;
use crate::record::varint::Span;

/// Unpacks the events of one chunk, one at a time. The content of the chunk is handed in at each step.
pub(in crate::record) struct EventUnpacker {
    columns: [Span; Column::COUNT],
    known: Known,
}

impl EventUnpacker {
    pub(in crate::record) fn new() -> Self {
        Self {
            columns: [Span::default(); Column::COUNT],
            known: Known::new(0),
        }
    }

    /// Starts on a chunk whose columns lie at these places, and whose first new block has this number.
    pub(in crate::record) fn start(&mut self, columns: [Span; Column::COUNT], first_block: u64) {
        self.columns = columns;
        self.known = Known::new(first_block);
    }

    /// How many events are left: each has one tag.
    pub(in crate::record) fn left(&self) -> usize {
        self.columns[Column::Tags as usize].remaining()
    }

    /// Whether there are bytes that no event accounts for.
    pub(in crate::record) fn is_left_over(&self) -> bool {
        self.columns.iter().any(|column| column.remaining() > 0)
    }

    /// The next event.
    pub(in crate::record) fn next(&mut self, content: &[u8]) -> Result<Event, Damage> {
        let before = self.known.at;
        let at = self.column(Column::Times).difference(content, before)?;
        self.known.at = at;
        let thread = self.thread(content)?;
        let tag = self.column(Column::Tags).byte(content)?;
        // Calls that tell no function have none in their tag.
        let call = match tag {
            call::FREED | call::FREED_KNOWN => {
                let header = self.header(content, tag == call::FREED)?;
                Call::Freed {
                    address: self.block(content, thread)?,
                    header,
                }
            }
            call::RESIZE_BEGAN | call::RESIZE_BEGAN_KNOWN => {
                let header = self.header(content, tag == call::RESIZE_BEGAN)?;
                Call::ResizeBegan {
                    address: self.block(content, thread)?,
                    header,
                    slot: self.slot(content)?,
                }
            }
            call::RESIZE_FAILED => Call::ResizeFailed {
                address: self.block(content, thread)?,
                size: self.size(content)?,
                slot: self.slot(content)?,
            },
            call::RESIZE_FREED => Call::ResizeFreed {
                address: self.block(content, thread)?,
                slot: self.slot(content)?,
            },
            call::FORKED => Call::Forked {
                child: ProcessId(self.rest(content)?),
            },
            call::EXECUTED => Call::Executed {
                next: ProcessId(self.rest(content)?),
            },
            call::EXITED => Call::Exited {
                status: self.rest(content)?,
            },
            call::OOM_VICTIM => Call::OomVictim,
            call::SAMPLING => Call::Sampling {
                exponent: self.slot(content)?,
            },
            _ if tag & 15 == call::MAPPING => Call::Mapping(self.mapping(content, thread, tag)?),
            _ => self.call_of_function(content, thread, tag)?,
        };
        let Thread { process, tid, .. } = self.known.threads[thread];
        Ok(Event {
            at: Nanos(at.wrapping_mul(TICK)),
            process,
            thread: tid,
            call,
        })
    }

    fn call_of_function(&mut self, content: &[u8], thread: usize, tag: u8) -> Result<Call, Damage> {
        let function = Function::from_cookie(u64::from(tag >> 4)).ok_or(Damage::Call(tag))?;
        let address = match tag & 15 {
            call::ALLOCATED | call::RESIZED => self.known.come(),
            call::ALLOCATED_AT | call::RESIZED_AT => self.block(content, thread)?,
            call::FAILED => {
                return Ok(Call::Failed {
                    function,
                    size: self.size(content)?,
                    stack: self.stack(content)?,
                });
            }
            _ => return Err(Damage::Call(tag)),
        };
        let size = self.size(content)?;
        let stack = self.stack(content)?;
        Ok(match tag & 15 {
            call::ALLOCATED | call::ALLOCATED_AT => Call::Allocated {
                function,
                address,
                size,
                stack,
            },
            _ => Call::Resized {
                function,
                address,
                size,
                stack,
                slot: self.slot(content)?,
            },
        })
    }

    fn mapping(&mut self, content: &[u8], thread: usize, tag: u8) -> Result<Mapping, Damage> {
        Ok(match tag >> 4 {
            MAPPED => {
                let (range, stack) = self.range_of(content, thread)?;
                let known = IS_COMMITTED | IS_FILE | IS_SHARED | IS_STACK | IS_BY_ALLOCATOR;
                let flags = self.flags(content, known)?;
                Mapping::Mapped {
                    range,
                    traits: Traits {
                        committed: flags & IS_COMMITTED != 0,
                        file: flags & IS_FILE != 0,
                        shared: flags & IS_SHARED != 0,
                        stack: flags & IS_STACK != 0,
                        by_allocator: flags & IS_BY_ALLOCATOR != 0,
                    },
                    stack,
                }
            }
            UNMAP_BEGAN => Mapping::UnmapBegan {
                range: self.range(content, thread)?,
            },
            UNMAP_FAILED => Mapping::UnmapFailed,
            REMAP_BEGAN => Mapping::RemapBegan {
                range: self.range(content, thread)?,
            },
            REMAPPED => {
                let (range, stack) = self.range_of(content, thread)?;
                let flags = self.flags(content, IS_BY_ALLOCATOR | KEEPS_OLD)?;
                Mapping::Remapped {
                    range,
                    keeps_old: flags & KEEPS_OLD != 0,
                    by_allocator: flags & IS_BY_ALLOCATOR != 0,
                    stack,
                }
            }
            REMAP_FAILED => Mapping::RemapFailed,
            BREAK_MOVED => {
                let old = self.address(content, thread)?;
                let new = self.address(content, thread)?;
                let stack = self.stack(content)?;
                let by_allocator = self.flags(content, IS_BY_ALLOCATOR)? != 0;
                Mapping::BreakMoved {
                    old,
                    new,
                    by_allocator,
                    stack,
                }
            }
            PROTECTED => {
                let (range, stack) = self.range_of(content, thread)?;
                Mapping::Protected {
                    range,
                    committed: self.flags(content, IS_COMMITTED)? != 0,
                    stack,
                }
            }
            DISCARDED => Mapping::Discarded {
                range: self.range(content, thread)?,
            },
            _ => return Err(Damage::Call(tag)),
        })
    }

    fn range(&mut self, content: &[u8], thread: usize) -> Result<Range, Damage> {
        let start = self.address(content, thread)?;
        let length = self.size(content)?;
        Ok(Range { start, length })
    }

    fn range_of(&mut self, content: &[u8], thread: usize) -> Result<(Range, StackIndex), Damage> {
        let range = self.range(content, thread)?;
        Ok((range, self.stack(content)?))
    }

    fn flags(&mut self, content: &[u8], known: u8) -> Result<u8, Damage> {
        let flags = self.rest(content)?;
        let value = u8::try_from(flags).ok().filter(|bits| bits & !known == 0);
        value.ok_or(Damage::Field {
            field: "mapping",
            value: flags.into(),
        })
    }

    fn column(&mut self, column: Column) -> &mut Span {
        &mut self.columns[column as usize]
    }

    fn thread(&mut self, content: &[u8]) -> Result<usize, Damage> {
        let thread = self.column(Column::Threads).unsigned(content)?;
        let thread = usize::try_from(thread).map_err(|_| Damage::Reference)?;
        if thread == self.known.threads.len() {
            let pair = self.column(Column::NewThreads);
            let process = ProcessId(pair.unsigned_32(content)?);
            let tid = Tid(pair.unsigned_32(content)?);
            self.known.meet(process, tid);
        } else if thread > self.known.threads.len() {
            return Err(Damage::Reference);
        }
        Ok(thread)
    }

    /// Reads which block: as `EventPacker::block` writes it.
    fn block(&mut self, content: &[u8], thread: usize) -> Result<Address, Damage> {
        let Some(shorter) = self
            .column(Column::Blocks)
            .unsigned(content)?
            .checked_sub(1)
        else {
            return self.address(content, thread);
        };
        let (way, amount) = (shorter & 1, shorter >> 1);
        let next = self.known.next_block;
        let last = &mut self.known.threads[thread].block;
        *last = match way {
            0 => last.wrapping_add((amount >> 1) ^ (amount & 1).wrapping_neg()),
            _ => next.wrapping_sub(amount),
        };
        Ok(blocks::name(*last))
    }

    fn address(&mut self, content: &[u8], thread: usize) -> Result<Address, Damage> {
        let last = self.known.threads[thread].address;
        let address = self.column(Column::Addresses).difference(content, last)?;
        self.known.threads[thread].address = address;
        Ok(Address(address))
    }

    fn header(&mut self, content: &[u8], told: bool) -> Result<u64, Damage> {
        if told {
            self.column(Column::Headers).unsigned(content)
        } else {
            Ok(0)
        }
    }

    fn size(&mut self, content: &[u8]) -> Result<u64, Damage> {
        self.column(Column::Sizes).unsigned(content)
    }

    fn stack(&mut self, content: &[u8]) -> Result<StackIndex, Damage> {
        Ok(StackIndex(
            self.column(Column::Stacks).unsigned_32(content)?,
        ))
    }

    fn slot(&mut self, content: &[u8]) -> Result<u8, Damage> {
        u8::try_from(self.rest(content)?).map_err(|_| Damage::LongInteger)
    }

    fn rest(&mut self, content: &[u8]) -> Result<u32, Damage> {
        self.column(Column::Rest).unsigned_32(content)
    }
}
