//! What the integers of events were coded against, in versions 1 and 2.
//!
//! - **time**: the time of the event before.
//! - **address**: one that this chunk has mentioned is written as how many addresses ago that was; any other as its difference from
//!   the last such address of the same thread.
//! - **chunk header**: follows from the size of the allocation, if the chunk has mentioned it: [`glibc_header`].
//! - **size**: the size that the same stack asked for last.

use crate::event::{ProcessId, StackIndex, Tid};

/// The columns of the events of a chunk, in the order in which they lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Column {
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
    /// Index of the stack of each event that has one.
    Stacks,
    /// Slots, identities of children, wait statuses, what mappings are.
    Rest,
}

impl Column {
    /// How many columns there are.
    pub(super) const COUNT: usize = Self::Rest as usize + 1;
}

/// Stacks whose last sizes are remembered, by the low bits of their index.
const SIZE_SLOTS: usize = 256;

/// What the integers of an event are coded against.
pub(super) struct Guesses {
    pub(super) at: u64,
    pub(super) threads: Vec<Thread>,
    pub(super) mentions: Vec<Mention>,
    sizes: [u64; SIZE_SLOTS],
}

pub(super) struct Thread {
    pub(super) process: ProcessId,
    pub(super) tid: Tid,
    /// Its last address that was not mentioned before.
    pub(super) last_new: u64,
}

/// An address that an event of this chunk named.
pub(super) struct Mention {
    pub(super) address: u64,
    /// The chunk header to expect there.
    pub(super) header: u64,
}

/// The header of a chunk that glibc makes for a request of `size` bytes: the size with eight bytes of overhead, in
/// multiples of 16, at least 32; the lowest bit is set while the chunk before is in use, as it mostly is.
/// <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=glibc-2.36>, `request2size`
pub(super) fn glibc_header(size: u64) -> u64 {
    (size.wrapping_add(8 + 15) & !15).max(32) | 1
}

impl Guesses {
    pub(super) fn new() -> Self {
        Self {
            at: 0,
            threads: Vec::new(),
            mentions: Vec::new(),
            sizes: [0; SIZE_SLOTS],
        }
    }

    /// From now on this header is to be expected at the address that was mentioned last.
    pub(super) fn expect(&mut self, header: u64) {
        if let Some(mention) = self.mentions.last_mut() {
            mention.header = header;
        }
    }

    /// The size that this stack asked for last, or one that shares its place.
    pub(super) fn size(&mut self, stack: StackIndex) -> &mut u64 {
        &mut self.sizes[stack.0 as usize % SIZE_SLOTS]
    }
}
