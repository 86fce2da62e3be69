//! What is found out about program images, and what is to be done about them.

use crate::event::{Nanos, ProcessId};
use crate::record::{EndReason, Origin};

/// Something that was found out about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A child of ours waits to call exec. Its probes are in: they are those of the program that it will become.
    Launched {
        /// Image of the child.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
    },
    /// Probes were put into a process that was running.
    Attached {
        /// Image of the process.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
        /// The traced process that made it.
        parent: Option<ProcessId>,
        /// Memory that it held already, bytes.
        baseline_bytes: u64,
    },
    /// A process that runs is about to get probes, and the kernel side knows it.
    Found {
        /// Image of the process.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
        /// When it became this program, if that was heard of.
        since: Option<Nanos>,
    },
    /// A process made a child.
    Forked {
        /// Image of the process.
        parent: ProcessId,
        /// Image of the child.
        child: ProcessId,
        /// The child's pid.
        pid: u32,
        /// It runs in its parent's memory.
        shares_memory: bool,
    },
    /// A process became another program.
    Executed {
        /// Image of the program before.
        image: ProcessId,
        /// Image of the program after.
        next: ProcessId,
        /// It has probes, which are taken to be the right ones, and so many nanoseconds had passed since the exec when they were
        /// in. `None`: it has none.
        linked: Option<u64>,
    },
    /// Its probes are in.
    Linked {
        /// Image of the process.
        image: ProcessId,
        /// Nanoseconds that it ran without them.
        missed_ns: u64,
    },
    /// No probes can be put in.
    Refused {
        /// Image of the process.
        image: ProcessId,
    },
    /// It is to be followed no more, as was asked for: it has become a program that was left out.
    Left {
        /// Image of the process.
        image: ProcessId,
    },
    /// An event of it came, of which nothing else is known but which process runs it.
    Active {
        /// The image that this is about.
        image: ProcessId,
        /// The pid of that process.
        pid: u32,
    },
    /// Tracing of it ended.
    Ended {
        /// Image of the process.
        image: ProcessId,
        /// How it ended.
        reason: EndReason,
    },
}

/// What is to be done about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write down that it is traced from here on.
    Announce {
        /// The image that this is about.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
        /// The one that it came from, if that is traced too.
        parent: Option<ProcessId>,
        /// When its first event may be.
        from: Nanos,
        /// How it came under trace.
        origin: Origin,
        /// Memory that it held already, bytes.
        baseline_bytes: u64,
    },
    /// It was announced; that it began otherwise is to be written down.
    Correct {
        /// The image that this is about.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
        /// The one that it came from, if that is traced too.
        parent: Option<ProcessId>,
        /// When its first event may be, nanoseconds of `CLOCK_MONOTONIC`.
        from: Nanos,
        /// How it came under trace.
        origin: Origin,
    },
    /// The child, which is not announced yet, holds what its parent holds at this moment.
    Inherit {
        /// Image of the parent.
        parent: ProcessId,
        /// Image of the child.
        child: ProcessId,
        /// When it was made.
        at: Nanos,
    },
    /// What it allocates is not seen: its probes cannot be put in, or it ended before they were.
    Miss {
        /// The image that this is about.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
        /// It ran in its parent's memory: what it allocated and freed there is missing of its parent.
        shared_memory: bool,
    },
    /// Write down that tracing of it ended.
    Close {
        /// The image that this is about.
        image: ProcessId,
        /// How it ended.
        reason: EndReason,
    },
    /// Give back everything that is kept for it.
    Release {
        /// The image that this is about.
        image: ProcessId,
        /// Pid of the process that runs it.
        pid: u32,
    },
}
