//! What system calls do to a process's address space.

use super::{Address, StackIndex};

/// A range of whole pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: Address,
    /// Bytes.
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
        /// Where.
        range: Range,
        /// As what.
        traits: Traits,
        /// Who asked.
        stack: StackIndex,
    },
    /// `munmap` began.
    UnmapBegan {
        /// What it hands back, mapped or not.
        range: Range,
    },
    /// It failed: what its thread retired last lives on, where nothing newer has come.
    UnmapFailed,
    /// `mremap` began.
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
        /// Who asked.
        stack: StackIndex,
    },
    /// It failed, as `UnmapFailed`.
    RemapFailed,
    /// The program break was moved.
    BreakMoved {
        /// From where.
        old: Address,
        /// To where.
        new: Address,
        /// The allocator asked for it.
        by_allocator: bool,
        /// Who asked.
        stack: StackIndex,
    },
    /// `mprotect` committed a range, or took it back.
    Protected {
        /// Which.
        range: Range,
        /// It may be read or written from here on.
        committed: bool,
        /// Who asked.
        stack: StackIndex,
    },
    /// `madvise` gave pages back while the range stays mapped.
    Discarded {
        /// Which.
        range: Range,
    },
}
