//! The recording: one file that holds the whole event stream and everything needed to read it elsewhere, later.
//!
//! A recording is a sequence of [`Entry`]s. The session produces them, [`writer`] packs them into chunks, [`reader`]
//! gives them back in exactly the same order, up to the chunk where a file was cut short or damaged. Only the grouping
//! of events is not kept: see [`reader::Reader`]. `docs/recording-format.md` describes the file byte by byte.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::event::{Event, FunctionIndex, Nanos, ProcessId, StackIndex, Tid};
use crate::live::Remains;

pub mod ahead;
mod cgroups;
pub mod compact;
mod content;
mod damage;
mod entries;
mod events;
mod fields;
pub mod fold;
mod format;
mod loss;
mod makeup;
mod older;
mod quality;
pub mod reader;
mod stacks;
mod varint;
pub mod writer;

pub use cgroups::Cgroup;
pub use damage::Damage;
pub use fold::FoldPart;
pub use format::VERSION;
pub use loss::{Loss, LossKind};
pub use makeup::{ChunkSum, HeldBefore, HeldMapping, Makeup, Malloc, SizeClass};
pub use quality::{Pause, ProcessLosses, PythonQuality, Quality};

#[cfg(test)]
mod tests;

/// A mapped file by its dense index in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModuleIndex(pub u32);

/// A code location by its dense index in the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameIndex(pub u32);

/// A language runtime by its dense index in the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuntimeIndex(pub u32);

/// One thing a recording says. Whatever an entry refers to by index comes before it, but for the stack of an event,
/// whose definition may come later (or, if it was lost, never), and the names of a frame, which may come any time.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// How this recording came to be; first in every recording.
    Opening(Opening),
    /// A process is traced from here on.
    Process(Process),
    /// An allocator function.
    Function(Function),
    /// A language runtime.
    Runtime(Runtime),
    /// A file whose code was seen on a stack.
    Module(Module),
    /// A code location.
    Frame(Frame),
    /// The names of a code location.
    Names(FrameNames),
    /// A stack: return addresses' locations, leaf first.
    Stack(Stack),
    /// What happened, in order.
    Events(Vec<Event>),
    /// What the kernel says of a process's memory.
    Memory(MemorySample),
    /// What a process's memory was made of.
    Makeup(Makeup),
    /// What a thread is called.
    ThreadName(ThreadName),
    /// How often a process loaded a file of code.
    Loads(Loads),
    /// Somebody gave this moment a name.
    Mark(Mark),
    /// Something was not seen.
    Loss(Loss),
    /// A process is traced no more.
    End(ProcessEnd),
    /// What the live set came to, in place of the events: the last one that is whole stands.
    Fold(FoldPart),
    /// What the live set said of a process that has ended: of a recording without events, the last fold tells of the others.
    Remains(Remains),
    /// What could not be seen, so far: the last one stands.
    Quality(Quality),
    /// The recording was finished in order; last, and missing from one that was cut short.
    Closing(Closing),
}

/// How a recording came to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The version of highwater that wrote it.
    pub highwater: String,
    /// highwater's own command line.
    pub command_line: Vec<String>,
    /// `uname -r` and friends, for the reader's information.
    pub kernel: String,
    /// The monotonic clock when recording began.
    pub started_ns: u64,
    /// The wall clock at the same moment, nanoseconds since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// Page size of the machine, bytes.
    pub page_size: u64,
    /// How probes were linked: `session`, `multi` or `perf`.
    pub link: String,
    /// Arguments were left out of all command lines, this one's too.
    #[serde(default)]
    pub redacted: bool,
    /// What was asked for, chosen or not: how large the ring was, what was sampled, ...
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// A traced process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its identity; exec gives a process a new one.
    pub id: ProcessId,
    /// Its pid in the initial namespace.
    pub pid: u32,
    /// Its pid in its own namespace.
    pub ns_pid: u32,
    /// The process that forked it, if that one is traced too; for a new generation after exec, the old identity.
    pub parent: Option<ProcessId>,
    /// Its command line, arguments joined by a space.
    pub command: String,
    /// Its memory cgroup, if it is in one.
    #[serde(skip)]
    pub cgroup: Option<Arc<Cgroup>>,
    /// When the process started, nanoseconds since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// Monotonic clock when its first event could be seen.
    pub from_ns: u64,
    /// How it came under trace.
    pub origin: Origin,
    /// Anonymous memory (resident and swapped) that it held before its first event, bytes; 0 if launched. No more
    /// than this can be freed of what we never saw allocated.
    pub baseline_bytes: u64,
}

/// How a process came under trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// It was running already: it held memory that we never saw allocated.
    Attached,
    /// We launched it and missed nothing.
    Launched,
    /// A traced process forked it: it holds a copy of its parent's live set. `missed_ns` passed before its probes.
    Forked {
        /// How long it ran unseen, nanoseconds.
        missed_ns: u64,
    },
    /// A traced process became it by exec. `missed_ns` passed before its probes.
    Executed {
        /// How long it ran unseen, nanoseconds.
        missed_ns: u64,
    },
}

/// An allocator function. What an event of it does is told by the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Index by which events name it.
    pub index: FunctionIndex,
    /// The symbol that it has.
    pub name: String,
    /// The allocator that it belongs to.
    pub allocator: String,
    /// What it is for.
    pub does: Does,
}

/// What an allocator function is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// It gives blocks.
    Allocates,
    /// It gives a block for another one.
    Resizes,
    /// It takes blocks back.
    Frees,
    /// What a later writer tells apart.
    Other,
}

/// A language runtime, whose functions are frames of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    /// Index by which frames name it.
    pub index: RuntimeIndex,
    /// What it is called: `python`.
    pub name: String,
}

/// A mapped file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Module {
    /// Its dense index.
    pub index: u32,
    /// Its path as the process sees it, or `[vdso]`. `[anon]` is the memory of one process that has no file: what is
    /// there was made as it ran, and offsets are addresses.
    pub path: PathBuf,
    /// GNU build id, hexadecimal.
    pub build_id: Option<String>,
}

impl Module {
    /// The path of the memory of one process that has no file.
    pub const ANONYMOUS: &str = "[anon]";

    /// Whether it is memory that has no file.
    pub fn is_anonymous(&self) -> bool {
        self.path.as_os_str() == Self::ANONYMOUS
    }
}

/// A code location: a place in a file, or an address where there is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its dense index.
    pub index: FrameIndex,
    /// The file, if the address lay in one.
    pub module: Option<ModuleIndex>,
    /// Offset in that file (of the return address), or the bare address without one. Of a function of a runtime its number in
    /// this recording (from 1; 0 where it is not known) << 32 | the line (0 for none).
    pub offset: u64,
    /// What kind of code it is.
    pub kind: FrameKind,
}

/// A kind of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameKind {
    /// Machine code of a program or library.
    #[default]
    Native,
    /// A function of a runtime. It stands before the native frame that runs it.
    Managed(RuntimeIndex),
    /// Machine code of a runtime's interpreter.
    Interpreter(RuntimeIndex),
}

impl FrameKind {
    /// Whether it is a function of a runtime.
    pub fn is_managed(self) -> bool {
        matches!(self, Self::Managed(_))
    }
}

/// The names of one code location, inlined functions included, innermost first; the last is the real function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameNames {
    /// The location that has these names.
    pub frame: FrameIndex,
    /// Never empty; a location without a name has no `FrameNames`.
    pub functions: Vec<FunctionName>,
    /// The text of the first one's line, where it was found.
    pub source: Option<String>,
}

/// A function at a code location.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FunctionName {
    /// Name of the function, demangled.
    pub function: String,
    /// Path of the source file, as the debug information has it.
    pub file: Option<String>,
    /// Line in it.
    pub line: Option<u32>,
}

/// A chain of calls that led to an allocator function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Its dense index, from 1.
    pub index: StackIndex,
    /// The process whose stack it is.
    pub process: ProcessId,
    /// Locations of the return addresses, leaf first: the first is the caller of the allocator function.
    pub frames: Vec<FrameIndex>,
    /// The walk was cut, so the root end is missing.
    pub truncated: bool,
}

/// What the kernel says of a process's memory at one moment, bytes. `None`: not known, which is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySample {
    /// Time of the sample, `CLOCK_MONOTONIC` nanoseconds.
    pub at: Nanos,
    /// Of which process.
    pub process: ProcessId,
    /// Resident memory (`VmRSS`).
    pub rss: Option<u64>,
    /// Resident anonymous memory (`RssAnon`).
    pub anon: Option<u64>,
    /// Resident pages of mapped files (`RssFile`).
    pub file: Option<u64>,
    /// Resident shared memory (`RssShmem`).
    pub shmem: Option<u64>,
    /// Swapped-out memory (`VmSwap`).
    pub swap: Option<u64>,
    /// Charge of its memory cgroup.
    pub cgroup_current: Option<u64>,
    /// Limit of its memory cgroup; `None` also where there is no limit.
    pub cgroup_limit: Option<u64>,
}

/// What a thread is called from here on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadName {
    /// When that was found.
    pub at: Nanos,
    /// The process that the thread belongs to.
    pub process: ProcessId,
    /// The thread's id, as events have it.
    pub thread: Tid,
    /// `comm`, 15 bytes at most.
    pub name: String,
}

/// How often a process loaded a file of code, where that was more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loads {
    /// The process that did.
    pub process: ProcessId,
    /// The file.
    pub module: ModuleIndex,
    /// So many times while the process was traced; where records were lost, at least.
    pub count: u64,
}

/// A moment that was given a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Which moment. It may be earlier than that of events that come before this entry.
    pub at: Nanos,
    /// The process that named it itself.
    pub process: Option<ProcessId>,
    /// What it is the name of.
    pub kind: MarkKind,
    /// The name that was given, which need not be unique.
    pub name: String,
}

/// What a mark names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    /// A single moment.
    Moment,
    /// A span that begins.
    Begin,
    /// ... and ends.
    End,
}

/// How tracing of a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessEnd {
    /// Time of the end, `CLOCK_MONOTONIC` nanoseconds.
    pub at: Nanos,
    /// The process that is traced no more.
    pub process: ProcessId,
    /// How it ended, or why it is traced no more.
    pub reason: EndReason,
}

/// Why a process is traced no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// It exited with this code.
    Exited {
        /// Exit code that its parent sees, 0 to 255.
        code: u8,
    },
    /// A signal killed it.
    Signal {
        /// Number of the signal.
        signal: u8,
    },
    /// The kernel killed it for want of memory.
    OomKilled,
    /// It became another program, traced under a new identity.
    Executed,
    /// We let go of it, and it runs on.
    Detached,
    /// It is gone and nothing said how.
    Vanished,
}

/// How a recording was finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The monotonic clock when recording ended.
    pub ended_ns: u64,
    /// What ended it: `target ended`, `interrupted`, `duration`, ...
    pub reason: String,
}
