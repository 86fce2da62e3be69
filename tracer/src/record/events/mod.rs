//! How the events of a chunk are packed: by columns, each coded against what the chunk said before.
//!
//! One event is a tag (what, and by which function: a chunk says what its tags mean) and a few integers, and integers of one meaning lie
//! together in a column of their own, because zstd finds more in bytes that mean the same. Before that, what need not be said is
//! left out, and the rest is made small:
//!
//! - **blocks** have a number instead of an address ([`blocks`]). An allocation that makes a block says nothing of where it
//!   lies: it is the next one. What hands a block back says how many blocks ago that was made, or how far it lies from what the
//!   same thread handed back last, whichever is less: programs free what they just got, or one after another what they
//!   got one after another.
//! - **time** is told in microseconds, as the difference from the event before. Tracing an event takes about one.
//! - **thread**: most events are of a thread that had one before in this chunk; its ordinal is written.
//! - **sizes** and **stacks** are written as they are: zstd sees that they come in the same order again.
//!
//! Measured on 15 million events of real programs (a compiler, `git log -p`, Perl, and Python with a JSON load), by zstd
//! at level 3 in chunks of 262 144: 0.30 to 0.91 bytes an event, where version 2 took 1.75 to 3.3. Addresses took a third of
//! that, nanoseconds another. Coding sizes by what their stack asked for last, or stacks by which one came
//! before, gained nothing that zstd did not find by itself.
//!
//! Each chunk can be read alone: it tells the number of its first new block, and all else starts afresh. Nothing that was read
//! is trusted, and all arithmetic wraps.

use crate::event::{Address, ProcessId, Tid};

pub(in crate::record) mod blocks;
mod pack;
mod unpack;

pub(super) use pack::EventPacker;
pub(super) use unpack::{EventUnpacker, Unpacked};

/// The columns of the events of a chunk, in the order in which they lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::record) enum Column {
    /// What happened, and by which function: the ordinal of that in this chunk.
    Tags,
    /// Microseconds since the event before.
    Times,
    /// Ordinal of the thread in this chunk.
    Threads,
    /// (process, tid) of each thread at its first event in this chunk.
    NewThreads,
    /// Which block, or 0 for an address.
    Blocks,
    /// Addresses of what is no numbered block, each less the one before it in its thread.
    Addresses,
    /// glibc's chunk headers.
    Headers,
    /// Requested sizes, lengths of ranges.
    Sizes,
    /// Index of the stack of each event that has one.
    Stacks,
    /// Slots, identities of children, wait statuses, what mappings are.
    Rest,
    /// What each tag means, at its first event in this chunk.
    NewTags,
}

impl Column {
    /// How many columns there are.
    pub(in crate::record) const COUNT: usize = Self::NewTags as usize + 1;
}

/// Nanoseconds of one tick of the recorded clock.
pub(in crate::record) const TICK: u64 = 1000;

/// A kind of event that is known here: it says which fields follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::record) enum Kind {
    /// A block came, with the next number.
    Allocated = 1,
    /// A block came that has a number, or none, already.
    AllocatedAt,
    Failed,
    Freed,
    /// `Freed` without a chunk header: none was read, or it tells nothing that is not known.
    FreedKnown,
    ResizeBegan,
    /// `ResizeBegan` without a chunk header, as in `FreedKnown`.
    ResizeBeganKnown,
    /// A resize gave a block, with the next number, as `Allocated`.
    Resized,
    /// A resize gave a block that has a number, or none, already, as `AllocatedAt`.
    ResizedAt,
    ResizeFailed,
    ResizeFreed,
    Forked,
    Executed,
    Exited,
    OomVictim,
    Sampling,
    Mapped,
    UnmapBegan,
    UnmapFailed,
    RemapBegan,
    Remapped,
    RemapFailed,
    BreakMoved,
    Protected,
    Discarded,
}

impl Kind {
    /// Every kind, by its number.
    const ALL: [Self; 25] = [
        Self::Allocated,
        Self::AllocatedAt,
        Self::Failed,
        Self::Freed,
        Self::FreedKnown,
        Self::ResizeBegan,
        Self::ResizeBeganKnown,
        Self::Resized,
        Self::ResizedAt,
        Self::ResizeFailed,
        Self::ResizeFreed,
        Self::Forked,
        Self::Executed,
        Self::Exited,
        Self::OomVictim,
        Self::Sampling,
        Self::Mapped,
        Self::UnmapBegan,
        Self::UnmapFailed,
        Self::RemapBegan,
        Self::Remapped,
        Self::RemapFailed,
        Self::BreakMoved,
        Self::Protected,
        Self::Discarded,
    ];

    /// Whether its events say which function was called.
    fn tells_function(self) -> bool {
        matches!(
            self,
            Self::Allocated | Self::AllocatedAt | Self::Failed | Self::Resized | Self::ResizedAt
        )
    }

    fn of(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// Flags of mappings.
pub(in crate::record) mod mapping {
    use crate::event::mapping::Traits;

    /// Bits of what a mapping is, in the column of the rest.
    pub(in crate::record) const IS_COMMITTED: u8 = 1;
    pub(in crate::record) const IS_FILE: u8 = 2;
    pub(in crate::record) const IS_SHARED: u8 = 4;
    pub(in crate::record) const IS_STACK: u8 = 8;
    pub(in crate::record) const IS_BY_ALLOCATOR: u8 = 16;
    pub(in crate::record) const KEEPS_OLD: u8 = 32;

    /// Every flag of a range that was mapped.
    pub(in crate::record) const TRAITS: u8 =
        IS_COMMITTED | IS_FILE | IS_SHARED | IS_STACK | IS_BY_ALLOCATOR;

    /// What these flags say of a range that was mapped.
    pub(in crate::record) fn traits(flags: u8) -> Traits {
        Traits {
            committed: flags & IS_COMMITTED != 0,
            file: flags & IS_FILE != 0,
            shared: flags & IS_SHARED != 0,
            stack: flags & IS_STACK != 0,
            by_allocator: flags & IS_BY_ALLOCATOR != 0,
        }
    }
}

/// What a reader and a writer of a chunk both know of it so far.
struct Known {
    /// Of the event before, ticks.
    at: u64,
    /// The number of the next block that comes.
    next_block: u64,
    /// Of the first one in this chunk.
    first_block: u64,
    threads: Vec<Thread>,
}

struct Thread {
    process: ProcessId,
    tid: Tid,
    /// The number of the block that it named last.
    block: u64,
    /// The address that it named last.
    address: u64,
}

impl Known {
    fn new(next_block: u64) -> Self {
        Self {
            at: 0,
            next_block,
            first_block: next_block,
            threads: Vec::new(),
        }
    }

    fn meet(&mut self, process: ProcessId, tid: Tid) {
        self.threads.push(Thread {
            process,
            tid,
            block: self.first_block,
            address: 0,
        });
    }

    /// A block comes: its name.
    fn come(&mut self) -> Address {
        let number = self.next_block;
        self.next_block = number.wrapping_add(1);
        blocks::name(number)
    }
}
