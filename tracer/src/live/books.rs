//! What is held as a whole, by one process or by all of them, now and at the peak.

use std::ops::{AddAssign, SubAssign};

use serde::{Deserialize, Serialize};

use super::kind::{Kind, Kinds};
use crate::event::Nanos;
use crate::peak::{AtPeak, PeakClock};

/// An amount of live memory. The sum of any number of sizes fits, so nothing wraps on hostile input. A million holders have four of
/// it each: so it takes 40 bytes and not the 48 of an alignment of 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C, packed(8))]
pub(super) struct Held {
    pub(super) bytes: u128,
    pub(super) blocks: u64,
    /// Of an estimate: the variance of `bytes`.
    pub(super) variance: u128,
}

impl Held {
    /// No more than the sum of all blocks that fit in memory, whatever a recording claims.
    pub(super) fn bounded(self) -> Self {
        Self {
            bytes: self.bytes.min(u128::MAX >> 4),
            blocks: self.blocks.min(u64::MAX >> 4),
            variance: self.variance.min(u128::MAX >> 4),
        }
    }

    /// Of each amount the lesser.
    pub(super) fn least(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.min(other.bytes),
            blocks: self.blocks.min(other.blocks),
            variance: self.variance.min(other.variance),
        }
    }

    /// The bytes and blocks of both together.
    pub(super) fn joined(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            blocks: self.blocks.saturating_add(other.blocks),
            variance: self.variance.saturating_add(other.variance),
        }
    }

    /// What one block of this size adds.
    pub(super) fn block(size: u64) -> Self {
        Self {
            bytes: size.into(),
            blocks: 1,
            variance: 0,
        }
    }
}

/// How an amount of live memory changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) bytes: i128,
    pub(super) ranges: i64,
}

impl Shift {
    /// Whether something is lost, and not made up for by something larger.
    pub(super) fn is_loss(self) -> bool {
        (self.bytes, self.ranges) < (0, 0)
    }

    /// Whether nothing changes.
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl AddAssign for Shift {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.ranges += other.ranges;
    }
}

impl AddAssign<Shift> for Held {
    fn add_assign(&mut self, shift: Shift) {
        // What is taken away was there: sums of far fewer than 2⁶³ ranges of less than 2⁶⁴ bytes.
        self.bytes = self.bytes.wrapping_add_signed(shift.bytes);
        self.blocks = self.blocks.wrapping_add_signed(shift.ranges);
    }
}

impl AddAssign for Held {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.blocks += other.blocks;
        // A fold may claim what no samples come to.
        self.variance = self.variance.saturating_add(other.variance);
    }
}

impl SubAssign for Held {
    fn sub_assign(&mut self, other: Self) {
        self.bytes -= other.bytes;
        self.blocks -= other.blocks;
        self.variance = self.variance.saturating_sub(other.variance);
    }
}

/// What is held as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Balance {
    /// Blocks that were seen allocated, and ranges, of the kinds that make the level.
    pub(super) live: Held,
    /// Of what was held before attach, given back since, bytes.
    pub(super) freed_baseline: u128,
}

impl Balance {
    fn bounded(self) -> Self {
        Self {
            live: self.live.bounded(),
            freed_baseline: self.freed_baseline.min(u128::MAX >> 4),
        }
    }
}

/// The balance now and at the peak of the level, which is live bytes − freed baseline: what is held, up to the baseline
/// that was there before we looked.
#[derive(Clone, Debug)]
pub(super) struct Books {
    pub(super) clock: PeakClock,
    /// The kinds that make the level.
    level: Kinds,
    now: Balance,
    at_peak: AtPeak<Balance>,
}

impl Books {
    pub(super) fn new(at: Nanos, level: Kinds) -> Self {
        let clock = PeakClock::new(at);
        let at_peak = AtPeak::new(&clock);
        Self {
            clock,
            level,
            now: Balance::default(),
            at_peak,
        }
    }

    /// With a clock that was restored, of the level that the peak is made of, and what was held now and at its peak.
    pub(super) fn restored(clock: PeakClock, now: Balance, at_peak: Balance) -> Self {
        let mut saved = AtPeak::new(&clock);
        saved.restore(&clock, at_peak.bounded());
        Self {
            clock,
            level: Kinds::OF_THE_PEAK,
            now: now.bounded(),
            at_peak: saved,
        }
    }

    pub(super) fn now(&self) -> Balance {
        self.now
    }

    pub(super) fn at_peak(&self) -> Balance {
        self.at_peak.get(&self.clock, self.now)
    }

    /// The kinds that make the level.
    pub(super) fn level(&self) -> Kinds {
        self.level
    }

    /// Blocks come to be live; where they do not count to the level, that is a rise by nothing.
    pub(super) fn admit_blocks(&mut self, held: Held, at: Nanos) {
        self.admit(self.of_blocks(held), at);
    }

    /// Blocks are live no more; where they do not count to the level, that is a fall by nothing.
    pub(super) fn retire_blocks(&mut self, held: Held) {
        self.retire(self.of_blocks(held), 0);
    }

    fn of_blocks(&self, held: Held) -> Held {
        if self.level.contains(Kind::Heap) {
            held
        } else {
            Held::default()
        }
    }

    /// So much of the level comes. A process that begins to be traced is a rise too, if only by nothing.
    pub(super) fn admit(&mut self, held: Held, at: Nanos) {
        self.clock.rise(held.bytes, at);
        self.at_peak.save(&self.clock, self.now);
        self.now.live += held;
    }

    /// So much of the level goes, and of the baseline `baseline` bytes at the same moment.
    pub(super) fn retire(&mut self, held: Held, baseline: u64) {
        self.clock.fall(held.bytes + self.of_baseline(baseline));
        self.at_peak.save(&self.clock, self.now);
        self.now.live -= held;
        self.now.freed_baseline += u128::from(baseline);
    }

    /// Nothing comes or goes, but what makes up the level is told apart otherwise from here on: a fall by nothing.
    pub(super) fn leave_peak(&mut self) {
        self.retire(Held::default(), 0);
    }

    /// What the baseline counts to the level: it is as much a part of it as blocks are.
    fn of_baseline(&self, bytes: u64) -> u128 {
        if self.level.contains(Kind::Heap) {
            bytes.into()
        } else {
            0
        }
    }

    /// Ranges went, by one event; `shift` is what those that make the level come to. Others alone are a fall by nothing.
    pub(super) fn shrink(&mut self, shift: Shift) {
        self.clock.fall(shift.bytes.unsigned_abs());
        self.at_peak.save(&self.clock, self.now);
        self.now.live += shift;
    }

    /// Ranges came, as in [`shrink`](Self::shrink).
    pub(super) fn grow(&mut self, shift: Shift, at: Nanos) {
        self.clock.rise(shift.bytes.unsigned_abs(), at);
        self.at_peak.save(&self.clock, self.now);
        self.now.live += shift;
    }

    /// Part of the baseline was not given back after all.
    pub(super) fn restore_baseline(&mut self, bytes: u64, at: Nanos) {
        self.clock.rise(self.of_baseline(bytes), at);
        self.at_peak.save(&self.clock, self.now);
        self.now.freed_baseline -= u128::from(bytes);
    }
}

/// An amount beside the books, now and at the peak of their clock, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tracked {
    now: u128,
    at_peak: AtPeak<u128>,
}

impl Tracked {
    /// It comes into being now.
    pub(super) fn new(clock: &PeakClock) -> Self {
        Self {
            now: 0,
            at_peak: AtPeak::new(clock),
        }
    }

    /// As it was folded.
    pub(super) fn restored(clock: &PeakClock, [now, at_peak]: [u128; 2]) -> Self {
        let bounded = |bytes: u128| bytes.min(u128::MAX >> 4);
        let mut tracked = Self::new(clock);
        tracked.now = bounded(now);
        tracked.at_peak.restore(clock, bounded(at_peak));
        tracked
    }

    pub(super) fn now(&self) -> u128 {
        self.now
    }

    pub(super) fn at_peak(&self, clock: &PeakClock) -> u128 {
        self.at_peak.get(clock, self.now)
    }

    /// So much more, once the clock has moved.
    pub(super) fn more(&mut self, clock: &PeakClock, bytes: u128) {
        self.at_peak.save(clock, self.now);
        self.now += bytes;
    }

    /// So much less, once the clock has moved. A fold need not tell the truth: below nothing there is nothing.
    pub(super) fn less(&mut self, clock: &PeakClock, bytes: u128) {
        self.at_peak.save(clock, self.now);
        self.now = self.now.saturating_sub(bytes);
    }

    /// So many more, or less if that is below zero.
    pub(super) fn shift(&mut self, clock: &PeakClock, bytes: i128) {
        match bytes {
            0.. => self.more(clock, bytes.unsigned_abs()),
            _ => self.less(clock, bytes.unsigned_abs()),
        }
    }
}
