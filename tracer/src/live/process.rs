//! The live set of one process, and what each call does to it.

use std::collections::BTreeMap;
use std::mem;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use serde::{Deserialize, Serialize};

use super::books::{Books, Held, Shift};
use super::holdings::{Holding, Holdings};
use super::lifetimes::{Asker, Ledger, Life, Scene};
use super::mappings::{Area, Mappings};
use super::movements::{Journal, Movement};
use super::neighbours::Neighbours;
use super::ranges::Change;
use super::sampling::Sampling;
use super::snapshot::Amount;
use super::totals::Totals;
use crate::event::{Address, Mapping, Nanos, ProcessId, Tid};

/// A live block. With its address it takes 24 bytes in the table, of which there may be many millions.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Requested size, bytes.
    size: u64,
    /// Index of its holder in the process.
    holder: u32,
    /// The era in which it came.
    born: u16,
    /// How it came to be seen.
    sampling: Sampling,
}

impl Block {
    /// What it stands for.
    fn weigh(self, address: Address) -> Held {
        self.sampling.weigh(address, self.size)
    }
}

const _: () = assert!(size_of::<(Address, Block)>() == 24, "a block stays small");

/// The old block of a resize that is under way: retired, but it may live on.
#[derive(Clone, Copy, Debug)]
struct Resize {
    address: Address,
    old: Old,
}

#[derive(Clone, Copy, Debug)]
enum Old {
    Known(Block),
    /// Not seen allocated; this much of the baseline went with it, bytes.
    Unmatched(u64),
}

/// Where the baseline of a process comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum BaselineSource {
    /// Nobody has told: an event came first.
    #[default]
    Unknown,
    /// It was held when tracing began.
    Own,
    /// It is a copy of the parent's. The memory itself is the parent's, shared until one of them writes, so what the
    /// child gives back is felt in the child's books, not in those of all.
    Inherited,
}

/// What a child starts with.
pub(super) struct Legacy {
    blocks: HashMap<Address, Block, Neighbours>,
    holdings: Holdings,
    mappings: Mappings,
    live: Held,
    resizes: BTreeMap<(Tid, u8), Resize>,
    baseline_left: u64,
}

/// A traced process.
///
/// Every change goes through both books, its own and those of all, before it reaches the holding: that order is what
/// the argument in [`crate::peak`] asks for.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) books: Books,
    pub(super) totals: Totals,
    /// Something happened in it, or it got its parent's live set.
    pub(super) begun: bool,
    /// When tracing of it ended: what is said of it later changes nothing.
    pub(super) ended: Option<Nanos>,
    /// It is gone, and what it held with it. One that we let go of has ended, and holds what it held.
    pub(super) released: bool,
    holdings: Holdings,
    mappings: Mappings,
    blocks: HashMap<Address, Block, Neighbours>,
    /// Ordered, so that everything that walks it comes out the same each time. It holds as many as threads are inside
    /// `realloc`, so hardly any.
    resizes: BTreeMap<(Tid, u8), Resize>,
    /// Of what it held before it was traced, not given back yet, bytes.
    baseline_left: u64,
    baseline_source: BaselineSource,
    /// How its calls are sampled now.
    sampling: Sampling,
    /// They were sampled at some time.
    is_sampled: bool,
    scene: Scene,
    /// When what is held no more came and went, if that is kept.
    ledger: Option<Ledger>,
    /// What was live when it was folded, by holding and era, where it has been unfolded.
    folded: BTreeMap<(u32, u16), Amount>,
    /// What came and went, if that is told one by one.
    journal: Option<Journal>,
}

impl Process {
    /// A process whose first event may come now, of which we do not know yet what it holds.
    pub(super) fn new(id: ProcessId, all: &mut Books, at: Nanos, scene: Scene) -> Self {
        all.admit(Held::default(), at);
        Self::with_books(id, Books::new(at), scene)
    }

    fn with_books(id: ProcessId, books: Books, scene: Scene) -> Self {
        Self {
            id,
            books,
            totals: Totals::default(),
            begun: false,
            ended: None,
            released: false,
            holdings: Holdings::default(),
            mappings: Mappings::default(),
            blocks: HashMap::default(),
            resizes: BTreeMap::new(),
            baseline_left: 0,
            baseline_source: BaselineSource::Unknown,
            sampling: Sampling::default(),
            is_sampled: false,
            scene,
            ledger: scene.eras.then(Ledger::default),
            folded: BTreeMap::new(),
            journal: scene.movements.then(Journal::default),
        }
    }

    /// A process that was folded, with these books and holdings; [`restore`](Self::restore) gives it the rest.
    pub(super) fn restored(
        id: ProcessId,
        books: Books,
        sampling: Sampling,
        scene: Scene,
        holdings: Vec<Holding>,
    ) -> Self {
        Self {
            holdings: Holdings::restored(holdings),
            sampling,
            ..Self::with_books(id, books, scene)
        }
    }

    /// What was folded beside the books: what is left of the baseline, whether calls were sampled at some time, what is live by
    /// holding and era, and what went by holding and the eras in which it came and went, bytes and blocks.
    pub(super) fn restore(
        &mut self,
        (baseline_left, baseline_source): (u64, BaselineSource),
        is_sampled: bool,
        live: BTreeMap<(u32, u16), Amount>,
        gone: Vec<(u32, u16, u16, u64, u64)>,
    ) {
        self.baseline_left = baseline_left;
        self.baseline_source = baseline_source;
        self.is_sampled = is_sampled;
        self.folded = live;
        if self.ledger.is_some() {
            self.ledger = Some(Ledger::restored(gone));
        }
    }

    /// What is left of the baseline, and where that comes from.
    pub(super) fn baseline(&self) -> (u64, BaselineSource) {
        (self.baseline_left, self.baseline_source)
    }

    /// Its calls were sampled at some time.
    pub(super) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What it held before it was traced becomes known. What was inherited is known already, and better: the kernel
    /// cannot tell it from the parent's live blocks.
    pub(super) fn set_baseline(&mut self, bytes: u64) {
        if self.baseline_source == BaselineSource::Unknown {
            self.baseline_left = bytes;
            self.baseline_source = BaselineSource::Own;
        }
    }

    /// What each stack held at the process's own peak.
    pub(super) fn at_own_peak(&self) -> impl Iterator<Item = (&Holding, Held)> {
        let clock = &self.books.clock;
        let holdings = self.holdings.iter();
        holdings.map(move |holding| (holding, holding.at_own_peak.get(clock, holding.now)))
    }

    /// What each stack held at the peak of all processes.
    pub(super) fn at_peak_of_all(&self, all: &Books) -> impl Iterator<Item = (&Holding, Held)> {
        self.holdings.iter().map(move |holding| {
            // A holding keeps its last state for the process's own end, but by now it is gone for all.
            let now = match self.released {
                false => holding.now,
                true => Held::default(),
            };
            (holding, holding.at_peak_of_all.get(&all.clock, now))
        })
    }

    /// What each stack holds now, or held when the process ended.
    pub(super) fn now(&self) -> impl Iterator<Item = (&Holding, Held)> {
        self.holdings.iter().map(|holding| (holding, holding.now))
    }

    /// Tells what came and went since it was last asked.
    pub(super) fn hand_over_movements(&mut self, to: &mut Vec<Movement>) {
        if let Some(journal) = &mut self.journal {
            journal.hand_over(to);
        }
    }

    /// A call returned a block.
    pub(super) fn allocate(
        &mut self,
        all: &mut Books,
        at: Nanos,
        address: Address,
        size: u64,
        asker: Asker,
    ) {
        let holder = self.holdings.of_blocks(asker, &self.books, all);
        let block = Block {
            size,
            holder,
            born: self.scene.era,
            sampling: self.sampling,
        };
        let held = block.weigh(address);
        self.totals.allocated(held);
        self.holdings.get_mut(holder).allocated.add(held);
        if let Some(replaced) = self.blocks.insert(address, block) {
            self.totals.replaced();
            self.drop_block(all, address, replaced);
        }
        self.hold_block(all, at, address, block);
    }

    /// From here on it is this era.
    pub(super) fn begin_era(&mut self, era: u16) {
        self.scene.era = era;
    }

    /// Two eras are one from here on, and so are all pairs of eras before.
    pub(super) fn halve_eras(&mut self) {
        self.scene.era /= 2;
        for block in self.blocks.values_mut() {
            block.born /= 2;
        }
        self.mappings.born(|born| born / 2);
        if let Some(ledger) = &mut self.ledger {
            ledger.halve();
        }
        for ((holder, born), amount) in mem::take(&mut self.folded) {
            let of = self.folded.entry((holder, born / 2)).or_default();
            of.bytes = of.bytes.saturating_add(amount.bytes);
            of.blocks = of.blocks.saturating_add(amount.blocks);
        }
    }

    /// When what each holding holds and has held came and went.
    pub(super) fn lives(&mut self, all: &Books) -> Vec<(&Holding, Vec<Life>)> {
        let born = Self::births(
            &mut self.holdings,
            &self.books,
            all,
            &self.blocks,
            &self.mappings,
            self.folded.clone(),
        );
        let mut lives = vec![Vec::new(); self.holdings.iter().count()];
        if let Some(ledger) = &self.ledger {
            ledger.lives(born, &mut lives);
        }
        self.holdings.iter().zip(lives).collect()
    }

    /// What is live, by holding and by the era in which it came.
    fn births(
        holdings: &mut Holdings,
        own: &Books,
        all: &Books,
        blocks: &HashMap<Address, Block, Neighbours>,
        mappings: &Mappings,
        folded: BTreeMap<(u32, u16), Amount>,
    ) -> BTreeMap<(u32, u16), Amount> {
        let mut births = folded;
        for (address, block) in blocks {
            let of = births.entry((block.holder, block.born)).or_default();
            of.add(block.weigh(*address));
        }
        for piece in mappings.iter() {
            let Some(kind) = piece.value.kind() else {
                continue;
            };
            let holder = holdings.of_ranges(piece.value.asker, kind, own, all);
            let of = births.entry((holder, piece.value.born)).or_default();
            of.add(Held::block(piece.span.length()));
        }
        births
    }

    /// Calls are sampled so from here on.
    pub(super) fn sample(&mut self, sampling: Sampling) {
        self.sampling = sampling;
        self.is_sampled |= sampling != Sampling::default();
    }

    /// A block was handed back.
    pub(super) fn free(&mut self, all: &mut Books, address: Address, header: Option<u64>) {
        let old = self.retire(all, address, header);
        self.count_free(address, old);
    }

    /// A resize began.
    pub(super) fn begin_resize(
        &mut self,
        all: &mut Books,
        call: (Tid, u8),
        address: Address,
        header: u64,
    ) {
        if let Some(older) = self.resizes.remove(&call) {
            self.abandon(older);
        }
        let old = self.retire(all, address, Some(header));
        self.resizes.insert(call, Resize { address, old });
    }

    /// A resize gave a new block.
    pub(super) fn resize(
        &mut self,
        all: &mut Books,
        at: Nanos,
        call: (Tid, u8),
        address: Address,
        size: u64,
        asker: Asker,
    ) {
        match self.resizes.remove(&call) {
            Some(resize) => self.count_free(resize.address, resize.old),
            None => self.totals.unpaired_resize(),
        }
        self.allocate(all, at, address, size, asker);
    }

    /// A resize failed.
    pub(super) fn fail_resize(
        &mut self,
        all: &mut Books,
        at: Nanos,
        call: (Tid, u8),
        address: Address,
    ) {
        self.totals.failed();
        let Some(resize) = self.end_of_resize(call, address) else {
            return;
        };
        if self.reinstate(all, at, resize) {
            return;
        }
        // Another block took the address while the old one was still there: a free was lost.
        match resize.old {
            Old::Known(_) => self.totals.replaced(),
            Old::Unmatched(bytes) => self.totals.freed_unmatched(bytes),
        }
    }

    /// A resize to zero bytes freed the block.
    pub(super) fn free_by_resize(&mut self, all: &mut Books, call: (Tid, u8), address: Address) {
        match self.end_of_resize(call, address) {
            Some(resize) => self.count_free(resize.address, resize.old),
            // The beginning was lost, so what lies at the address is most likely the old block still.
            None => self.free(all, address, None),
        }
    }

    /// A system call changed the address space.
    ///
    /// What it changed is summed up by holding first: a range that is split or joined leaves and enters the map, but
    /// nothing was held less in between, and no peak was left or reached. Then the losses go through the books, and
    /// after them the gains, so that what replaces something never counts beside it.
    pub(super) fn map(&mut self, all: &mut Books, at: Nanos, thread: Tid, mapping: Mapping) {
        let mut changes = Vec::new();
        self.mappings
            .apply(thread, mapping, self.scene, &mut self.totals, &mut changes);
        let shifts = self.shifts(all, &changes);
        let (losses, gains): (Vec<_>, Vec<_>) =
            shifts.into_iter().partition(|(_, shift)| shift.is_loss());
        if !losses.is_empty() {
            let shift = self.of_the_peak(&losses);
            all.shrink(shift);
            self.books.shrink(shift);
            self.shift(all, &losses);
        }
        if !gains.is_empty() {
            let shift = self.of_the_peak(&gains);
            all.grow(shift, at);
            self.books.grow(shift, at);
            self.shift(all, &gains);
        }
    }

    /// What the changes come to for each holding that they concern.
    fn shifts(&mut self, all: &Books, changes: &[Change<Area>]) -> Vec<(u32, Shift)> {
        let mut by_birth: BTreeMap<(u32, u16), Shift> = BTreeMap::new();
        for change in changes {
            let Some(kind) = change.value.kind() else {
                continue;
            };
            let asker = change.value.asker;
            let holder = self.holdings.of_ranges(asker, kind, &self.books, all);
            let shift = by_birth.entry((holder, change.value.born)).or_default();
            *shift += Shift {
                bytes: change.bytes,
                ranges: change.ranges,
            };
        }
        let mut shifts: BTreeMap<u32, Shift> = BTreeMap::new();
        for ((holder, born), shift) in by_birth {
            if let Some(ledger) = &mut self.ledger {
                ledger.range_gone(holder, born, self.scene.era, shift);
            }
            if born == self.scene.era {
                self.holdings.get_mut(holder).allocated.add_gain(shift);
            }
            *shifts.entry(holder).or_default() += shift;
        }
        shifts.retain(|_, shift| !shift.is_none());
        shifts.into_iter().collect()
    }

    fn of_the_peak(&mut self, shifts: &[(u32, Shift)]) -> Shift {
        let mut sum = Shift::default();
        for (holder, shift) in shifts {
            if self.holdings.get_mut(*holder).kind.makes_the_peak() {
                sum += *shift;
            }
        }
        sum
    }

    fn shift(&mut self, all: &Books, shifts: &[(u32, Shift)]) {
        for (holder, shift) in shifts {
            let holding = self.holdings.get_mut(*holder);
            holding.save(&self.books, all);
            holding.now += *shift;
            if let Some(journal) = &mut self.journal {
                journal.shifted(self.id, holding, *shift);
            }
        }
    }

    /// What a child that is made now starts with.
    pub(super) fn legacy(&self) -> Legacy {
        Legacy {
            blocks: self.blocks.clone(),
            holdings: self.holdings.copy(),
            mappings: self.mappings.copy(),
            live: self.books.now().live,
            resizes: self.resizes.clone(),
            baseline_left: self.baseline_left,
        }
    }

    /// The process, of which nothing happened yet, turns out to be a child that starts with this.
    ///
    /// Resizes that are under way in the parent never end in the child, where those threads do not exist: there the
    /// old blocks live on.
    pub(super) fn inherit(&mut self, all: &mut Books, at: Nanos, legacy: Legacy) {
        self.begun = true;
        self.baseline_left = legacy.baseline_left;
        self.baseline_source = BaselineSource::Inherited;
        all.admit(legacy.live, at);
        self.books.admit(legacy.live, at);
        self.holdings = legacy.holdings;
        self.holdings.begin(&self.books, all);
        if let Some(journal) = &mut self.journal {
            let held = self
                .holdings
                .iter()
                .filter(|holding| holding.now.blocks > 0);
            held.for_each(|holding| journal.came(self.id, holding, holding.now));
        }
        self.mappings = legacy.mappings;
        self.blocks = legacy.blocks;
        if self.ledger.is_some() {
            // To the child all of it came with the fork.
            for block in self.blocks.values_mut() {
                block.born = self.scene.era;
            }
            self.mappings.born(|_| self.scene.era);
        }
        for resize in legacy.resizes.into_values() {
            self.inherit_resize(all, at, resize);
        }
    }

    fn inherit_resize(&mut self, all: &mut Books, at: Nanos, resize: Resize) {
        match resize.old {
            Old::Known(_) => {
                self.reinstate(all, at, resize);
            }
            // The child has given back nothing yet: it only has more to give back.
            Old::Unmatched(bytes) => self.baseline_left += bytes,
        }
    }

    /// The process is traced no more: for all, everything that it held is gone. Its own books stay as they are, for
    /// that was the state at its end.
    pub(super) fn end(&mut self, all: &mut Books, at: Nanos) {
        self.ended = Some(at);
        self.released = true;
        let baseline = match self.baseline_source {
            BaselineSource::Own => self.baseline_left,
            BaselineSource::Unknown | BaselineSource::Inherited => 0,
        };
        all.retire(self.books.now().live, baseline);
        for holding in self.holdings.iter_mut() {
            holding.at_peak_of_all.save(&all.clock, holding.now);
        }
        if let Some(journal) = &mut self.journal {
            let held = self
                .holdings
                .iter()
                .filter(|holding| holding.now.blocks > 0);
            held.for_each(|holding| journal.went(self.id, holding, holding.now));
            journal.of_baseline(false, baseline);
        }
        // The tables may be huge, and nothing can ask for them any more.
        let blocks = mem::take(&mut self.blocks);
        let mappings = mem::take(&mut self.mappings);
        let folded = mem::take(&mut self.folded);
        if let Some(mut ledger) = self.ledger.take() {
            let holdings = &mut self.holdings;
            let born = Self::births(holdings, &self.books, all, &blocks, &mappings, folded);
            ledger.all_gone(born, self.scene.era);
            self.ledger = Some(ledger);
        }
        self.holdings.close();
        self.resizes.clear();
    }

    /// The resize that ends with this call, if its beginning was seen.
    ///
    /// A beginning with another address belongs to an older call of the same slot: its end and our beginning were lost.
    fn end_of_resize(&mut self, call: (Tid, u8), address: Address) -> Option<Resize> {
        match self.resizes.remove(&call) {
            Some(resize) if resize.address == address => Some(resize),
            Some(older) => {
                self.abandon(older);
                self.totals.unpaired_resize();
                None
            }
            None => {
                self.totals.unpaired_resize();
                None
            }
        }
    }

    /// The end of a resize will not be seen any more. Most succeed, so the old block is taken to be gone.
    fn abandon(&mut self, resize: Resize) {
        self.totals.unpaired_resize();
        self.count_free(resize.address, resize.old);
    }

    fn count_free(&mut self, address: Address, old: Old) {
        match old {
            Old::Known(block) => self.totals.freed(block.weigh(address)),
            // Of what was not sampled, nothing is known.
            Old::Unmatched(_) if self.is_sampled => {}
            Old::Unmatched(bytes) => self.totals.freed_unmatched(bytes),
        }
    }

    /// Takes what lies at the address out of the live set, or out of the baseline if we never saw it allocated.
    fn retire(&mut self, all: &mut Books, address: Address, header: Option<u64>) -> Old {
        if let Some(block) = self.blocks.remove(&address) {
            self.drop_block(all, address, block);
            return Old::Known(block);
        }
        // With sampling, a block that is not known is most likely one that was not sampled.
        let bytes = header
            .and_then(chunk_size)
            .filter(|bytes| *bytes <= self.baseline_left && !self.is_sampled)
            .unwrap_or(0);
        if bytes > 0 {
            self.baseline_left -= bytes;
            self.books.retire(Held::default(), bytes);
            if self.baseline_source == BaselineSource::Own {
                all.retire(Held::default(), bytes);
                if let Some(journal) = &mut self.journal {
                    journal.of_baseline(false, bytes);
                }
            }
        }
        Old::Unmatched(bytes)
    }

    /// The old block lives on, unless its address is another block's by now; says whether it does.
    fn reinstate(&mut self, all: &mut Books, at: Nanos, resize: Resize) -> bool {
        let Entry::Vacant(entry) = self.blocks.entry(resize.address) else {
            return false;
        };
        match resize.old {
            Old::Known(mut block) => {
                block.born = self.scene.era;
                entry.insert(block);
                self.hold_block(all, at, resize.address, block);
            }
            Old::Unmatched(0) => {}
            Old::Unmatched(bytes) => {
                self.baseline_left += bytes;
                self.books.restore_baseline(bytes, at);
                if self.baseline_source == BaselineSource::Own {
                    all.restore_baseline(bytes, at);
                    if let Some(journal) = &mut self.journal {
                        journal.of_baseline(true, bytes);
                    }
                }
            }
        }
        true
    }

    fn hold_block(&mut self, all: &mut Books, at: Nanos, address: Address, block: Block) {
        let held = block.weigh(address);
        all.admit(held, at);
        self.books.admit(held, at);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.now += held;
        if let Some(journal) = &mut self.journal {
            journal.came(self.id, holding, held);
        }
    }

    fn drop_block(&mut self, all: &mut Books, address: Address, block: Block) {
        let held = block.weigh(address);
        all.retire(held, 0);
        self.books.retire(held, 0);
        let holding = self.holdings.get_mut(block.holder);
        holding.save(&self.books, all);
        holding.now -= held;
        if let Some(journal) = &mut self.journal {
            journal.went(self.id, holding, held);
        }
        if let Some(ledger) = &mut self.ledger {
            ledger.block_gone(block.holder, block.born, self.scene.era, held);
        }
    }
}

/// Bit of a chunk header: the chunk is a mapping of its own.
const IS_MMAPPED: u64 = 2;
/// Bytes of a page.
const PAGE: u64 = 4096;

/// The memory that glibc's chunk header tells, if it can be one: at least 32 bytes and a multiple of 16, below three flag
/// bits. A block that glibc never made, or an overwritten header, tells nothing.
///
/// A chunk that is a mapping of its own is rounded up to whole pages beyond what was asked for, and the last of them is
/// touched or not: half a page is taken off, which is right on average.
///
/// `struct malloc_chunk` in <https://sourceware.org/git/?p=glibc.git;a=blob;f=malloc/malloc.c;hb=refs/tags/glibc-2.36>.
fn chunk_size(header: u64) -> Option<u64> {
    let size = header & !7;
    if size < 32 || !size.is_multiple_of(16) {
        return None;
    }
    let own_mapping = header & IS_MMAPPED != 0 && size > PAGE;
    Some(if own_mapping { size - PAGE / 2 } else { size })
}
