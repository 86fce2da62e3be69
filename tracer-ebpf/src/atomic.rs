//! Atomic read-modify-write on map values.

use core::intrinsics::{
    AtomicOrdering, atomic_and, atomic_cxchg, atomic_or, atomic_xadd, atomic_xchg,
};

/// Adds one to a counter that other processors change too.
#[inline(always)]
pub fn increment(value: *mut u64) {
    add(value, 1);
}

/// Adds an amount.
#[inline(always)]
pub fn add(value: *mut u64, amount: u64) {
    unsafe { atomic_xadd::<u64, u64, { AtomicOrdering::Relaxed }>(value, amount) };
}

/// Adds one, and gives what it is then; 0 if others were faster too often.
///
/// By comparing, since the instruction that adds and gives back is not there for the processor that the object is built for.
#[inline(always)]
pub fn next(value: *mut u64) -> u64 {
    const TRIES: u32 = 64;
    let mut found = unsafe { core::ptr::read_volatile(value) };
    for _ in 0..TRIES {
        let (now, done) = unsafe {
            atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(
                value,
                found,
                found + 1,
            )
        };
        if done {
            return found + 1;
        }
        found = now;
    }
    0
}

/// Sets bits in a word that other processors change too.
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
