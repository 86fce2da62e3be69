//! Temporary blocks: freed before their thread had made so many allocations more. A program that makes many of them could do
//! with fewer, or with one that it keeps.

use std::collections::VecDeque;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::{Address, Call, Event, ProcessId, StackIndex, Tid};
use crate::live::{Amount, Holder, Kind};

/// Counts temporary blocks, event by event.
///
/// A resize counts as the free and the allocation that it stands for. A block that another thread frees is temporary by the
/// count of the thread that made it.
///
/// Only the last blocks of each thread may still be freed soon enough, so no more than these are kept.
#[derive(Debug)]
pub(super) struct Temporaries {
    /// Fewer allocations than these come between.
    within: u64,
    by_thread: bool,
    made: HashMap<(ProcessId, Tid), Maker, FixedState>,
    live: HashMap<(ProcessId, Address), Block, FixedState>,
    found: HashMap<(ProcessId, StackIndex, Option<Tid>), Amount, FixedState>,
}

/// A thread that allocates.
#[derive(Debug, Default)]
struct Maker {
    /// How many blocks it has made.
    made: u64,
    /// Where its last ones are, the latest last.
    last: VecDeque<Address>,
}

#[derive(Debug)]
struct Block {
    size: u64,
    stack: StackIndex,
    thread: Tid,
    /// How many its thread had made with it.
    number: u64,
}

impl Temporaries {
    pub(super) fn new(within: u64, by_thread: bool) -> Self {
        Self {
            within,
            by_thread,
            made: HashMap::default(),
            live: HashMap::default(),
            found: HashMap::default(),
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        let (process, thread) = (event.process, event.thread);
        match event.call {
            Call::Allocated {
                address,
                size,
                stack,
                ..
            }
            | Call::Resized {
                address,
                size,
                stack,
                ..
            } => {
                let maker = self.made.entry((process, thread)).or_default();
                maker.made += 1;
                let number = maker.made;
                maker.last.push_back(address);
                if maker.last.len() as u64 > self.within
                    && let Some(old) = maker.last.pop_front()
                {
                    let is_old = |block: &Block| {
                        block.thread == thread && number - block.number == self.within
                    };
                    if self.live.get(&(process, old)).is_some_and(is_old) {
                        self.live.remove(&(process, old));
                    }
                }
                let block = Block {
                    size,
                    stack,
                    thread,
                    number,
                };
                self.live.insert((process, address), block);
            }
            Call::Freed { address, .. } | Call::ResizeBegan { address, .. } => {
                self.free(process, address);
            }
            Call::Executed { .. } | Call::Exited { .. } => {
                self.live.retain(|(of, _), _| *of != process);
                self.made.retain(|(of, _), _| *of != process);
            }
            _ => {}
        }
    }

    fn free(&mut self, process: ProcessId, address: Address) {
        let Some(block) = self.live.remove(&(process, address)) else {
            return;
        };
        let maker = self.made.get(&(process, block.thread));
        let made = maker.map_or(block.number, |maker| maker.made);
        if made - block.number >= self.within {
            return;
        }
        let thread = self.by_thread.then_some(block.thread);
        let found = self.found.entry((process, block.stack, thread));
        let found = found.or_default();
        found.bytes = found.bytes.saturating_add(block.size);
        found.blocks += 1;
    }

    /// Who made them: bytes and blocks of all of them, whenever they were; largest first.
    pub(super) fn holders(&self) -> Vec<Holder> {
        let found = self.found.iter();
        found
            .map(|(&(process, stack, thread), amount)| Holder {
                process,
                stack,
                thread,
                kind: Kind::Heap,
                bytes: amount.bytes,
                error_bytes: 0,
                blocks: amount.blocks,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{Function, Nanos};

    const P: ProcessId = ProcessId(1024);

    fn event(thread: u32, call: Call) -> Event {
        Event {
            at: Nanos(0),
            process: P,
            thread: Tid(thread),
            call,
        }
    }

    fn made(thread: u32, address: u64, stack: u32) -> Event {
        let call = Call::Allocated {
            function: Function::Malloc.into(),
            address: Address(address),
            size: 10,
            stack: StackIndex(stack),
        };
        event(thread, call)
    }

    fn freed(thread: u32, address: u64) -> Event {
        let address = Address(address);
        event(thread, Call::Freed { address, header: 0 })
    }

    fn found(within: u64, events: &[Event]) -> Vec<(u32, u64, u64)> {
        let mut temporaries = Temporaries::new(within, false);
        events.iter().for_each(|event| temporaries.apply(event));
        let mut found: Vec<_> = temporaries
            .holders()
            .iter()
            .map(|holder| (holder.stack.0, holder.bytes, holder.blocks))
            .collect();
        found.sort_unstable();
        found
    }

    #[test]
    fn a_block_freed_before_the_next_allocation_of_its_thread_is_temporary() {
        let events = [
            made(1, 16, 1),
            made(2, 32, 2),
            freed(1, 16),
            made(1, 16, 1),
            made(1, 48, 3),
            freed(1, 16),
        ];
        assert_eq!(found(1, &events), [(1, 10, 1)]);
        assert_eq!(found(2, &events), [(1, 20, 2)]);
    }

    #[test]
    fn who_frees_a_block_does_not_matter() {
        let events = [made(1, 16, 1), made(2, 32, 2), made(2, 48, 2), freed(2, 16)];
        assert_eq!(found(1, &events), [(1, 10, 1)]);
    }

    #[test]
    fn what_was_never_seen_allocated_is_none() {
        assert_eq!(found(9, &[freed(1, 16)]), []);
    }

    proptest! {
        /// The naive twin keeps every block that is live.
        #[test]
        fn only_the_last_blocks_of_each_thread_need_to_be_kept(
            within in 1_u64..5,
            steps in prop::collection::vec((any::<bool>(), 0_u32..3, 0_u64..8), 0..200),
        ) {
            let mut temporaries = Temporaries::new(within, false);
            let mut made_by = HashMap::<u32, u64>::new();
            let mut live = HashMap::<u64, (u32, u64)>::new();
            let mut expected = 0;
            for (allocates, thread, address) in steps {
                if allocates {
                    temporaries.apply(&made(thread, address, 1));
                    let number = made_by.entry(thread).or_default();
                    *number += 1;
                    live.insert(address, (thread, *number));
                } else {
                    temporaries.apply(&freed(thread, address));
                    if let Some((of, number)) = live.remove(&address) {
                        expected += u64::from(made_by[&of] - number < within);
                    }
                }
            }
            let blocks: u64 = temporaries.holders().iter().map(|holder| holder.blocks).sum();
            prop_assert_eq!(blocks, expected);
            let kept = made_by.len() as u64 * within;
            prop_assert!(temporaries.live.len() as u64 <= kept);
        }
    }
}
