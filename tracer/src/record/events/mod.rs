//! How the events of a chunk are packed: by columns, each coded against what the chunk said before.
//!
//! One event is a tag byte (what, and by which function) and a few integers, and integers of one meaning lie together in
//! a column of their own, because zstd finds more in bytes that mean the same. Before that, each is replaced by its
//! difference from a guess that the reader can make too, so that most of what is left is small or zero:
//!
//! - **time**: the time of the event before.
//! - **thread**: most events are of a thread that had one before in this chunk; its ordinal is written.
//! - **address**: an allocator hands out again what it just got back, and a program frees what it just got. So an
//!   address that this chunk has mentioned is written as how many addresses ago that was. Any other is written as its
//!   difference from the last such address of the same thread, whose allocator works its way through one arena.
//! - **chunk header** (glibc's word below a block that is handed back): follows from the size of the allocation, if the
//!   chunk has mentioned it: [`glibc_header`].
//! - **size**: the size that the same stack asked for last; most call sites ask for one size only.
//!
//! On synthetic loads the repeats save 1.3 to 2 bytes an event, the headers 0.3 to 0.4, and the sizes 0.3 where most
//! call sites ask for one size; 4.7 to 6.9 bytes are left.
//!
//! [`Guesses`] holds what the guesses are made from. It starts afresh with each chunk, so that each can be read alone,
//! and reader and writer take it through the same steps. A guess is never trusted: a wrong one costs bytes, not truth,
//! and all arithmetic wraps.

use crate::event::{ProcessId, StackIndex, Tid};

mod pack;
mod unpack;

pub(super) use pack::EventPacker;
pub(super) use unpack::EventUnpacker;

/// The columns of the events of a chunk, in the order in which they lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::record) enum Column {
    /// What happened: low half the call, high half the function, or 0; of mappings, what of them.
    Tags,
    /// Nanoseconds since the event before.
    Times,
    /// Ordinal of the thread in this chunk.
    Threads,
    /// (process, tid) of each thread at its first event in this chunk.
    NewThreads,
    /// How many addresses ago this one was mentioned, or 0.
    Repeats,
    /// Those that were not mentioned before.
    NewAddresses,
    /// glibc's chunk headers.
    Headers,
    /// Requested sizes, lengths of ranges.
    Sizes,
    /// Stack indices.
    Stacks,
    /// Slots, identities of children, wait statuses, what mappings are.
    Rest,
}

impl Column {
    /// How many columns there are.
    pub(in crate::record) const COUNT: usize = Self::Rest as usize + 1;
}

const ALLOCATED: u8 = 1;
const FAILED: u8 = 2;
const FREED: u8 = 3;
const RESIZE_BEGAN: u8 = 4;
const RESIZED: u8 = 5;
const RESIZE_FAILED: u8 = 6;
const RESIZE_FREED: u8 = 7;
const FORKED: u8 = 8;
const EXECUTED: u8 = 9;
const EXITED: u8 = 10;
const OOM_VICTIM: u8 = 11;
/// Something about the address space; the high half of the tag says what, one of the following.
const MAPPING: u8 = 12;

/// `FREED` and `RESIZE_BEGAN` without a chunk header: none was read, for the block was seen allocated.
const FREED_KNOWN: u8 = 13;
const RESIZE_BEGAN_KNOWN: u8 = 14;
const SAMPLING: u8 = 15;

const MAPPED: u8 = 1;
const UNMAP_BEGAN: u8 = 2;
const UNMAP_FAILED: u8 = 3;
const REMAP_BEGAN: u8 = 4;
const REMAPPED: u8 = 5;
const REMAP_FAILED: u8 = 6;
const BREAK_MOVED: u8 = 7;
const PROTECTED: u8 = 8;
const DISCARDED: u8 = 9;

/// Bits of what a mapping is, in the column of the rest.
const IS_COMMITTED: u8 = 1;
const IS_FILE: u8 = 2;
const IS_SHARED: u8 = 4;
const IS_STACK: u8 = 8;
const IS_BY_ALLOCATOR: u8 = 16;
const KEEPS_OLD: u8 = 32;

/// Stacks whose last sizes are remembered, by the low bits of their index.
const SIZE_SLOTS: usize = 256;

/// What the integers of an event are coded against.
struct Guesses {
    at: u64,
    threads: Vec<Thread>,
    mentions: Vec<Mention>,
    sizes: [u64; SIZE_SLOTS],
}

struct Thread {
    process: ProcessId,
    tid: Tid,
    /// Its last address that was not mentioned before.
    last_new: u64,
}

/// An address that an event of this chunk named.
struct Mention {
    address: u64,
    /// The chunk header to expect there.
    header: u64,
}

/// The header of a chunk that glibc makes for a request of `size` bytes: the size with eight bytes of overhead, in
/// multiples of 16, at least 32; the lowest bit is set while the chunk before is in use, as it mostly is.
/// <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=glibc-2.36>, `request2size`
fn glibc_header(size: u64) -> u64 {
    (size.wrapping_add(8 + 15) & !15).max(32) | 1
}

impl Guesses {
    fn new() -> Self {
        Self {
            at: 0,
            threads: Vec::new(),
            mentions: Vec::new(),
            sizes: [0; SIZE_SLOTS],
        }
    }

    fn clear(&mut self) {
        self.at = 0;
        self.threads.clear();
        self.mentions.clear();
        self.sizes.fill(0);
    }

    /// From now on this header is to be expected at the address that was mentioned last.
    fn expect(&mut self, header: u64) {
        if let Some(mention) = self.mentions.last_mut() {
            mention.header = header;
        }
    }

    /// The size that this stack asked for last, or one that shares its place.
    fn size(&mut self, stack: StackIndex) -> &mut u64 {
        &mut self.sizes[stack.0 as usize % SIZE_SLOTS]
    }
}
