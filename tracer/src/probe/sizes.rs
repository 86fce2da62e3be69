//! How large the maps are: as large as the expected rate of events calls for. Pure.

use highwater_common::{
    config::TableSizes,
    process::MAX_PROCESSES,
    python::MAX_INTERPRETERS,
    unwind::{MAX_CODE_RANGES, MAX_RULES},
};

/// The largest event ring that a rate calls for: what a program that does nothing but allocate fills in about a second.
pub const MOST_RING: u32 = 64 << 20;
/// The event ring where nothing is known of the rate.
pub const UNKNOWN_RING: u32 = 32 << 20;
/// The event ring of a target that is idle.
const IDLE_RING: u32 = 4 << 20;
/// The smallest event ring that we choose ourselves.
const LEAST_RING: u32 = 256 << 10;

/// How long a target may go on while nobody reads, seconds. Counting slows it down, so it may call more often than was counted.
const SECONDS: f64 = 2.0;
/// What an event takes of the ring, bytes: itself and the kernel's head.
const EVENT_BYTES: f64 = 56.0;

/// How much is kept beside the events: of threads, blocks, walks and stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tables {
    /// Next to nothing: programs that only count calls.
    None,
    /// What is needed for any use at all.
    Least,
    /// For targets that seldom allocate.
    Small,
    /// As much as is of use.
    Large,
}

/// The size of each map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    ring: u32,
    tables: Tables,
    /// Each block that is sampled has to keep its place.
    samples: bool,
    processors: u32,
}

impl Sizes {
    /// For programs that count calls and send no events.
    pub const COUNTING: Self = Self {
        ring: 4096,
        tables: Tables::None,
        samples: false,
        processors: 1,
    };

    /// For a ring of this size. `samples`: allocations may be sampled.
    pub fn with_ring(ring: u32, samples: bool, processors: u32) -> Self {
        Self {
            ring,
            tables: tables_for(ring).max(Tables::Small),
            samples,
            processors,
        }
    }

    /// For this many calls of the allocator in a second.
    pub fn for_rate(calls_per_s: f64, samples: bool, processors: u32) -> Self {
        let bytes = (calls_per_s * SECONDS * EVENT_BYTES).clamp(0.0, f64::from(MOST_RING));
        let ring = (bytes as u32).next_power_of_two();
        Self::with_ring(ring.clamp(IDLE_RING, MOST_RING), samples, processors)
    }

    /// The next smaller ones. `None`: these are the least.
    pub fn smaller(self) -> Option<Self> {
        if self.ring / 2 >= LEAST_RING {
            let ring = self.ring / 2;
            let tables = self.tables.min(tables_for(ring));
            return Some(Self {
                ring,
                tables,
                ..self
            });
        }
        (self.tables > Tables::Least).then_some(Self {
            tables: Tables::Least,
            ..self
        })
    }

    /// The event ring, bytes.
    pub fn ring(&self) -> u32 {
        self.ring
    }

    /// The tables whose places the kernel side computes.
    pub fn tables(&self) -> TableSizes {
        let most = TableSizes::MOST;
        let few = 1 << most.walks;
        // A walk holds its place while it runs, and a program may be preempted in it.
        let walks = |each: u32| (self.processors * each).next_power_of_two().clamp(16, few);
        let (threads, block_lines, walks) = match self.tables {
            Tables::None => (2, 0, 1),
            Tables::Least => (13, 12, walks(4)),
            Tables::Small => (14, 14, walks(16)),
            Tables::Large => (most.threads, most.block_lines, few),
        };
        TableSizes {
            threads,
            // Of blocks that are not sampled it only saves a look at their heads.
            block_lines: match self.samples {
                true if self.tables >= Tables::Least => most.block_lines,
                _ => block_lines,
            },
            walks: walks.ilog2(),
        }
    }

    /// What each map holds, by its name in the object: entries, or the bytes of a ring. Those that are not named here are as large
    /// as the object says.
    pub(super) fn entries(&self) -> Vec<(&'static str, u32)> {
        let tables = self.tables();
        let (stacks, sent, sent_code) = match self.tables {
            Tables::None => (4096, 64, 64),
            Tables::Least => (512 << 10, 8 << 10, 4 << 10),
            Tables::Small => (2 << 20, 16 << 10, 8 << 10),
            Tables::Large => (4 << 20, 64 << 10, 32 << 10),
        };
        // Frees that find no room in a small ring find it here: the two together hold some 4 MiB at least.
        let spilled = match self.tables {
            Tables::None => 4096,
            Tables::Least => 512 << 10,
            Tables::Small if self.ring >= IDLE_RING => 1 << 20,
            Tables::Small | Tables::Large => 4 << 20,
        };
        let mut entries = vec![
            ("EVENTS", self.ring),
            ("SPILLED", spilled),
            ("STACKS", stacks),
            ("THREADS", 1 << tables.threads),
            ("BLOCKS", 1 << tables.block_lines),
            ("WALKS", 1 << tables.walks),
            ("SENT", sent),
            ("SENT_CODE", sent_code),
        ];
        if self.tables == Tables::None {
            let unused = [
                "CODE_RANGES",
                "RULES",
                "INTERPRETERS",
                "PROCESSES",
                "LOSSES",
            ];
            entries.extend(unused.map(|name| (name, 1)));
        }
        entries
    }

    /// The kernel memory that all maps will take, bytes, nearly: [`super::kernel::Kernel::memory_bytes`] says what they took.
    pub fn bytes(&self) -> u64 {
        /// Kernel memory for an entry, by the kernel's own figures on Linux 6.18.
        const ENTRY: [(&str, u64); 10] = [
            ("THREADS", 264),
            ("BLOCKS", 64),
            ("WALKS", 139_058),
            ("SENT", 80),
            ("SENT_CODE", 88),
            ("CODE_RANGES", 40),
            ("RULES", 24),
            ("INTERPRETERS", 120),
            ("PROCESSES", 140),
            ("LOSSES", 140),
        ];
        const OTHERS: u64 = 300 << 10;
        let mut entries = vec![
            ("CODE_RANGES", MAX_CODE_RANGES),
            ("RULES", MAX_RULES),
            ("INTERPRETERS", MAX_INTERPRETERS),
            ("PROCESSES", MAX_PROCESSES),
            ("LOSSES", MAX_PROCESSES),
        ];
        let given = self.entries();
        entries.retain(|(name, _)| !given.iter().any(|(other, _)| other == name));
        entries.extend(given);
        let of = |&(name, count): &(&str, u32)| -> u64 {
            match ENTRY.iter().find(|(other, _)| *other == name) {
                Some((_, bytes)) => bytes * u64::from(count),
                // A ring's pages are listed twice, and it has three of its own.
                None => u64::from(count) + u64::from(count) / 256 + (12 << 10),
            }
        };
        entries.iter().map(of).sum::<u64>() + OTHERS
    }
}

/// What goes with a ring of that size.
fn tables_for(ring: u32) -> Tables {
    match ring {
        0x100_0000.. => Tables::Large,
        0x40_0000.. => Tables::Small,
        _ => Tables::Least,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idle_target_costs_little_and_a_busy_one_gets_the_large_ring() {
        let idle = Sizes::for_rate(10.0, false, 2);
        assert_eq!(idle.ring(), 4 << 20);
        assert!(idle.bytes() < 30 << 20, "{}", idle.bytes());
        let busy = Sizes::for_rate(1e6, false, 2);
        assert_eq!(busy, Sizes::with_ring(64 << 20, false, 2));
        assert_eq!(busy.tables(), TableSizes::MOST);
        assert_eq!(Sizes::for_rate(f64::INFINITY, false, 2), busy);
        assert_eq!(Sizes::for_rate(100_000.0, false, 2).ring(), 16 << 20);
        assert_eq!(
            Sizes::for_rate(349_014.0, false, 2),
            busy,
            "as `malloc` and `free` in a loop are counted"
        );
    }

    #[test]
    fn the_least_take_a_few_mebibytes() {
        let mut sizes = Sizes::for_rate(1e6, false, 2);
        while let Some(smaller) = sizes.smaller() {
            assert!(smaller.bytes() < sizes.bytes(), "{smaller:?}");
            sizes = smaller;
        }
        assert!(sizes.bytes() < 12 << 20, "{}", sizes.bytes());
        assert!(Sizes::COUNTING.bytes() < 1 << 20, "{:?}", Sizes::COUNTING);
    }

    #[test]
    fn what_is_sampled_keeps_its_place_in_any_ring() {
        let sizes = Sizes::with_ring(64 << 10, true, 2);
        assert_eq!(sizes.tables().block_lines, TableSizes::MOST.block_lines);
    }

    proptest! {
        #[test]
        fn no_table_is_larger_than_the_kernel_side_can_use(
            ring in 4096u32..1 << 30, samples: bool, processors in 1u32..8192
        ) {
            let mut sizes = Some(Sizes::with_ring(ring, samples, processors));
            while let Some(these) = sizes {
                let (tables, most) = (these.tables(), TableSizes::MOST);
                prop_assert!(tables.threads <= most.threads && tables.walks <= most.walks);
                prop_assert!(tables.block_lines <= most.block_lines);
                sizes = these.smaller();
            }
        }
    }
}
