//! Sampling: which calls are sent, where not all are.
//!
//! A thread's requests are a stream of bytes, and marks lie on it at random: the distance from mark to mark is exponential
//! (a Poisson process), so that how far the last mark lies back says nothing of the next. A call is sampled if a mark lies on
//! what it asks for: with probability `1 - exp(-size / mean)`, whatever was asked for before.

/// How calls are sampled now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// log2 of the mean distance from mark to mark, bytes; 0: every call is sent.
    pub exponent: u32,
    /// Nonzero: frees of blocks that were not sampled are sent too, since older blocks were not sampled but all seen.
    pub all_frees: u32,
}

/// The largest exponent: 2 GiB from mark to mark.
pub const MAX_EXPONENT: u32 = 31;

/// The pieces in which the exponential distribution is tabulated.
pub const QUANTILES: u32 = 1024;

/// The fixed point of its table: quantiles of the distribution of mean 1, times 2^16.
pub const QUANTILE_SHIFT: u32 = 16;

// SAFETY: repr(C), only integers, no padding, so every bit pattern is valid and every byte is initialised.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Sampling {}
