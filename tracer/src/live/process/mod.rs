//! One process: its live set, and what each call does to it.

use std::collections::BTreeMap;

use super::books::{Books, Held};
use super::holdings::{Holding, Holdings};
use super::lifetimes::{Ledger, Scene};
use super::mappings::Mappings;
use super::movements::{Journal, Movement};
use super::sampling::Sampling;
use super::snapshot::Amount;
use super::totals::Totals;
use crate::event::{Nanos, ProcessId, Tid};

mod baseline;
mod blocks;
mod eras;
mod inherit;
mod kin;
mod mapped;
mod resize;
mod table;

pub(super) use baseline::BaselineSource;
pub(super) use blocks::Block;
use kin::Kin;
pub(super) use kin::{Estate, add};
pub(super) use resize::Old;
use resize::Resize;
pub(super) use table::Blocks;

/// A traced process.
///
/// Every change goes through both books, its own and those of all, before it reaches the holding: that order is what
/// the argument in [`crate::peak`] asks for.
#[derive(Debug)]
pub(in crate::live) struct Process {
    pub(in crate::live) id: ProcessId,
    pub(in crate::live) books: Books,
    pub(in crate::live) totals: Totals,
    /// Something happened in it, or it got its parent's live set.
    pub(in crate::live) begun: bool,
    /// It was said that it is traced. A forked child may end before that.
    pub(in crate::live) opened: bool,
    /// When tracing of it ended: what is said of it later changes nothing.
    pub(in crate::live) ended: Option<Nanos>,
    /// It is gone, and what it held with it. One that we let go of has ended, and holds what it held.
    pub(in crate::live) released: bool,
    holdings: Holdings,
    pub(in crate::live) mappings: Mappings,
    blocks: Blocks,
    /// Ordered, so that everything that walks it comes out the same each time. It holds as many as threads are inside
    /// `realloc`, so hardly any.
    resizes: BTreeMap<(Tid, u8), Resize>,
    /// Bytes held before tracing began and not freed since.
    baseline_left: u64,
    baseline_source: BaselineSource,
    /// How its calls are sampled now.
    sampling: Sampling,
    /// They were sampled at some time.
    is_sampled: bool,
    scene: Scene,
    /// What it holds together with others.
    pub(in crate::live) kin: Kin,
    /// When what is held no more came and went, if that is kept.
    ledger: Option<Ledger>,
    /// What was live when it was folded, by holding and era, where it has been unfolded.
    folded: BTreeMap<(u32, u16), Amount>,
    /// What came and went, if that is told one by one.
    journal: Option<Journal>,
}

impl Process {
    /// A process whose first event may come now, of which we do not know yet what it holds.
    pub(in crate::live) fn new(id: ProcessId, all: &mut Books, at: Nanos, scene: Scene) -> Self {
        all.admit(Held::default(), at);
        Self::with_books(id, Books::new(at, all.level()), all, scene)
    }

    fn with_books(id: ProcessId, books: Books, all: &Books, scene: Scene) -> Self {
        let kin = Kin::new(&books, all);
        Self {
            id,
            books,
            kin,
            totals: Totals::default(),
            begun: false,
            opened: false,
            ended: None,
            released: false,
            holdings: Holdings::default(),
            mappings: Mappings::default(),
            blocks: Blocks::default(),
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
    pub(in crate::live) fn restored(
        id: ProcessId,
        (books, all): (Books, &Books),
        sampling: Sampling,
        scene: Scene,
        holdings: Vec<Holding>,
    ) -> Self {
        Self {
            holdings: Holdings::restored(holdings),
            sampling,
            ..Self::with_books(id, books, all, scene)
        }
    }

    /// What was folded beside the books: what is left of the baseline, whether calls were sampled at some time, what is live by
    /// holding and era, and what went by holding and the eras in which it came and went, bytes and blocks.
    pub(in crate::live) fn restore(
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

    /// Its calls were sampled at some time.
    pub(in crate::live) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// What each stack held at the process's own peak.
    pub(in crate::live) fn at_own_peak(&self) -> impl Iterator<Item = (&Holding, Held)> {
        let clock = &self.books.clock;
        let holdings = self.holdings.iter();
        holdings.map(move |holding| (holding, holding.at_own_peak.get(clock, holding.now)))
    }

    /// What each stack held, and the process answered for, at the peak of all processes.
    pub(in crate::live) fn at_peak_of_all(
        &self,
        all: &Books,
    ) -> impl Iterator<Item = (&Holding, Held)> {
        self.holdings.iter().map(move |holding| {
            // A holding keeps its last state for the process's own end, but by now it is gone for all.
            let now = match self.released {
                false => holding.joint,
                true => Held::default(),
            };
            (holding, holding.at_peak_of_all.get(&all.clock, now))
        })
    }

    /// What each stack holds now, or held when the process ended.
    pub(in crate::live) fn now(&self) -> impl Iterator<Item = (&Holding, Held)> {
        self.holdings.iter().map(|holding| (holding, holding.now))
    }

    /// What each stack holds of what the process answers for, or held when it ended.
    pub(in crate::live) fn joint(&self) -> impl Iterator<Item = (&Holding, Held)> {
        self.holdings.iter().map(|holding| (holding, holding.joint))
    }

    /// Tells what came and went since it was last asked.
    pub(in crate::live) fn hand_over_movements(&mut self, to: &mut Vec<Movement>) {
        if let Some(journal) = &mut self.journal {
            journal.hand_over(to);
        }
    }

    /// Calls are sampled so from here on.
    pub(in crate::live) fn sample(&mut self, sampling: Sampling) {
        self.sampling = sampling;
        self.is_sampled |= sampling != Sampling::default();
    }

    /// The process is traced no more: for all, everything that it answered for is gone. What others hold too has gone over to
    /// them before. Its own books stay as they are, for that was the state at its end.
    pub(in crate::live) fn end(&mut self, all: &mut Books, at: Nanos) {
        self.ended = Some(at);
        self.released = true;
        let baseline = match self.baseline_source {
            BaselineSource::Own => self.baseline_left,
            BaselineSource::Unknown | BaselineSource::Inherited => 0,
        };
        let mut answered = Held::default();
        for holding in self.holdings.iter() {
            if all.level().contains(holding.kind) {
                answered += holding.joint;
            }
        }
        // A fold need not tell the truth.
        all.retire(answered.least(all.now().live), baseline);
        for holding in self.holdings.iter_mut() {
            holding.at_peak_of_all.save(&all.clock, holding.joint);
        }
        let elsewhere = self.kin.elsewhere.now();
        self.kin.elsewhere.less(&all.clock, elsewhere);
        if let Some(journal) = &mut self.journal {
            let held = self
                .holdings
                .iter()
                .filter(|holding| holding.joint.blocks > 0);
            held.for_each(|holding| journal.went(self.id, holding, holding.joint));
            journal.of_baseline(false, baseline);
        }
        if self.ledger.is_some() {
            let born = self.births(all);
            if let Some(ledger) = &mut self.ledger {
                ledger.all_gone(born, self.scene.era);
            }
        }
        // The tables may be huge, and nothing can ask for them any more. What other processes share of them stays.
        self.blocks = Blocks::default();
        self.mappings = Mappings::default();
        self.folded = BTreeMap::new();
        self.holdings.close();
        self.resizes.clear();
        self.kin.clear();
    }
}
