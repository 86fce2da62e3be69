//! Atomic read-modify-write on map values.

use core::intrinsics::{AtomicOrdering, atomic_xadd, atomic_xchg};

/// Adds one.
#[inline(always)]
pub fn increment(value: *mut u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, 1) };
}

/// Puts `new` in place and gives what was there.
#[inline(always)]
pub fn exchange(value: *mut u64, new: u64) -> u64 {
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(value, new) }
}
