//! What was counted on the way.

use serde::{Deserialize, Serialize};

use super::books::Held;
use super::saturate;

/// Counts of what happened, whether or not it is live still. All of them saturate.
///
/// A `realloc` counts as the `malloc` and the `free` that it stands for: one allocation of the new size and one free of
/// the old block.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Totals {
    /// Blocks that calls returned.
    pub allocations: u64,
    /// Their requested sizes, bytes.
    pub allocated_bytes: u64,
    /// Known blocks that were handed back.
    pub frees: u64,
    /// Their requested sizes, bytes.
    pub freed_bytes: u64,
    /// Calls that returned no block although one was asked for.
    pub failed_allocations: u64,
    /// Frees of blocks that we did not see allocated; not among `frees`.
    pub unmatched_frees: u64,
    /// What they took away of the memory held before attach, as far as that is known, bytes.
    pub unmatched_freed_bytes: u64,
    /// Blocks at whose address another one was allocated: their free was lost. Not among `frees`.
    pub replaced_blocks: u64,
    /// Resizes, `mremap` among them, of which only the beginning or only the end was seen.
    pub unpaired_resizes: u64,
    /// Ranges that `mmap` gave, those of the allocator apart.
    pub mmaps: u64,
    /// Lengths of all that was mapped: by `mmap`, `mremap` and growth of the program break, bytes.
    pub mapped_bytes: u64,
    /// Calls of `munmap` that handed back something that we saw mapped and that was not the allocator's.
    pub unmaps: u64,
    /// What went of what we saw mapped: by `munmap`, `mremap`, a smaller program break, or because something else was
    /// mapped there; bytes.
    pub unmapped_bytes: u64,
    /// Calls of `munmap` of something, in part at least, that we did not see mapped.
    pub unmatched_unmaps: u64,
    /// How much that was, bytes. What of it was memory and not address space alone, nobody can tell.
    pub unmatched_unmapped_bytes: u64,
    /// Calls of `madvise` that gave pages back.
    pub discards: u64,
    /// Their lengths, bytes.
    pub discarded_bytes: u64,
}

impl Totals {
    pub(super) fn allocated(&mut self, held: Held) {
        add(&mut self.allocations, held.blocks);
        add(&mut self.allocated_bytes, saturate(held.bytes));
    }

    pub(super) fn freed(&mut self, held: Held) {
        add(&mut self.frees, held.blocks);
        add(&mut self.freed_bytes, saturate(held.bytes));
    }

    pub(super) fn freed_unmatched(&mut self, bytes: u64) {
        add(&mut self.unmatched_frees, 1);
        add(&mut self.unmatched_freed_bytes, bytes);
    }

    pub(super) fn failed(&mut self) {
        add(&mut self.failed_allocations, 1);
    }

    pub(super) fn replaced(&mut self) {
        add(&mut self.replaced_blocks, 1);
    }

    pub(super) fn unpaired_resize(&mut self) {
        add(&mut self.unpaired_resizes, 1);
    }

    pub(super) fn mapped(&mut self) {
        add(&mut self.mmaps, 1);
    }

    pub(super) fn mapped_bytes(&mut self, bytes: u64) {
        add(&mut self.mapped_bytes, bytes);
    }

    pub(super) fn unmapped_bytes(&mut self, bytes: u64) {
        add(&mut self.unmapped_bytes, bytes);
    }

    /// What was counted as unmapped is mapped still.
    pub(super) fn not_unmapped_bytes(&mut self, bytes: u64) {
        take(&mut self.unmapped_bytes, bytes);
    }

    /// `munmap` began, of so many bytes that we saw mapped and so many that we did not.
    pub(super) fn unmap_began(&mut self, known: u64, unknown: u64) {
        add(&mut self.unmaps, u64::from(known > 0));
        add(&mut self.unmatched_unmaps, u64::from(unknown > 0));
        add(&mut self.unmatched_unmapped_bytes, unknown);
    }

    /// It failed after all.
    pub(super) fn unmap_failed(&mut self, known: u64, unknown: u64) {
        take(&mut self.unmaps, u64::from(known > 0));
        take(&mut self.unmatched_unmaps, u64::from(unknown > 0));
        take(&mut self.unmatched_unmapped_bytes, unknown);
    }

    pub(super) fn discarded(&mut self, bytes: u64) {
        add(&mut self.discards, 1);
        add(&mut self.discarded_bytes, bytes);
    }

    pub(super) fn add(&mut self, other: &Self) {
        let Self {
            allocations,
            allocated_bytes,
            frees,
            freed_bytes,
            failed_allocations,
            unmatched_frees,
            unmatched_freed_bytes,
            replaced_blocks,
            unpaired_resizes,
            mmaps,
            mapped_bytes,
            unmaps,
            unmapped_bytes,
            unmatched_unmaps,
            unmatched_unmapped_bytes,
            discards,
            discarded_bytes,
        } = self;
        add(allocations, other.allocations);
        add(allocated_bytes, other.allocated_bytes);
        add(frees, other.frees);
        add(freed_bytes, other.freed_bytes);
        add(failed_allocations, other.failed_allocations);
        add(unmatched_frees, other.unmatched_frees);
        add(unmatched_freed_bytes, other.unmatched_freed_bytes);
        add(replaced_blocks, other.replaced_blocks);
        add(unpaired_resizes, other.unpaired_resizes);
        add(mmaps, other.mmaps);
        add(mapped_bytes, other.mapped_bytes);
        add(unmaps, other.unmaps);
        add(unmapped_bytes, other.unmapped_bytes);
        add(unmatched_unmaps, other.unmatched_unmaps);
        add(unmatched_unmapped_bytes, other.unmatched_unmapped_bytes);
        add(discards, other.discards);
        add(discarded_bytes, other.discarded_bytes);
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}

fn take(count: &mut u64, less: u64) {
    *count = count.saturating_sub(less);
}
