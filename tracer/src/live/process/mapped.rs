//! What system calls about mappings do to the holdings of a process.

use std::collections::BTreeMap;

use super::Process;
use crate::event::{Mapping, Nanos, Tid};
use crate::live::books::{Books, Shift};
use crate::live::kind::Kind;
use crate::live::mappings::{Area, Changes, Share};
use crate::live::ranges::{Change, Span};

/// What changes come to, by holding.
type Shifts = Vec<(u32, Shift)>;

/// In whose books.
#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    /// In the process's own.
    Own,
    /// In those of all.
    Joint,
}

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
        let mut changes = Changes::default();
        self.mappings
            .apply(thread, mapping, self.scene, &mut self.totals, &mut changes);
        let own = self.shifts(all, &changes.own, View::Own);
        let joint = match self.mappings.has_shares() {
            false => self.shifts(all, &changes.own, View::Joint),
            true => self.shifts(all, &answered(&changes.shares), View::Joint),
        };
        self.leave_shared(all, &changes.shares, (&own, &joint));
        let (losses, gains) = parted(own);
        let (joint_losses, joint_gains) = parted(joint);
        if !losses.is_empty() {
            let shift = self.of_the_level(&losses);
            self.books.shrink(shift);
            self.shift(all, &losses, View::Own);
        }
        if !joint_losses.is_empty() {
            all.shrink(self.of_the_level(&joint_losses));
            self.shift(all, &joint_losses, View::Joint);
        }
        if !gains.is_empty() {
            let shift = self.of_the_level(&gains);
            self.books.grow(shift, at);
            self.shift(all, &gains, View::Own);
        }
        if !joint_gains.is_empty() {
            all.grow(self.of_the_level(&joint_gains), at);
            self.shift(all, &joint_gains, View::Joint);
        }
    }

    /// Keeps up what of the ranges was inherited, and what others answer for.
    fn leave_shared(
        &mut self,
        all: &mut Books,
        changes: &[Change<Share>],
        (own, joint): (&Shifts, &Shifts),
    ) {
        if changes.is_empty() {
            return;
        }
        let first = self.kin.first;
        let inherited = changes.iter().filter(|change| {
            let kind = change.value.area.kind();
            change.value.stretch < first && kind.is_some_and(Kind::makes_the_peak)
        });
        let inherited: i128 = inherited.map(|change| change.bytes).sum();
        if inherited != 0 {
            self.books.leave_peak();
            self.kin.inherited.shift(&self.books.clock, inherited);
        }
        let elsewhere = self.of_the_peak(own) - self.of_the_peak(joint);
        if elsewhere != 0 {
            all.leave_peak();
            self.kin.elsewhere.shift(&all.clock, elsewhere);
        }
    }

    /// Other processes hold what lies in these ranges too, and answer for it from here on. Gives what that changes.
    pub(in crate::live) fn hand_ranges_over(&mut self, all: &Books, spans: &[Span]) -> Shifts {
        self.set_answers(all, spans, false)
    }

    /// Another process gave up what lies in these ranges, and this one holds it too: it answers for it from here on. Gives what that
    /// changes.
    pub(in crate::live) fn take_ranges_over(&mut self, all: &Books, spans: &[Span]) -> Shifts {
        self.set_answers(all, spans, true)
    }

    fn set_answers(&mut self, all: &Books, spans: &[Span], answers: bool) -> Shifts {
        let mut changes = Vec::new();
        for span in spans {
            let era = self.scene.era;
            self.mappings.set_answers(*span, answers, era, &mut changes);
        }
        self.shifts(all, &answered(&changes), View::Joint)
    }

    /// Books what came or went so, once the books of all have moved.
    pub(in crate::live) fn shift_answers(&mut self, all: &Books, shifts: &Shifts) {
        let elsewhere = -self.of_the_peak(shifts);
        self.kin.elsewhere.shift(&all.clock, elsewhere);
        self.shift(all, shifts, View::Joint);
    }

    /// What the changes come to for each holding that they concern.
    fn shifts(&mut self, all: &Books, changes: &[Change<Area>], view: View) -> Shifts {
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
            match (view, &mut self.ledger) {
                (View::Joint, Some(ledger)) => {
                    ledger.range_gone(holder, born, self.scene.era, shift);
                }
                (View::Own, _) if born == self.scene.era => {
                    self.holdings.get_mut(holder).allocated.add_gain(shift);
                }
                _ => {}
            }
            *shifts.entry(holder).or_default() += shift;
        }
        shifts.retain(|_, shift| !shift.is_none());
        shifts.into_iter().collect()
    }

    /// What of it makes the level of the books.
    pub(in crate::live) fn of_the_level(&mut self, shifts: &Shifts) -> Shift {
        let level = self.books.level();
        let mut sum = Shift::default();
        for (holder, shift) in shifts {
            if level.contains(self.holdings.get_mut(*holder).kind) {
                sum += *shift;
            }
        }
        sum
    }

    /// Bytes of the kinds that make the peak, whichever the level is of.
    fn of_the_peak(&mut self, shifts: &Shifts) -> i128 {
        let mut sum = 0;
        for (holder, shift) in shifts {
            if self.holdings.get_mut(*holder).kind.makes_the_peak() {
                sum += shift.bytes;
            }
        }
        sum
    }

    fn shift(&mut self, all: &Books, shifts: &Shifts, view: View) {
        for (holder, shift) in shifts {
            let holding = self.holdings.get_mut(*holder);
            holding.save(&self.books, all);
            match view {
                View::Own => holding.now += *shift,
                View::Joint => {
                    holding.joint += *shift;
                    if let Some(journal) = &mut self.journal {
                        journal.shifted(self.id, holding, *shift);
                    }
                }
            }
        }
    }
}

fn parted(shifts: Shifts) -> (Shifts, Shifts) {
    shifts.into_iter().partition(|(_, shift)| shift.is_loss())
}

/// Those that the process answers for.
fn answered(changes: &[Change<Share>]) -> Vec<Change<Area>> {
    let answered = changes.iter().filter(|change| change.value.answers);
    let changes = answered.map(|change| Change {
        value: change.value.area,
        bytes: change.bytes,
        ranges: change.ranges,
    });
    changes.collect()
}
