//! The live blocks of a process, by address.

use super::blocks::Block;
use crate::event::Address;
use crate::fork_map::ForkMap;
use crate::live::neighbours::Neighbours;
use crate::live::paged::{Paged, is_name};

/// Until the first fork, blocks that a recording names are in pages of neighbours. From then on all are in a table that parent and child
/// share; real addresses are there from the beginning, so that a recorder's forks cost it nothing.
#[derive(Debug, Default)]
pub(in crate::live) struct Blocks {
    named: Paged<Block>,
    table: ForkMap<Address, Block, Neighbours>,
    is_shared: bool,
}

impl Blocks {
    fn is_paged(&self, address: Address) -> bool {
        !self.is_shared && is_name(address)
    }

    pub(in crate::live) fn get(&self, address: Address) -> Option<Block> {
        match self.is_paged(address) {
            true => self.named.get(address),
            false => self.table.get(&address),
        }
    }

    pub(in crate::live) fn insert(&mut self, address: Address, block: Block) -> Option<Block> {
        match self.is_paged(address) {
            true => self.named.insert(address, block),
            false => self.table.insert(address, block),
        }
    }

    pub(in crate::live) fn remove(&mut self, address: Address) -> Option<Block> {
        match self.is_paged(address) {
            true => self.named.remove(address),
            false => self.table.remove(&address),
        }
    }

    /// Changes a block that is there, and gives what it is now.
    pub(in crate::live) fn change(
        &mut self,
        address: Address,
        change: impl FnOnce(Block) -> Block,
    ) -> Option<Block> {
        if self.is_paged(address) {
            let block = change(self.named.get(address)?);
            self.named.insert(address, block);
            return Some(block);
        }
        self.table.update(address, |block| {
            *block = block.map(change);
            *block
        })
    }

    /// All of them, in no order.
    pub(in crate::live) fn iter(&self) -> impl Iterator<Item = (Address, Block)> {
        self.named.iter().chain(self.table.iter())
    }

    /// What a child has that it did not have from the fork, where that can be told.
    pub(in crate::live) fn set_since_fork(&self) -> Option<impl Iterator<Item = (Address, Block)>> {
        self.table.set_since_fork()
    }

    /// A second table with the same blocks; what is changed in one of them does not show in the other.
    pub(in crate::live) fn fork(&mut self) -> Self {
        for (address, block) in std::mem::take(&mut self.named).iter() {
            self.table.insert(address, block);
        }
        self.is_shared = true;
        Self {
            named: Paged::default(),
            table: self.table.fork(),
            is_shared: true,
        }
    }
}
