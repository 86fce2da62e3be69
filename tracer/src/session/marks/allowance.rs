//! How many marks one process or user may make, and all processes together: a recording is not filled by them, nor its reports.

use std::{collections::HashMap, hash::Hash};

use highwater_common::mark::{MARKS_IN_A_SLICE, SLICE_SHIFT};

use crate::event::Nanos;

/// Marks of one in all.
const MOST_OF_ONE: u64 = 100_000;
/// Marks of all together.
const MOST_OF_ALL: u64 = 500_000;

/// Who has made how many marks.
#[derive(Debug)]
pub(super) struct Allowances<Who> {
    of: HashMap<Who, Taken>,
    in_all: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    slice: u64,
    in_slice: u32,
    in_all: u64,
}

impl<Who> Default for Allowances<Who> {
    fn default() -> Self {
        Self {
            of: HashMap::new(),
            in_all: 0,
        }
    }
}

impl<Who: Eq + Hash> Allowances<Who> {
    /// Whether one more mark may be made, by this one at this moment; it counts if so.
    pub(super) fn take(&mut self, who: Who, at: Nanos) -> bool {
        if self.in_all >= MOST_OF_ALL {
            return false;
        }
        let taken = self.of.entry(who).or_default();
        // The kernel side counts in the same slices, so that what it let pass passes here.
        let slice = at.0 >> SLICE_SHIFT;
        if taken.slice != slice {
            (taken.slice, taken.in_slice) = (slice, 0);
        }
        if taken.in_slice >= MARKS_IN_A_SLICE || taken.in_all >= MOST_OF_ONE {
            return false;
        }
        taken.in_slice += 1;
        taken.in_all += 1;
        self.in_all += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The beginning of a slice of time.
    fn slice(number: u64) -> Nanos {
        Nanos(number << SLICE_SHIFT)
    }

    fn taken(allowances: &mut Allowances<u32>, who: u32, at: Nanos, tries: u64) -> u64 {
        (0..tries).filter(|_| allowances.take(who, at)).count() as u64
    }

    #[test]
    fn one_that_makes_too_many_at_once_may_go_on_later_and_others_meanwhile() {
        let mut allowances = Allowances::default();
        let most = u64::from(MARKS_IN_A_SLICE);
        assert_eq!(taken(&mut allowances, 1, slice(5), 5_000), most);
        assert_eq!(taken(&mut allowances, 2, slice(5), 10), 10);
        assert_eq!(taken(&mut allowances, 1, slice(6), 10), 10);
    }

    #[test]
    fn there_is_an_end_to_the_marks_of_one_and_to_those_of_all() {
        let mut allowances = Allowances::default();
        let mut all = |who: u32| -> u64 {
            let slices = 1..1000;
            slices
                .map(|number| taken(&mut allowances, who, slice(number), 2_000))
                .sum()
        };
        assert_eq!(all(1), MOST_OF_ONE);
        let others: u64 = (2..10).map(all).sum();
        assert_eq!(others, MOST_OF_ALL - MOST_OF_ONE);
    }
}
