//! The holders of an answer as a tree of calls.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use foldhash::fast::FixedState;
use serde::Serialize;
use serde::ser::{SerializeSeq as _, SerializeStruct as _, Serializer};

use super::answer::Answer;
use super::model::Profile;
use super::name::{NamedFrame, UNKNOWN_STACK};
use super::stacks::{self, PerNode};
use crate::live::Holder;
use crate::record::FrameIndex;

/// Which end of the stacks the tree grows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// From `main`: who called whom.
    Main,
    /// From who asked for the memory: who called that.
    Asker,
}

/// A tree of calls. Nodes are numbered, the first is the root, all of the answer. A tree may have millions of nodes, so each
/// has its name by number.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    /// The nodes, those of one parent together, largest first.
    in_order: Vec<u32>,
    names: Vec<String>,
    places: Vec<String>,
}

/// A function, called from its parent (or, from the asker on, calling it).
#[derive(Clone, Debug)]
pub struct Node {
    /// The parent's number.
    parent: u32,
    name: u32,
    place: Option<u32>,
    /// Its children, in `in_order`.
    children: Range<u32>,
    /// Held by the stacks through here, bytes.
    pub bytes: u64,
    /// In so many blocks and ranges.
    pub blocks: u64,
    /// Of it, by the stacks that end here, bytes.
    pub own_bytes: u64,
}

impl Node {
    fn new(parent: u32, name: u32, place: Option<u32>) -> Self {
        Self {
            parent,
            name,
            place,
            children: 0..0,
            bytes: 0,
            blocks: 0,
            own_bytes: 0,
        }
    }

    /// A stack goes through here.
    fn add(&mut self, holder: &Holder) {
        self.bytes = self.bytes.saturating_add(holder.bytes);
        self.blocks = self.blocks.saturating_add(holder.blocks);
    }
}

/// Texts by number.
#[derive(Default)]
struct Texts {
    list: Vec<String>,
    by_text: HashMap<String, u32, FixedState>,
}

impl Texts {
    fn number(&mut self, text: String) -> u32 {
        let next = self.list.len() as u32;
        *self.by_text.entry(text).or_insert_with_key(|text| {
            self.list.push(text.clone());
            next
        })
    }
}

/// Name and place of a function.
type Label = (u32, Option<u32>);

/// What functions are called, each code location looked at once.
#[derive(Default)]
struct Labels {
    names: Texts,
    places: Texts,
    known: HashMap<FrameIndex, Vec<Label>, FixedState>,
}

impl Labels {
    /// The functions at a code location, inlined ones before the function they were inlined into.
    fn at(&mut self, profile: &Profile, location: FrameIndex) -> &[Label] {
        let Self {
            names,
            places,
            known,
        } = self;
        known.entry(location).or_insert_with(|| {
            let frames = profile.functions_at(location);
            let label = |frame: &NamedFrame<'_>| {
                let place = frame.place().map(|place| places.number(place));
                (names.number(frame.label()), place)
            };
            frames.iter().map(label).collect()
        })
    }

    /// In the place of a stack that is not known.
    fn unknown(&mut self) -> Label {
        (self.names.number(UNKNOWN_STACK.to_owned()), None)
    }
}

/// A tree that is being made.
struct Growing {
    nodes: Vec<Node>,
    by_name: HashMap<(u32, u32), u32, FixedState>,
}

/// A stack of which the first functions are in the tree.
struct Walk<'a> {
    holder: &'a Holder,
    /// The node of the last of them.
    at: u32,
    /// The code locations that are left, and how many of the functions at the first of them are in the tree.
    rest: stacks::Node,
    inlined: u32,
}

impl Growing {
    /// The node of a function below another node.
    fn below(&mut self, at: u32, (name, place): Label) -> u32 {
        let next = self.nodes.len() as u32;
        let child = *self.by_name.entry((at, name)).or_insert(next);
        if child == next {
            self.nodes.push(Node::new(at, name, place));
        }
        let node = &mut self.nodes[child as usize];
        if node.place != place {
            node.place = None;
        }
        child
    }

    /// Below the root, the stacks from `main` on: what two share is looked at once.
    fn add_from_main(&mut self, profile: &Profile, labels: &mut Labels, holders: &[Holder]) {
        let stacks = &profile.locations.stacks;
        let mut known = PerNode::new(stacks, 0);
        for holder in holders {
            let innermost = profile.innermost(holder.stack);
            let mut end = known.of(stacks, innermost, |at, location| {
                let functions = labels.at(profile, location).iter().rev();
                functions.fold(at, |at, label| self.below(at, *label))
            });
            if end == 0 {
                end = self.below(0, labels.unknown());
            }
            self.hold(end, holder);
        }
    }

    /// Below the root, the stacks from who asked for the memory on. They share little, so all go on by one function at a time, and those
    /// that have come to a node of less than `least` bytes go no further.
    fn add_from_asker(
        &mut self,
        profile: &Profile,
        labels: &mut Labels,
        holders: &[Holder],
        least: u64,
    ) {
        let stacks = &profile.locations.stacks;
        let mut walks: Vec<Walk<'_>> = holders
            .iter()
            .map(|holder| Walk {
                holder,
                at: 0,
                rest: profile.innermost(holder.stack),
                inlined: 0,
            })
            .collect();
        for walk in &walks {
            self.nodes[0].add(walk.holder);
        }
        while !walks.is_empty() {
            for walk in &mut walks {
                let label = match stacks.frame(walk.rest) {
                    None => labels.unknown(),
                    Some((caller, location)) => {
                        let functions = labels.at(profile, location);
                        let label = functions[walk.inlined as usize];
                        walk.inlined += 1;
                        if walk.inlined as usize == functions.len() {
                            (walk.rest, walk.inlined) = (caller, 0);
                        }
                        label
                    }
                };
                walk.at = self.below(walk.at, label);
                let node = &mut self.nodes[walk.at as usize];
                node.add(walk.holder);
                if walk.rest == stacks::Node::ROOT {
                    node.own_bytes = node.own_bytes.saturating_add(walk.holder.bytes);
                }
            }
            walks.retain(|walk| {
                walk.rest != stacks::Node::ROOT && self.nodes[walk.at as usize].bytes >= least
            });
        }
    }

    /// The stack of a holder ends here.
    fn hold(&mut self, end: u32, holder: &Holder) {
        let end = &mut self.nodes[end as usize];
        end.own_bytes = end.own_bytes.saturating_add(holder.bytes);
        end.blocks = end.blocks.saturating_add(holder.blocks);
    }

    /// Adds to each node what is held below it, where that was not done on the way. A parent has a smaller number than its children.
    fn sum_up(&mut self) {
        for number in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[number];
            node.bytes = node.bytes.saturating_add(node.own_bytes);
            let (parent, bytes, blocks) = (node.parent as usize, node.bytes, node.blocks);
            if number > 0 {
                let parent = &mut self.nodes[parent];
                parent.bytes = parent.bytes.saturating_add(bytes);
                parent.blocks = parent.blocks.saturating_add(blocks);
            }
        }
    }
}

impl Tree {
    /// The tree of an answer. A node that holds less than `least` bytes need not have any children, or all of what it asked for itself, for
    /// whoever shows no such nodes.
    pub fn of(profile: &Profile, answer: &Answer, root: Root, least: u64) -> Self {
        let mut labels = Labels::default();
        let nameless = labels.names.number(String::new());
        let mut growing = Growing {
            nodes: vec![Node::new(0, nameless, None)],
            by_name: HashMap::default(),
        };
        match root {
            Root::Main => {
                growing.add_from_main(profile, &mut labels, &answer.holders);
                growing.sum_up();
            }
            Root::Asker => growing.add_from_asker(profile, &mut labels, &answer.holders, least),
        }
        let Growing { mut nodes, by_name } = growing;
        drop(by_name);
        let in_order = Self::sort(&mut nodes);
        Self {
            nodes,
            in_order,
            names: labels.names.list,
            places: labels.places.list,
        }
    }

    /// Puts the children of each node together, and tells it where.
    fn sort(nodes: &mut [Node]) -> Vec<u32> {
        let mut in_order: Vec<u32> = (1..nodes.len() as u32).collect();
        in_order.sort_unstable_by_key(|&number| {
            let node = &nodes[number as usize];
            (node.parent, Reverse((node.bytes, node.blocks)), number)
        });
        for (at, &number) in in_order.iter().enumerate() {
            let at = at as u32;
            let parent = nodes[number as usize].parent;
            let children = &mut nodes[parent as usize].children;
            *children = if children.start == children.end {
                at
            } else {
                children.start
            }..at + 1;
        }
        in_order
    }

    /// The node that all stacks begin at.
    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// What a node is called; empty for the root.
    pub fn name(&self, node: &Node) -> &str {
        &self.names[node.name as usize]
    }

    /// Where in the source it is, if all of it is one place.
    pub fn place(&self, node: &Node) -> Option<&str> {
        node.place.map(|place| &*self.places[place as usize])
    }

    /// The children of a node, largest first.
    pub fn children(
        &self,
        node: &Node,
    ) -> impl DoubleEndedIterator<Item = &Node> + ExactSizeIterator {
        let children = node.children.start as usize..node.children.end as usize;
        self.in_order[children]
            .iter()
            .map(|child| &self.nodes[*child as usize])
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Branch {
            tree: self,
            node: self.root(),
        }
        .serialize(serializer)
    }
}

/// A node with all that is below it.
struct Branch<'a> {
    tree: &'a Tree,
    node: &'a Node,
}

impl Serialize for Branch<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { tree, node } = *self;
        let mut branch = serializer.serialize_struct("Branch", 6)?;
        branch.serialize_field("name", tree.name(node))?;
        branch.serialize_field("place", &tree.place(node))?;
        branch.serialize_field("bytes", &node.bytes)?;
        branch.serialize_field("blocks", &node.blocks)?;
        branch.serialize_field("own_bytes", &node.own_bytes)?;
        branch.serialize_field("children", &Children(self))?;
        branch.end()
    }
}

struct Children<'a>(&'a Branch<'a>);

impl Serialize for Children<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Branch { tree, node } = self.0;
        let all = tree.children(node);
        let mut children = serializer.serialize_seq(Some(all.len()))?;
        for node in all {
            children.serialize_element(&Branch { tree, node })?;
        }
        children.end()
    }
}

#[cfg(test)]
mod tests {
    use super::super::question::When;
    use super::super::script::{Script, answer};
    use super::*;

    /// Names, bytes and blocks of what is at least that large, with the number of what is smaller.
    fn large(tree: &Tree, node: &Node, least: u64, to: &mut Vec<(String, u64, u64)>) {
        to.push((tree.name(node).to_owned(), node.bytes, node.blocks));
        let (large, small): (Vec<&Node>, Vec<&Node>) =
            tree.children(node).partition(|child| child.bytes >= least);
        for child in large {
            self::large(tree, child, least, to);
        }
        let bytes = small.iter().map(|child| child.bytes).sum();
        to.push(("smaller".to_owned(), bytes, small.len() as u64));
    }

    #[test]
    fn a_tree_without_what_is_small_shows_what_is_large_as_the_whole_tree_does() {
        let mut script = Script::launched("app");
        let stacks: [(u32, &[&str], u64); 5] = [
            (1, &["take@a.c:1", "load@a.c:2", "main@a.c:3"], 500),
            (
                2,
                &["take@a.c:1", "parse@a.c:9", "load@a.c:2", "main@a.c:3"],
                30,
            ),
            (3, &["take@a.c:1", "parse@a.c:9", "main@a.c:3"], 40),
            (4, &["main@a.c:3"], 60),
            (5, &["load@a.c:7", "take@b.c:1", "load@a.c:2"], 100),
        ];
        for (stack, frames, size) in stacks {
            script.stack(stack, frames);
            script.allocate(0, stack.into(), stack, size);
        }
        // One whose stack is not known.
        script.allocate(0, 9, 77, 80);
        let profile = script.closed();
        let answer = answer(&profile, When::Peak);
        for root in [Root::Main, Root::Asker] {
            let whole = Tree::of(&profile, &answer, root, 0);
            assert_eq!((whole.root().bytes, whole.root().blocks), (810, 6));
            let own = whole.nodes.iter().map(|node| node.own_bytes);
            assert_eq!(own.sum::<u64>(), 810);
            for least in [1, 50, 75, 200] {
                let pruned = Tree::of(&profile, &answer, root, least);
                let shown = |tree: &Tree| {
                    let mut shown = Vec::new();
                    large(tree, tree.root(), least, &mut shown);
                    shown
                };
                assert_eq!(shown(&pruned), shown(&whole), "{root:?}, {least}");
            }
        }
        let inverted = Tree::of(&profile, &answer, Root::Asker, 0);
        let first = inverted.children(inverted.root());
        let first: Vec<_> = first
            .map(|node| (inverted.name(node), node.bytes))
            .collect();
        assert_eq!(first[..2], [("take", 570), ("load", 100)]);
    }
}
