//! What the live set says of who held what.

use super::books::{Balance, Held};
use super::holdings::Holding;
use super::process::Process;
use super::snapshot::{Holder, Moment, Scope, Snapshot};
use super::{LastEnd, LiveSet, sampling, saturate};
use crate::event::{Nanos, ProcessId};

impl LiveSet {
    /// What a process held at the peak of all and another one answered for, of the kinds that make the peak, bytes: it counts
    /// for that one.
    pub fn elsewhere_at_peak(&self, process: ProcessId) -> u64 {
        let index = self.index_of.get(&process);
        index.map_or(0, |&index| {
            let elsewhere = &self.processes[index].kin.elsewhere;
            saturate(elsewhere.at_peak(&self.all.clock))
        })
    }

    /// Who held what. Of a process that was never heard of: nothing, at moment zero.
    pub fn snapshot(&self, scope: Scope, moment: Moment) -> Snapshot {
        self.listing(scope, moment, Listing::Holders)
    }

    /// How much was held, without by whom: that takes no room, however many there are.
    pub fn sums(&self, scope: Scope, moment: Moment) -> Snapshot {
        self.listing(scope, moment, Listing::Sums)
    }

    /// What each process held at the peak of all, of the kinds that make the peak, and counts for it, bytes.
    pub fn held_at_peak(&self) -> impl Iterator<Item = (ProcessId, u64)> {
        self.processes.iter().map(|process| {
            let held = process.at_peak_of_all(&self.all);
            let held =
                held.filter(|(holding, held)| holding.kind.makes_the_peak() && held.blocks > 0);
            let bytes = held.map(|(_, held)| saturate(held.bytes));
            (process.id, bytes.fold(0, u64::saturating_add))
        })
    }

    fn listing(&self, scope: Scope, moment: Moment, listing: Listing) -> Snapshot {
        match (scope, moment) {
            (Scope::All, Moment::Peak) => {
                let mut snapshot = empty_snapshot(self.peak_at(), self.all.at_peak());
                let mut elsewhere = 0;
                for process in &self.processes {
                    add_holders(
                        &mut snapshot,
                        listing,
                        process,
                        process.at_peak_of_all(&self.all),
                    );
                    elsewhere += process.kin.elsewhere.at_peak(&self.all.clock);
                }
                snapshot.inherited_bytes = saturate(elsewhere);
                sorted(snapshot)
            }
            (Scope::All, Moment::End) => self.end_of_all(listing),
            (Scope::Process(id), moment) => match self.index_of.get(&id) {
                Some(&index) => self.process_snapshot(&self.processes[index], moment, listing),
                None => Snapshot::default(),
            },
        }
    }

    fn end_of_all(&self, listing: Listing) -> Snapshot {
        if self.open == 0 {
            let LastEnd {
                at,
                balance,
                process,
            } = self.last_end;
            let mut snapshot = empty_snapshot(at, balance);
            if let Some(process) = self.processes.get(process) {
                add_holders(&mut snapshot, listing, process, process.joint());
            }
            return sorted(snapshot);
        }
        let mut snapshot = empty_snapshot(self.now, self.all.now());
        let mut elsewhere = 0;
        for process in self.processes.iter().filter(|p| !p.released) {
            add_holders(&mut snapshot, listing, process, process.joint());
            elsewhere += process.kin.elsewhere.now();
        }
        snapshot.inherited_bytes = saturate(elsewhere);
        sorted(snapshot)
    }

    fn process_snapshot(&self, process: &Process, moment: Moment, listing: Listing) -> Snapshot {
        let books = &process.books;
        match moment {
            Moment::Peak => {
                let mut snapshot = empty_snapshot(books.clock.peak_at(), books.at_peak());
                add_holders(&mut snapshot, listing, process, process.at_own_peak());
                let inherited = &process.kin.inherited;
                snapshot.inherited_bytes = saturate(inherited.at_peak(&books.clock));
                sorted(snapshot)
            }
            Moment::End => {
                let at = process.ended.unwrap_or(self.now);
                let mut snapshot = empty_snapshot(at, books.now());
                add_holders(&mut snapshot, listing, process, process.now());
                snapshot.inherited_bytes = saturate(process.kin.inherited.now());
                sorted(snapshot)
            }
        }
    }
}

fn empty_snapshot(at: Nanos, balance: Balance) -> Snapshot {
    Snapshot {
        at,
        bytes: saturate(balance.live.bytes),
        error_bytes: sampling::error(balance.live.variance),
        blocks: balance.live.blocks,
        by_kind: Default::default(),
        freed_baseline_bytes: saturate(balance.freed_baseline),
        inherited_bytes: 0,
        holders: Vec::new(),
    }
}

/// What a snapshot tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    /// Each holder.
    Holders,
    /// How much they held together.
    Sums,
}

fn add_holders<'a>(
    snapshot: &mut Snapshot,
    listing: Listing,
    process: &Process,
    held: impl Iterator<Item = (&'a Holding, Held)>,
) {
    for (holding, held) in held.filter(|(_, held)| held.blocks > 0) {
        let Holding {
            stack,
            thread,
            kind,
            ..
        } = *holding;
        let bytes = saturate(held.bytes);
        let blocks = held.blocks;
        let of_kind = &mut snapshot.by_kind[kind as usize];
        of_kind.bytes = of_kind.bytes.saturating_add(bytes);
        of_kind.blocks = of_kind.blocks.saturating_add(blocks);
        if listing == Listing::Sums {
            continue;
        }
        snapshot.holders.push(Holder {
            process: process.id,
            stack,
            thread,
            kind,
            bytes,
            error_bytes: sampling::error(held.variance),
            blocks,
        });
    }
}

/// Largest bytes first, then most blocks, then by process, stack and kind: the same order whatever order they came in.
pub(super) fn sorted(mut snapshot: Snapshot) -> Snapshot {
    snapshot.holders.sort_unstable_by(|one, other| {
        let by_amount = (other.bytes, other.blocks).cmp(&(one.bytes, one.blocks));
        let key = |holder: &Holder| (holder.process, holder.stack, holder.kind, holder.thread);
        by_amount.then(key(one).cmp(&key(other)))
    });
    snapshot
}
