//! Who held what at one moment.

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Kinds};
use crate::event::{Nanos, ProcessId, StackIndex, Tid};

/// Whose memory a snapshot is of: one process's or that of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// That of all traced processes together.
    All,
    /// That of one process.
    Process(ProcessId),
}

/// The moment that a snapshot is of.
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
    /// The moment, nanoseconds of the recording's clock.
    pub at: Nanos,
    /// What was seen asked for and was live, of the kinds that make the peak: requested bytes of blocks, lengths of
    /// mappings.
    pub bytes: u64,
    /// With sampling, by how much `bytes` may be off (two standard deviations); else 0.
    pub error_bytes: u64,
    /// How many blocks and mappings.
    pub blocks: u64,
    /// What was live of each kind, in the order of [`Kind::ALL`].
    pub by_kind: [Amount; Kind::ALL.len()],
    /// Of what was held before attach, given back by this moment, bytes.
    ///
    /// For [`Scope::All`], a process that has ended has given back all that it held before attach. What a forked child
    /// frees of its copy of its parent's memory counts for the child alone: the parent holds that memory still.
    pub freed_baseline_bytes: u64,
    /// Of the kinds that make the peak, bytes. For one process: what it held of what it had from its parent as it was forked, part of
    /// `bytes`. For [`Scope::All`]: what its holders held and others hold too, and counts for these; not part of `bytes`.
    pub inherited_bytes: u64,
    /// Who held it, of all kinds; largest bytes first, then most blocks, then by process, stack and kind. Who held no
    /// block is not among them.
    pub holders: Vec<Holder>,
}

impl Snapshot {
    /// One holder more.
    pub(super) fn add(&mut self, key: HolderKey, of: Amount) {
        let Amount { bytes, blocks } = of;
        let of_kind = &mut self.by_kind[key.kind as usize];
        of_kind.bytes = of_kind.bytes.saturating_add(bytes);
        of_kind.blocks = of_kind.blocks.saturating_add(blocks);
        if key.kind.makes_the_peak() {
            self.bytes = self.bytes.saturating_add(bytes);
            self.blocks = self.blocks.saturating_add(blocks);
        }
        self.holders.push(Holder::of(key, of));
    }

    /// What was live of this kind.
    pub fn of(&self, kind: Kind) -> Amount {
        self.by_kind[kind as usize]
    }

    /// Leaves only the holders of these kinds among [`holders`](Self::holders).
    pub fn keep(&mut self, kinds: Kinds) {
        self.holders.retain(|holder| kinds.contains(holder.kind));
    }

    /// What those that are listed hold together, bytes.
    pub fn listed_bytes(&self) -> u64 {
        let held = self.holders.iter().map(|holder| holder.bytes);
        held.fold(0, u64::saturating_add)
    }
}

/// So much of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// How many bytes were held.
    pub bytes: u64,
    /// Blocks, or ranges. Ranges that touch and are alike are one.
    pub blocks: u64,
}

/// Who holds something: a stack of one process, for one kind of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HolderKey {
    /// The process that held them.
    pub process: ProcessId,
    /// The stack that allocated them.
    pub stack: StackIndex,
    /// The thread, where threads are told apart.
    pub thread: Option<Tid>,
    /// The kind of memory.
    pub kind: Kind,
}

impl Holder {
    /// Who holds so much, exactly.
    pub fn of(key: HolderKey, amount: Amount) -> Self {
        let HolderKey {
            process,
            stack,
            thread,
            kind,
        } = key;
        let Amount { bytes, blocks } = amount;
        Self {
            process,
            stack,
            thread,
            kind,
            bytes,
            error_bytes: 0,
            blocks,
        }
    }

    /// Who it is.
    pub fn key(&self) -> HolderKey {
        HolderKey {
            process: self.process,
            stack: self.stack,
            thread: self.thread,
            kind: self.kind,
        }
    }
}

/// A stack of one process, with what of one kind it asked for and was live at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process that held them.
    pub process: ProcessId,
    /// The stack that asked for it (in a forked child perhaps still as its parent).
    pub stack: StackIndex,
    /// The thread that asked for it, where threads are told apart.
    pub thread: Option<Tid>,
    /// Of which kind.
    pub kind: Kind,
    /// Requested bytes of blocks, lengths of ranges.
    pub bytes: u64,
    /// With sampling, by how much `bytes` may be off (two standard deviations); else 0.
    pub error_bytes: u64,
    /// How many blocks, or ranges.
    pub blocks: u64,
}
