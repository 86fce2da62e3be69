//! The processes of a recording as a tree, in which those that do the same stand as one: eight workers are one row.
//!
//! A recording may claim any descent, so nothing here goes deeper by calling itself.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::model::{ProcessProfile, Profile};
use super::owner::Owner;
use crate::event::ProcessId;
use crate::live::Snapshot;

/// Processes of one command that the same group has made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Group {
    /// What they run.
    pub command: String,
    /// Their pids, each once, in the order in which they came under trace.
    pub pids: Vec<u32>,
    /// What they held at the moment, bytes; what several hold since a fork counts once.
    pub held: u64,
    /// The most that one of them held at any time, bytes; what it has inherited is among it.
    pub highest: u64,
    /// How many groups lead to this one.
    pub depth: usize,
}

/// Deeper groups count as children of the last one that is told apart: who reads does not need more, and a recording may claim any.
const MOST_DEPTH: usize = 16;

/// The groups of a recording, each right behind the one that made it; among siblings the one that held the most at a moment of all first.
///
/// A program that another has become by exec takes its place: what both held is one process's. A process whose parent was not traced
/// stands at the root; so does one of those that claim to descend from each other, as only a damaged recording says.
pub(super) fn groups(profile: &Profile, moment: &Snapshot) -> Vec<Group> {
    let mut held: HashMap<ProcessId, u64> = HashMap::new();
    for holder in &moment.holders {
        let sum = held.entry(holder.process).or_default();
        *sum = sum.saturating_add(holder.bytes);
    }
    let known: HashSet<ProcessId> = profile.processes.iter().map(|one| one.process.id).collect();
    let mut children: HashMap<ProcessId, Vec<&ProcessProfile>> = HashMap::new();
    let mut roots = Vec::new();
    for one in &profile.processes {
        match one.process.parent.filter(|parent| known.contains(parent)) {
            Some(parent) if parent != one.process.id => {
                children.entry(parent).or_default().push(one);
            }
            _ => roots.push(one),
        }
    }
    let mut tree = Tree {
        held,
        children,
        seen: HashSet::new(),
    };
    let mut groups = Vec::new();
    tree.write(roots, &mut groups);
    for one in &profile.processes {
        if !tree.seen.contains(&one.process.id) {
            tree.write(vec![one], &mut groups);
        }
    }
    groups
}

/// A group and the processes that it has made.
type Parents<'p> = (Group, Vec<&'p ProcessProfile>);

struct Tree<'p> {
    held: HashMap<ProcessId, u64>,
    children: HashMap<ProcessId, Vec<&'p ProcessProfile>>,
    /// Those that stand somewhere already.
    seen: HashSet<ProcessId>,
}

impl<'p> Tree<'p> {
    /// Writes the groups of these processes and of all that they have made. What is still to be written waits, the next one last.
    fn write(&mut self, roots: Vec<&'p ProcessProfile>, groups: &mut Vec<Group>) {
        let mut waiting = self.siblings(roots, 0);
        while let Some((group, children)) = waiting.pop() {
            waiting.extend(self.siblings(children, (group.depth + 1).min(MOST_DEPTH)));
            groups.push(group);
        }
    }

    /// Puts processes that the same group has made into groups, the one that held the least first.
    fn siblings(&mut self, made: Vec<&'p ProcessProfile>, depth: usize) -> Vec<Parents<'p>> {
        let mut by_command: BTreeMap<String, Parents<'p>> = BTreeMap::new();
        for first in made {
            let (images, made) = self.whole_process(first);
            let Some(last) = images.last() else { continue };
            let command = Owner::Command.of(&last.process);
            let (group, children) = by_command.entry(command).or_default();
            if !group.pids.contains(&last.process.pid) {
                group.pids.push(last.process.pid);
            }
            for image in images {
                let held = self.held.get(&image.process.id).copied();
                group.held = group.held.saturating_add(held.unwrap_or(0));
                group.highest = group.highest.max(image.peak.bytes);
            }
            children.extend(made);
        }
        let named = by_command.into_iter().map(|(command, (group, made))| {
            let group = Group {
                command,
                depth,
                ..group
            };
            (group, made)
        });
        let mut groups: Vec<Parents<'p>> = named.collect();
        groups.sort_by_key(|(group, _)| group.held);
        groups
    }

    /// The programs that a process was, one after another, and the other processes that it made; nothing if it stands somewhere already.
    fn whole_process(
        &mut self,
        first: &'p ProcessProfile,
    ) -> (Vec<&'p ProcessProfile>, Vec<&'p ProcessProfile>) {
        let (mut images, mut made) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(image) = next.take() {
            if !self.seen.insert(image.process.id) {
                break;
            }
            images.push(image);
            for child in self.children.remove(&image.process.id).unwrap_or_default() {
                match child.process.pid == image.process.pid && next.is_none() {
                    true => next = Some(child),
                    false => made.push(child),
                }
            }
        }
        (images, made)
    }
}

#[cfg(test)]
mod tests {
    use super::super::script::{MIB, Script};
    use super::*;
    use crate::record::{Entry, Origin};

    fn family(script: &Script) -> Vec<(usize, String, usize, u64, u64)> {
        let profile = script.clone().unfinished();
        let groups = groups(&profile, &profile.peak);
        let told = groups.into_iter().map(|group| {
            (
                group.depth,
                group.command,
                group.pids.len(),
                group.held / MIB,
                group.highest / MIB,
            )
        });
        told.collect()
    }

    #[test]
    fn workers_of_one_command_are_one_group_below_who_made_them() {
        let mut script = Script::launched("/usr/sbin/master -f");
        script.allocate(0, 1, 1, 10 * MIB);
        for worker in 1..=3 {
            script.process(
                worker,
                Some(0),
                "/usr/sbin/worker -x",
                Origin::Forked { missed_ns: 0 },
                2,
                0,
            );
            script.allocate(worker, 3, 1, u64::from(worker) * MIB);
        }
        script.process(4, Some(2), "helper", Origin::Forked { missed_ns: 0 }, 4, 0);
        script.allocate(4, 5, 1, 7 * MIB);
        let expected = [
            (0, "master".to_owned(), 1, 10, 10),
            (1, "worker".to_owned(), 3, 6, 3),
            (2, "helper".to_owned(), 1, 7, 7),
        ];
        assert_eq!(family(&script), expected);
    }

    #[test]
    fn a_program_takes_the_place_of_the_one_that_became_it() {
        let mut script = Script::launched("sh -c work");
        script.allocate(0, 1, 1, MIB);
        script.process(1, Some(0), "work", Origin::Executed { missed_ns: 0 }, 2, 0);
        if let Some(Entry::Process(work)) = script.entries.last_mut() {
            work.pid = 4242;
        }
        script.allocate(1, 3, 1, 5 * MIB);
        let groups = family(&script);
        assert_eq!(groups.len(), 1, "{groups:?}");
        assert_eq!((groups[0].1.as_str(), groups[0].2), ("work", 1));
    }

    #[test]
    fn processes_that_claim_to_descend_from_each_other_stand_once() {
        let mut script = Script::empty();
        script.process(0, Some(1), "a", Origin::Forked { missed_ns: 0 }, 0, 0);
        script.process(1, Some(0), "b", Origin::Forked { missed_ns: 0 }, 0, 0);
        script.process(2, Some(2), "c", Origin::Forked { missed_ns: 0 }, 0, 0);
        let mut groups = family(&script);
        groups.sort();
        let names: Vec<&str> = groups.iter().map(|group| group.1.as_str()).collect();
        assert_eq!(names, ["a", "c", "b"], "{groups:?}");
    }
}
