//! The events of versions 1 and 2.

use super::FUNCTIONS;
use super::calls::*;
use super::guesses::{Column, Guesses, Mention, Thread, glibc_header};
use crate::event::mapping::{Mapping, Range};
use crate::event::{Address, Call, Event, FunctionIndex, Nanos, ProcessId, StackIndex, Tid};
use crate::record::damage::Damage;
use crate::record::events::mapping::{IS_BY_ALLOCATOR, IS_COMMITTED, KEEPS_OLD, TRAITS, traits};
use crate::record::varint::Span;

/// Unpacks the events of one chunk, one at a time. The content of the chunk is handed in at each step.
pub(in crate::record) struct OlderEvents {
    columns: [Span; Column::COUNT],
    guesses: Guesses,
}

impl OlderEvents {
    /// Starts on a chunk whose columns lie at these places.
    pub(super) fn start(columns: [Span; Column::COUNT]) -> Self {
        Self {
            columns,
            guesses: Guesses::new(),
        }
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
        let before = self.guesses.at;
        let at = self.column(Column::Times).difference(content, before)?;
        self.guesses.at = at;
        let thread = self.thread(content)?;
        let tag = self.column(Column::Tags).byte(content)?;
        // Calls that tell no function have none in their tag.
        let call = match tag {
            FREED_KNOWN => Call::Freed {
                address: self.retired_unread(content, thread)?,
                header: 0,
            },
            RESIZE_BEGAN_KNOWN => Call::ResizeBegan {
                address: self.retired_unread(content, thread)?,
                header: 0,
                slot: self.slot(content)?,
            },
            SAMPLING => Call::Sampling {
                exponent: self.slot(content)?,
            },
            FREED => {
                let (address, header) = self.retired(content, thread)?;
                Call::Freed { address, header }
            }
            RESIZE_BEGAN => {
                let (address, header) = self.retired(content, thread)?;
                Call::ResizeBegan {
                    address,
                    header,
                    slot: self.slot(content)?,
                }
            }
            RESIZE_FAILED => Call::ResizeFailed {
                address: self.address(content, thread)?.0,
                size: self.size(content, StackIndex::NONE)?,
                slot: self.slot(content)?,
            },
            RESIZE_FREED => Call::ResizeFreed {
                address: self.address(content, thread)?.0,
                slot: self.slot(content)?,
            },
            FORKED => Call::Forked {
                child: ProcessId(self.rest(content)?),
            },
            EXECUTED => Call::Executed {
                next: ProcessId(self.rest(content)?),
            },
            EXITED => Call::Exited {
                status: self.rest(content)?,
            },
            OOM_VICTIM => Call::OomVictim,
            _ if tag & 15 == MAPPING => Call::Mapping(self.mapping(content, thread, tag)?),
            _ => self.call_of_function(content, thread, tag)?,
        };
        let Thread { process, tid, .. } = self.guesses.threads[thread];
        Ok(Event {
            at: Nanos(at),
            process,
            thread: tid,
            call,
        })
    }

    fn retired_unread(&mut self, content: &[u8], thread: usize) -> Result<Address, Damage> {
        let (address, _) = self.address(content, thread)?;
        self.guesses.expect(0);
        Ok(address)
    }

    fn call_of_function(&mut self, content: &[u8], thread: usize, tag: u8) -> Result<Call, Damage> {
        let function = match tag >> 4 {
            number @ 1..=FUNCTIONS => FunctionIndex(number.into()),
            _ => return Err(Damage::Call(tag)),
        };
        match tag & 15 {
            ALLOCATED => {
                let (address, size, stack) = self.block(content, thread)?;
                Ok(Call::Allocated {
                    function,
                    address,
                    size,
                    stack,
                })
            }
            FAILED => {
                let stack = self.stack(content)?;
                Ok(Call::Failed {
                    function,
                    size: self.size(content, stack)?,
                    stack,
                })
            }
            RESIZED => {
                let (address, size, stack) = self.block(content, thread)?;
                Ok(Call::Resized {
                    function,
                    address,
                    size,
                    stack,
                    slot: self.slot(content)?,
                })
            }
            _ => Err(Damage::Call(tag)),
        }
    }

    fn mapping(&mut self, content: &[u8], thread: usize, tag: u8) -> Result<Mapping, Damage> {
        Ok(match tag >> 4 {
            MAPPED => {
                let (range, stack) = self.range_of(content, thread)?;
                let flags = self.flags(content, TRAITS)?;
                Mapping::Mapped {
                    range,
                    traits: traits(flags),
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
                let (old, _) = self.address(content, thread)?;
                let (new, _) = self.address(content, thread)?;
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
        let (start, _) = self.address(content, thread)?;
        let length = self.size(content, StackIndex::NONE)?;
        Ok(Range { start, length })
    }

    fn range_of(&mut self, content: &[u8], thread: usize) -> Result<(Range, StackIndex), Damage> {
        let (start, _) = self.address(content, thread)?;
        let stack = self.stack(content)?;
        let length = self.size(content, stack)?;
        Ok((Range { start, length }, stack))
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
        if thread == self.guesses.threads.len() {
            let pair = self.column(Column::NewThreads);
            let process = ProcessId(pair.unsigned_32(content)?);
            let tid = Tid(pair.unsigned_32(content)?);
            self.guesses.threads.push(Thread {
                process,
                tid,
                last_new: 0,
            });
        } else if thread > self.guesses.threads.len() {
            return Err(Damage::Reference);
        }
        Ok(thread)
    }

    /// Reads an address, and says which chunk header is to be expected there.
    fn address(&mut self, content: &[u8], thread: usize) -> Result<(Address, u64), Damage> {
        let mentions = self.guesses.mentions.len() as u64;
        let (address, header) = match self.column(Column::Repeats).unsigned(content)? {
            0 => {
                let from = self.guesses.threads[thread].last_new;
                let address = self
                    .column(Column::NewAddresses)
                    .difference(content, from)?;
                self.guesses.threads[thread].last_new = address;
                (address, 0)
            }
            ago if ago <= mentions => {
                let mention = &self.guesses.mentions[(mentions - ago) as usize];
                (mention.address, mention.header)
            }
            _ => return Err(Damage::Reference),
        };
        self.guesses.mentions.push(Mention { address, header });
        Ok((Address(address), header))
    }

    fn block(
        &mut self,
        content: &[u8],
        thread: usize,
    ) -> Result<(Address, u64, StackIndex), Damage> {
        let (address, _) = self.address(content, thread)?;
        let stack = self.stack(content)?;
        let size = self.size(content, stack)?;
        self.guesses.expect(glibc_header(size));
        Ok((address, size, stack))
    }

    fn retired(&mut self, content: &[u8], thread: usize) -> Result<(Address, u64), Damage> {
        let (address, expected) = self.address(content, thread)?;
        let header = self.column(Column::Headers).difference(content, expected)?;
        self.guesses.expect(header);
        Ok((address, header))
    }

    fn size(&mut self, content: &[u8], stack: StackIndex) -> Result<u64, Damage> {
        let last = *self.guesses.size(stack);
        let size = self.column(Column::Sizes).difference(content, last)?;
        *self.guesses.size(stack) = size;
        Ok(size)
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
