//! The live blocks of a process, of which there may be many millions, by address.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::{Address, Nanos, Tid};
use crate::live::paged::{Paged, is_name};

/// What is kept of a block, in 20 bytes: they are ten million and more.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
pub(super) struct Block {
    /// When it came.
    pub(super) at: Nanos,
    /// Requested size, bytes.
    pub(super) size: u64,
    /// The thread that asked for it.
    pub(super) thread: Tid,
}

const _: () = assert!(size_of::<Block>() == 20, "a block stays small");

/// Those that a recording names, and those that have addresses.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    named: Paged<Block>,
    others: HashMap<Address, Block, FixedState>,
}

impl Blocks {
    pub(super) fn insert(&mut self, address: Address, block: Block) {
        if is_name(address) {
            self.named.insert(address, block);
        } else {
            self.others.insert(address, block);
        }
    }

    pub(super) fn remove(&mut self, address: Address) -> Option<Block> {
        match is_name(address) {
            true => self.named.remove(address),
            false => self.others.remove(&address),
        }
    }
}
