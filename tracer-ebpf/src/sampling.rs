//! Which calls are sampled: [`highwater_common::sampling`] has the argument.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use highwater_common::sampling::{QUANTILE_SHIFT, QUANTILES, Sampling};

use crate::{
    maps::{EXPONENTIAL, SAMPLING},
    thread::Thread,
};

/// How calls are sampled now.
#[inline(always)]
pub fn now() -> Sampling {
    match SAMPLING.get(0) {
        Some(sampling) => unsafe { core::ptr::read_volatile(sampling) },
        None => Sampling::default(),
    }
}

/// Whether a mark lies on what this thread asks for.
#[inline(always)]
pub fn takes(thread: &mut Thread, size: u64, exponent: u32) -> bool {
    if thread.exponent != exponent {
        // Marks of another mean. How far the last one lies back says nothing.
        thread.exponent = exponent;
        thread.until_sample = hw_sample_distance(exponent);
    }
    if size < thread.until_sample {
        thread.until_sample -= size;
        return false;
    }
    thread.until_sample = hw_sample_distance(exponent);
    true
}

/// How far it is to the next mark, bytes: drawn from the exponential distribution, by a table of its quantiles.
///
/// Between two quantiles it is drawn evenly. Beyond the last one it begins anew from there, since the distribution has no
/// memory; four times over covers all but one in 2^40.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn hw_sample_distance(exponent: u32) -> u64 {
    let mut total = 0u64;
    for _ in 0..4 {
        let random = unsafe { bpf_get_prandom_u32() };
        let piece = random >> (32 - QUANTILES.trailing_zeros());
        let within = (random & (u32::MAX / QUANTILES)) as u64;
        let Some(from) = EXPONENTIAL.get(piece) else {
            break;
        };
        if piece == QUANTILES - 1 {
            total += *from as u64;
            continue;
        }
        let Some(to) = EXPONENTIAL.get(piece + 1) else {
            break;
        };
        let width = (*to as u64).wrapping_sub(*from as u64);
        total += *from as u64 + (width * within >> (32 - QUANTILES.trailing_zeros()));
        break;
    }
    // Never 0: a call for no bytes is not sampled.
    (total << (exponent & 31) >> QUANTILE_SHIFT) + 1
}
