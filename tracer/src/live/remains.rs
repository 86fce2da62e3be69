//! Processes that have ended, taken out of a live set that goes on.
//!
//! A shell that starts a hundred thousand programs would leave a hundred thousand of them in the live set, and a recorder whose
//! memory grows with each. What is said of one that has ended changes no more, but for what it held at the peak of all,
//! which is nothing from the moment on at which there is a higher one. So one that holds nothing at the peak of all can
//! be written down and forgotten; a [`Fold`] is made whole again by [taking in](Fold::take_in) what was.

use serde::{Deserialize, Serialize};

use super::LiveSet;
use super::books::Held;
use super::fold::{Fold, FoldedProcess};
use super::totals::Totals;

/// What a live set says of a process that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remains {
    /// How long an era was when this was written down, nanoseconds; 0 where eras were not told apart.
    pub era_width: u64,
    /// The process; if it is the same as in the one before, the holdings are more of its holdings. It held nothing at the peak of all.
    pub process: FoldedProcess,
}

/// How many of the processes that ended first are looked at for one that can be taken out.
const LOOKS: usize = 2;

impl LiveSet {
    /// Takes out one of the processes that have ended, if those are more than `most`. Nothing may be said of it any more, and it is
    /// told of neither here nor in a [fold](Self::fold).
    ///
    /// Those that held something at the peak of all stay, and so does the last that ended. What is left of
    /// a forked child that was never [opened](Self::open) is forgotten.
    pub fn shed(&mut self, most: usize) -> Option<Remains> {
        for _ in 0..LOOKS {
            if self.ended.len() <= most {
                return None;
            }
            let id = self.ended.pop_front()?;
            let index = *self.index_of.get(&id)?;
            let process = &self.processes[index];
            let mut at_peak = process.at_peak_of_all(&self.all);
            let stays = index == self.last_end.process
                || process.kin.elsewhere.at_peak(&self.all.clock) > 0
                || at_peak.any(|(_, held)| held != Held::default());
            drop(at_peak);
            if stays {
                self.ended.push_back(id);
                continue;
            }
            let is_known = process.opened || process.totals != Totals::default();
            let remains = self.take_out(index);
            if is_known {
                return Some(remains);
            }
        }
        None
    }

    fn take_out(&mut self, index: usize) -> Remains {
        let mut process = self.processes.swap_remove(index);
        self.index_of.remove(&process.id);
        // The last one has taken its place.
        if let Some(moved) = self.processes.get(index) {
            self.index_of.insert(moved.id, index);
            if self.last_end.process == self.processes.len() {
                self.last_end.process = index;
            }
        }
        self.totals_of_shed.add(&process.totals);
        Remains {
            era_width: self.eras.as_ref().map_or(0, |eras| eras.parts().1),
            process: FoldedProcess::of(&mut process, &self.all),
        }
    }
}

impl Fold {
    /// Processes that had been [shed](LiveSet::shed) by then.
    pub fn take_in<'r>(&mut self, remains: impl IntoIterator<Item = &'r Remains>) {
        let width = self.head.era_width();
        for Remains { era_width, process } in remains {
            let mut process = process.clone();
            // Every two eras have become one so often since.
            let halvings = width.checked_div(*era_width).and_then(u64::checked_ilog2);
            for holding in &mut process.holdings {
                holding.merge_eras(halvings.unwrap_or(0));
            }
            process.join_last(&mut self.processes);
        }
    }
}
