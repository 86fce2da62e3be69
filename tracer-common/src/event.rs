//! The one record of the event ring.

/// What happened. The values are the wire format between kernel and user side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum EventKind {
    /// A call returned a block: `address`, `size` (requested), `stack`.
    Allocated = 1,
    /// A call returned NULL for a size above zero: `size`, `stack`.
    Failed = 2,
    /// A block was handed back (seen at entry): `address`; `size` holds the word below it, glibc's chunk header.
    Freed = 3,
    /// `realloc` of a block began: `address` (the old one) is retired until the matching event of the same thread and
    /// `slot`; `size` holds the chunk header.
    ResizeBegan = 4,
    /// ... and moved or kept it: `address` (the new one), `size`, `stack`.
    Resized = 5,
    /// ... and failed: `address` (the old one) lives on; `size` is what was asked for.
    ResizeFailed = 6,
    /// ... to size zero, which freed it: `address` (the old one).
    ResizeFreed = 7,
    /// The process made a child: `address` is its tgid, `size` the number of its image if it was registered, `flags` has [`FLAG_SHARES_MEMORY`] and [`FLAG_REGISTERED`].
    Forked = 8,
    /// The process became another program; `process` is the number of the old image, `address` that of the new one; `size` and
    /// `stack` hold its new name, 16 bytes.
    Executed = 9,
    /// The last thread ended: `address` is the wait status (exit code << 8 | signal).
    Exited = 10,
    /// The kernel chose the process as the victim of an out-of-memory kill.
    OomVictim = 11,
    /// A thread of the process has an alternate signal stack above its own: a return probe that we cannot skip could
    /// kill it. Once per thread.
    AlternateAbove = 12,
    /// `mmap` returned a range: `address`, `size` (bytes, in whole pages), `stack`; `function` holds `MAPPING_*`.
    Mapped = 13,
    /// `munmap` began: the pages of `address`, `size` are retired until the next event of the same thread about mappings.
    UnmapBegan = 14,
    /// ... and failed: what it retired lives on, where nothing newer has come. (Success says nothing.)
    UnmapFailed = 15,
    /// `mremap` began: as `UnmapBegan`, with the old range.
    RemapBegan = 16,
    /// ... and succeeded: `address`, `size` (the new range), `stack`; [`MAPPING_KEEPS_OLD`] in `function`: the old range
    /// stays mapped too.
    Remapped = 17,
    /// ... and failed.
    RemapFailed = 18,
    /// `brk` moved the program break: `address` is the new one, `size` the old one, both as the kernel has them; `stack`.
    BreakMoved = 19,
    /// `mprotect` of `address`, `size`; `stack`; [`MAPPING_COMMITTED`] in `function`, or reserved from here on.
    Protected = 20,
    /// `madvise` (`DONTNEED`, `FREE`, `REMOVE`) of `address`, `size`: mapped still, resident no more.
    Discarded = 21,
    /// The process named a moment, by writing it to file descriptor -1: `address`, `size` and `stack` hold 24 bytes of the
    /// name, zeroes at its end; `slot` counts the parts of one name, [`FLAG_LAST_PART`] ends it.
    Marked = 22,
    /// A process that is not traced made a child, and the user side asks for that: `address` is the child's tgid; `size` and `stack`
    /// hold its name, 16 bytes; `process` is 0.
    StrangerForked = 23,
    /// A process that is not traced became another program; as above, with its own tgid.
    StrangerExecuted = 24,
}

/// The stack was cut at the depth limit or at memory that could not be read.
pub const FLAG_TRUNCATED: u8 = 1;
/// The call was made while another of the same thread was under way, from a signal handler.
pub const FLAG_IN_SIGNAL: u8 = 2;
/// The child of a fork shares its parent's memory (`vfork`, `CLONE_VM`).
pub const FLAG_SHARES_MEMORY: u8 = 4;
/// Exec was called by a thread that was not the leader, which took the leader's place.
pub const FLAG_FROM_THREAD: u8 = 8;

/// The child of a fork is known to the kernel side.
pub const FLAG_REGISTERED: u8 = 16;

/// The allocator made this system call for a call of its own that is under way: its memory is not counted twice.
pub const FLAG_BY_ALLOCATOR: u8 = 32;

/// The last part of a name.
pub const FLAG_LAST_PART: u8 = 64;

/// What a process writes to file descriptor -1 to name a moment begins so.
pub const MARK_PREFIX: [u8; 10] = *b"highwater:";

/// Parts of a name, at most.
pub const MARK_PARTS: usize = 3;

/// Bytes of a part.
pub const MARK_PART: usize = 24;

/// The range may be read or written; without it (`PROT_NONE`), address space is only reserved.
pub const MAPPING_COMMITTED: u8 = 1;
/// A file is mapped.
pub const MAPPING_FILE: u8 = 2;
/// Shared with other processes (`MAP_SHARED`).
pub const MAPPING_SHARED: u8 = 4;
/// The stack of a thread (`MAP_STACK`, `MAP_GROWSDOWN`).
pub const MAPPING_STACK: u8 = 8;
/// `MREMAP_DONTUNMAP`: the old range stays, empty.
pub const MAPPING_KEEPS_OLD: u8 = 16;

/// How far the sampling exponent is shifted in [`RawEvent::slot`] of `Allocated`, `Failed` and `Resized`: log2 of the mean
/// number of bytes from sample to sample; 0 where every call is sent.
pub const SAMPLING_SHIFT: u8 = 3;

/// One event, written to the ring in one step so that ring order is program order.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct RawEvent {
    /// When it happened, nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// The block's address, or what [`EventKind`] says instead.
    pub address: u64,
    /// See [`EventKind`], bytes.
    pub size: u64,
    /// Identity of the stack, 0 for none; see [`crate::stack`].
    pub stack: u64,
    /// Identity of the process: see [`crate::process`].
    pub process: u32,
    /// The thread, as the initial pid namespace numbers it.
    pub tid: u32,
    /// Mapping epoch of the process: a stack means something within one epoch only.
    pub epoch: u32,
    /// Which [`EventKind`] it is.
    pub kind: u8,
    /// Bits `FLAG_*`.
    pub flags: u8,
    /// A [`crate::cookie::Function`]; of mappings `MAPPING_*`.
    pub function: u8,
    /// Low bits: pairs `ResizeBegan` with its end, which of the thread's calls under way. Above [`SAMPLING_SHIFT`]: how the
    /// call came to be sampled.
    pub slot: u8,
}

const _: () = assert!(size_of::<RawEvent>() == 48, "events stay at most 48 bytes");
