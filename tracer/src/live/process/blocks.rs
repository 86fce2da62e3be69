//! Blocks of a process: what comes, what goes, and who holds it.

use super::Process;
use super::resize::Old;
use crate::event::{Address, Nanos};
use crate::live::books::{Books, Held};
use crate::live::families::Stretch;
use crate::live::lifetimes::{Asker, Birth};
use crate::live::sampling::Sampling;

/// A live block, of which there may be many millions. In a table it takes 24 bytes with its address.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::live) struct Block {
    /// Requested size, bytes: the low 32 bits of it.
    size_low: u32,
    /// The 16 bits above them.
    size_high: u16,
    /// The era in which it was allocated, came back after a failed resize, or came to be answered for.
    birth: Birth,
    /// Index of its holder in the process.
    pub(in crate::live) holder: u32,
    origin: Origin,
}

/// Where a block comes from: the stretch in which it was allocated, and how blocks were sampled then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Origin(u32);

impl Origin {
    const SAMPLING: u32 = 6;

    fn new(stretch: Stretch, sampling: Sampling) -> Self {
        // All above 2⁶³ bytes are alike.
        let exponent = u32::from(sampling.0.min((1 << Self::SAMPLING) - 1));
        Self(stretch.0 << Self::SAMPLING | exponent)
    }

    fn stretch(self) -> Stretch {
        Stretch(self.0 >> Self::SAMPLING)
    }

    fn sampling(self) -> Sampling {
        Sampling((self.0 & ((1 << Self::SAMPLING) - 1)) as u8)
    }
}

const _: () = assert!(
    Stretch::LAST.0 <= u32::MAX >> Origin::SAMPLING,
    "a stretch has the other bits of an origin"
);

impl Block {
    /// No block is that large, nor larger: an address space with four levels of page tables has so many bytes. What a damaged recording
    /// claims beyond is all alike.
    const IMPOSSIBLE: u64 = (1 << 48) - 1;

    /// A size as it is kept.
    pub(in crate::live) fn kept(size: u64) -> u64 {
        if size < Self::IMPOSSIBLE {
            size
        } else {
            u64::MAX
        }
    }

    fn size(self) -> u64 {
        Self::kept(u64::from(self.size_high) << 32 | u64::from(self.size_low))
    }

    /// What it stands for.
    pub(in crate::live) fn weigh(self, address: Address) -> Held {
        self.origin.sampling().weigh(address, self.size())
    }

    /// The stretch in which it was allocated.
    pub(in crate::live) fn stretch(self) -> Stretch {
        self.origin.stretch()
    }

    /// Whether another process of the family has this same block at the same address.
    pub(in crate::live) fn is_same(self, other: Self) -> bool {
        self.origin == other.origin && self.size() == other.size()
    }

    pub(super) fn birth(self) -> Birth {
        self.birth
    }

    pub(super) fn born(mut self, birth: Birth) -> Self {
        self.birth = birth;
        self
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
        let size = size.min(Block::IMPOSSIBLE);
        let block = Block {
            size_low: size as u32,
            size_high: (size >> 32) as u16,
            birth: self.scene.birth(),
            holder,
            origin: Origin::new(self.kin.stretch, self.sampling),
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

    /// A block that this process answers for is held.
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
        holding.joint += held;
        if let Some(journal) = &mut self.journal {
            journal.came(self.id, holding, held);
        }
    }

    fn drop_block(&mut self, all: &mut Books, address: Address, block: Block) {
        if self.kin.may_share(block.stretch()) && !self.drop_shared(all, address, block) {
            return;
        }
        let held = block.weigh(address);
        all.retire_blocks(held);
        self.books.retire_blocks(held);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.now -= held;
        holding.joint -= held;
        if let Some(journal) = &mut self.journal {
            journal.went(self.id, holding, held);
        }
        let born = self.born(address, block);
        if let Some(ledger) = &mut self.ledger {
            ledger.block_gone(block.holder, born, self.scene.era, held);
        }
    }
}
