//! What a process holds together with others of its family.
//!
//! In the books of all, what several hold counts once: one of them **answers** for it. That is whoever asked for it, as long as it
//! holds it without a break; a forked child answers for nothing that it inherited. What the one who answers gives up goes over to
//! the first of those that hold it too (`families.rs` says which that is), and out of the books of all without any. Each holding has
//! what it holds (`now`) and what of it the process answers for (`joint`).
//!
//! Before a call takes something from a process, the live set asks the family and lets it
//! [go over](Process::hand_over); then the call finds that the process does not answer for it, and leaves the books of all alone.
//! So what was allocated since the last fork, and all of a process without a family, costs nothing but one comparison.

use std::mem;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::blocks::Block;
use super::resize::Old;
use super::{Blocks, Process};
use crate::event::{Address, Call, Nanos, Tid};
use crate::live::books::{Books, Held, Tracked};
use crate::live::families::Stretch;
use crate::live::holdings::Holding;
use crate::live::kind::Kind;
use crate::live::lifetimes::Birth;

/// What goes over to one process as another one ends.
#[derive(Debug, Default)]
pub(in crate::live) struct Estate {
    /// By the index of the holding of the heir.
    held: Vec<Held>,
    addresses: Vec<Address>,
}

impl Estate {
    /// One block more, as the heir has it.
    pub(in crate::live) fn add(&mut self, address: Address, block: Block) {
        add(&mut self.held, block.holder, block.weigh(address));
        self.addresses.push(address);
    }
}

/// Adds to what a holding of this index has.
pub(in crate::live) fn add(to: &mut Vec<Held>, holder: u32, held: Held) {
    let holder = holder as usize;
    if to.len() <= holder {
        to.resize(holder + 1, Held::default());
    }
    to[holder] += held;
}

/// What a process has to know of its family.
#[derive(Debug)]
pub(in crate::live) struct Kin {
    /// The stretch that it is in.
    pub(in crate::live) stretch: Stretch,
    /// Its first: what came before, it inherited.
    pub(in crate::live) first: Stretch,
    /// Only what came before this one can be held by others.
    pub(in crate::live) shared_below: Stretch,
    /// Some of them live.
    pub(in crate::live) lives: bool,
    /// Of blocks that it inherited: it answers for them, since then. Without this it answers for what it allocated alone.
    heir_since: Option<Birth>,
    /// But for these, for which it answered before.
    heir_before: HashSet<Address, FixedState>,
    /// Blocks of which the contrary is true.
    unusual: HashSet<Address, FixedState>,
    /// What it holds of what it inherited, of the kinds that make the peak, bytes; at its own peak too.
    pub(in crate::live) inherited: Tracked,
    /// What it holds and another process answers for, of these kinds, bytes; at the peak of all too.
    pub(in crate::live) elsewhere: Tracked,
}

impl Kin {
    /// Of a process that has none, or none yet.
    pub(super) fn new(own: &Books, all: &Books) -> Self {
        Self {
            stretch: Stretch::default(),
            first: Stretch::default(),
            shared_below: Stretch::default(),
            lives: false,
            heir_since: None,
            heir_before: HashSet::default(),
            unusual: HashSet::default(),
            inherited: Tracked::new(&own.clock),
            elsewhere: Tracked::new(&all.clock),
        }
    }

    /// Whether what came in this stretch may be held by others too, or was inherited.
    #[inline]
    pub(in crate::live) fn may_share(&self, stretch: Stretch) -> bool {
        stretch < self.shared_below
    }

    fn has_inherited(&self, block: Block) -> bool {
        block.stretch() < self.first
    }

    /// Whether it answers for a block like this, as a rule.
    fn is_answered_as_a_rule(&self, block: Block) -> bool {
        self.heir_since.is_some() || !self.has_inherited(block)
    }

    /// All that it answers for came to it, or was set, since it was forked.
    pub(super) fn answers_for_its_own_alone(&self) -> bool {
        self.first > Stretch::default() && self.heir_since.is_none()
    }

    /// Whether the process answers for a block that it holds.
    pub(super) fn answers(&self, address: Address, block: Block) -> bool {
        self.is_answered_as_a_rule(block) != self.unusual.contains(&address)
    }

    /// From here on it does, or does not.
    fn set_answers(&mut self, address: Address, block: Block, answers: bool) {
        if self.is_answered_as_a_rule(block) != answers {
            self.unusual.insert(address);
        } else {
            self.unusual.remove(&address);
        }
    }

    /// The blocks are gone.
    pub(super) fn clear(&mut self) {
        self.unusual = HashSet::default();
        self.heir_before = HashSet::default();
    }
}

impl Process {
    /// The block that a call takes from the process, if there is one that it answers for and others may hold.
    pub(in crate::live) fn gives_up(&self, thread: Tid, call: &Call) -> Option<(Address, Block)> {
        let address = match *call {
            Call::Allocated { address, .. }
            | Call::Freed { address, .. }
            | Call::ResizeBegan { address, .. }
            | Call::Resized { address, .. } => address,
            Call::ResizeFreed { address, slot } => {
                let resize = self.resizes.get(&(thread, slot));
                if resize.is_some_and(|resize| resize.address == address) {
                    return None;
                }
                address
            }
            _ => return None,
        };
        let block = self.blocks.get(address)?;
        let is_shared = self.kin.may_share(block.stretch()) && self.kin.answers(address, block);
        is_shared.then_some((address, block))
    }

    /// The block that a call puts back.
    pub(in crate::live) fn puts_back(&self, thread: Tid, call: &Call) -> Option<(Address, Block)> {
        let Call::ResizeFailed { address, slot, .. } = *call else {
            return None;
        };
        let resize = self.resizes.get(&(thread, slot))?;
        match resize.old {
            Old::Known(block)
                if resize.address == address && self.blocks.get(address).is_none() =>
            {
                Some((address, block))
            }
            _ => None,
        }
    }

    /// This same block, as the process holds it.
    pub(in crate::live) fn same(&self, address: Address, block: Block) -> Option<Block> {
        let held = self.blocks.get(address);
        held.filter(|held| held.is_same(block))
    }

    /// Takes out of the process what blocks it has, for a look at [those](Self::shared_blocks) that others may hold.
    pub(in crate::live) fn lend_blocks(&mut self) -> Blocks {
        mem::take(&mut self.blocks)
    }

    /// Puts them back.
    pub(in crate::live) fn return_blocks(&mut self, blocks: Blocks) {
        self.blocks = blocks;
    }

    /// All of its blocks that it answers for and others may hold. What it inherited from a large parent is passed over unseen, unless
    /// there is something of its own to look for among it.
    pub(in crate::live) fn shared_blocks<'b>(
        &'b self,
        blocks: &'b Blocks,
    ) -> impl Iterator<Item = (Address, Block)> + 'b {
        let kin = &self.kin;
        let has_few = kin.shared_below == kin.first && kin.heir_since.is_none();
        let few = has_few.then(|| {
            let block = |&address: &Address| Some((address, blocks.get(address)?));
            kin.unusual.iter().filter_map(block)
        });
        let mut of_blocks = self.holdings.iter().filter(|of| of.kind == Kind::Heap);
        let answers_for_any = of_blocks.any(|holding| holding.joint.blocks > 0);
        let many = (!has_few && answers_for_any).then(|| blocks.iter());
        let either = few.into_iter().flatten();
        let either = either.chain(many.into_iter().flatten());
        either.filter(|&(address, block)| {
            kin.may_share(block.stretch()) && kin.answers(address, block)
        })
    }

    /// The process is about to end, and these go over to others. Its ledger hears of them with all else that goes then.
    pub(in crate::live) fn leave(&mut self, all: &Books, legacies: &[Held]) {
        for (holder, held) in (0..).zip(legacies) {
            if *held != Held::default() {
                let holding = self.holdings.get_mut(holder);
                holding.save(&self.books, all);
                holding.joint -= *held;
                if let Some(journal) = &mut self.journal {
                    journal.went(self.id, holding, *held);
                }
            }
        }
    }

    /// Another process ends, and this one holds these blocks too: it answers for them from here on.
    pub(in crate::live) fn take_estate(&mut self, all: &Books, estate: &Estate) {
        for (holder, held) in (0..).zip(&estate.held) {
            if *held != Held::default() {
                let holding = self.holdings.get_mut(holder);
                holding.save(&self.books, all);
                holding.joint += *held;
                self.kin.elsewhere.less(&all.clock, held.bytes);
                if let Some(journal) = &mut self.journal {
                    journal.came(self.id, holding, *held);
                }
            }
        }
        let of_blocks = |holding: &&Holding| holding.kind == Kind::Heap;
        let mut of_blocks = self.holdings.iter().filter(of_blocks);
        let answers_for_all = of_blocks.all(|holding| holding.joint == holding.now);
        drop(of_blocks);
        if answers_for_all {
            // It answers for all of its blocks: nothing need be said of each, but for those that were an exception.
            for address in self.kin.unusual.clone() {
                let block = self.blocks.get(address);
                if block.is_some_and(|block| !self.kin.answers(address, block)) {
                    self.set_born_and_answered(address);
                }
            }
            if self.kin.heir_since.is_none() {
                self.kin.heir_since = Some(self.scene.birth());
                self.kin.heir_before = mem::take(&mut self.kin.unusual);
            }
            self.kin.unusual.clear();
        } else {
            for &address in &estate.addresses {
                self.set_born_and_answered(address);
            }
        }
    }

    /// The process answers for a block of its own from here on.
    fn set_born_and_answered(&mut self, address: Address) -> Option<Block> {
        let birth = self.scene.birth();
        let block = self.blocks.change(address, |block| block.born(birth))?;
        self.kin.set_answers(address, block, true);
        Some(block)
    }

    /// The era in which the process came to answer for a block.
    #[inline]
    pub(super) fn born(&self, address: Address, block: Block) -> u16 {
        let born = block.birth().era(self.scene);
        match self.kin.heir_since {
            Some(since)
                if self.kin.has_inherited(block) && !self.kin.heir_before.contains(&address) =>
            {
                born.max(since.era(self.scene))
            }
            _ => born,
        }
    }

    /// A block goes over to another process that holds it too.
    pub(in crate::live) fn hand_over(&mut self, all: &mut Books, address: Address, block: Block) {
        all.leave_peak();
        let held = block.weigh(address);
        let born = self.born(address, block);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.joint -= held;
        self.kin.set_answers(address, block, false);
        self.kin.elsewhere.more(&all.clock, held.bytes);
        if let Some(journal) = &mut self.journal {
            journal.went(self.id, holding, held);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.block_gone(block.holder, born, self.scene.era, held);
        }
    }

    /// Another process gave this block up, and this one holds it too: it answers for it from here on.
    pub(in crate::live) fn take_over(&mut self, all: &mut Books, address: Address) {
        let Some(block) = self.set_born_and_answered(address) else {
            return;
        };
        let held = block.weigh(address);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.joint += held;
        self.kin.elsewhere.less(&all.clock, held.bytes);
        if let Some(journal) = &mut self.journal {
            journal.came(self.id, holding, held);
        }
    }

    /// A block is given up that the process may hold together with others. Says whether it answered for it; if it did not, that
    /// is all.
    #[cold]
    pub(super) fn drop_shared(&mut self, all: &mut Books, address: Address, block: Block) -> bool {
        let held = block.weigh(address);
        if self.kin.has_inherited(block) {
            self.books.leave_peak();
            self.kin.inherited.less(&self.books.clock, held.bytes);
        }
        let answers = self.kin.answers(address, block);
        self.kin.unusual.remove(&address);
        if !answers {
            all.leave_peak();
            self.books.retire_blocks(held);
            let holding = self.holdings.get_mut(block.holder);
            holding.save(&self.books, all);
            holding.now -= held;
            self.kin.elsewhere.less(&all.clock, held.bytes);
        }
        answers
    }

    /// A block is put back that others may hold; it was in no books meanwhile. `answers`: none of them does.
    pub(super) fn hold_shared(
        &mut self,
        all: &mut Books,
        at: Nanos,
        address: Address,
        (block, answers): (Block, bool),
    ) {
        self.kin.set_answers(address, block, answers);
        if answers {
            self.hold_block(all, at, address, block);
        } else {
            let held = block.weigh(address);
            all.admit(Held::default(), at);
            self.books.admit_blocks(held, at);
            let holding = self.holdings.get_mut(block.holder);
            holding.save(&self.books, all);
            holding.now += held;
            self.kin.elsewhere.more(&all.clock, held.bytes);
        }
        if self.kin.has_inherited(block) {
            let bytes = block.weigh(address).bytes;
            self.kin.inherited.more(&self.books.clock, bytes);
        }
    }
}
