//! Stacks of the recording: dense indices for the identities that the kernel side hashes.

use hashbrown::HashMap;

use crate::event::StackIndex;

/// What is known of one identity.
struct Known {
    index: StackIndex,
    /// The definition's check word, once it has come.
    check: Option<u32>,
}

/// Identities seen so far.
#[derive(Default)]
pub(super) struct Stacks {
    known: HashMap<u64, Known>,
    collisions: u64,
}

impl Stacks {
    /// The index of a stack that an event refers to; its definition may come later.
    pub(super) fn index(&mut self, identity: u64) -> StackIndex {
        if identity == 0 {
            return StackIndex::NONE;
        }
        self.known(identity).index
    }

    /// The index to define, if this definition is news.
    pub(super) fn define(&mut self, identity: u64, check: u32) -> Option<StackIndex> {
        if identity == 0 {
            return None;
        }
        let known = self.known(identity);
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
        undefined.count() as u64
    }

    fn known(&mut self, identity: u64) -> &mut Known {
        let next = StackIndex(self.known.len() as u32 + 1);
        self.known.entry(identity).or_insert(Known {
            index: next,
            check: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stack_may_be_used_before_it_is_defined() {
        let mut stacks = Stacks::default();
        let used = stacks.index(77);
        assert_eq!(stacks.undefined(), 1);
        assert_eq!(stacks.define(77, 1), Some(used));
        assert_eq!(stacks.undefined(), 0);
        assert_eq!(stacks.index(77), used);
    }

    #[test]
    fn a_definition_sent_again_is_no_news() {
        let mut stacks = Stacks::default();
        assert_eq!(stacks.define(77, 1), Some(StackIndex(1)));
        assert_eq!(stacks.define(77, 1), None);
        assert_eq!(stacks.collisions(), 0);
    }

    #[test]
    fn two_stacks_of_one_identity_are_found_out() {
        let mut stacks = Stacks::default();
        stacks.define(77, 1);
        stacks.define(77, 2);
        assert_eq!(stacks.collisions(), 1);
    }

    #[test]
    fn identity_zero_is_no_stack() {
        assert_eq!(Stacks::default().index(0), StackIndex::NONE);
    }
}
