//! Who holds memory in one process.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::books::{Books, Held};
use super::chunks::Chunks;
use super::kind::Kind;
use super::lifetimes::Asker;
use super::snapshot::Amount;
use crate::event::{StackIndex, Tid};
use crate::peak::AtPeak;

/// A stack with what of one kind it asked for and is live; of one thread, where threads are told apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holding {
    pub(super) stack: StackIndex,
    pub(super) thread: Option<Tid>,
    pub(super) kind: Kind,
    pub(super) now: Held,
    /// What of it the process answers for, and so counts for it in the books of all.
    pub(super) joint: Held,
    /// All that it ever asked for.
    pub(super) allocated: Amount,
    pub(super) at_own_peak: AtPeak<Held>,
    pub(super) at_peak_of_all: AtPeak<Held>,
}

impl Holding {
    pub(super) fn new(asker: Asker, kind: Kind, own: &Books, all: &Books) -> Self {
        Self {
            stack: asker.stack,
            thread: asker.thread,
            kind,
            now: Held::default(),
            joint: Held::default(),
            allocated: Amount::default(),
            at_own_peak: AtPeak::new(&own.clock),
            at_peak_of_all: AtPeak::new(&all.clock),
        }
    }

    /// Keeps what is held now, if a peak needs it, before it changes.
    pub(super) fn save(&mut self, own: &Books, all: &Books) {
        self.at_own_peak.save(&own.clock, self.now);
        self.at_peak_of_all.save(&all.clock, self.joint);
    }
}

type Index<K> = HashMap<K, u32, FixedState>;

/// The holdings of one process, by a dense index. Those of blocks are found by who asked alone: they are looked up at
/// each allocation.
#[derive(Debug, Default)]
pub(super) struct Holdings {
    list: Chunks<Holding>,
    of_blocks: Index<Asker>,
    of_ranges: Index<(Asker, Kind)>,
}

impl Holdings {
    /// These, in this order.
    pub(super) fn restored(list: Vec<Holding>) -> Self {
        let mut holdings = Self::default();
        for (index, holding) in list.iter().enumerate() {
            let asker = Asker {
                stack: holding.stack,
                thread: holding.thread,
            };
            let index = index as u32;
            match holding.kind {
                Kind::Heap => holdings.of_blocks.insert(asker, index),
                kind => holdings.of_ranges.insert((asker, kind), index),
            };
        }
        holdings.list = list.into_iter().collect();
        holdings
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Holding> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Holding> {
        self.list.iter_mut()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Holding {
        &mut self.list[index as usize]
    }

    /// Index of the holding of the blocks that were asked for so.
    pub(super) fn of_blocks(&mut self, asker: Asker, own: &Books, all: &Books) -> u32 {
        let list = &mut self.list;
        find(list, self.of_blocks.entry(asker), || {
            Holding::new(asker, Kind::Heap, own, all)
        })
    }

    /// Index of the holding of the ranges of this kind that were asked for so.
    pub(super) fn of_ranges(&mut self, asker: Asker, kind: Kind, own: &Books, all: &Books) -> u32 {
        let list = &mut self.list;
        find(list, self.of_ranges.entry((asker, kind)), || {
            Holding::new(asker, kind, own, all)
        })
    }

    /// The same holdings, each with what it holds now, for a process with these books.
    pub(super) fn copy(&self) -> Self {
        Self {
            list: self.list.clone(),
            of_blocks: self.of_blocks.clone(),
            of_ranges: self.of_ranges.clone(),
        }
    }

    /// As [`copy`](Self::copy) made them, they come into being now, and another process answers for what they hold.
    pub(super) fn begin(&mut self, own: &Books, all: &Books) {
        for holding in self.list.iter_mut() {
            let now = holding.now;
            let asker = Asker {
                stack: holding.stack,
                thread: holding.thread,
            };
            *holding = Holding::new(asker, holding.kind, own, all);
            holding.now = now;
        }
    }

    /// No more are looked up from here on.
    pub(super) fn close(&mut self) {
        self.of_blocks = HashMap::default();
        self.of_ranges = HashMap::default();
    }
}

fn find<K: std::hash::Hash + Eq>(
    list: &mut Chunks<Holding>,
    entry: Entry<'_, K, u32, FixedState>,
    new: impl FnOnce() -> Holding,
) -> u32 {
    match entry {
        Entry::Occupied(entry) => *entry.get(),
        Entry::Vacant(entry) => {
            // Six for each asker at most, of which far fewer than 2²⁹ fit in memory.
            let index = list.len() as u32;
            list.push(new());
            *entry.insert(index)
        }
    }
}
