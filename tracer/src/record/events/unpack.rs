//! Unpacking, by the same steps as packing.

use super::blocks;
use super::mapping::{IS_BY_ALLOCATOR, IS_COMMITTED, KEEPS_OLD, TRAITS, traits};
use super::{Column, Kind, Known, TICK, Thread};
use crate::event::mapping::{Mapping, Range};
use crate::event::{Address, Call, Event, FunctionIndex, Nanos, ProcessId, StackIndex, Tid};
use crate::record::damage::Damage;
use crate::record::format::{Unknown, unknown};
use crate::record::older;
use crate::record::varint::Span;

/// Unpacks the events of one chunk, one at a time. The content of the chunk is handed in at each step.
pub(in crate::record) struct EventUnpacker {
    columns: [Span; Column::COUNT],
    /// How many events are left.
    left: usize,
    tags: Tags,
    known: Known,
}

/// What the tags of a chunk mean.
enum Tags {
    /// What the chunk said so far.
    Told(Vec<Tag>),
    /// What they always mean in version 3.
    Third,
}

#[derive(Clone, Copy)]
enum Tag {
    Known(Kind, FunctionIndex),
    /// An event that is passed over: it takes the fields that are named there in the column of new tags.
    Passed {
        kind: u8,
        fields: Span,
        unknown: Unknown,
    },
}

/// What was unpacked.
pub(in crate::record) enum Unpacked {
    /// An event that this version knows.
    Event(Event),
    /// An event of a kind that is not known here.
    Passed {
        /// Time of the event, `CLOCK_MONOTONIC` nanoseconds.
        at: Nanos,
        /// Number of its kind, as the recording has it.
        kind: u8,
        /// What to do about it.
        unknown: Unknown,
    },
}

/// A field that takes nothing: a block comes, which gets the next number.
const NEW_BLOCK: u8 = 0;

impl EventUnpacker {
    /// Nothing to unpack.
    pub(in crate::record) fn empty() -> Self {
        Self {
            columns: [Span::default(); Column::COUNT],
            left: 0,
            tags: Tags::Told(Vec::new()),
            known: Known::new(0),
        }
    }

    /// Starts on a chunk of so many events whose columns lie at these places, and whose first new block has this number.
    pub(in crate::record) fn start(
        columns: [Span; Column::COUNT],
        first_block: u64,
        count: usize,
    ) -> Self {
        Self {
            columns,
            left: count,
            known: Known::new(first_block),
            ..Self::empty()
        }
    }

    /// Starts on a chunk of version 3, which has one column less: each event has one byte of tags.
    pub(in crate::record) fn start_third(columns: [Span; Column::COUNT], first_block: u64) -> Self {
        let count = columns[Column::Tags as usize].remaining();
        Self {
            tags: Tags::Third,
            ..Self::start(columns, first_block, count)
        }
    }

    /// How many events are left.
    pub(in crate::record) fn left(&self) -> usize {
        self.left
    }

    /// Whether there are bytes that no event accounts for.
    pub(in crate::record) fn is_left_over(&self) -> bool {
        self.columns.iter().any(|column| column.remaining() > 0)
    }

    /// The next event.
    pub(in crate::record) fn next(&mut self, content: &[u8]) -> Result<Unpacked, Damage> {
        self.left = self.left.saturating_sub(1);
        let before = self.known.at;
        let ticks = self.column(Column::Times).difference(content, before)?;
        self.known.at = ticks;
        let at = Nanos(ticks.wrapping_mul(TICK));
        let thread = self.thread(content)?;
        let call = match self.tag(content)? {
            Tag::Known(kind, function) => self.call(content, thread, kind, function)?,
            Tag::Passed {
                kind,
                fields,
                unknown,
            } => {
                self.pass(content, thread, fields)?;
                return Ok(Unpacked::Passed { at, kind, unknown });
            }
        };
        let Thread { process, tid, .. } = self.known.threads[thread];
        Ok(Unpacked::Event(Event {
            at,
            process,
            thread: tid,
            call,
        }))
    }

    #[inline]
    fn tag(&mut self, content: &[u8]) -> Result<Tag, Damage> {
        let Tags::Told(tags) = &mut self.tags else {
            let tag = self.column(Column::Tags).byte(content)?;
            let (kind, function) = older::tag(tag).ok_or(Damage::Call(tag))?;
            return Ok(Tag::Known(kind, function));
        };
        let tag = self.columns[Column::Tags as usize].unsigned(content)?;
        if let Some(tag) = usize::try_from(tag).ok().and_then(|tag| tags.get(tag)) {
            return Ok(*tag);
        }
        if tag != tags.len() as u64 {
            return Err(Damage::Reference);
        }
        let tag = new_tag(content, &mut self.columns[Column::NewTags as usize])?;
        tags.push(tag);
        Ok(tag)
    }

    fn call(
        &mut self,
        content: &[u8],
        thread: usize,
        kind: Kind,
        function: FunctionIndex,
    ) -> Result<Call, Damage> {
        Ok(match kind {
            Kind::Allocated | Kind::AllocatedAt => Call::Allocated {
                function,
                address: match kind {
                    Kind::Allocated => self.known.come(),
                    _ => self.block(content, thread)?,
                },
                size: self.size(content)?,
                stack: self.stack(content)?,
            },
            Kind::Resized | Kind::ResizedAt => Call::Resized {
                function,
                address: match kind {
                    Kind::Resized => self.known.come(),
                    _ => self.block(content, thread)?,
                },
                size: self.size(content)?,
                stack: self.stack(content)?,
                slot: self.slot(content)?,
            },
            Kind::Failed => Call::Failed {
                function,
                size: self.size(content)?,
                stack: self.stack(content)?,
            },
            Kind::Freed | Kind::FreedKnown => Call::Freed {
                header: self.header(content, kind == Kind::Freed)?,
                address: self.block(content, thread)?,
            },
            Kind::ResizeBegan | Kind::ResizeBeganKnown => Call::ResizeBegan {
                header: self.header(content, kind == Kind::ResizeBegan)?,
                address: self.block(content, thread)?,
                slot: self.slot(content)?,
            },
            Kind::ResizeFailed => Call::ResizeFailed {
                address: self.block(content, thread)?,
                size: self.size(content)?,
                slot: self.slot(content)?,
            },
            Kind::ResizeFreed => Call::ResizeFreed {
                address: self.block(content, thread)?,
                slot: self.slot(content)?,
            },
            Kind::Forked => Call::Forked {
                child: ProcessId(self.rest(content)?),
            },
            Kind::Executed => Call::Executed {
                next: ProcessId(self.rest(content)?),
            },
            Kind::Exited => Call::Exited {
                status: self.rest(content)?,
            },
            Kind::OomVictim => Call::OomVictim,
            Kind::Sampling => Call::Sampling {
                exponent: self.slot(content)?,
            },
            Kind::UnmapBegan => Call::Mapping(Mapping::UnmapBegan {
                range: self.range(content, thread)?,
            }),
            Kind::UnmapFailed => Call::Mapping(Mapping::UnmapFailed),
            Kind::RemapBegan => Call::Mapping(Mapping::RemapBegan {
                range: self.range(content, thread)?,
            }),
            Kind::RemapFailed => Call::Mapping(Mapping::RemapFailed),
            Kind::Discarded => Call::Mapping(Mapping::Discarded {
                range: self.range(content, thread)?,
            }),
            Kind::Mapped => Call::Mapping(self.mapped(content, thread)?),
            Kind::Remapped => Call::Mapping(self.remapped(content, thread)?),
            Kind::BreakMoved => Call::Mapping(self.break_moved(content, thread)?),
            Kind::Protected => Call::Mapping(self.protected(content, thread)?),
        })
    }

    fn mapped(&mut self, content: &[u8], thread: usize) -> Result<Mapping, Damage> {
        let (range, stack) = self.range_of(content, thread)?;
        let flags = self.flags(content, TRAITS)?;
        Ok(Mapping::Mapped {
            range,
            traits: traits(flags),
            stack,
        })
    }

    fn remapped(&mut self, content: &[u8], thread: usize) -> Result<Mapping, Damage> {
        let (range, stack) = self.range_of(content, thread)?;
        let flags = self.flags(content, IS_BY_ALLOCATOR | KEEPS_OLD)?;
        Ok(Mapping::Remapped {
            range,
            keeps_old: flags & KEEPS_OLD != 0,
            by_allocator: flags & IS_BY_ALLOCATOR != 0,
            stack,
        })
    }

    fn break_moved(&mut self, content: &[u8], thread: usize) -> Result<Mapping, Damage> {
        Ok(Mapping::BreakMoved {
            old: self.address(content, thread)?,
            new: self.address(content, thread)?,
            stack: self.stack(content)?,
            by_allocator: self.flags(content, IS_BY_ALLOCATOR)? != 0,
        })
    }

    fn protected(&mut self, content: &[u8], thread: usize) -> Result<Mapping, Damage> {
        let (range, stack) = self.range_of(content, thread)?;
        Ok(Mapping::Protected {
            range,
            committed: self.flags(content, IS_COMMITTED)? != 0,
            stack,
        })
    }

    /// Passes over the fields of an event of a kind that is not known here. What they say of blocks and addresses is what the ones after
    /// them are told against.
    fn pass(&mut self, content: &[u8], thread: usize, mut fields: Span) -> Result<(), Damage> {
        const BLOCK: u8 = Column::Blocks as u8;
        const ADDRESS: u8 = Column::Addresses as u8;
        const HEADER: u8 = Column::Headers as u8;
        const REST: u8 = Column::Rest as u8;
        while fields.remaining() > 0 {
            match fields.byte(content)? {
                NEW_BLOCK => {
                    self.known.come();
                }
                BLOCK => {
                    self.block(content, thread)?;
                }
                ADDRESS => {
                    self.address(content, thread)?;
                }
                column @ HEADER..=REST => {
                    self.columns[usize::from(column)].unsigned(content)?;
                }
                // It lies in a column that is not known here either.
                column if usize::from(column) >= Column::COUNT => {}
                column => {
                    return Err(Damage::Field {
                        field: "field of an event",
                        value: column.into(),
                    });
                }
            }
        }
        Ok(())
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

/// What a tag means that comes up for the first time: a kind, one more than its function or 0, and of kinds that a reader may not know
/// the fields that follow.
fn new_tag(content: &[u8], column: &mut Span) -> Result<Tag, Damage> {
    let kind = column.unsigned(content)?;
    let kind = u8::try_from(kind).map_err(|_| Damage::LongInteger)?;
    let function = column.optional_32(content)?;
    let unknown = unknown(kind);
    if unknown == Unknown::Refuse {
        let kind = Kind::of(kind).ok_or(Damage::Kind(kind))?;
        if function.is_none() && kind.tells_function() {
            return Err(Damage::Kind(kind as u8));
        }
        return Ok(Tag::Known(kind, FunctionIndex(function.unwrap_or(0))));
    }
    let length = column.count(content, 1)?;
    let mut fields = *column;
    column.take(content, length)?;
    fields.shorten(length);
    Ok(Tag::Passed {
        kind,
        fields,
        unknown,
    })
}
