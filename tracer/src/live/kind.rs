//! What kinds of memory are told apart.

use serde::{Deserialize, Serialize};

/// A kind of memory.
///
/// What the allocator maps for itself is of no kind: the blocks that it makes of it are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Blocks of the allocator.
    Heap,
    /// Private memory without a file that may be read or written: `mmap`, `mremap`, growth of the program break.
    Mapping,
    /// The stack of a thread, without its guard.
    ThreadStack,
    /// Private address space without a file that may not be touched (`PROT_NONE`): guards, and what is set aside to be
    /// committed later.
    Reserved,
    /// A mapped file, private or shared.
    File,
    /// Memory that is shared with other processes: with the children to come, or by a file that is one only by name
    /// (`memfd_create`, `/dev/shm`, any file in a `tmpfs`).
    Shared,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Heap,
        Self::Mapping,
        Self::ThreadStack,
        Self::Reserved,
        Self::File,
        Self::Shared,
    ];

    /// Whether it is part of the level that decides on the peak. Of the other kinds, address space says little of
    /// memory: a thread stack of 8 MiB has mostly a few pages, a reservation none.
    pub fn makes_the_peak(self) -> bool {
        matches!(self, Self::Heap | Self::Mapping)
    }
}

/// A choice of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kinds(u8);

impl Default for Kinds {
    fn default() -> Self {
        Self::OF_THE_PEAK
    }
}

impl Kinds {
    /// All kinds of memory.
    pub const ALL: Self = Self((1 << Kind::ALL.len()) - 1);
    /// What the peak is made of.
    pub const OF_THE_PEAK: Self = Self(1 << Kind::Heap as u8 | 1 << Kind::Mapping as u8);

    /// One kind alone.
    pub fn only(kind: Kind) -> Self {
        Self(1 << kind as u8)
    }

    /// The kinds whose sum decides on the peak, where these are asked for: a kind has a peak of its own.
    pub fn level(self) -> Self {
        match self {
            Self::ALL => Self::OF_THE_PEAK,
            asked => asked,
        }
    }

    /// The kind, where it is one alone.
    pub fn single(self) -> Option<Kind> {
        let is_it = |kind: &Kind| self == Self::only(*kind);
        Kind::ALL.into_iter().find(is_it)
    }

    /// Whether this kind is among them.
    pub fn contains(self, kind: Kind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }
}
