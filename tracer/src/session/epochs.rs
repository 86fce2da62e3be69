//! What a process's addresses meant when: stacks are defined a moment after they were taken, and their code may have been
//! replaced in between.

use std::collections::VecDeque;

use crate::symbol::CodeMap;

/// Earlier maps that are kept: definitions arrive within milliseconds.
const MOST_PAST: usize = 16;

/// A process's code by mapping epoch.
///
/// The kernel side raises the epoch when it sees addresses of code given out anew, the user side when it finds code
/// replaced. So a map holds for all epochs up to the one at which it was last known to be right.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    now: CodeMap,
    /// The epoch from which on `now` holds.
    epoch: u32,
    /// Earlier maps, each with the last epoch that it holds for, oldest first.
    past: VecDeque<(u32, CodeMap)>,
}

impl Epochs {
    /// The map of an epoch; of one that is not known yet, the latest.
    pub(super) fn at(&self, epoch: u32) -> &CodeMap {
        self.past
            .iter()
            .find(|(last, _)| epoch <= *last)
            .map_or(&self.now, |(_, map)| map)
    }

    /// Whether the kernel side has seen code replaced since the map was read.
    pub(super) fn is_behind(&self, epoch: u32) -> bool {
        epoch > self.epoch
    }

    /// The code was read again and means the same as far as it was known.
    pub(super) fn extend(&mut self, map: CodeMap, epoch: u32) {
        self.now = map;
        self.epoch = epoch;
    }

    /// The code was read again and is another, from the epoch after this map's on.
    pub(super) fn replace(&mut self, map: CodeMap, epoch: u32) {
        let before = std::mem::replace(&mut self.now, map);
        self.past.push_back((self.epoch, before));
        if self.past.len() > MOST_PAST {
            self.past.pop_front();
        }
        self.epoch = epoch;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{record::ModuleIndex, symbol::CodeMapping};

    fn map(module: u32) -> CodeMap {
        CodeMap::new(vec![CodeMapping {
            start: 100,
            end: 200,
            file_offset: 0,
            module: ModuleIndex(module),
        }])
    }

    fn module_at(epochs: &Epochs, epoch: u32) -> Option<u32> {
        epochs.at(epoch).locate(150).map(|(module, _)| module.0)
    }

    #[test]
    fn a_stack_is_named_by_the_code_of_its_time() {
        let mut epochs = Epochs::default();
        epochs.extend(map(1), 0);
        assert!(epochs.is_behind(1));
        epochs.replace(map(2), 2);
        epochs.replace(map(3), 3);
        let named: Vec<_> = (0..5).map(|epoch| module_at(&epochs, epoch)).collect();
        assert_eq!(named, [Some(1), Some(2), Some(2), Some(3), Some(3)]);
        assert!(!epochs.is_behind(3));
    }

    #[test]
    fn of_very_old_epochs_the_oldest_map_is_taken() {
        let mut epochs = Epochs::default();
        for epoch in 1..100 {
            epochs.replace(map(epoch), epoch);
        }
        assert_eq!(epochs.past.len(), MOST_PAST);
        assert_eq!(module_at(&epochs, 0), Some(100 - 1 - MOST_PAST as u32));
    }
}
