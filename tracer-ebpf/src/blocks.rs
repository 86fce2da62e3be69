//! Blocks that were seen allocated and not yet handed back, as far as a table of fixed size remembers them.
//!
//! What is wanted to know of a block that we never saw allocated is two reads of the target's memory away: who hands it
//! back, and how large it was. A read costs as much as all else that is done for a free. Of a block that is in the table
//! both are known already. So the table is a hint: a block that it has forgotten costs two reads.
//!
//! With sampling it is more: what is not in it was not sampled, and its free goes unsent. So a sampled block that finds no
//! place is not sampled.

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::helpers::bpf_probe_read_user;

use crate::maps::{BLOCKS, TABLE_SIZES};

/// Blocks that have the same place: a cache line of them.
pub const WAYS: usize = 8;

/// A block as the table knows it: whose and where, in one word.
#[derive(Clone, Copy)]
pub struct Tag(u64);

impl Tag {
    /// Addresses of blocks have 43 bits that matter; of what tells processes apart, 21 fit.
    #[inline(always)]
    pub fn new(identity: u32, block: u64) -> Self {
        Self(block >> 4 ^ (identity as u64) << 43)
    }

    #[inline(always)]
    fn line(self) -> Option<*mut [u64; WAYS]> {
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let index = self.0.wrapping_mul(SPREAD) >> ((64 - TABLE_SIZES.load().block_lines) & 63);
        BLOCKS.get_ptr_mut(index as u32)
    }

    /// Remembers the block, if need be in the place of another.
    #[inline(always)]
    pub fn remember(self) {
        let Some(line) = self.line() else { return };
        let line = unsafe { &mut *line };
        for way in line.iter_mut() {
            if *way == 0 || *way == self.0 {
                *way = self.0;
                return;
            }
        }
        line[(self.0 >> 4) as usize & (WAYS - 1)] = self.0;
    }

    /// Remembers the block until it is forgotten; says whether there was room.
    #[inline(always)]
    pub fn keep(self) -> bool {
        let Some(line) = self.line() else {
            return false;
        };
        for way in 0..WAYS {
            let way = unsafe { (&raw mut (*line)[way]).cast::<u64>() };
            let (found, placed) = unsafe {
                atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                    way, 0, self.0,
                )
            };
            if placed || found == self.0 {
                return true;
            }
        }
        false
    }

    /// Whether the block is remembered.
    #[inline(always)]
    pub fn is_known(self) -> bool {
        let Some(line) = self.line() else {
            return false;
        };
        unsafe { &*line }.iter().any(|way| *way == self.0)
    }

    /// Forgets the block; says whether it was remembered.
    #[inline(always)]
    pub fn forget(self) -> bool {
        let Some(line) = self.line() else {
            return false;
        };
        for way in unsafe { &mut *line } {
            if *way == self.0 {
                *way = 0;
                return true;
            }
        }
        false
    }
}

/// The word below a block: glibc keeps the chunk's size there. 0 if it cannot be read.
#[inline(always)]
pub fn chunk_header(block: u64) -> u64 {
    unsafe { bpf_probe_read_user(block.wrapping_sub(8) as *const u64) }.unwrap_or(0)
}
