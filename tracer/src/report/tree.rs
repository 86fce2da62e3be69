//! The holders of an answer as a tree of calls.

use std::collections::HashMap;

use serde::Serialize;
use serde::ser::{SerializeSeq as _, SerializeStruct as _, Serializer};

use super::answer::Answer;
use super::model::Profile;
use super::name::UNKNOWN_STACK;

/// Which end of the stacks the tree grows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// From `main`: who called whom.
    Main,
    /// From who asked for the memory: who called that.
    Asker,
}

/// A tree of calls. Nodes are numbered, parents before children; the first is the root, all of the answer.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
}

/// A function, called from its parent (or, from the asker on, calling it).
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is called; empty for the root.
    pub name: String,
    /// Where in the source, if all of it is one place.
    pub place: Option<String>,
    /// Held by the stacks through here, bytes.
    pub bytes: u64,
    /// In so many blocks and ranges.
    pub blocks: u64,
    /// Of it, by the stacks that end here, bytes.
    pub own_bytes: u64,
    /// Its children, largest first.
    pub children: Vec<usize>,
}

impl Node {
    fn new(name: String, place: Option<String>) -> Self {
        Self {
            name,
            place,
            bytes: 0,
            blocks: 0,
            own_bytes: 0,
            children: Vec::new(),
        }
    }
}

impl Tree {
    /// The tree of an answer.
    pub fn of(profile: &Profile, answer: &Answer, root: Root) -> Self {
        let mut nodes = vec![Node::new(String::new(), None)];
        let mut by_name: HashMap<(usize, String), usize> = HashMap::new();
        for holder in &answer.holders {
            let frames = profile.frames(holder.stack).unwrap_or_default();
            let mut path: Vec<_> = frames
                .iter()
                .map(|frame| (frame.label(), frame.place()))
                .collect();
            if path.is_empty() {
                path.push((UNKNOWN_STACK.to_owned(), None));
            }
            if root == Root::Main {
                path.reverse();
            }
            let mut at = 0;
            let add = |node: &mut Node| {
                node.bytes = node.bytes.saturating_add(holder.bytes);
                node.blocks = node.blocks.saturating_add(holder.blocks);
            };
            add(&mut nodes[at]);
            for (name, place) in path {
                let next = nodes.len();
                let child = *by_name.entry((at, name)).or_insert_with_key(|(_, name)| {
                    nodes.push(Node::new(name.clone(), place.clone()));
                    next
                });
                if child == next {
                    nodes[at].children.push(child);
                } else if nodes[child].place != place {
                    nodes[child].place = None;
                }
                add(&mut nodes[child]);
                at = child;
            }
            let end = &mut nodes[at];
            end.own_bytes = end.own_bytes.saturating_add(holder.bytes);
        }
        let sizes: Vec<(u64, u64)> = nodes.iter().map(|node| (node.bytes, node.blocks)).collect();
        for node in &mut nodes {
            node.children
                .sort_by_key(|child| std::cmp::Reverse(sizes[*child]));
        }
        Self { nodes }
    }

    /// The node that all stacks begin at.
    pub fn root(&self) -> &Node {
        &self.nodes[0]
    }

    /// A node by its number.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// The children of a node, largest first.
    pub fn children(&self, node: &Node) -> impl Iterator<Item = &Node> {
        node.children.iter().map(|child| &self.nodes[*child])
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
        let Node {
            name,
            place,
            bytes,
            blocks,
            own_bytes,
            children: _,
        } = self.node;
        let mut branch = serializer.serialize_struct("Branch", 6)?;
        branch.serialize_field("name", name)?;
        branch.serialize_field("place", place)?;
        branch.serialize_field("bytes", bytes)?;
        branch.serialize_field("blocks", blocks)?;
        branch.serialize_field("own_bytes", own_bytes)?;
        branch.serialize_field("children", &Children(self))?;
        branch.end()
    }
}

struct Children<'a>(&'a Branch<'a>);

impl Serialize for Children<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Branch { tree, node } = self.0;
        let mut children = serializer.serialize_seq(Some(node.children.len()))?;
        for node in tree.children(node) {
            children.serialize_element(&Branch { tree, node })?;
        }
        children.end()
    }
}
