//! The step that all hashes of both sides are made of.

/// Spreads every input bit over the upper half and back.
#[inline(always)]
pub fn mix(value: u64, factor: u64) -> u64 {
    let value = (value ^ (value >> 32)).wrapping_mul(factor);
    value ^ (value >> 29)
}
