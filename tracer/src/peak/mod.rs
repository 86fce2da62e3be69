//! The peak: when most memory was held, and what each holder held then.
//!
//! # The problem
//!
//! Blocks come and go by the million. At the end we want the moment at which the most bytes were held, and how many
//! bytes and blocks each holder held *at that moment*. Copying all holders at each new maximum would cost far too much:
//! a growing process reaches a new maximum with every allocation.
//!
//! # The idea
//!
//! A value needs no copy as long as it does not change. So nothing is copied when a maximum is reached, and each
//! holder saves its own value, when it next changes, if the peak has been left since it last did.
//!
//! A [`PeakClock`] follows the level: what is held, up to a constant. It ticks on each *falling edge*, that is at the
//! first fall after a maximum was reached (again), and the number of ticks names the peak that was left last. Every
//! value that we want to know at the peak has an [`AtPeak`] for the clock: the number of the last tick that the value
//! has seen, and what the value was then.
//!
//! # Why it is exact
//!
//! The clock is always in one of two states.
//!
//! *At its maximum*: nothing has fallen since the level last rose to its maximum, and the maximum is right now. A rise
//! below the maximum does not lead here, and a rise at or above it always does; so the peak is now, and the value at
//! the peak is the value.
//!
//! *Below*: the peak was left at the latest tick, and what a value was at the peak is what it was at that tick.
//!
//! - If the value has not changed since the tick, the number in its [`AtPeak`] is older than the clock's, and the value
//!   at the peak is still the value itself.
//! - If it has changed since, then [`AtPeak::save`] was called before its first change after the tick. It found the
//!   older number, stored the value as it was until then, and took the clock's number. Later calls find the numbers
//!   equal and leave the stored value alone, until the next tick makes it out of date.
//!
//! This needs one thing of the caller: the clock moves first, then `save` is called for each value that the move
//! concerns, then the value changes. Each step costs O(1), and several clocks may watch the same value, each through an
//! [`AtPeak`] of its own.
//!
//! # Ties
//!
//! The peak is the latest moment at which the level rose to its maximum. A rise by nothing (a block of zero bytes) is a
//! rise, and the moment of opening counts as one: a process that only shrinks has its peak there.
//!
//! # Numbers
//!
//! The level is an `i128`. It is a sum of sizes below 2⁶⁴, of which there are far fewer than 2⁶³, so it cannot overflow
//! whatever a corrupt recording claims.

use crate::event::Nanos;

/// The level of what is held, its maximum, and when that was; see the [module](self).
#[derive(Clone, Debug)]
pub struct PeakClock {
    /// Bytes held, up to a constant.
    level: i128,
    /// The highest level so far.
    maximum: i128,
    /// Nothing has fallen since the level was last at its maximum.
    at_maximum: bool,
    /// How often the maximum has been left.
    ticks: u64,
    /// The latest moment at which the level rose to its maximum.
    peak_at: Nanos,
}

impl PeakClock {
    /// A clock that begins at level 0, which is its first peak.
    pub fn new(at: Nanos) -> Self {
        Self {
            level: 0,
            maximum: 0,
            at_maximum: true,
            ticks: 0,
            peak_at: at,
        }
    }

    /// A clock in the [state](Self::state) that another one had; [`AtPeak::restore`] gives it its values.
    pub(crate) fn restored(
        (level, maximum, at_maximum): (i128, i128, bool),
        peak_at: Nanos,
    ) -> Self {
        Self {
            level,
            maximum,
            at_maximum,
            ticks: 1,
            peak_at,
        }
    }

    /// Level, maximum, and whether nothing has fallen since it was reached.
    pub(crate) fn state(&self) -> (i128, i128, bool) {
        (self.level, self.maximum, self.at_maximum)
    }

    /// `bytes` more are held.
    pub fn rise(&mut self, bytes: u128, at: Nanos) {
        self.level += bytes as i128;
        if self.level >= self.maximum {
            self.maximum = self.level;
            self.at_maximum = true;
            self.peak_at = at;
        }
    }

    /// `bytes` fewer are held.
    pub fn fall(&mut self, bytes: u128) {
        if self.at_maximum {
            self.at_maximum = false;
            self.ticks += 1;
        }
        self.level -= bytes as i128;
    }

    /// The moment of the peak so far.
    pub fn peak_at(&self) -> Nanos {
        self.peak_at
    }
}

/// What a value was at the peak of one clock; see the [module](self).
///
/// The value itself is kept beside it, by whoever changes it.
#[derive(Clone, Copy, Debug)]
pub struct AtPeak<V> {
    /// The value when the clock made this many ticks.
    saved: V,
    ticks: u64,
}

impl<V: Copy + Default> AtPeak<V> {
    /// For a value that comes into being now, as nothing (the default).
    pub fn new(clock: &PeakClock) -> Self {
        Self {
            saved: V::default(),
            ticks: clock.ticks,
        }
    }

    /// Call this before `value` changes, after the clock has moved.
    pub fn save(&mut self, clock: &PeakClock, value: V) {
        if self.ticks != clock.ticks {
            self.saved = value;
            self.ticks = clock.ticks;
        }
    }

    /// This is what the value was when the peak was left that the clock left last.
    pub(crate) fn restore(&mut self, clock: &PeakClock, saved: V) {
        self.saved = saved;
        self.ticks = clock.ticks;
    }

    /// What the value was at the peak, given what it is now.
    pub fn get(&self, clock: &PeakClock, value: V) -> V {
        if clock.at_maximum || self.ticks != clock.ticks {
            value
        } else {
            self.saved
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Some values under one clock, whose level is their sum.
    struct Sums {
        clock: PeakClock,
        values: Vec<(u64, AtPeak<u64>)>,
        at: u64,
    }

    impl Sums {
        fn new(count: usize) -> Self {
            let clock = PeakClock::new(Nanos(0));
            let values = vec![(0, AtPeak::new(&clock)); count];
            Self {
                clock,
                values,
                at: 0,
            }
        }

        fn add(&mut self, index: usize, bytes: u64) {
            self.at += 1;
            self.clock.rise(bytes.into(), Nanos(self.at));
            let (value, at_peak) = &mut self.values[index];
            at_peak.save(&self.clock, *value);
            *value += bytes;
        }

        fn take(&mut self, index: usize, bytes: u64) {
            self.at += 1;
            self.clock.fall(bytes.into());
            let (value, at_peak) = &mut self.values[index];
            at_peak.save(&self.clock, *value);
            *value -= bytes;
        }

        fn peak(&self) -> (Nanos, Vec<u64>) {
            let values = self.values.iter();
            let at_peak = values.map(|(value, at_peak)| at_peak.get(&self.clock, *value));
            (self.clock.peak_at(), at_peak.collect())
        }
    }

    #[test]
    fn the_opening_is_the_peak_of_what_only_shrinks() {
        let mut clock = PeakClock::new(Nanos(7));
        clock.fall(10);
        clock.rise(9, Nanos(8));
        assert_eq!(clock.peak_at(), Nanos(7));
    }

    #[test]
    fn a_value_untouched_since_the_peak_is_what_it_was_then() {
        let mut sums = Sums::new(2);
        sums.add(0, 5);
        sums.add(1, 10);
        sums.take(1, 10);
        sums.add(1, 1);
        assert_eq!(sums.peak(), (Nanos(2), vec![5, 10]));
    }

    #[test]
    fn a_lower_second_hill_changes_nothing_and_a_higher_one_everything() {
        let mut sums = Sums::new(2);
        sums.add(0, 10);
        sums.take(0, 10);
        sums.add(1, 9);
        assert_eq!(sums.peak(), (Nanos(1), vec![10, 0]));
        sums.add(0, 2);
        assert_eq!(sums.peak(), (Nanos(4), vec![2, 9]));
    }

    #[test]
    fn of_two_equal_peaks_the_latest_counts() {
        let mut sums = Sums::new(2);
        sums.add(0, 10);
        sums.take(0, 10);
        sums.add(1, 10);
        sums.take(1, 1);
        assert_eq!(sums.peak(), (Nanos(3), vec![0, 10]));
    }

    #[test]
    fn a_value_born_after_the_peak_was_nothing_at_the_peak() {
        let mut clock = PeakClock::new(Nanos(0));
        clock.rise(10, Nanos(1));
        clock.fall(10);
        clock.rise(4, Nanos(3));
        let born = AtPeak::<u64>::new(&clock);
        assert_eq!(born.get(&clock, 4), 0);
    }

    #[derive(Clone, Copy, Debug)]
    enum Move {
        Add(usize, u64),
        Take(usize, u64),
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0..4_usize, 0..6_u64).prop_map(|(index, bytes)| Move::Add(index, bytes)),
            (0..4_usize, 0..6_u64).prop_map(|(index, bytes)| Move::Take(index, bytes)),
        ];
        prop::collection::vec(one, 0..200)
    }

    proptest! {
        #[test]
        fn the_values_at_the_peak_are_those_that_a_copy_at_each_rise_would_give(moves in moves()) {
            let mut sums = Sums::new(4);
            let mut copies = vec![(Nanos(0), vec![0_u64; 4])];
            for step in moves {
                let now: Vec<u64> = sums.values.iter().map(|(value, _)| *value).collect();
                match step {
                    Move::Add(index, bytes) => {
                        sums.add(index, bytes);
                        let mut copy = now;
                        copy[index] += bytes;
                        copies.push((Nanos(sums.at), copy));
                    }
                    Move::Take(index, bytes) => sums.take(index, bytes.min(now[index])),
                }
                let highest = copies
                    .iter()
                    .max_by_key(|(_, copy)| copy.iter().sum::<u64>())
                    .expect("the opening is there");
                prop_assert_eq!(&sums.peak(), highest);
            }
        }
    }
}
