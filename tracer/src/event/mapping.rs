//! What system calls do to a process's address space.

use super::{Address, StackIndex};

/// A range of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Address of the first byte.
    pub start: Address,
    /// How long the range is, bytes.
    pub length: u64,
}

/// What a range of addresses was asked for as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// It may be read or written; without this (`PROT_NONE`), address space is only reserved.
    pub committed: bool,
    /// A file is mapped.
    pub file: bool,
    /// Shared with other processes.
    pub shared: bool,
    /// The stack of a thread.
    pub stack: bool,
    /// The allocator asked for it, in a call of its own that was under way: the blocks in it are counted, so it is not.
    pub by_allocator: bool,
}

/// A change of the address space. Ranges are retired as a call begins, since other threads may be given their addresses
/// before it returns. A beginning without a failure behind it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mapping {
    /// `mmap` returned a range; it replaces what lay there.
    Mapped {
        /// The range that is mapped now.
        range: Range,
        /// What it is mapped as.
        traits: Traits,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// A call of `munmap` began.
    UnmapBegan {
        /// What it hands back, mapped or not.
        range: Range,
    },
    /// It failed: what its thread retired last lives on, where nothing newer has come.
    UnmapFailed,
    /// A call of `mremap` began.
    RemapBegan {
        /// The old range.
        range: Range,
    },
    /// It succeeded: the new range is what the old one was.
    Remapped {
        /// The new range.
        range: Range,
        /// The old range stays mapped too (`MREMAP_DONTUNMAP`).
        keeps_old: bool,
        /// The allocator asked for it.
        by_allocator: bool,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// It failed, as `UnmapFailed`.
    RemapFailed,
    /// The program break was moved.
    BreakMoved {
        /// Where the break was.
        old: Address,
        /// Where it is now.
        new: Address,
        /// The allocator asked for it.
        by_allocator: bool,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// `mprotect` committed a range, or took it back.
    Protected {
        /// The range whose protection changed.
        range: Range,
        /// It may be read or written from here on.
        committed: bool,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// `madvise` gave pages back while the range stays mapped.
    Discarded {
        /// The range whose pages were given back.
        range: Range,
    },
}
