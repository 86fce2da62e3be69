//! What a forked child starts with.

use std::collections::BTreeMap;

use super::baseline::BaselineSource;
use super::resize::{Old, Resize};
use super::{Blocks, Process};
use crate::event::{Nanos, Tid};
use crate::live::books::{Books, Held};
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
}

impl Process {
    /// What a child that is forked now starts with.
    pub(in crate::live) fn legacy(&mut self) -> Legacy {
        Legacy {
            blocks: self.blocks.fork(),
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
    pub(in crate::live) fn inherit(&mut self, all: &mut Books, at: Nanos, legacy: Legacy) {
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
            self.forked_in = self.scene.era;
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
}
