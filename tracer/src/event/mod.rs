//! What happened in a traced process, decoded: the second stage of the pipeline.
//!
//! Times are nanoseconds of `CLOCK_MONOTONIC`, sizes are bytes, and order is program order (a free is seen when it
//! begins, an allocation when it returns).

pub mod decode;
mod fields;
pub mod mapping;
pub mod python;

pub use highwater_common::cookie::Function;
pub use mapping::Mapping;
use serde::{Deserialize, Serialize};

/// A program image, by a number of its own: one execution of one program by one process, from fork or exec to exec or exit.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProcessId(pub u32);

/// A thread id in the initial pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tid(pub u32);

/// An address in a traced process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(pub u64);

/// A moment: nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Nanos(pub u64);

/// A stack by its dense index in the recording; [`StackIndex::NONE`] where none was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StackIndex(pub u32);

impl StackIndex {
    /// No stack: the walk had no buffer, or the definition was lost.
    pub const NONE: Self = Self(0);
}

/// An allocator function by its number in the recording, which says elsewhere what it is called. While a recording is made the number
/// is that of the kernel side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FunctionIndex(pub u32);

impl From<Function> for FunctionIndex {
    fn from(function: Function) -> Self {
        Self(function as u32)
    }
}

/// One event of one thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time of the event, `CLOCK_MONOTONIC` nanoseconds.
    pub at: Nanos,
    /// In which process.
    pub process: ProcessId,
    /// In which thread.
    pub thread: Tid,
    /// What happened, with its figures.
    pub call: Call,
}

/// What happened. See the table "What each call means" in docs/architecture/live.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A call returned a block.
    Allocated {
        /// The allocator function that was called.
        function: FunctionIndex,
        /// Where the block is.
        address: Address,
        /// Requested size, bytes.
        size: u64,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// A call returned NULL although more than zero bytes were asked for.
    Failed {
        /// The allocator function that was called.
        function: FunctionIndex,
        /// Requested size, bytes (saturated where `calloc` overflowed).
        size: u64,
        /// Stack of the call.
        stack: StackIndex,
    },
    /// A block was handed back; seen as the call begins.
    Freed {
        /// Address of the block.
        address: Address,
        /// The word below it: glibc's chunk header, size and flag bits. Untrusted.
        header: u64,
    },
    /// `realloc` of a block began: it is retired until the call of the same thread and slot ends.
    ResizeBegan {
        /// Address of the block.
        address: Address,
        /// The word below it, as in `Freed`.
        header: u64,
        /// Which of the thread's calls under way.
        slot: u8,
    },
    /// The resize succeeded: the old block is gone, this is the new one.
    Resized {
        /// The allocator function that was called.
        function: FunctionIndex,
        /// Where the new block is (the same place, often).
        address: Address,
        /// Requested size, bytes.
        size: u64,
        /// Stack of the call.
        stack: StackIndex,
        /// Which of the thread's calls under way.
        slot: u8,
    },
    /// The resize failed: the old block lives on.
    ResizeFailed {
        /// The old block.
        address: Address,
        /// What was asked for, bytes.
        size: u64,
        /// Which of the thread's calls under way.
        slot: u8,
    },
    /// The resize was to zero bytes and freed the block.
    ResizeFreed {
        /// The old block.
        address: Address,
        /// Which of the thread's calls under way.
        slot: u8,
    },
    /// A system call changed the address space.
    Mapping(Mapping),
    /// The process made a child, which starts with a copy of its live set.
    Forked {
        /// The child's identity.
        child: ProcessId,
    },
    /// The process became another program: its live set ends, and `next` starts with none.
    Executed {
        /// Its identity from here on.
        next: ProcessId,
    },
    /// The last thread of the process ended, and its live set with it.
    Exited {
        /// Wait status: exit code << 8, or the signal that killed it (| 0x80 with a core dump).
        status: u32,
    },
    /// The kernel chose the process as victim of an out-of-memory kill.
    OomVictim,
    /// From here on, allocations of all processes are samples: of so many bytes asked for, one on average.
    Sampling {
        /// log2 of that many bytes; 0: every call is seen.
        exponent: u8,
    },
}

impl Call {
    /// Whether it is of the life of a process, or of the tracing, and not of memory.
    pub fn is_of_process(&self) -> bool {
        !matches!(
            self,
            Self::Allocated { .. }
                | Self::Failed { .. }
                | Self::Freed { .. }
                | Self::ResizeBegan { .. }
                | Self::Resized { .. }
                | Self::ResizeFailed { .. }
                | Self::ResizeFreed { .. }
                | Self::Mapping(_)
        )
    }
}
