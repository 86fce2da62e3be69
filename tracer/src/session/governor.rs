//! How much tracing slows the target, and what is done when that is more than was allowed. Pure: numbers in, a decision out.
//!
//! What a hit costs was measured before ([`crate::probe::calibrate`]); how many there are is counted. Their product is the
//! time that tracing takes from the target, and what is left of its processor time is its own. The limit is their ratio.
//!
//! **When.** Over [`WINDOW`], so that a burst that the target hardly feels is no reason; but at once when the time taken is
//! already more than the limit allows for a whole window: a target that does nothing but allocate is slowed tenfold, and must not
//! wait for the window's end.
//!
//! **What.** Sampling spares a call its return, its stack and its event, but not the trap at its entry. Where that is enough it
//! is done. Where it is not, the probes come out.

use std::{collections::HashMap, time::Duration};

use highwater_common::sampling::{MAX_EXPONENT, Sampling};

use super::rate::LEAST_OWN_SHARE;
use crate::probe::calibrate::HitCost;

/// How long what was measured is summed up.
const WINDOW: Duration = Duration::from_secs(1);
/// Tracing may take this much of a processor whatever the limit is: of a program that hardly runs, a few calls come to any part
/// of its time.
const LEAST_LIMITED: f64 = 0.01;
/// The first step from every call to samples: 512 KiB.
const FIRST_EXPONENT: u32 = 19;
/// Further steps: eight times as rare.
const STEP: u32 = 3;

/// What is known so far; all of it only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Hits of all probes.
    pub(super) hits: u64,
    /// Allocations and resizes that were sent.
    pub(super) allocations: u64,
    /// Frees that were sent.
    pub(super) frees: u64,
    /// Processor time of the traced processes.
    pub(super) cpu: Duration,
    /// Since tracing began.
    pub(super) at: Duration,
}

/// Processor time of processes that come and go: of each, what it took since it was first seen.
#[derive(Debug, Default)]
pub(super) struct ProcessorTime {
    last: HashMap<u32, u64>,
    total: u64,
}

impl ProcessorTime {
    /// Takes the clocks of the processes that are there, nanoseconds by pid; gives what all took so far.
    pub(super) fn advance(&mut self, clocks: impl Iterator<Item = (u32, u64)>) -> Duration {
        let before = std::mem::take(&mut self.last);
        for (pid, clock) in clocks {
            self.last.insert(pid, clock);
            if let Some(last) = before.get(&pid) {
                self.total += clock.saturating_sub(*last);
            }
        }
        Duration::from_nanos(self.total)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// The limit is kept: nothing changes.
    GoOn,
    /// Follow only a sample of the allocations from here on.
    Sample {
        /// How often an allocation is sampled.
        sampling: Sampling,
        /// What it was slowed by: 0.31 is 31 %.
        slowdown: f64,
    },
    /// Take the probes out.
    Stop {
        /// What it was slowed by.
        slowdown: f64,
    },
}

/// Watches over the limit.
#[derive(Debug)]
pub(super) struct Governor {
    limit: f64,
    cost: HitCost,
    sampling: Sampling,
    /// What was seen when the window began; `None` before the first look.
    since: Option<Seen>,
}

impl Governor {
    /// At most `limit` (0.05 is 5 %) more processor time.
    pub(super) fn new(limit: f64, cost: HitCost, sampling: Sampling) -> Self {
        Self {
            limit,
            cost,
            sampling,
            since: None,
        }
    }

    /// Processor time that tracing may add, as a part of the target's own: 0.05 is 5 %.
    pub(super) fn limit(&self) -> f64 {
        self.limit
    }

    /// Looks at what has been seen by now.
    pub(super) fn look(&mut self, seen: Seen) -> Verdict {
        // Processor time is counted from the first look on, which comes late where we get little of it ourselves: what was hit
        // before has nothing to be set against.
        let Some(since) = self.since else {
            self.since = Some(seen);
            return Verdict::GoOn;
        };
        let hits = seen.hits.saturating_sub(since.hits) as f64;
        let allocations = seen.allocations.saturating_sub(since.allocations) as f64;
        let frees = seen.frees.saturating_sub(since.frees) as f64;
        let cpu = seen.cpu.saturating_sub(since.cpu).as_nanos() as f64;
        let over = seen.at.saturating_sub(since.at) >= WINDOW;
        // An allocation that is followed hits twice. The rest were let go at their entry.
        let passed = (hits - 2.0 * allocations - frees).max(0.0);
        let taken = allocations * self.cost.allocation_ns
            + frees * self.cost.free_ns
            + passed * self.cost.counted_ns;
        // Both are measured, and their difference must not vanish.
        let own = (cpu - taken).max(cpu * LEAST_OWN_SHARE).max(1.0);
        let slowdown = taken / own;
        let at_once = taken > self.limit.max(LEAST_LIMITED) * WINDOW.as_nanos() as f64;
        let elapsed = seen.at.saturating_sub(since.at).as_nanos() as f64;
        if !(over || at_once) {
            return Verdict::GoOn;
        }
        self.since = Some(seen);
        if slowdown <= self.limit || taken < LEAST_LIMITED * elapsed {
            return Verdict::GoOn;
        }
        // Frees of blocks that were all seen are all told, whatever is sampled after.
        let all_frees = self.sampling.exponent == 0 || self.sampling.all_frees != 0;
        let entries = allocations + frees + passed;
        let least = if all_frees {
            (entries - frees) * self.cost.counted_ns + frees * self.cost.free_ns
        } else {
            entries * self.cost.counted_ns
        };
        let exponent = match self.sampling.exponent {
            0 => FIRST_EXPONENT,
            exponent => exponent + STEP,
        };
        if least > self.limit * own || exponent > MAX_EXPONENT {
            return Verdict::Stop { slowdown };
        }
        self.sampling = Sampling {
            exponent,
            all_frees: u32::from(all_frees),
        };
        Verdict::Sample {
            sampling: self.sampling,
            slowdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: HitCost = HitCost {
        counted_ns: 500.0,
        allocation_ns: 2000.0,
        free_ns: 1000.0,
        rare_ns: 0.0,
    };

    fn governor(exponent: u32) -> Governor {
        let sampling = Sampling {
            exponent,
            all_frees: 0,
        };
        let mut governor = Governor::new(0.05, COST, sampling);
        assert_eq!(governor.look(Seen::default()), Verdict::GoOn);
        governor
    }

    fn exact(pairs: u64, cpu_ms: u64, at_ms: u64) -> Seen {
        Seen {
            hits: 3 * pairs,
            allocations: pairs,
            frees: pairs,
            cpu: Duration::from_millis(cpu_ms),
            at: Duration::from_millis(at_ms),
        }
    }

    #[test]
    fn time_taken_before_a_process_was_seen_and_by_those_that_are_gone_does_not_count() {
        let mut time = ProcessorTime::default();
        let first = time.advance([(1, 1000), (2, 5000)].into_iter());
        assert_eq!(first, Duration::ZERO);
        let second = time.advance([(1, 1700), (3, 9000)].into_iter());
        assert_eq!(second, Duration::from_nanos(700));
    }

    #[test]
    fn what_was_hit_before_the_first_look_is_not_set_against_the_time_since() {
        let mut governor = Governor::new(0.05, COST, Sampling::default());
        assert_eq!(governor.look(exact(7, 0, 10_000)), Verdict::GoOn);
        assert_eq!(governor.look(exact(1000, 1000, 11_000)), Verdict::GoOn);
    }

    #[test]
    fn a_target_that_hardly_allocates_is_left_alone() {
        let mut governor = governor(0);
        // 3 ms of 1 s.
        assert_eq!(governor.look(exact(1000, 1000, 1000)), Verdict::GoOn);
    }

    #[test]
    fn a_target_that_is_idle_but_for_a_few_calls_is_left_alone_whatever_they_come_to() {
        let mut governor = governor(0);
        // 3 ms of 1 s, of which the target used 4 ms.
        for second in 1..20 {
            let seen = exact(1000 * second, 4 * second, 1000 * second);
            assert_eq!(governor.look(seen), Verdict::GoOn);
        }
    }

    #[test]
    fn a_target_that_does_nothing_but_allocate_is_let_go_before_the_window_is_over() {
        let mut governor = governor(0);
        let verdict = governor.look(exact(20_000, 62, 62));
        assert!(matches!(verdict, Verdict::Stop { slowdown } if slowdown > 10.0));
    }

    #[test]
    fn a_short_burst_waits_for_the_end_of_its_window() {
        let mut governor = governor(0);
        // 6 ms of 10 ms, but the window allows 50 ms.
        assert_eq!(governor.look(exact(2000, 10, 10)), Verdict::GoOn);
        assert_eq!(governor.look(exact(2000, 1000, 1000)), Verdict::GoOn);
    }

    #[test]
    fn sampling_is_tried_where_entries_alone_keep_to_the_limit() {
        let mut governor = governor(0);
        // 3 us a pair exact: 60 ms of 1 s, and 1.5 us a pair sampled: 30 ms.
        match governor.look(exact(20_000, 1000, 1000)) {
            Verdict::Sample { sampling, slowdown } => {
                assert_eq!((sampling.exponent, sampling.all_frees), (19, 1));
                assert!(slowdown > 0.05);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn samples_that_are_still_too_many_become_rarer_and_then_the_probes_come_out() {
        let mut governor = governor(19);
        let mut seen = Seen::default();
        let mut verdicts = Vec::new();
        for _ in 0..6 {
            seen.hits += 50_000;
            seen.allocations += 24_000;
            seen.frees += 1000;
            seen.cpu += Duration::from_secs(1);
            seen.at += Duration::from_secs(1);
            verdicts.push(governor.look(seen));
        }
        let rarer = verdicts
            .iter()
            .filter(|verdict| matches!(verdict, Verdict::Sample { .. }));
        assert_eq!(rarer.count(), 4, "{verdicts:?}");
        assert!(matches!(verdicts[4], Verdict::Stop { .. }), "{verdicts:?}");
    }
}
