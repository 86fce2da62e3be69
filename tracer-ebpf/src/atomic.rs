//! Atomic read-modify-write on map values.

use core::intrinsics::{AtomicOrdering, atomic_and, atomic_or, atomic_xadd, atomic_xchg};

/// Adds one.
#[inline(always)]
pub fn increment(value: *mut u64) {
    add(value, 1);
}

/// Adds an amount.
#[inline(always)]
pub fn add(value: *mut u64, amount: u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, amount) };
}

/// Sets bits.
#[inline(always)]
pub fn set(value: *mut u64, bits: u64) {
    unsafe { atomic_or::<u64, u64, { AtomicOrdering::Relaxed }>(value, bits) };
}

/// Clears all bits but these.
#[inline(always)]
pub fn keep(value: *mut u64, bits: u64) {
    unsafe { atomic_and::<u64, u64, { AtomicOrdering::Relaxed }>(value, bits) };
}

/// Puts `new` in place and gives what was there.
#[inline(always)]
pub fn exchange(value: *mut u64, new: u64) -> u64 {
    unsafe { atomic_xchg::<u64, { AtomicOrdering::SeqCst }>(value, new) }
}
