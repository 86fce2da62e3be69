//! What each program image lost to a full ring.

use highwater_common::loss::Losses;

use super::Session;
use crate::{event::ProcessId, record::ProcessLosses};

/// Images whose losses are written down one by one: those of the others together, so that the account has room in an entry.
const MOST_LOSERS: usize = 10_000;
/// No image has this number.
const NO_IMAGE: ProcessId = ProcessId(0);

impl Session {
    /// Counts what an image lost that has ended.
    pub(super) fn count_losses(&mut self, image: ProcessId) {
        if let Some(losses) = self.kernel.take_losses(image) {
            self.lost.extend(losses_of(image, &losses));
        }
    }

    /// What each program image lost.
    pub(super) fn losses(&self) -> Vec<ProcessLosses> {
        let mut losses = self.lost.clone();
        let known = self.kernel.losses().into_iter();
        losses.extend(known.filter_map(|(image, losses)| losses_of(image, &losses)));
        losses.sort_by_key(|losses| std::cmp::Reverse(losses.allocations + losses.frees));
        if losses.len() > MOST_LOSERS {
            let rest = losses.drain(MOST_LOSERS..);
            let together = rest.reduce(|one, other| ProcessLosses {
                process: NO_IMAGE,
                allocations: one.allocations + other.allocations,
                allocated_bytes: one.allocated_bytes + other.allocated_bytes,
                frees: one.frees + other.frees,
                freed_bytes: one.freed_bytes + other.freed_bytes,
                over_share: one.over_share + other.over_share,
                spilled: one.spilled + other.spilled,
            });
            losses.extend(together);
        }
        losses.sort_by_key(|losses| losses.process);
        losses
    }
}

/// Nothing where only its share was counted.
fn losses_of(process: ProcessId, losses: &Losses) -> Option<ProcessLosses> {
    let any = (losses.allocations, losses.frees, losses.spilled) != (0, 0, 0);
    any.then_some(ProcessLosses {
        process,
        allocations: losses.allocations,
        allocated_bytes: losses.allocated_bytes,
        frees: losses.frees,
        freed_bytes: losses.freed_bytes,
        over_share: losses.over_share,
        spilled: losses.spilled,
    })
}
