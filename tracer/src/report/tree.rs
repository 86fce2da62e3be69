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
use super::stacks::PerNode;
use crate::event::StackIndex;
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

    /// The functions of a stack, leaf first, after those that were there.
    fn stack(&mut self, profile: &Profile, stack: StackIndex, to: &mut Vec<Label>) {
        for location in profile.locations_of(stack) {
            to.extend_from_slice(self.at(profile, location));
        }
        if to.is_empty() {
            to.push(self.unknown());
        }
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
    fn from_main(&mut self, profile: &Profile, labels: &mut Labels, holders: &[Holder]) {
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

    /// Below the root, the stacks from who asked for the memory on.
    fn from_asker(&mut self, profile: &Profile, labels: &mut Labels, holders: &[Holder]) {
        let mut path = Vec::new();
        // The nodes of the stack before: neighbours begin alike.
        let mut before: Vec<(Label, u32)> = Vec::new();
        for holder in holders {
            path.clear();
            labels.stack(profile, holder.stack, &mut path);
            let alike = before.iter().zip(&path);
            let alike = alike.take_while(|((label, _), now)| label == *now).count();
            before.truncate(alike);
            let mut at = before.last().map_or(0, |(_, node)| *node);
            for &label in &path[alike..] {
                at = self.below(at, label);
                before.push((label, at));
            }
            self.hold(at, holder);
        }
    }

    /// The stack of a holder ends here.
    fn hold(&mut self, end: u32, holder: &Holder) {
        let end = &mut self.nodes[end as usize];
        end.own_bytes = end.own_bytes.saturating_add(holder.bytes);
        end.blocks = end.blocks.saturating_add(holder.blocks);
    }

    /// Adds to each node what is held below it. A parent has a smaller number than its children.
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
    /// The tree of an answer.
    pub fn of(profile: &Profile, answer: &Answer, root: Root) -> Self {
        let mut labels = Labels::default();
        let nameless = labels.names.number(String::new());
        let mut growing = Growing {
            nodes: vec![Node::new(0, nameless, None)],
            by_name: HashMap::default(),
        };
        match root {
            Root::Main => growing.from_main(profile, &mut labels, &answer.holders),
            Root::Asker => growing.from_asker(profile, &mut labels, &answer.holders),
        }
        growing.sum_up();
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
