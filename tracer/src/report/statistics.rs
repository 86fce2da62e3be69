//! What all blocks were like: how large, how long they lived, how many there were when, in which thread.

mod blocks;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use serde::Serialize;

use self::blocks::{Block, Blocks};
use crate::event::{Address, Call, Event, FunctionIndex, ProcessId, Tid};
use crate::record::{Does, Function};

/// Steps of a histogram of lifetimes: below 1 µs, then powers of ten up to an hour and more.
const LIFETIMES: [(u64, &str); 11] = [
    (1_000, "< 1 µs"),
    (10_000, "< 10 µs"),
    (100_000, "< 100 µs"),
    (1_000_000, "< 1 ms"),
    (10_000_000, "< 10 ms"),
    (100_000_000, "< 100 ms"),
    (1_000_000_000, "< 1 s"),
    (10_000_000_000, "< 10 s"),
    (60_000_000_000, "< 1 min"),
    (3_600_000_000_000, "< 1 h"),
    (u64::MAX, "1 h or more"),
];

/// So many blocks, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Number of blocks.
    pub blocks: u64,
    /// Their requested sizes.
    pub bytes: u64,
}

impl Count {
    fn add(&mut self, size: u64) {
        self.blocks += 1;
        self.bytes = self.bytes.saturating_add(size);
    }
}

/// Blocks of a range of sizes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfSize {
    /// The smallest size, bytes.
    pub from: u64,
    /// The largest size, bytes.
    pub to: u64,
    /// Blocks of these sizes.
    #[serde(flatten)]
    pub count: Count,
}

/// Blocks that lived so long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfLifetime {
    /// How long, in words.
    pub lived: &'static str,
    /// Blocks that lived so long.
    #[serde(flatten)]
    pub count: Count,
}

/// Blocks that a thread asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfThread {
    /// The process that the thread belongs to.
    pub process: ProcessId,
    /// The thread's id.
    pub tid: Tid,
    /// Blocks that it asked for.
    #[serde(flatten)]
    pub count: Count,
    /// How many it freed, whoever had asked for them.
    pub freed: u64,
    /// How many of its own were freed before it asked for the next one.
    pub temporary: u64,
}

/// A function's name, and what was asked of it.
pub type OfFunction<'a> = (&'a str, OfCalls<'a>);

/// Blocks that were asked of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct OfCalls<'a> {
    /// Blocks that its calls gave.
    #[serde(flatten)]
    pub count: Count,
    /// The allocator that it belongs to.
    pub allocator: Option<&'a str>,
    /// What it is for.
    pub does: Option<Does>,
}

/// Counts all blocks, event by event. A resize is the free and the allocation that it stands for.
#[derive(Debug)]
pub struct Statistics {
    all: Count,
    /// By the number of bits of the size.
    sizes: [Count; 65],
    lifetimes: [Count; LIFETIMES.len()],
    functions: HashMap<FunctionIndex, Count, FixedState>,
    defined: HashMap<FunctionIndex, Function, FixedState>,
    threads: HashMap<(ProcessId, Tid), Thread, FixedState>,
    live: HashMap<ProcessId, Blocks, FixedState>,
}

#[derive(Debug, Default)]
struct Thread {
    count: Count,
    freed: u64,
    temporary: u64,
    /// Where the block is that it asked for last: of its blocks, that one alone can be temporary.
    latest: Option<Address>,
}

impl Default for Statistics {
    fn default() -> Self {
        Self {
            all: Count::default(),
            sizes: [Count::default(); 65],
            lifetimes: Default::default(),
            functions: HashMap::default(),
            defined: HashMap::default(),
            threads: HashMap::default(),
            live: HashMap::default(),
        }
    }
}

impl Statistics {
    /// The recording says what a function is.
    pub(super) fn define(&mut self, function: Function) {
        self.defined.insert(function.index, function);
    }

    /// Nothing more happens.
    pub(super) fn end(&mut self) {
        self.live = HashMap::default();
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match event.call {
            Call::Allocated {
                function,
                address,
                size,
                ..
            }
            | Call::Resized {
                function,
                address,
                size,
                ..
            } => self.allocated(event, function, address, size),
            Call::Freed { address, .. } | Call::ResizeBegan { address, .. } => {
                self.freed(event, address);
            }
            Call::Executed { .. } | Call::Exited { .. } => {
                self.live.remove(&event.process);
            }
            _ => {}
        }
    }

    fn allocated(&mut self, event: &Event, function: FunctionIndex, address: Address, size: u64) {
        self.all.add(size);
        self.sizes[(u64::BITS - size.leading_zeros()) as usize].add(size);
        self.functions.entry(function).or_default().add(size);
        let thread = self.threads.entry((event.process, event.thread));
        let thread = thread.or_default();
        thread.count.add(size);
        thread.latest = Some(address);
        let block = Block {
            at: event.at,
            size,
            thread: event.thread,
        };
        let live = self.live.entry(event.process).or_default();
        live.insert(address, block);
    }

    fn freed(&mut self, event: &Event, address: Address) {
        let live = self.live.get_mut(&event.process);
        let Some(block) = live.and_then(|live| live.remove(address)) else {
            return;
        };
        let lived = event.at.0.saturating_sub(block.at.0);
        let step = LIFETIMES.iter().position(|(below, _)| lived < *below);
        self.lifetimes[step.unwrap_or(LIFETIMES.len() - 1)].add(block.size);
        let by = self.threads.entry((event.process, event.thread));
        by.or_default().freed += 1;
        if let Some(of) = self.threads.get_mut(&(event.process, block.thread))
            && of.latest == Some(address)
        {
            of.temporary += 1;
        }
    }

    /// All of them.
    pub fn all(&self) -> Count {
        self.all
    }

    /// By size, powers of two; from the smallest that there was to the largest.
    pub fn sizes(&self) -> Vec<OfSize> {
        let used = |count: &Count| count.blocks > 0;
        let first = self.sizes.iter().position(used).unwrap_or(0);
        let last = self.sizes.iter().rposition(used).map_or(0, |last| last + 1);
        (first..last)
            .map(|bits| OfSize {
                from: if bits == 0 { 0 } else { 1 << (bits - 1) },
                to: u64::MAX.checked_shr(64 - bits as u32).unwrap_or(0),
                count: self.sizes[bits],
            })
            .collect()
    }

    /// By how long they lived: those that were freed, and last those that were not.
    pub fn lifetimes(&self) -> Vec<OfLifetime> {
        let mut not_freed = self.all;
        let mut lifetimes = Vec::new();
        for ((_, lived), count) in LIFETIMES.iter().zip(self.lifetimes) {
            not_freed.blocks -= count.blocks;
            not_freed.bytes = not_freed.bytes.saturating_sub(count.bytes);
            lifetimes.push(OfLifetime { lived, count });
        }
        lifetimes.push(OfLifetime {
            lived: "not freed",
            count: not_freed,
        });
        lifetimes
    }

    /// By the function that was called, most blocks first.
    pub fn functions(&self) -> Vec<OfFunction<'_>> {
        let mut all: Vec<_> = self.functions.iter().collect();
        all.sort_by_key(|(index, count)| (std::cmp::Reverse(count.blocks), **index));
        all.into_iter()
            .map(|(index, count)| {
                let defined = self.defined.get(index);
                let called = OfCalls {
                    count: *count,
                    allocator: defined.map(|function| function.allocator.as_str()),
                    does: defined.map(|function| function.does),
                };
                let name = defined.map_or("(unknown function)", |function| function.name.as_str());
                (name, called)
            })
            .collect()
    }

    /// By thread, most blocks first.
    pub fn threads(&self) -> Vec<OfThread> {
        let threads = self.threads.iter();
        let mut threads: Vec<OfThread> = threads
            .map(|(&(process, tid), thread)| OfThread {
                process,
                tid,
                count: thread.count,
                freed: thread.freed,
                temporary: thread.temporary,
            })
            .collect();
        threads.sort_by_key(|of| (std::cmp::Reverse(of.count.blocks), of.process, of.tid));
        threads
    }

    /// How many were freed before their thread asked for the next one.
    pub fn temporary(&self) -> u64 {
        self.threads.values().map(|thread| thread.temporary).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Nanos, StackIndex};

    fn event(at: u64, call: Call) -> Event {
        Event {
            at: Nanos(at),
            process: ProcessId(1024),
            thread: Tid(1),
            call,
        }
    }

    fn made(at: u64, address: u64, size: u64) -> Event {
        let call = Call::Allocated {
            function: crate::event::Function::Malloc.into(),
            address: Address(address),
            size,
            stack: StackIndex(1),
        };
        event(at, call)
    }

    fn freed(at: u64, address: u64) -> Event {
        let address = Address(address);
        event(at, Call::Freed { address, header: 0 })
    }

    #[test]
    fn sizes_are_summed_up_by_powers_of_two() {
        let mut statistics = Statistics::default();
        for size in [0, 1, 15, 16, 31, 32] {
            statistics.apply(&made(0, 16 + size * 64, size));
        }
        let sizes: Vec<_> = statistics
            .sizes()
            .iter()
            .filter(|of| of.count.blocks > 0)
            .map(|of| (of.from, of.to, of.count.blocks, of.count.bytes))
            .collect();
        assert_eq!(
            sizes,
            [
                (0, 0, 1, 0),
                (1, 1, 1, 1),
                (8, 15, 1, 15),
                (16, 31, 2, 47),
                (32, 63, 1, 32)
            ]
        );
    }

    #[test]
    fn a_block_counts_by_how_long_it_lived() {
        let mut statistics = Statistics::default();
        for event in [made(0, 16, 5), freed(2_000_000, 16), made(9, 32, 7)] {
            statistics.apply(&event);
        }
        let lived: Vec<_> = statistics
            .lifetimes()
            .into_iter()
            .filter(|of| of.count.blocks > 0)
            .map(|of| (of.lived, of.count.bytes))
            .collect();
        assert_eq!(lived, [("< 10 ms", 5), ("not freed", 7)]);
        assert_eq!(statistics.temporary(), 1);
    }

    proptest! {
        #[test]
        fn every_histogram_adds_up_to_all(
            events in prop::collection::vec((any::<bool>(), 1..9_u64, any::<u64>(), any::<u64>()), 0..60),
        ) {
            let mut statistics = Statistics::default();
            for (is_free, address, at, size) in events {
                statistics.apply(&if is_free { freed(at, address) } else { made(at, address, size) });
            }
            let all = statistics.all().blocks;
            prop_assert_eq!(statistics.sizes().iter().map(|of| of.count.blocks).sum::<u64>(), all);
            prop_assert_eq!(statistics.lifetimes().iter().map(|of| of.count.blocks).sum::<u64>(), all);
            prop_assert_eq!(statistics.functions().iter().map(|(_, calls)| calls.count.blocks).sum::<u64>(), all);
            prop_assert_eq!(statistics.threads().iter().map(|of| of.count.blocks).sum::<u64>(), all);
        }
    }

    #[test]
    fn functions_of_two_allocators_are_told_apart_and_one_that_is_not_defined_counts_too() {
        let mut statistics = Statistics::default();
        for (index, allocator) in [(1, "glibc"), (900, "jemalloc")] {
            statistics.define(Function {
                index: FunctionIndex(index),
                name: "malloc".into(),
                allocator: allocator.into(),
                does: Does::Allocates,
            });
        }
        for (block, function) in [900, 900, 900, 1, 1, 7].into_iter().enumerate() {
            let call = Call::Allocated {
                function: FunctionIndex(function),
                address: Address(block as u64),
                size: 10,
                stack: StackIndex::NONE,
            };
            statistics.apply(&event(1, call));
        }
        let functions: Vec<_> = statistics
            .functions()
            .into_iter()
            .map(|(name, calls)| (name, calls.allocator, calls.count.blocks))
            .collect();
        assert_eq!(
            functions,
            [
                ("malloc", Some("jemalloc"), 3),
                ("malloc", Some("glibc"), 2),
                ("(unknown function)", None, 1)
            ]
        );
    }
}
