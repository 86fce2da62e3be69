//! The holders' paths merged into boxes.

use std::collections::HashMap;

/// Boxes narrower than this part of the whole (0.05 %) go first: they would be half a pixel wide.
const FIRST_CUT: u64 = 2000;
/// Boxes too narrow to be drawn, summed up for each parent.
pub(super) const OTHER: &str = "(other)";

/// The holders' paths merged: a hundred thousand of them have millions of frames, so a node is small.
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// By parent and name.
    children: HashMap<(u32, u32), u32>,
    names: Vec<String>,
    name_numbers: HashMap<String, u32>,
    /// Lines have two counts, and the first of them is what was held before.
    pub(super) is_difference: bool,
}

struct Node {
    parent: u32,
    name: u32,
    /// Held by the stacks that end here, bytes.
    own: u64,
    /// Held by the stacks that end here or above, bytes.
    total: u64,
    /// The same two of the earlier recording, where two are compared.
    before: (u64, u64),
}

const ROOT: u32 = 0;

impl Tree {
    pub(super) fn new() -> Self {
        let root = Node {
            parent: ROOT,
            name: 0,
            own: 0,
            total: 0,
            before: (0, 0),
        };
        Self {
            nodes: vec![root],
            children: HashMap::new(),
            names: vec![String::new()],
            name_numbers: HashMap::new(),
            is_difference: false,
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.nodes[ROOT as usize].total
    }

    pub(super) fn add(&mut self, path: &[String], bytes: u64) {
        // inferno adds all counts up; only a forged recording comes near the end of 64 bits.
        let bytes = bytes.min(self.most() - self.total());
        let add = |node: &mut Node| node.total += bytes;
        if let Some(end) = self.walk(path, bytes, add) {
            end.own += bytes;
        }
    }

    /// inferno subtracts counts with a sign.
    fn most(&self) -> u64 {
        match self.is_difference {
            true => i64::MAX.cast_unsigned(),
            false => u64::MAX,
        }
    }

    /// What the earlier recording held. It makes no box wider.
    pub(super) fn add_before(&mut self, path: &[String], bytes: u64) {
        let bytes = bytes.min(self.most() - self.nodes[ROOT as usize].before.1);
        let add = |node: &mut Node| node.before.1 += bytes;
        if let Some(end) = self.walk(path, bytes, add) {
            end.before.0 += bytes;
        }
    }

    /// Adds to every node of a path, and gives the last one.
    fn walk(&mut self, path: &[String], bytes: u64, add: impl Fn(&mut Node)) -> Option<&mut Node> {
        // More nodes than 32 bits can number do not fit in memory either.
        if bytes == 0 || self.nodes.len() + path.len() > u32::MAX as usize {
            return None;
        }
        let mut at = ROOT;
        add(&mut self.nodes[at as usize]);
        for name in path {
            at = self.child(at, name);
            add(&mut self.nodes[at as usize]);
        }
        Some(&mut self.nodes[at as usize])
    }

    fn child(&mut self, parent: u32, name: &str) -> u32 {
        let name = match self.name_numbers.get(name) {
            Some(number) => *number,
            None => {
                let number = self.names.len() as u32;
                self.names.push(name.to_owned());
                self.name_numbers.insert(name.to_owned(), number);
                number
            }
        };
        *self.children.entry((parent, name)).or_insert_with(|| {
            self.nodes.push(Node {
                parent,
                name,
                own: 0,
                total: 0,
                before: (0, 0),
            });
            self.nodes.len() as u32 - 1
        })
    }

    /// How narrow a box may be, bytes, so that at most `most` are drawn, not counting the `(other)` boxes that stand
    /// for the rest: 0.05 % of the whole, or twice that, and so on. Few boxes are all drawn.
    pub(super) fn narrowest(&self, most: usize) -> u64 {
        if self.nodes.len() <= most {
            return 1;
        }
        let mut parts = FIRST_CUT;
        loop {
            let narrowest = (self.total() / parts).max(1);
            let drawn = self
                .nodes
                .iter()
                .filter(|node| node.total >= narrowest)
                .count();
            if drawn <= most || parts == 1 {
                return narrowest;
            }
            parts /= 2;
        }
    }

    /// One line for each stack, `root;…;leaf bytes`, stacks with a common beginning next to each other. What is too
    /// narrow is summed up into one `(other)` for each parent; no byte is lost.
    ///
    /// A box is never wider than the one it stands on. So the boxes that are wide enough hang together, and one look
    /// at each tells which they are.
    pub(super) fn folded(&self, most: usize) -> Vec<String> {
        let narrowest = self.narrowest(most);
        let mut drawn: HashMap<u32, Vec<u32>> = HashMap::new();
        for (at, node) in self.nodes.iter().enumerate().skip(1) {
            if node.total >= narrowest {
                drawn.entry(node.parent).or_default().push(at as u32);
            }
        }
        for children in drawn.values_mut() {
            // Backwards, because they are taken from the end.
            children.sort_unstable_by(|a, b| self.name(*b).cmp(self.name(*a)));
        }
        let mut lines = Vec::new();
        let mut line = String::new();
        // What is left to visit: a node, and how much of `line` leads to its parent. A stack of our own, because the
        // recorded ones may be deeper than ours.
        let mut pending = vec![(ROOT, 0)];
        while let Some((at, prefix)) = pending.pop() {
            line.truncate(prefix);
            if prefix > 0 {
                line.push(';');
            }
            line.push_str(self.name(at));
            let node = &self.nodes[at as usize];
            if node.own > 0 && at != ROOT {
                lines.push(format!("{line} {}", self.counts(node.before.0, node.own)));
            }
            let children = drawn.get(&at).map_or(&[][..], Vec::as_slice);
            let above = |of: fn(&Node) -> u64| -> u64 {
                let drawn = children.iter();
                drawn.map(|child| of(&self.nodes[*child as usize])).sum()
            };
            let other = node.total - node.own - above(|node| node.total);
            if other > 0 {
                let before = node.before.1 - node.before.0 - above(|node| node.before.1);
                let separator = if line.is_empty() { "" } else { ";" };
                let counts = self.counts(before, other);
                lines.push(format!("{line}{separator}{OTHER} {counts}"));
            }
            pending.extend(children.iter().map(|child| (*child, line.len())));
        }
        lines
    }

    fn counts(&self, before: u64, now: u64) -> String {
        match self.is_difference {
            true => format!("{before} {now}"),
            false => now.to_string(),
        }
    }

    fn name(&self, node: u32) -> &str {
        &self.names[self.nodes[node as usize].name as usize]
    }
}
