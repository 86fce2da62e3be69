//! What was counted on the way.

/// Counts of what happened, whether or not it is live still. All of them saturate.
///
/// A `realloc` counts as the `malloc` and the `free` that it stands for: one allocation of the new size and one free of
/// the old block.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
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
    /// Resizes of which only the beginning or only the end was seen.
    pub unpaired_resizes: u64,
}

impl Totals {
    pub(super) fn allocated(&mut self, size: u64) {
        add(&mut self.allocations, 1);
        add(&mut self.allocated_bytes, size);
    }

    pub(super) fn freed(&mut self, size: u64) {
        add(&mut self.frees, 1);
        add(&mut self.freed_bytes, size);
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
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}
