//! What a forked child starts with.

use std::collections::BTreeMap;

use super::baseline::BaselineSource;
use super::resize::{Old, Resize};
use super::{Blocks, Process};
use crate::event::{Nanos, Tid};
use crate::live::books::{Books, Held};
use crate::live::families::Stretch;
use crate::live::holdings::Holdings;
use crate::live::mappings::Mappings;

/// What a child starts with. The blocks are shared with the parent; holdings and ranges are copied: there is one for each stack, and
/// few.
pub(in crate::live) struct Legacy {
    blocks: Blocks,
    holdings: Holdings,
    mappings: Mappings,
    live: Held,
    resizes: BTreeMap<(Tid, u8), Resize>,
    baseline_left: u64,
    stretch: Stretch,
}

impl Process {
    /// What a child that is forked now starts with.
    pub(in crate::live) fn legacy(&mut self) -> Legacy {
        Legacy {
            blocks: self.blocks.fork(),
            holdings: self.holdings.copy(),
            mappings: self.mappings.fork(),
            live: self.books.now().live,
            resizes: self.resizes.clone(),
            baseline_left: self.baseline_left,
            stretch: self.kin.stretch,
        }
    }

    /// The process, of which nothing happened yet, turns out to be a child that starts with this, and with this stretch: all of
    /// it others answer for. Without a stretch it answers for all of it, as if it had asked for that itself.
    ///
    /// Resizes that are under way in the parent never end in the child, where those threads do not exist: there the
    /// old blocks live on. They are given back, to be [put back](Self::inherit_resize).
    pub(in crate::live) fn inherit(
        &mut self,
        all: &mut Books,
        at: Nanos,
        legacy: Legacy,
        first: Option<Stretch>,
    ) -> Vec<Resize> {
        self.begun = true;
        self.baseline_left = legacy.baseline_left;
        self.baseline_source = BaselineSource::Inherited;
        let stands_alone = first.is_none();
        let answered = match stands_alone {
            true => legacy.live,
            false => Held::default(),
        };
        all.admit(answered, at);
        self.books.admit(legacy.live, at);
        self.holdings = legacy.holdings;
        self.holdings.begin(&self.books, all);
        self.mappings = legacy.mappings;
        self.blocks = legacy.blocks;
        if stands_alone {
            self.mappings.stand_alone();
            for holding in self.holdings.iter_mut() {
                holding.joint = holding.now;
                if let Some(journal) = &mut self.journal
                    && holding.now.blocks > 0
                {
                    journal.came(self.id, holding, holding.now);
                }
            }
        }
        if self.ledger.is_some() {
            // To the child all of it came with the fork.
            self.mappings.born(|_| self.scene.era);
        }
        match first {
            None => self.enter(legacy.stretch),
            Some(first) => {
                self.enter(first);
                self.kin.first = first;
                let held = self.holdings.iter();
                let of_the_peak = held.filter(|holding| holding.kind.makes_the_peak());
                let bytes = of_the_peak.map(|holding| holding.now.bytes).sum();
                self.kin.inherited.more(&self.books.clock, bytes);
                self.kin.elsewhere.more(&all.clock, bytes);
            }
        }
        legacy.resizes.into_values().collect()
    }

    /// Another stretch of the process's life begins.
    pub(in crate::live) fn enter(&mut self, stretch: Stretch) {
        self.kin.stretch = stretch;
        self.mappings.enter(stretch);
    }

    /// The old block of a resize that its parent has under way lives on in a child. `answers`: no other process holds it.
    pub(in crate::live) fn inherit_resize(
        &mut self,
        all: &mut Books,
        at: Nanos,
        resize: Resize,
        answers: bool,
    ) {
        match resize.old {
            Old::Known(_) => {
                self.reinstate(all, at, resize, answers);
            }
            // The child has given back nothing yet: it only has more to give back.
            Old::Unmatched(bytes) => self.baseline_left += bytes,
        }
    }
}
