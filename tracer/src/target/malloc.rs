//! What glibc's malloc makes of a process's memory, read from outside while the process runs on.
//!
//! Malloc lays chunks end to end, each with a header that says how long it is and whether the one *before* it is in use
//! (<https://sourceware.org/glibc/wiki/MallocInternals>). So who knows where a chain begins knows every chunk, free or not,
//! without a symbol and without a word of the process:
//!
//! | file | owns |
//! |---|---|
//! | `arenas` | where chains begin and end: the state of the main arena, told by its empty bins in libc's data; the ring of arenas; heaps of threads, which begin at a multiple of 64 MiB |
//! | `chunks` | from one chunk to the next, and what they come to |
//! | [`pages`](super::pages) | reading what is resident, and nothing else: no page is brought in, no thread is stopped |
//!
//! The first two are pure. The process goes on meanwhile, and may be hostile: each chain is walked within a number of steps and
//! a time, and one that does not end where it should is walked again, then given up and told to be unread.
//!
//! Blocks in a thread's cache (at most seven of a size, none beyond 1 KiB) look as if they were in use, and count as that;
//! `mallinfo2` does the same.

mod arenas;
mod chunks;

use std::ops::Range;

use self::arenas::Arena;
use self::chunks::{Failure, Walk};

/// The memory of a process that runs on.
pub trait Memory {
    /// Reads from this address on: how many bytes were read. Fewer than there is room for where a page is not resident, cannot
    /// be read, or no more may be read.
    fn read(&mut self, at: u64, buffer: &mut [u8]) -> usize;

    /// How many bytes of this range of whole pages are resident.
    fn resident(&mut self, range: Range<u64>) -> u64;

    /// No more may be read.
    fn is_spent(&self) -> bool;
}

/// How many chunks, and how large they are with their headers, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Number of chunks.
    pub chunks: u64,
    /// How large they are together with their headers, bytes.
    pub bytes: u64,
}

impl Amount {
    fn add(&mut self, bytes: u64) {
        self.chunks = self.chunks.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn take(&mut self, bytes: u64) {
        self.chunks = self.chunks.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn join(&mut self, other: Self) {
        self.chunks = self.chunks.saturating_add(other.chunks);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// Powers of two by which sizes of chunks are told apart.
pub const POWERS: usize = 48;

/// What chains of chunks come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunks {
    /// In use, or in a thread's cache.
    pub used: Amount,
    /// The same by size: at `n` those of at least 2^n bytes and less than twice as much.
    pub used_by_size: [Amount; POWERS],
    /// Free, the ends of arenas not among them.
    pub free: Amount,
    /// The free ends of arenas, from which they serve when nothing else fits.
    pub top: Amount,
    /// How much of what is free is resident, the ends of arenas included, bytes.
    pub kept: u64,
    /// ... of that, what `malloc_trim` would give back: whole pages, bytes.
    pub trimmable: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            used: Amount::default(),
            used_by_size: [Amount::default(); POWERS],
            free: Amount::default(),
            top: Amount::default(),
            kept: 0,
            trimmable: 0,
        }
    }
}

impl Chunks {
    fn use_one(&mut self, bytes: u64) {
        self.used.add(bytes);
        self.by_size(bytes).add(bytes);
    }

    /// One of those that look used is free after all.
    fn free_one(&mut self, bytes: u64) {
        self.used.take(bytes);
        self.by_size(bytes).take(bytes);
        self.free.add(bytes);
        self.kept = self.kept.saturating_add(bytes);
    }

    fn by_size(&mut self, bytes: u64) -> &mut Amount {
        let power = bytes.max(1).ilog2() as usize;
        &mut self.used_by_size[power.min(POWERS - 1)]
    }

    fn join(&mut self, other: &Self) {
        self.used.join(other.used);
        for (sum, other) in self.used_by_size.iter_mut().zip(other.used_by_size) {
            sum.join(other);
        }
        self.free.join(other.free);
        self.top.join(other.top);
        self.kept = self.kept.saturating_add(other.kept);
        self.trimmable = self.trimmable.saturating_add(other.trimmable);
    }
}

/// What malloc makes of a process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heaps {
    /// Arenas that have memory.
    pub arenas: u32,
    /// ... of these, those that were not read to their end: chains that do not close, or no time.
    pub unread: u32,
    /// How much memory of arenas was not read, bytes.
    pub unread_bytes: u64,
    /// What the chains that were read come to.
    pub chunks: Chunks,
    /// Where the heaps are.
    pub ranges: Vec<Range<u64>>,
}

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Mappings with libc's own variables.
    pub data: Vec<Range<u64>>,
    /// The memory below the program break: where it began, and where its mapping ends.
    pub below_break: Option<Range<u64>>,
    /// Size of a page, bytes.
    pub page: u64,
}

/// How often a chain that does not close is walked again.
const ATTEMPTS: usize = 3;
/// Most chunks that are looked at.
const MOST_STEPS: u64 = 1 << 28;

/// Reads all arenas; `None` where there is no malloc of glibc that was ever called.
pub fn read(memory: &mut impl Memory, places: &Places) -> Option<Heaps> {
    let mut ring = places
        .data
        .iter()
        .find_map(|data| arenas::ring(memory, data.clone()))?;
    // The small ones first: one that takes all the time leaves the others read.
    ring.sort_by_key(|arena| arena.system);
    let mut heaps = Heaps::default();
    let mut steps = MOST_STEPS;
    for arena in ring.iter().filter(|arena| arena.system > 0) {
        heaps.arenas += 1;
        match read_arena(memory, arena, places, &mut steps) {
            Ok((chunks, ranges)) => {
                heaps.chunks.join(&chunks);
                heaps.ranges.extend(ranges);
            }
            Err(read) => {
                heaps.unread += 1;
                let walked = read.used.bytes + read.free.bytes + read.top.bytes;
                heaps.unread_bytes += arena.system.saturating_sub(walked);
                heaps.chunks.join(&read);
            }
        }
    }
    Some(heaps)
}

/// Counts large blocks, which are mappings of their own, one behind another from the beginning of a mapping on: how many bytes
/// they take.
pub fn mapped_blocks(memory: &mut impl Memory, mapping: Range<u64>, to: &mut Chunks) -> u64 {
    chunks::mapped(memory, mapping, to)
}

/// All chunks of an arena, and where its heaps are; as an error, what was read of it until there was no more time, or nothing.
fn read_arena(
    memory: &mut impl Memory,
    arena: &Arena,
    places: &Places,
    steps: &mut u64,
) -> Result<(Chunks, Vec<Range<u64>>), Box<Chunks>> {
    for _ in 0..ATTEMPTS {
        let Some((arena, regions)) = arena.again(memory, places) else {
            continue;
        };
        let mut walk = Walk::new(memory, places.page, arena.is_main, steps);
        let failure = regions.iter().find_map(|region| walk.region(region).err());
        match failure {
            None => {
                walk.fast_chunks(&arena.fast, &regions);
                return Ok((walk.chunks, regions));
            }
            Some(Failure::Spent) => return Err(Box::new(walk.chunks)),
            Some(Failure::Open) => {}
        }
    }
    Err(Box::default())
}

#[cfg(test)]
mod tests;
