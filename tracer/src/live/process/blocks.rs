//! Blocks of a process: what comes, what goes, and who holds it.

use super::Process;
use super::resize::Old;
use crate::event::{Address, Nanos};
use crate::live::books::{Books, Held};
use crate::live::lifetimes::{Asker, Birth};
use crate::live::sampling::Sampling;

/// A live block, of which there may be many millions. In a table it takes 24 bytes with its address.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block {
    /// Requested size, bytes.
    size: u64,
    /// Index of its holder in the process.
    pub(super) holder: u32,
    /// The era in which it was allocated, or came back after a failed resize.
    pub(super) birth: Birth,
    /// How blocks were sampled when it was allocated.
    sampling: Sampling,
}

impl Block {
    /// What it stands for.
    pub(super) fn weigh(self, address: Address) -> Held {
        self.sampling.weigh(address, self.size)
    }
}

const _: () = assert!(
    size_of::<(Address, Option<Block>)>() == 24,
    "a block stays small"
);

impl Process {
    /// A call returned a block.
    pub(in crate::live) fn allocate(
        &mut self,
        all: &mut Books,
        at: Nanos,
        address: Address,
        size: u64,
        asker: Asker,
    ) {
        let holder = self.holdings.of_blocks(asker, &self.books, all);
        let block = Block {
            size,
            holder,
            birth: self.scene.birth(),
            sampling: self.sampling,
        };
        let held = block.weigh(address);
        self.totals.allocated(held);
        self.holdings.get_mut(holder).allocated.add(held);
        if let Some(replaced) = self.blocks.insert(address, block) {
            self.totals.replaced();
            self.drop_block(all, address, replaced);
        }
        self.hold_block(all, at, address, block);
    }

    /// A block was handed back.
    pub(in crate::live) fn free(&mut self, all: &mut Books, address: Address, header: Option<u64>) {
        let old = self.retire(all, address, header);
        self.count_free(address, old);
    }

    /// Takes what lies at the address out of the live set, or out of the baseline if it was not seen allocated.
    pub(super) fn retire(&mut self, all: &mut Books, address: Address, header: Option<u64>) -> Old {
        if let Some(block) = self.blocks.remove(address) {
            self.drop_block(all, address, block);
            return Old::Known(block);
        }
        Old::Unmatched(self.take_from_baseline(all, header))
    }

    pub(super) fn hold_block(
        &mut self,
        all: &mut Books,
        at: Nanos,
        address: Address,
        block: Block,
    ) {
        let held = block.weigh(address);
        all.admit_blocks(held, at);
        self.books.admit_blocks(held, at);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.now += held;
        if let Some(journal) = &mut self.journal {
            journal.came(self.id, holding, held);
        }
    }

    fn drop_block(&mut self, all: &mut Books, address: Address, block: Block) {
        let held = block.weigh(address);
        all.retire_blocks(held);
        self.books.retire_blocks(held);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.now -= held;
        if let Some(journal) = &mut self.journal {
            journal.went(self.id, holding, held);
        }
        if let Some(ledger) = &mut self.ledger {
            let born = block.birth.era(self.scene).max(self.forked_in);
            ledger.block_gone(block.holder, born, self.scene.era, held);
        }
    }
}
