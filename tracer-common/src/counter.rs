//! Counters of what the kernel side could not do, by cause. Loss is data: each has a name that reports print.

/// A counter of the kernel side: an index into the per-CPU `COUNTERS` map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Probe hits, entries and returns.
    Hits = 0,
    /// Allocations not sent: the event ring was full.
    LostAllocations = 1,
    /// Frees not sent: the event ring was full.
    LostFrees = 2,
    /// Process events (fork, exec, exit) not sent: the event ring was full.
    LostProcessEvents = 3,
    /// Stack definitions not sent: the stack ring was full. They are sent again at the next use.
    LostStacks = 4,
    /// Stacks cut at the depth limit.
    TruncatedDepth = 5,
    /// Stacks cut where a frame could not be read (swapped out), or made no sense.
    TruncatedUnreadable = 6,
    /// Events without a stack: no walk buffer was free.
    NoWalkBuffer = 7,
    /// Calls not followed: all places of the table of threads in which theirs could be kept were taken.
    ThreadsFull = 8,
    /// Calls not followed: more calls of one thread under way than we keep (signals in signals).
    CallsTooDeep = 9,
    /// Calls whose return was never seen (`longjmp` out of the allocator, or a missed return probe).
    MissedReturns = 10,
    /// Returns whose entry was never seen.
    UnpairedReturns = 11,
    /// Calls from a signal handler on an alternate stack above the interrupted call, where a return probe would kill
    /// the target: counted, not followed.
    UnsafeReturns = 12,
    /// Results that could not be read from the target's memory (`posix_memalign`).
    UnreadableResults = 13,
    /// Hits of a process that is not traced (a child not linked yet, an identity that has ended).
    Strangers = 14,
    /// Stacks cut in a file whose unwind table was not there yet.
    TruncatedPending = 15,
    /// Stacks cut in code that its file has no call frame information for.
    TruncatedNoRule = 16,
    /// Stacks cut at an address where no code is known to be.
    TruncatedNoCode = 17,
    /// Stacks cut at a rule that the tables cannot express.
    TruncatedUnsupported = 18,
    /// Stacks cut in code compiled at run time that kept no frame pointers.
    TruncatedFramePointer = 19,
    /// Frames unwound by tables or frame pointers.
    WalkedFrames = 20,
    /// Frames taken over from the thread's last walk.
    VerifiedFrames = 21,
    /// Sampled blocks not sent: the table of sampled blocks had no room, so their frees could not have been told.
    DroppedSamples = 22,
    /// Stacks of a thread with a Python state that is not its own, or could not be read: native frames only.
    PythonStateUnknown = 23,
    /// Python frames that could not be read, or were none: what lies beyond is missing.
    PythonUnreadable = 24,
    /// Stacks whose Python frames were cut at their limit.
    PythonDepth = 25,
    /// Python code objects not sent: the stack ring was full. They are sent again at their next use.
    LostPythonCode = 26,
    /// Python frames read.
    PythonFrames = 27,
    /// Moments that a process named, beyond those it may name, or with no room in the event ring: left out.
    DroppedMarks = 28,
    /// Processes that changed the address space that they share with their parent: what they allocate there is not followed.
    SharedMemoryChanged = 29,
    /// Forks and execs of processes that are not traced that were not told of although that was asked for: too many at once, or no
    /// room in the event ring.
    UntoldStrangers = 30,
}

impl Counter {
    /// How many counters there are.
    pub const COUNT: u32 = 31;
}
