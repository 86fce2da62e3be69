//! What a sampled block stands for.
//!
//! A block of `n` bytes is sampled with probability `p = 1 - exp(-n / mean)`, whatever else is
//! ([`highwater_common::sampling`]). So `n / p` bytes and `1 / p` blocks for each one that was sampled are right on average,
//! for any set of blocks, and each adds `(n / p)² (1 - p)` to the variance of a sum of bytes (Horvitz and Thompson, A
//! Generalization of Sampling Without Replacement From a Finite Universe, 1952).
//!
//! A count of blocks is whole. `1 / p` is rounded up or down as the block's address falls: as often up as its fraction says, and
//! the same each time, so that a block takes away what it brought.

use super::books::Held;
use crate::event::Address;

/// How calls are sampled: log2 of the mean distance of samples, bytes; 0: every call is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sampling(pub(super) u8);

impl Sampling {
    /// What a block that was sampled stands for.
    pub(super) fn weigh(self, address: Address, size: u64) -> Held {
        if self.0 == 0 || size == 0 {
            return Held::block(size);
        }
        let mean = (1u64 << self.0.min(63)) as f64;
        let chance = -(-(size as f64) / mean).exp_m1();
        let bytes = size as f64 / chance;
        let whole = (1.0 / chance).floor();
        let fraction = 1.0 / chance - whole;
        let blocks = whole as u64 + u64::from(place(address) < fraction);
        Held {
            bytes: bytes.round() as u128,
            blocks,
            variance: (bytes * bytes * (1.0 - chance)).round() as u128,
        }
    }
}

/// A number from 0 to 1 that an address has.
fn place(Address(address): Address) -> f64 {
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let spread = (address >> 4).wrapping_mul(SPREAD);
    (spread ^ spread >> 32).wrapping_mul(SPREAD) as f64 / u64::MAX as f64
}

/// The error of an estimate: two standard deviations, which 19 in 20 estimates keep to.
pub(super) fn error(variance: u128) -> u64 {
    (2.0 * (variance as f64).sqrt()).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator for the test's own draws (Marsaglia, Xorshift RNGs, 2003).
    struct Draws(u64);

    impl Draws {
        fn unit(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 53) as f64
        }
    }

    /// Samples a load as the kernel side does and estimates it; gives (estimate, error, true) bytes and (estimate, true) blocks.
    fn estimate(seed: u64, sampling: Sampling) -> ((f64, f64, f64), (f64, f64)) {
        let mut draws = Draws(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1);
        let mean = (1u64 << sampling.0) as f64;
        let mut left = -draws.unit().ln() * mean;
        let (mut truth, mut blocks, mut held) = (0.0, 0.0, Held::default());
        for number in 0..20_000u64 {
            let size = [24, 200, 4096, 70_000, 1 << 20][(draws.unit() * 5.0) as usize % 5];
            truth += size as f64;
            blocks += 1.0;
            if (size as f64) < left {
                left -= size as f64;
                continue;
            }
            left = -draws.unit().ln() * mean;
            held += sampling.weigh(Address((seed * 20_000 + number) * 48), size);
        }
        let bytes = (held.bytes as f64, error(held.variance) as f64, truth);
        (bytes, (held.blocks as f64, blocks))
    }

    #[test]
    fn estimates_have_no_bias_and_keep_to_their_error_as_often_as_they_say() {
        let sampling = Sampling(19);
        let (mut ratio, mut kept) = (0.0, 0);
        for seed in 1..=200 {
            let ((bytes, error, truth), _) = estimate(seed, sampling);
            ratio += bytes / truth / 200.0;
            kept += u32::from((bytes - truth).abs() <= error);
        }
        assert!((ratio - 1.0).abs() < 0.002, "mean of estimates: {ratio}");
        assert!(
            (180..=199).contains(&kept),
            "{kept} of 200 kept to their error"
        );
    }

    #[test]
    fn counts_of_blocks_have_no_bias_though_they_are_whole() {
        let mut ratio = 0.0;
        for seed in 1..=200 {
            let (_, (blocks, truth)) = estimate(seed, Sampling(12));
            ratio += blocks / truth / 200.0;
        }
        assert!((ratio - 1.0).abs() < 0.02, "mean of estimates: {ratio}");
    }

    #[test]
    fn a_block_much_larger_than_the_distance_of_samples_stands_for_itself() {
        let held = Sampling(19).weigh(Address(4096), 1 << 30);
        assert_eq!((held.bytes, held.blocks, held.variance), (1 << 30, 1, 0));
    }

    #[test]
    fn without_sampling_every_block_stands_for_itself() {
        assert_eq!(Sampling(0).weigh(Address(16), 24), Held::block(24));
    }
}
