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
use crate::event::StackIndex;
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
    /// The functions of a stack, leaf first, after those that were there.
    fn stack(&mut self, profile: &Profile, stack: StackIndex, to: &mut Vec<Label>) {
        let Self {
            names,
            places,
            known,
        } = self;
        for &location in profile.locations_of(stack) {
            let labels = known.entry(location).or_insert_with(|| {
                let frames = profile.functions_at(location);
                let label = |frame: &NamedFrame<'_>| {
                    let place = frame.place().map(|place| places.number(place));
                    (names.number(frame.label()), place)
                };
                frames.iter().map(label).collect()
            });
            to.extend_from_slice(labels);
        }
        if to.is_empty() {
            to.push((names.number(UNKNOWN_STACK.to_owned()), None));
        }
    }
}

impl Tree {
    /// The tree of an answer.
    pub fn of(profile: &Profile, answer: &Answer, root: Root) -> Self {
        let mut labels = Labels::default();
        let nameless = labels.names.number(String::new());
        let mut nodes = vec![Node::new(0, nameless, None)];
        let mut by_name: HashMap<(u32, u32), u32, FixedState> = HashMap::default();
        let mut path = Vec::new();
        // The nodes of the stack before: neighbours begin alike.
        let mut before: Vec<(Label, u32)> = Vec::new();
        for holder in &answer.holders {
            path.clear();
            labels.stack(profile, holder.stack, &mut path);
            if root == Root::Main {
                path.reverse();
            }
            let mut at = 0;
            let add = |node: &mut Node| {
                node.bytes = node.bytes.saturating_add(holder.bytes);
                node.blocks = node.blocks.saturating_add(holder.blocks);
            };
            add(&mut nodes[0]);
            let alike = before.iter().zip(&path);
            let alike = alike.take_while(|((label, _), now)| label == *now).count();
            before.truncate(alike);
            for &(_, node) in &before {
                add(&mut nodes[node as usize]);
                at = node;
            }
            for &(name, place) in &path[alike..] {
                let next = nodes.len() as u32;
                let child = *by_name.entry((at, name)).or_insert(next);
                if child == next {
                    nodes.push(Node::new(at, name, place));
                }
                let node = &mut nodes[child as usize];
                if node.place != place {
                    node.place = None;
                }
                add(node);
                before.push(((name, place), child));
                at = child;
            }
            let end = &mut nodes[at as usize];
            end.own_bytes = end.own_bytes.saturating_add(holder.bytes);
        }
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
