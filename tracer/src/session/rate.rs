//! How often a process calls its allocator, and what tracing that would cost it. Pure: numbers in, numbers out.

use std::time::Duration;

use crate::probe::calibrate::HitCost;

/// How much of the time that the count seems to leave a process is believed at least: cost and time are measured, and their
/// difference must not vanish.
pub(super) const LEAST_OWN_SHARE: f64 = 0.05;

/// What was counted in a window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Calls that allocate or resize.
    pub allocations: u64,
    /// Calls that free.
    pub frees: u64,
    /// How many of these came after a pause, and so cost more.
    pub rare: u64,
    /// Processor time of the traced processes, the cost of counting included, nanoseconds.
    pub cpu_ns: u64,
    /// How long the window was.
    pub window: Duration,
}

/// What processes do in a second of being counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Calls that allocate or resize.
    pub allocations_per_s: f64,
    /// Calls that free.
    pub frees_per_s: f64,
    /// Calls of these that come after a pause.
    pub rare_per_s: f64,
    /// Their own processor time, nanoseconds.
    pub cpu_ns_per_s: f64,
    /// It may be far less than that: counting took nearly all of their time.
    pub is_at_most: bool,
}

impl Rate {
    /// What a window shows: the calls as they were counted, the processor time less what counting took of it.
    ///
    /// A process that is never idle makes fewer calls while it is counted than it would alone. Where counting took nearly all
    /// of its time, what is left is no more than the error of the measured cost, and the slowdown is a lower bound.
    pub fn of(counted: &Counted, cost: &HitCost) -> Self {
        let Counted {
            allocations,
            frees,
            rare,
            cpu_ns,
            window,
        } = *counted;
        let seconds = window.as_secs_f64();
        if seconds <= 0.0 {
            return Self::default();
        }
        let cpu = cpu_ns as f64;
        let calls = (allocations + frees) as f64;
        let own = cpu - calls * cost.counted_ns;
        let least = cpu * LEAST_OWN_SHARE;
        Self {
            allocations_per_s: allocations as f64 / seconds,
            frees_per_s: frees as f64 / seconds,
            rare_per_s: rare as f64 / seconds,
            cpu_ns_per_s: own.max(least) / seconds,
            is_at_most: own < least,
        }
    }

    /// Calls of all probed functions a second.
    pub fn calls_per_s(&self) -> f64 {
        self.allocations_per_s + self.frees_per_s
    }

    /// Processor time that tracing takes of them in a second, nanoseconds.
    pub fn taken_ns_per_s(&self, cost: &HitCost) -> f64 {
        self.allocations_per_s * cost.allocation_ns
            + self.frees_per_s * cost.free_ns
            + self.rare_per_s * cost.rare_ns
    }

    /// How much more processor time the same work takes when traced: 0.31 is 31 % more. 0 where nothing is called.
    pub fn slowdown(&self, cost: &HitCost) -> f64 {
        let extra = self.taken_ns_per_s(cost);
        if extra <= 0.0 {
            return 0.0;
        }
        extra / self.cpu_ns_per_s.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COST: HitCost = HitCost {
        counted_ns: 500.0,
        allocation_ns: 1500.0,
        free_ns: 500.0,
        rare_ns: 20_000.0,
    };

    fn second(allocations: u64, frees: u64, cpu_ns: u64) -> Counted {
        Counted {
            allocations,
            frees,
            cpu_ns,
            window: Duration::from_secs(1),
            ..Counted::default()
        }
    }

    #[test]
    fn the_cost_of_counting_is_not_the_processes_own_time() {
        // 0.6 s, of which 200 000 counted calls took 0.1 s.
        let rate = Rate::of(&second(100_000, 100_000, 600_000_000), &COST);
        assert_eq!(rate.calls_per_s(), 200_000.0);
        assert_eq!(rate.cpu_ns_per_s, 500_000_000.0);
        // 0.2 s more for 0.5 s.
        assert_eq!(rate.slowdown(&COST), 0.4);
    }

    #[test]
    fn what_is_called_rarely_costs_more() {
        let rare = Counted {
            rare: 10,
            ..second(10, 10, 1_000_000)
        };
        let often = Rate::of(&second(10, 10, 1_000_000), &COST);
        assert_eq!(often.taken_ns_per_s(&COST), 20_000.0);
        assert_eq!(Rate::of(&rare, &COST).taken_ns_per_s(&COST), 220_000.0);
    }

    #[test]
    fn a_process_that_calls_nothing_is_not_slowed() {
        assert_eq!(Rate::of(&second(0, 0, 0), &COST).slowdown(&COST), 0.0);
        assert_eq!(Rate::of(&second(0, 0, 1 << 30), &COST).slowdown(&COST), 0.0);
        assert_eq!(Rate::of(&Counted::default(), &COST), Rate::default());
    }

    #[test]
    fn a_short_window_shows_the_same_rate_and_slowdown() {
        let long = Rate::of(&second(100_000, 50_000, 500_000_000), &COST);
        let short = Rate::of(
            &Counted {
                window: Duration::from_millis(100),
                ..second(10_000, 5_000, 50_000_000)
            },
            &COST,
        );
        assert!((long.calls_per_s() - short.calls_per_s()).abs() < 1e-6);
        assert!((long.slowdown(&COST) - short.slowdown(&COST)).abs() < 1e-9);
    }

    #[test]
    fn a_process_that_only_allocates_has_at_most_a_twentieth_of_its_time_to_itself() {
        // 2 000 000 counted calls take all of the second.
        let rate = Rate::of(&second(1_000_000, 1_000_000, 1_000_000_000), &COST);
        assert!(rate.is_at_most);
        assert_eq!(rate.cpu_ns_per_s, 50_000_000.0);
        assert!(!Rate::of(&second(1000, 1000, 1_000_000_000), &COST).is_at_most);
    }

    proptest! {
        #[test]
        fn a_slowdown_is_a_number_and_grows_with_the_calls(
            allocations in 0u64..1 << 32,
            frees in 0u64..1 << 32,
            cpu_ns in 0u64..1 << 40,
        ) {
            let slowdown = |allocations, frees| Rate::of(&second(allocations, frees, cpu_ns), &COST).slowdown(&COST);
            let one = slowdown(allocations, frees);
            prop_assert!(one.is_finite() && one >= 0.0);
            prop_assert!(slowdown(allocations + 1, frees + 1) >= one);
        }
    }
}
