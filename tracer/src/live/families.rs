//! Which traced processes descend from one another, and may hold the same memory.
//!
//! A forked child holds what its parent holds, and for all together that is one thing, not two. To tell what is the same from
//! what only lies at the same address, time is cut at each fork: the life of a process between two forks in which it took part is a
//! **stretch**, and the stretches of a family are numbered as they begin. A block (or a page) keeps the number of the stretch in which it
//! came. So two processes of a family have the same block if it lies at the same address and has the same number: in one
//! stretch of one process an address is another block's only after the first is gone, and a fork ends the stretch.
//!
//! What a process holds of stretches before its own first one it inherited. What came in a stretch of its own can be held by the
//! children that it forked later, by their children, and so on, and by nobody else. So whoever else may hold a block is found
//! by going down the tree of forks from the process in whose stretch it came, along the forks that came after.
//!
//! A process that is gone stays in the tree only as long as two branches of its own, or its parent's, depend on it.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::event::ProcessId;

/// A stretch of the life of one process, between forks; see the head of this file. 0 is that of a process before its first fork.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stretch(pub(super) u32);

impl Stretch {
    /// There are no more. A block has so many bits for it.
    pub(super) const LAST: Self = Self((1 << 26) - 1);
}

/// What a fork begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fork {
    /// The child's first stretch.
    pub(super) child: Stretch,
    /// The parent's next one.
    pub(super) parent: Stretch,
}

/// A process, as its relatives see it.
#[derive(Debug)]
struct Member {
    /// Of which family.
    family: ProcessId,
    /// Who forked it, or an ancestor of it that is gone.
    parent: Option<ProcessId>,
    /// What it has of stretches before this one it has from `parent` or its ancestors.
    first: Stretch,
    /// Those that it forked and that live, or have descendants that do, by their `first`.
    children: BTreeMap<Stretch, ProcessId>,
    lives: bool,
}

/// The families of processes of which more than one lives.
#[derive(Debug, Default)]
pub(super) struct Families {
    members: HashMap<ProcessId, Member, FixedState>,
    /// The stretch that begins next, of each family, by the process that founded it.
    next: HashMap<ProcessId, Stretch, FixedState>,
}

impl Families {
    /// A process forked another one, of which nothing was known. `stretch` is the one that the parent is in. Nothing, if there are no
    /// more stretches: to the books the two are strangers then.
    pub(super) fn fork(
        &mut self,
        parent: ProcessId,
        stretch: Stretch,
        child: ProcessId,
    ) -> Option<Fork> {
        let family = self
            .members
            .get(&parent)
            .map_or(parent, |member| member.family);
        let next = self.next.get(&family).map_or(stretch.0 + 1, |next| next.0);
        if next >= Stretch::LAST.0 {
            return None;
        }
        let fork = Fork {
            child: Stretch(next),
            parent: Stretch(next + 1),
        };
        self.next.insert(family, Stretch(next + 2));
        let of_parent = self.members.entry(parent).or_insert_with(|| Member {
            family,
            parent: None,
            first: Stretch::default(),
            children: BTreeMap::new(),
            lives: true,
        });
        of_parent.children.insert(fork.child, child);
        let member = Member {
            family,
            parent: Some(parent),
            first: fork.child,
            children: BTreeMap::new(),
            lives: true,
        };
        self.members.insert(child, member);
        Some(fork)
    }

    /// Whether any relative of it lives.
    pub(super) fn has_kin(&self, process: ProcessId) -> bool {
        self.members.contains_key(&process)
    }

    /// What came before this stretch may be held by descendants of the process; nothing without any that live.
    pub(super) fn forked_until(&self, process: ProcessId) -> Option<Stretch> {
        let (latest, _) = self.members.get(&process)?.children.last_key_value()?;
        Some(*latest)
    }

    /// A process is gone. `tell` hears of those for which [`has_kin`](Self::has_kin) or
    /// [`forked_until`](Self::forked_until) may have changed by it.
    pub(super) fn end(&mut self, process: ProcessId, mut tell: impl FnMut(ProcessId)) {
        if let Some(member) = self.members.get_mut(&process) {
            member.lives = false;
        }
        let mut next = Some(process);
        while let Some(id) = next {
            next = self.prune(id);
            tell(id);
        }
    }

    /// Takes a process out of the tree, if the tree says the same without it. Gives one that may have become needless by that.
    fn prune(&mut self, id: ProcessId) -> Option<ProcessId> {
        let member = self.members.get(&id)?;
        let only_child = member.children.first_key_value();
        let only_child = only_child.filter(|_| member.children.len() == 1);
        let (parent, first) = (member.parent, member.first);
        match (member.lives, only_child, parent) {
            // It is alone.
            (_, None, None) if member.children.is_empty() => {
                let family = member.family;
                self.members.remove(&id);
                self.next.remove(&family);
                None
            }
            (false, None, Some(parent)) if member.children.is_empty() => {
                self.members.remove(&id);
                if let Some(parent) = self.members.get_mut(&parent) {
                    parent.children.remove(&first);
                }
                Some(parent)
            }
            // The child takes its place.
            (false, Some((_, &child)), _) => {
                self.members.remove(&id);
                if let Some(parent) = parent.and_then(|parent| self.members.get_mut(&parent)) {
                    parent.children.insert(first, child);
                }
                if let Some(of_child) = self.members.get_mut(&child) {
                    of_child.parent = parent;
                    of_child.first = first;
                }
                Some(child)
            }
            _ => None,
        }
    }

    /// Asks all those that live and may hold what came in this stretch, but for `from`, which does (or did), until one says yes: parents before their
    /// children, and children in the order in which they were forked.
    pub(super) fn ask(
        &self,
        from: ProcessId,
        stretch: Stretch,
        mut holds: impl FnMut(ProcessId) -> bool,
    ) {
        let mut top = from;
        while let Some(member) = self.members.get(&top)
            && let Some(parent) = member.parent
            && stretch < member.first
        {
            top = parent;
        }
        let mut to_ask = vec![top];
        while let Some(id) = to_ask.pop() {
            let Some(member) = self.members.get(&id) else {
                continue;
            };
            if member.lives && id != from && holds(id) {
                return;
            }
            // None that was forked before the stretch began.
            let children = member.children.range(stretch..).rev();
            to_ask.extend(children.map(|(_, child)| *child));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> ProcessId {
        ProcessId(number)
    }

    /// Who is asked.
    fn asked(families: &Families, from: u32, stretch: u32) -> Vec<u32> {
        let mut asked = Vec::new();
        families.ask(id(from), Stretch(stretch), |process| {
            asked.push(process.0);
            false
        });
        asked
    }

    /// 1 forks 2 and 3, 2 forks 4, 1 forks 5.
    fn family() -> Families {
        let mut families = Families::default();
        let fork = |child, parent| {
            let (child, parent) = (Stretch(child), Stretch(parent));
            Some(Fork { child, parent })
        };
        let forked = |families: &mut Families, parent, stretch, child| {
            families.fork(id(parent), Stretch(stretch), id(child))
        };
        assert_eq!(forked(&mut families, 1, 0, 2), fork(1, 2));
        assert_eq!(forked(&mut families, 1, 2, 3), fork(3, 4));
        assert_eq!(forked(&mut families, 2, 1, 4), fork(5, 6));
        assert_eq!(forked(&mut families, 1, 4, 5), fork(7, 8));
        families
    }

    fn end(families: &mut Families, process: u32) -> Vec<u32> {
        let mut told = Vec::new();
        families.end(id(process), |process| told.push(process.0));
        told
    }

    #[test]
    fn who_was_forked_after_a_block_came_may_hold_it() {
        let families = family();
        assert_eq!(asked(&families, 1, 0), [2, 4, 3, 5]);
        assert_eq!(asked(&families, 4, 0), [1, 2, 3, 5]);
        assert_eq!(asked(&families, 1, 2), [3, 5]);
        assert_eq!(asked(&families, 1, 8), [0_u32; 0]);
        assert_eq!(asked(&families, 4, 1), [2]);
        assert_eq!(families.forked_until(id(1)), Some(Stretch(7)));
        assert_eq!(families.forked_until(id(4)), None);
    }

    #[test]
    fn a_process_that_is_gone_still_joins_those_that_it_forked() {
        let mut families = family();
        assert_eq!(end(&mut families, 1), [1]);
        assert_eq!(asked(&families, 4, 0), [2, 3, 5]);
        assert_eq!(asked(&families, 5, 2), [3]);
        assert_eq!(end(&mut families, 2), [2, 4], "4 takes its place");
        assert_eq!(asked(&families, 3, 0), [4, 5]);
        assert_eq!(asked(&families, 4, 1), [0_u32; 0]);
    }

    #[test]
    fn a_family_of_one_is_none() {
        let mut families = family();
        end(&mut families, 1);
        end(&mut families, 2);
        end(&mut families, 5);
        assert!(families.has_kin(id(3)) && families.has_kin(id(4)));
        assert_eq!(end(&mut families, 3), [3, 1, 4]);
        assert!(!families.has_kin(id(4)));
        assert!(families.members.is_empty() && families.next.is_empty());
    }

    #[test]
    fn children_that_come_and_go_leave_nothing_behind() {
        let mut families = Families::default();
        let mut stretch = Stretch::default();
        for child in 2..1000 {
            let fork = families.fork(id(1), stretch, id(child));
            stretch = fork.expect("there are stretches").parent;
            end(&mut families, child);
            assert!(families.members.is_empty(), "{families:?}");
        }
        // A process that forks itself anew and ends.
        let mut stretch = Stretch::default();
        for process in 1..1000 {
            let fork = families.fork(id(process), stretch, id(process + 1));
            stretch = fork.expect("there are stretches").child;
            end(&mut families, process);
            assert!(families.members.is_empty(), "{families:?}");
        }
    }

    #[test]
    fn when_there_are_no_stretches_left_a_child_is_a_stranger() {
        let mut families = Families::default();
        let last = Stretch(Stretch::LAST.0 - 2);
        assert!(families.fork(id(1), last, id(2)).is_some());
        assert_eq!(families.fork(id(1), Stretch::LAST, id(3)), None);
        assert!(families.has_kin(id(2)) && !families.has_kin(id(3)));
    }
}
