//! Unwind tables and code ranges in kernel memory; [`highwater_common::unwind`] says how they hang together.

use std::{
    collections::{HashMap, VecDeque},
    io,
    ops::Range,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use aya::maps::{Array, MapData};
use highwater_common::unwind::{
    CodeRange, MAX_CODE_RANGES, MAX_CODE_RANGES_OF_PROCESS, MAX_RULES, MAX_TABLES, Rule,
};

use super::{ProbeError, sys};

/// How long a run of code ranges that nobody refers to any more is left alone: a walk that began before may still read
/// it, and a child forked before may have inherited it and not been looked at yet.
const REST: Duration = Duration::from_secs(2);

/// The maps of unwind tables.
pub struct Tables {
    outer: OwnedFd,
    rules: Array<MapData, Rule>,
    ranges: Array<MapData, CodeRange>,
    rules_put: u32,
    tables_put: u32,
    bytes: u64,
    space: Space,
}

impl Tables {
    pub(super) fn new(
        outer: OwnedFd,
        rules: Array<MapData, Rule>,
        ranges: Array<MapData, CodeRange>,
    ) -> Self {
        Self {
            outer,
            rules,
            ranges,
            rules_put: 0,
            tables_put: 0,
            bytes: 0,
            space: Space::new(MAX_CODE_RANGES),
        }
    }

    /// Hands over the rules that are new: those behind the ones handed over before.
    ///
    /// # Errors
    ///
    /// The kernel refused; the tables that need them must not be put.
    pub fn put_rules(&mut self, rules: &[Rule]) -> Result<(), ProbeError> {
        for (index, rule) in rules.iter().enumerate().skip(self.rules_put as usize) {
            if index >= MAX_RULES as usize {
                break;
            }
            self.rules
                .set(index as u32, rule, 0)
                .map_err(|error| ProbeError::Tables(io::Error::other(error)))?;
            self.rules_put = index as u32 + 1;
        }
        Ok(())
    }

    /// Makes tables, given as elements (units, then rows), that can be put. Rules come first.
    ///
    /// # Errors
    ///
    /// The kernel has no memory for them, or there are [`MAX_TABLES`] already.
    pub fn make(&mut self, tables: &[Vec<u64>]) -> Result<Made, ProbeError> {
        let slots: Vec<u32> = (self.tables_put..).take(tables.len()).collect();
        if self.tables_put as usize + tables.len() > MAX_TABLES as usize {
            return Err(ProbeError::Tables(io::Error::other(format!(
                "there are {MAX_TABLES} already"
            ))));
        }
        let maps = tables
            .iter()
            .map(|elements| sys::create_table(elements))
            .collect::<io::Result<Vec<_>>>()
            .map_err(ProbeError::Tables)?;
        let outer = self.outer.try_clone().map_err(ProbeError::Tables)?;
        self.tables_put += tables.len() as u32;
        self.bytes += tables
            .iter()
            .map(|elements| size_of_val(elements.as_slice()) as u64)
            .sum::<u64>();
        Ok(Made { outer, slots, maps })
    }

    /// Bytes of all tables.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the code ranges of a process down; the earlier ones rest for a while. `ranges` are sorted and do not overlap.
    pub(super) fn put_ranges(
        &mut self,
        tgid: u32,
        ranges: &[CodeRange],
    ) -> Result<(u32, u32), ProbeError> {
        let ranges = &ranges[..ranges.len().min(MAX_CODE_RANGES_OF_PROCESS as usize)];
        let count = ranges.len() as u32;
        let start = self.space.take(tgid, count).ok_or_else(|| {
            ProbeError::Tables(io::Error::other(format!(
                "more than {MAX_CODE_RANGES} stretches of code in all traced processes together"
            )))
        })?;
        for (index, range) in (start..).zip(ranges) {
            self.ranges
                .set(index, range, 0)
                .map_err(|error| ProbeError::Tables(io::Error::other(error)))?;
        }
        Ok((start, count))
    }

    pub(super) fn drop_ranges(&mut self, tgid: u32) {
        self.space.drop(tgid);
    }
}

/// Tables that the kernel side does not have yet.
pub struct Made {
    outer: OwnedFd,
    slots: Vec<u32>,
    maps: Vec<OwnedFd>,
}

impl Made {
    /// Hands them over; gives their slots, in the order in which they were made. This waits until each program that runs just now
    /// has ended, some ten milliseconds
    /// (<https://github.com/torvalds/linux/blob/v6.18/kernel/bpf/syscall.c#L155>).
    ///
    /// # Errors
    ///
    /// The kernel refused.
    pub fn put(self) -> Result<Vec<u32>, ProbeError> {
        if !self.slots.is_empty() {
            sys::put_maps(self.outer.as_fd(), &self.slots, &self.maps)
                .map_err(ProbeError::Tables)?;
        }
        Ok(self.slots)
    }
}

/// Which runs of an array are taken.
struct Space {
    size: u32,
    taken: HashMap<u32, Range<u32>>,
    resting: VecDeque<(Instant, Range<u32>)>,
}

impl Space {
    fn new(size: u32) -> Self {
        Self {
            size,
            taken: HashMap::new(),
            resting: VecDeque::new(),
        }
    }

    /// The start of a run for an owner, whose earlier run rests from now on.
    fn take(&mut self, owner: u32, count: u32) -> Option<u32> {
        self.drop(owner);
        if count == 0 {
            return Some(0);
        }
        while self
            .resting
            .front()
            .is_some_and(|(since, _)| since.elapsed() > REST)
        {
            self.resting.pop_front();
        }
        let mut start = self.first_gap(count);
        while start.is_none() && self.resting.pop_front().is_some() {
            start = self.first_gap(count);
        }
        let start = start?;
        self.taken.insert(owner, start..start + count);
        Some(start)
    }

    fn drop(&mut self, owner: u32) {
        if let Some(run) = self.taken.remove(&owner) {
            self.resting.push_back((Instant::now(), run));
        }
    }

    fn first_gap(&self, count: u32) -> Option<u32> {
        let mut runs: Vec<&Range<u32>> = self
            .taken
            .values()
            .chain(self.resting.iter().map(|(_, run)| run))
            .collect();
        runs.sort_unstable_by_key(|run| run.start);
        let mut from = 0;
        for run in runs {
            if run.start.saturating_sub(from) >= count {
                return Some(from);
            }
            from = from.max(run.end);
        }
        (self.size.saturating_sub(from) >= count).then_some(from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_that_was_given_up_is_not_taken_again_at_once() {
        let mut space = Space::new(100);
        let first = space.take(1, 10).unwrap();
        let second = space.take(1, 10).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn when_there_is_no_other_room_what_rests_longest_is_taken() {
        let mut space = Space::new(25);
        assert_eq!(space.take(1, 10), Some(0));
        assert_eq!(space.take(1, 10), Some(10));
        assert_eq!(space.take(1, 10), Some(0));
        assert_eq!(space.take(2, 20), None);
    }

    proptest! {
        #[test]
        fn runs_in_use_never_overlap(steps in proptest::collection::vec((0u32..6, 0u32..30), 1..200)) {
            let mut space = Space::new(64);
            for (owner, count) in steps {
                if space.take(owner, count).is_none() {
                    prop_assert!(count > 0);
                }
                let mut runs: Vec<_> = space.taken.values().cloned().collect();
                runs.sort_unstable_by_key(|run| run.start);
                for pair in runs.windows(2) {
                    prop_assert!(pair[0].end <= pair[1].start);
                }
                prop_assert!(runs.iter().all(|run| run.end <= 64));
            }
        }
    }
}
