//! Blocks that were seen allocated and not yet handed back, as far as a table of fixed size remembers them.
//!
//! What is wanted to know of a block that we never saw allocated is two reads of the target's memory away: who hands it
//! back, and how large it was. A read costs as much as all else that is done for a free. Of a block that is in the table
//! both are known already. So the table is a hint: a block that it has forgotten costs two reads.
//!
//! With sampling it is more: what is not in it was not sampled, and its free goes unsent. So a sampled block that finds no
//! place is not sampled. It may take the place of a block of a program that has ended, which hands none back. (Where all
//! frees are sent, because all blocks were seen before, the table is a hint again.)

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use aya_ebpf::helpers::bpf_probe_read_user;

use crate::{
    atomic,
    maps::{BLOCKS, ENDED, TABLE_SIZES},
};

/// Blocks that have the same place: a cache line of them.
pub const WAYS: usize = 8;

/// Bits of an address that a tag has.
const ADDRESS_BITS: u32 = 43;
/// Programs that tags tell apart.
pub const IMAGES: u32 = 1 << (u64::BITS - ADDRESS_BITS);

/// A block as the table knows it: whose and where, in one word.
#[derive(Clone, Copy)]
pub struct Tag(u64);

impl Tag {
    /// Addresses of blocks have 43 bits that matter; of what tells processes apart, 21 fit.
    #[inline(always)]
    pub fn new(identity: u32, block: u64) -> Self {
        Self(block >> 4 ^ (identity as u64) << ADDRESS_BITS)
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

    /// Remembers the block until it is forgotten or its program has ended; says whether there was room.
    #[inline(always)]
    pub fn keep(self) -> bool {
        let Some(line) = self.line() else {
            return false;
        };
        for way in 0..WAYS {
            if let Err(found) = self.take_place(line, way, 0)
                && found != self.0
            {
                continue;
            }
            return true;
        }
        hw_keep_in_place_of_ended(self.0) != 0
    }

    /// Takes a place if that holds `expected`; else says what it holds.
    #[inline(always)]
    fn take_place(self, line: *mut [u64; WAYS], way: usize, expected: u64) -> Result<(), u64> {
        let place = unsafe { (&raw mut (*line)[way]).cast::<u64>() };
        let (found, placed) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                place, expected, self.0,
            )
        };
        if placed { Ok(()) } else { Err(found) }
    }

    /// Whether the block is one of a program that has ended.
    #[inline(always)]
    fn has_ended(self) -> bool {
        let (index, bit) = place_of((self.0 >> ADDRESS_BITS) as u32);
        ENDED.get(index).is_some_and(|word| *word & bit != 0)
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

/// A function of its own: on the way of few samples.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_keep_in_place_of_ended(tag: u64) -> u64 {
    let tag = Tag(tag);
    let Some(line) = tag.line() else { return 0 };
    for way in 0..WAYS {
        let other = unsafe { (*line)[way] };
        if Tag(other).has_ended() && tag.take_place(line, way, other).is_ok() {
            return 1;
        }
    }
    0
}

/// The program of that identity hands no block back any more.
#[inline(always)]
pub fn image_ended(identity: u32) {
    let (index, bit) = place_of(identity);
    if let Some(word) = ENDED.get_ptr_mut(index) {
        atomic::set(word, bit);
    }
}

/// A program begins that may have the identity of one that has ended.
#[inline(always)]
pub fn image_began(identity: u32) {
    let (index, bit) = place_of(identity);
    if let Some(word) = ENDED.get_ptr_mut(index) {
        atomic::keep(word, !bit);
    }
}

/// Where in [`ENDED`] a program has its bit.
#[inline(always)]
fn place_of(identity: u32) -> (u32, u64) {
    let number = identity & (IMAGES - 1);
    (number / u64::BITS, 1 << (number % u64::BITS))
}

/// The word below a block: glibc keeps the chunk's size there. 0 if it cannot be read.
#[inline(always)]
pub fn chunk_header(block: u64) -> u64 {
    unsafe { bpf_probe_read_user(block.wrapping_sub(8) as *const u64) }.unwrap_or(0)
}
