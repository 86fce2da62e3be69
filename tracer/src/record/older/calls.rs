//! What a tag says in versions 1 to 3: a byte with the call in its low half, and in its high half the function, what of a mapping, or 0.

use super::FUNCTIONS;
use crate::event::FunctionIndex;
use crate::record::events::Kind;

// What the low half of a tag says.

/// A block came; in version 3 one with the next number.
pub(super) const ALLOCATED: u8 = 1;
pub(super) const FAILED: u8 = 2;
pub(super) const FREED: u8 = 3;
pub(super) const RESIZE_BEGAN: u8 = 4;
/// A resize gave a block, as [`ALLOCATED`].
pub(super) const RESIZED: u8 = 5;
pub(super) const RESIZE_FAILED: u8 = 6;
pub(super) const RESIZE_FREED: u8 = 7;
pub(super) const FORKED: u8 = 8;
pub(super) const EXECUTED: u8 = 9;
pub(super) const EXITED: u8 = 10;
pub(super) const OOM_VICTIM: u8 = 11;
/// Something about the address space; the high half of the tag says what.
pub(super) const MAPPING: u8 = 12;
/// `FREED` without a chunk header: none was read, or it tells nothing that is not known.
pub(super) const FREED_KNOWN: u8 = 13;
/// `RESIZE_BEGAN` without a chunk header, as in [`FREED_KNOWN`].
pub(super) const RESIZE_BEGAN_KNOWN: u8 = 14;
/// In version 3, with a function: a block came that has a number, or none, already.
pub(super) const ALLOCATED_AT: u8 = 14;
pub(super) const SAMPLING: u8 = 15;
/// In version 3, with a function: as [`ALLOCATED_AT`].
pub(super) const RESIZED_AT: u8 = 15;

// What the high half of the tag of a mapping says.

pub(super) const MAPPED: u8 = 1;
pub(super) const UNMAP_BEGAN: u8 = 2;
pub(super) const UNMAP_FAILED: u8 = 3;
pub(super) const REMAP_BEGAN: u8 = 4;
pub(super) const REMAPPED: u8 = 5;
pub(super) const REMAP_FAILED: u8 = 6;
pub(super) const BREAK_MOVED: u8 = 7;
pub(super) const PROTECTED: u8 = 8;
pub(super) const DISCARDED: u8 = 9;

/// What a tag of version 3 means.
pub(in crate::record) fn tag(tag: u8) -> Option<(Kind, FunctionIndex)> {
    let (low, high) = (tag & 15, tag >> 4);
    let kind = match (low, high) {
        (FREED, 0) => Kind::Freed,
        (FREED_KNOWN, 0) => Kind::FreedKnown,
        (RESIZE_BEGAN, 0) => Kind::ResizeBegan,
        (RESIZE_BEGAN_KNOWN, 0) => Kind::ResizeBeganKnown,
        (RESIZE_FAILED, 0) => Kind::ResizeFailed,
        (RESIZE_FREED, 0) => Kind::ResizeFreed,
        (FORKED, 0) => Kind::Forked,
        (EXECUTED, 0) => Kind::Executed,
        (EXITED, 0) => Kind::Exited,
        (OOM_VICTIM, 0) => Kind::OomVictim,
        (SAMPLING, 0) => Kind::Sampling,
        (MAPPING, MAPPED) => Kind::Mapped,
        (MAPPING, UNMAP_BEGAN) => Kind::UnmapBegan,
        (MAPPING, UNMAP_FAILED) => Kind::UnmapFailed,
        (MAPPING, REMAP_BEGAN) => Kind::RemapBegan,
        (MAPPING, REMAPPED) => Kind::Remapped,
        (MAPPING, REMAP_FAILED) => Kind::RemapFailed,
        (MAPPING, BREAK_MOVED) => Kind::BreakMoved,
        (MAPPING, PROTECTED) => Kind::Protected,
        (MAPPING, DISCARDED) => Kind::Discarded,
        (ALLOCATED, 1..=FUNCTIONS) => Kind::Allocated,
        (ALLOCATED_AT, 1..=FUNCTIONS) => Kind::AllocatedAt,
        (FAILED, 1..=FUNCTIONS) => Kind::Failed,
        (RESIZED, 1..=FUNCTIONS) => Kind::Resized,
        (RESIZED_AT, 1..=FUNCTIONS) => Kind::ResizedAt,
        _ => return None,
    };
    Some((kind, FunctionIndex(high.into())))
}
