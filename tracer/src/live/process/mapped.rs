//! What system calls about mappings do to the holdings of a process.

use std::collections::BTreeMap;

use super::Process;
use crate::event::{Mapping, Nanos, Tid};
use crate::live::books::{Books, Shift};
use crate::live::mappings::Area;
use crate::live::ranges::Change;

impl Process {
    /// A system call changed the address space.
    ///
    /// What it changed is summed up by holding first: a range that is split or joined leaves and enters the map, but
    /// nothing was held less in between, and no peak was left or reached. Then the losses go through the books, and
    /// after them the gains, so that what replaces something never counts beside it.
    pub(in crate::live) fn map(
        &mut self,
        all: &mut Books,
        at: Nanos,
        thread: Tid,
        mapping: Mapping,
    ) {
        let mut changes = Vec::new();
        self.mappings
            .apply(thread, mapping, self.scene, &mut self.totals, &mut changes);
        let shifts = self.shifts(all, &changes);
        let (losses, gains): (Vec<_>, Vec<_>) =
            shifts.into_iter().partition(|(_, shift)| shift.is_loss());
        if !losses.is_empty() {
            let shift = self.of_the_level(&losses);
            all.shrink(shift);
            self.books.shrink(shift);
            self.shift(all, &losses);
        }
        if !gains.is_empty() {
            let shift = self.of_the_level(&gains);
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

    fn of_the_level(&mut self, shifts: &[(u32, Shift)]) -> Shift {
        let level = self.books.level();
        let mut sum = Shift::default();
        for (holder, shift) in shifts {
            if level.contains(self.holdings.get_mut(*holder).kind) {
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
}
