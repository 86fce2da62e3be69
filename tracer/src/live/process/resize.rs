//! What `realloc` does: it retires the old block as it begins, and its end decides.

use super::Process;
use super::blocks::Block;
use crate::event::{Address, Nanos, Tid};
use crate::live::books::Books;
use crate::live::lifetimes::Asker;

/// The old block of a resize under way: retired, but it lives on if the resize fails.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) struct Resize {
    pub(in crate::live) address: Address,
    pub(in crate::live) old: Old,
}

/// What lay at an address that was freed or is resized.
#[derive(Clone, Copy, Debug)]
pub(in crate::live) enum Old {
    Known(Block),
    /// Not seen allocated; by so much its free reduced the baseline, bytes.
    Unmatched(u64),
}

impl Process {
    /// A resize began.
    pub(in crate::live) fn begin_resize(
        &mut self,
        all: &mut Books,
        call: (Tid, u8),
        address: Address,
        header: u64,
    ) {
        if let Some(older) = self.resizes.remove(&call) {
            self.abandon(older);
        }
        let old = self.retire(all, address, Some(header));
        self.resizes.insert(call, Resize { address, old });
    }

    /// A resize gave a new block.
    pub(in crate::live) fn resize(
        &mut self,
        all: &mut Books,
        at: Nanos,
        call: (Tid, u8),
        address: Address,
        size: u64,
        asker: Asker,
    ) {
        match self.resizes.remove(&call) {
            Some(resize) => self.count_free(resize.address, resize.old),
            None => self.totals.unpaired_resize(),
        }
        self.allocate(all, at, address, size, asker);
    }

    /// A resize failed. `answers`: if the old block is put back, the process answers for it.
    pub(in crate::live) fn fail_resize(
        &mut self,
        all: &mut Books,
        at: Nanos,
        call: (Tid, u8),
        address: Address,
        answers: bool,
    ) {
        self.totals.failed();
        let Some(resize) = self.end_of_resize(call, address) else {
            return;
        };
        if self.reinstate(all, at, resize, answers) {
            return;
        }
        // Another block took the address while the old one was still there: a free was lost.
        match resize.old {
            Old::Known(_) => self.totals.replaced(),
            Old::Unmatched(bytes) => self.totals.freed_unmatched(bytes),
        }
    }

    /// A resize to zero bytes freed the block.
    pub(in crate::live) fn free_by_resize(
        &mut self,
        all: &mut Books,
        call: (Tid, u8),
        address: Address,
    ) {
        match self.end_of_resize(call, address) {
            Some(resize) => self.count_free(resize.address, resize.old),
            // The beginning was lost, so what lies at the address is most likely the old block still.
            None => self.free(all, address, None),
        }
    }

    /// The resize that ends with this call, if its beginning was seen.
    ///
    /// A beginning with another address belongs to an older call of the same slot: its end and our beginning were lost.
    fn end_of_resize(&mut self, call: (Tid, u8), address: Address) -> Option<Resize> {
        match self.resizes.remove(&call) {
            Some(resize) if resize.address == address => Some(resize),
            Some(older) => {
                self.abandon(older);
                self.totals.unpaired_resize();
                None
            }
            None => {
                self.totals.unpaired_resize();
                None
            }
        }
    }

    /// The end of a resize will not be seen any more. Most succeed, so the old block is taken to be gone.
    fn abandon(&mut self, resize: Resize) {
        self.totals.unpaired_resize();
        self.count_free(resize.address, resize.old);
    }

    pub(super) fn count_free(&mut self, address: Address, old: Old) {
        match old {
            Old::Known(block) => self.totals.freed(block.weigh(address)),
            // Of what was not sampled, nothing is known.
            Old::Unmatched(_) if self.is_sampled => {}
            Old::Unmatched(bytes) => self.totals.freed_unmatched(bytes),
        }
    }

    /// The old block lives on, unless its address is another block's by now; says whether it does.
    pub(super) fn reinstate(
        &mut self,
        all: &mut Books,
        at: Nanos,
        resize: Resize,
        answers: bool,
    ) -> bool {
        let Resize { address, old } = resize;
        if self.blocks.get(address).is_some() {
            return false;
        }
        match old {
            Old::Known(block) => {
                let block = block.born(self.scene.birth());
                self.blocks.insert(address, block);
                if self.kin.may_share(block.stretch()) {
                    self.hold_shared(all, at, address, (block, answers));
                } else {
                    self.hold_block(all, at, address, block);
                }
            }
            Old::Unmatched(bytes) => self.put_back_to_baseline(all, at, bytes),
        }
        true
    }
}
