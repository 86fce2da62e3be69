//! Stacks of the recording: dense indices for the identities that the kernel side hashes.
//!
//! An identity belongs to one process. Those of processes that have ended are given back together, once the table has become twice
//! as large as it was after the last time: so it is never more than twice what is needed, and each entry is looked at a
//! few times in all.

use std::collections::HashSet;

use hashbrown::HashMap;

use crate::event::{ProcessId, StackIndex};

/// The table may have so many entries before those of ended processes are looked for.
const LEAST_SWEPT: usize = 1 << 15;

/// What is known of one identity.
struct Known {
    index: StackIndex,
    process: ProcessId,
    /// The definition's check word, once it has come.
    check: Option<u32>,
}

/// Identities seen so far.
#[derive(Default)]
pub(super) struct Stacks {
    known: HashMap<u64, Known>,
    /// How many indices were given out.
    count: u32,
    collisions: u64,
    /// Processes that have ended since the last sweep.
    ended: HashSet<ProcessId>,
    /// Entries that the last sweep left.
    kept: usize,
    /// Stacks of ended processes that were never defined.
    lost: u64,
}

impl Stacks {
    /// The index of a stack that an event refers to; its definition may come later.
    pub(super) fn index(&mut self, process: ProcessId, identity: u64) -> StackIndex {
        if identity == 0 {
            return StackIndex::NONE;
        }
        self.known(process, identity).index
    }

    /// The index to define, if this definition is news.
    pub(super) fn define(
        &mut self,
        process: ProcessId,
        identity: u64,
        check: u32,
    ) -> Option<StackIndex> {
        if identity == 0 {
            return None;
        }
        let known = self.known(process, identity);
        match known.check {
            None => {
                known.check = Some(check);
                Some(known.index)
            }
            Some(earlier) => {
                if earlier != check {
                    self.collisions += 1;
                }
                None
            }
        }
    }

    /// Definitions that contradicted an earlier one.
    pub(super) fn collisions(&self) -> u64 {
        self.collisions
    }

    /// How many are referred to by events and were never defined.
    pub(super) fn undefined(&self) -> u64 {
        let undefined = self.known.values().filter(|known| known.check.is_none());
        undefined.count() as u64 + self.lost
    }

    /// A process has ended: nothing refers to its stacks any more.
    pub(super) fn end(&mut self, process: ProcessId) {
        self.ended.insert(process);
        if self.known.len() < 2 * self.kept.max(LEAST_SWEPT) {
            return;
        }
        self.known.retain(|_, known| {
            let stays = !self.ended.contains(&known.process);
            self.lost += u64::from(!stays && known.check.is_none());
            stays
        });
        self.known.shrink_to_fit();
        self.kept = self.known.len();
        self.ended.clear();
    }

    fn known(&mut self, process: ProcessId, identity: u64) -> &mut Known {
        self.known.entry(identity).or_insert_with(|| {
            self.count += 1;
            Known {
                index: StackIndex(self.count),
                process,
                check: None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProcessId = ProcessId(1);

    #[test]
    fn a_stack_may_be_used_before_it_is_defined() {
        let mut stacks = Stacks::default();
        let used = stacks.index(P, 77);
        assert_eq!(stacks.undefined(), 1);
        assert_eq!(stacks.define(P, 77, 1), Some(used));
        assert_eq!(stacks.undefined(), 0);
        assert_eq!(stacks.index(P, 77), used);
    }

    #[test]
    fn a_definition_sent_again_is_no_news() {
        let mut stacks = Stacks::default();
        assert_eq!(stacks.define(P, 77, 1), Some(StackIndex(1)));
        assert_eq!(stacks.define(P, 77, 1), None);
        assert_eq!(stacks.collisions(), 0);
    }

    #[test]
    fn two_stacks_of_one_identity_are_found_out() {
        let mut stacks = Stacks::default();
        stacks.define(P, 77, 1);
        stacks.define(P, 77, 2);
        assert_eq!(stacks.collisions(), 1);
    }

    #[test]
    fn identity_zero_is_no_stack() {
        assert_eq!(Stacks::default().index(P, 0), StackIndex::NONE);
    }

    #[test]
    fn many_processes_that_end_leave_little_behind() {
        let mut stacks = Stacks::default();
        let first = stacks.define(P, 1, 1);
        for process in 2..100_000 {
            for stack in 0..10 {
                stacks.index(ProcessId(process), u64::from(process) << 8 | stack);
            }
            stacks.end(ProcessId(process));
            assert!(stacks.known.len() <= 2 * LEAST_SWEPT + 10);
        }
        assert_eq!(stacks.index(P, 1), first.unwrap());
        assert_eq!(stacks.undefined(), 99_998 * 10);
        assert_eq!(stacks.index(P, 2), StackIndex(99_998 * 10 + 2));
    }
}
