//! What a process's resident memory was made of.

use serde::{Deserialize, Serialize};

use crate::event::ProcessId;

/// What a process's resident memory was made of at one moment, as far as its malloc and the kernel tell; sizes in bytes. `None`: not
/// known, which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Makeup {
    /// When it was looked at first, `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// The process that was looked at.
    pub process: ProcessId,
    /// Resident memory then.
    pub rss: Option<u64>,
    /// What malloc made of it.
    pub malloc: Option<Malloc>,
    /// What of the stacks of its threads was resident.
    pub thread_stacks: Option<u64>,
    /// Page tables, which are not counted as resident.
    pub page_tables: Option<u64>,
    /// All else was looked at too, to tell what was there before anything of it was traced.
    pub before: Option<HeldBefore>,
}

/// What glibc's malloc made of its memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Malloc {
    /// Arenas that had memory.
    pub arenas: u32,
    /// ... of these, those that were not read to their end.
    pub unread_arenas: u32,
    /// How much memory of arenas was not read.
    pub unread: u64,
    /// Free and resident: what is kept for blocks to come.
    pub kept: u64,
    /// ... of that, what `malloc_trim` would give back to the kernel.
    pub trimmable: u64,
    /// Free, resident or not: `fordblks` of `mallinfo2`.
    pub free: u64,
    /// Chunks in use.
    pub used: ChunkSum,
}

/// A number of chunks, and how large they are with their headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ChunkSum {
    /// Number of chunks.
    pub chunks: u64,
    /// How large they are together with their headers, bytes.
    pub bytes: u64,
}

/// What a process held as it came under trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldBefore {
    /// Chunks of malloc in use, those that are mappings of their own among them, smallest first.
    pub sizes: Vec<SizeClass>,
    /// Those that are mappings of their own.
    pub mapped: ChunkSum,
    /// The largest of the anonymous mappings that are neither heaps nor stacks.
    pub mappings: Vec<HeldMapping>,
}

/// Chunks of about one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SizeClass {
    /// They are of at least so many bytes, and of less than twice as many.
    pub least: u64,
    /// Number of chunks.
    pub chunks: u64,
    /// How many bytes the chunks of this class have together.
    pub bytes: u64,
}

/// An anonymous mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeldMapping {
    /// Its first address.
    pub start: u64,
    /// How long the mapping is, bytes.
    pub length: u64,
    /// What of it was resident.
    pub resident: u64,
    /// What the kernel calls it, if anything.
    pub name: String,
}
