//! `--kind`: which kinds of memory are listed.

use clap::{Args, ValueEnum};

use crate::live::{Kind, Kinds};

/// The option that says which kinds of memory are shown.
#[derive(Debug, Args)]
pub(super) struct OfKind {
    /// List this kind of memory only, at its own peak (default: heap and mapping, which the peak is made of)
    #[arg(long, value_enum, value_name = "KIND")]
    kind: Option<Choice>,
}

impl OfKind {
    pub(super) fn kinds(&self) -> Kinds {
        match self.kind {
            None => Kinds::OF_THE_PEAK,
            Some(Choice::Heap) => Kinds::only(Kind::Heap),
            Some(Choice::Mapping) => Kinds::only(Kind::Mapping),
            Some(Choice::ThreadStack) => Kinds::only(Kind::ThreadStack),
            Some(Choice::Reserved) => Kinds::only(Kind::Reserved),
            Some(Choice::File) => Kinds::only(Kind::File),
            Some(Choice::Shared) => Kinds::only(Kind::Shared),
            Some(Choice::All) => Kinds::ALL,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Blocks of the allocator
    Heap,
    /// Private memory that was mapped outside the allocator
    Mapping,
    /// Stacks of threads, as large as they may grow
    ThreadStack,
    /// Address space that may not be touched
    Reserved,
    /// Mapped files
    File,
    /// Memory shared with children
    Shared,
    /// Every kind
    All,
}
