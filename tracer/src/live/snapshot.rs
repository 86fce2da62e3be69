//! Who held what at one moment.

use crate::event::{Nanos, ProcessId, StackIndex};

/// Whose memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of all traced processes together.
    All,
    /// That of one process.
    Process(ProcessId),
}

/// Which moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When the most was held in this scope; of equal moments the latest.
    Peak,
    /// The last moment: now, or just before the process ended. For [`Scope::All`], once no process is traced any more,
    /// just before the last one ended.
    End,
}

/// Who held what at one moment. Figures beyond `u64::MAX`, which only a corrupt recording can bring about, read
/// `u64::MAX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// When.
    pub at: Nanos,
    /// Requested bytes of the blocks that were live and had been seen allocated.
    pub bytes: u64,
    /// How many blocks.
    pub blocks: u64,
    /// Of what was held before attach, given back by this moment, bytes.
    ///
    /// For [`Scope::All`], a process that has ended has given back all that it held before attach. What a forked child
    /// frees of its copy of its parent's memory counts for the child alone: the parent holds that memory still.
    pub freed_baseline_bytes: u64,
    /// Who held the blocks; largest bytes first, then most blocks, then by process and stack. Who held no block is not
    /// among them.
    pub holders: Vec<Holder>,
}

/// A stack of one process, with what it allocated and was live at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: ProcessId,
    /// The stack that allocated the blocks (in a forked child perhaps still as its parent).
    pub stack: StackIndex,
    /// Their requested bytes.
    pub bytes: u64,
    /// How many blocks.
    pub blocks: u64,
}
