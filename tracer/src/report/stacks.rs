//! The stacks of a recording, as a trie.
//!
//! A million stacks of 24 frames are 24 million frames, but most of these have the same callers as others: they are the same
//! *node*. So a stack is the node of its innermost frame, what is found out about a node is found out once, and the table of all takes a
//! tenth of what lists of frames would. Node 0 is what lies above the outermost frame; a caller has a smaller number than
//! what it calls.

use std::convert::Infallible;
use std::hash::BuildHasher as _;

use foldhash::fast::FixedState;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};

use crate::event::StackIndex;
use crate::record::FrameIndex;

/// A frame with all that called it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Node(u32);

impl Node {
    /// What lies above the outermost frame.
    pub(super) const ROOT: Self = Self(0);

    /// Its number, from 0 on.
    pub(super) fn number(self) -> usize {
        self.0 as usize
    }
}

/// A stack: its innermost node, and whether its root end is missing.
#[derive(Clone, Copy, Debug)]
struct Kept(u32);

impl Kept {
    const TRUNCATED: u32 = 1 << 31;

    fn node(self) -> Node {
        Node(self.0 & !Self::TRUNCATED)
    }

    fn is_truncated(self) -> bool {
        self.0 & Self::TRUNCATED != 0
    }
}

/// All stacks of a recording.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// Of node `n`, at `n - 1`: who called, and the frame.
    nodes: Vec<(Node, FrameIndex)>,
    /// The nodes, by both.
    numbers: HashTable<u32>,
    /// What the latest stack went through, outermost first: neighbours begin alike.
    latest: Vec<(FrameIndex, Node)>,
    stacks: HashMap<StackIndex, Kept, FixedState>,
}

impl Stacks {
    /// The node of these frames, leaf first.
    pub(super) fn node(&mut self, frames: &[FrameIndex]) -> Node {
        let known = self.latest.iter().zip(frames.iter().rev());
        let known = known
            .take_while(|((before, _), now)| before == *now)
            .count();
        self.latest.truncate(known);
        let mut node = self.latest.last().map_or(Node::ROOT, |(_, node)| *node);
        for &frame in frames[..frames.len() - known].iter().rev() {
            node = self.below(node, frame);
            self.latest.push((frame, node));
        }
        node
    }

    /// The node of a frame below its caller.
    fn below(&mut self, caller: Node, frame: FrameIndex) -> Node {
        let Self { nodes, numbers, .. } = self;
        let hasher = FixedState::default();
        let of = |number: &u32| nodes[*number as usize - 1];
        let entry = numbers.entry(
            hasher.hash_one((caller, frame)),
            |number| of(number) == (caller, frame),
            |number| hasher.hash_one(of(number)),
        );
        match entry {
            Entry::Occupied(known) => Node(*known.get()),
            Entry::Vacant(vacant) => {
                // 2³¹ of them would take sixteen gigabytes of frames to be read.
                let number = nodes.len() as u32 + 1;
                vacant.insert(number);
                nodes.push((caller, frame));
                Node(number)
            }
        }
    }

    /// A stack ends at this node.
    pub(super) fn insert(&mut self, stack: StackIndex, node: Node, truncated: bool) {
        let truncated = if truncated { Kept::TRUNCATED } else { 0 };
        self.stacks.insert(stack, Kept(node.0 | truncated));
    }

    /// No more stacks come.
    pub(super) fn close(&mut self) {
        self.numbers = HashTable::new();
        self.latest = Vec::new();
        self.nodes.shrink_to_fit();
    }

    /// The innermost node of a stack; `None`: the recording has no such stack.
    pub(super) fn innermost(&self, stack: StackIndex) -> Option<Node> {
        self.stacks.get(&stack).map(|kept| kept.node())
    }

    /// Whether the root end of a stack is missing.
    pub(super) fn is_truncated(&self, stack: StackIndex) -> bool {
        self.stacks
            .get(&stack)
            .is_some_and(|kept| kept.is_truncated())
    }

    /// The frame of a node, and the node that called it; `None` of the root.
    pub(super) fn frame(&self, node: Node) -> Option<(Node, FrameIndex)> {
        self.nodes.get(node.number().checked_sub(1)?).copied()
    }

    /// The frames of a node, leaf first.
    pub(super) fn frames(&self, mut node: Node) -> impl Iterator<Item = FrameIndex> {
        std::iter::from_fn(move || {
            let (caller, frame) = self.frame(node)?;
            node = caller;
            Some(frame)
        })
    }

    /// How many nodes there are, with the root.
    pub(super) fn count(&self) -> usize {
        self.nodes.len() + 1
    }

    /// All nodes but the root, callers first, each with its caller and frame.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (Node, FrameIndex)> {
        self.nodes.iter().copied()
    }

    /// All stacks in the order of their numbers, each with its innermost node and whether its root end is missing.
    pub(super) fn sorted(&self) -> Vec<(StackIndex, Node, bool)> {
        let stacks = self.stacks.iter();
        let mut stacks: Vec<_> = stacks
            .map(|(stack, kept)| (*stack, kept.node(), kept.is_truncated()))
            .collect();
        stacks.sort_unstable_by_key(|(stack, ..)| *stack);
        stacks
    }
}

/// One for each node, made when it is first asked for.
pub(super) struct PerNode<V> {
    values: Vec<Option<V>>,
}

impl<V: Copy> PerNode<V> {
    /// Of none yet, but of the root.
    pub(super) fn new(stacks: &Stacks, of_root: V) -> Self {
        let mut values = vec![None; stacks.count()];
        values[0] = Some(of_root);
        Self { values }
    }

    /// That of a node, each made by `make` of that of its caller and its own frame.
    pub(super) fn of(
        &mut self,
        stacks: &Stacks,
        node: Node,
        mut make: impl FnMut(V, FrameIndex) -> V,
    ) -> V {
        match self.try_of(stacks, node, |value, frame| {
            Ok::<V, Infallible>(make(value, frame))
        }) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// The same, where it may fail to be made.
    pub(super) fn try_of<E>(
        &mut self,
        stacks: &Stacks,
        node: Node,
        mut make: impl FnMut(V, FrameIndex) -> Result<V, E>,
    ) -> Result<V, E> {
        // A stack of our own, because the recorded ones may be deeper than ours.
        let mut pending = Vec::new();
        let mut at = node;
        let mut value = loop {
            if let Some(value) = self.values[at.number()] {
                break value;
            }
            let Some((caller, frame)) = stacks.frame(at) else {
                unreachable!("the root has its value");
            };
            pending.push((at, frame));
            at = caller;
        };
        for (node, frame) in pending.into_iter().rev() {
            value = make(value, frame)?;
            self.values[node.number()] = Some(value);
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_stack_keeps_its_frames_and_what_stacks_share_is_one(
            stacks in prop::collection::vec(
                (0..30_u32, prop::collection::vec(0..4_u32, 0..6), any::<bool>()),
                0..60,
            ),
        ) {
            let mut trie = Stacks::default();
            let mut plain = std::collections::BTreeMap::new();
            for (index, frames, truncated) in stacks {
                let frames: Vec<FrameIndex> = frames.into_iter().map(FrameIndex).collect();
                let node = trie.node(&frames);
                trie.insert(StackIndex(index), node, truncated);
                plain.insert(StackIndex(index), (frames, truncated));
            }
            trie.close();
            let mut paths = std::collections::BTreeSet::new();
            for (number, (caller, frame)) in trie.nodes().enumerate() {
                prop_assert!(caller.number() <= number);
                let path: Vec<FrameIndex> = trie.frames(Node(number as u32 + 1)).collect();
                prop_assert_eq!(path[0], frame);
                prop_assert!(paths.insert(path), "a node is there once");
            }
            let sorted = trie.sorted().into_iter();
            let kept: Vec<_> = sorted
                .map(|(stack, node, truncated)| {
                    let frames: Vec<FrameIndex> = trie.frames(node).collect();
                    (stack, (frames, truncated))
                })
                .collect();
            prop_assert_eq!(kept, plain.into_iter().collect::<Vec<_>>());
            let mut depths = PerNode::new(&trie, 0);
            for (_, node, _) in trie.sorted() {
                let depth = depths.of(&trie, node, |depth, _| depth + 1);
                prop_assert_eq!(depth, trie.frames(node).count());
            }
        }
    }
}
