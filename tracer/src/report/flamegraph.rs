//! The flame graph: one box a frame, as wide as the bytes held beneath it.
//!
//! Boxes are functions; the topmost one, which asked for the memory, also says in which line. With several processes the
//! lowest row of boxes is the processes. Holders whose stack is not known stand under `(unknown stack)`, and stacks
//! whose root end is missing under `(truncated)`.

use std::collections::HashMap;
use std::io::{self, Write};

use inferno::flamegraph::color::BasicPalette;
use inferno::flamegraph::{Options, Palette, from_lines};
use thiserror::Error;

use super::answer::{Answer, Unit};
use super::model::Profile;
use super::name::{self, UNKNOWN_STACK};
use super::{size, time};
use crate::live::{Holder, Kind};

/// Where stacks whose root end is missing begin.
pub(super) const TRUNCATED: &str = "(truncated)";
/// Boxes too narrow to be drawn, summed up for each parent.
const OTHER: &str = "(other)";
/// A name longer than this is cut: no box is that wide.
const LONGEST_NAME: usize = 1000;
/// Boxes that a browser draws at ease, about 4 MB of SVG. With more, the narrowest are summed up.
const MOST_BOXES: usize = 10_000;
/// Boxes narrower than this part of the whole (0.05 %) go first: they would be half a pixel wide.
const FIRST_CUT: u64 = 2000;

/// Why there is no flame graph.
#[derive(Debug, Error)]
pub enum FlamegraphError {
    /// There is nothing to draw.
    #[error(
        "nothing was held {0}, so there is nothing to draw; `highwater report` shows what was recorded"
    )]
    NothingHeld(String),
    /// It could not be drawn or written.
    #[error("the flame graph could not be written")]
    Io(#[from] io::Error),
}

/// Writes the flame graph of an answer, as SVG with its own search and zoom. The same recording gives
/// the same bytes.
///
/// # Errors
///
/// If nobody is among the holders, or `out` cannot be written.
pub fn write_svg(
    profile: &Profile,
    answer: &Answer,
    order: Order,
    out: &mut dyn Write,
) -> Result<(), FlamegraphError> {
    let mut tree = Tree::new();
    for holder in &answer.holders {
        let mut path = path(profile, holder);
        if order == Order::LeafFirst {
            path.reverse();
        }
        tree.add(&path, holder.bytes);
    }
    if tree.total() == 0 {
        return Err(FlamegraphError::NothingHeld(answer.words.clone()));
    }
    let mut options = options();
    if answer.unit == Unit::BytesPerSecond {
        "bytes a second".clone_into(&mut options.count_name);
    }
    options.title = title(profile, answer);
    options.subtitle = Some(subtitle(profile, answer));
    render(&tree, &mut options, out)?;
    Ok(())
}

/// Which frame stands at the bottom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// `main`, and on it what it called.
    RootFirst,
    /// Who asked for the memory, and on it who called that.
    LeafFirst,
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    "bytes".clone_into(&mut options.count_name);
    options.colors = Palette::Basic(BasicPalette::Mem);
    // Colours by name: otherwise they are random, and two runs differ.
    options.deterministic = true;
    // The tree has been pruned already, and keeps what it pruned.
    options.min_width = 0.0;
    // The only mode that takes lines in any order, which is told backwards: sorted as text, `a b` would come between
    // `a` and `a;c`, and `a` would be drawn twice; and a sorted list with spaces in names can be refused as unsorted.
    options.flame_chart = true;
    options
}

fn render(tree: &Tree, options: &mut Options<'_>, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = tree.folded(MOST_BOXES);
    lines.reverse();
    from_lines(options, lines.iter().map(String::as_str), out)
}

fn title(profile: &Profile, answer: &Answer) -> String {
    let whose = match profile.main_process() {
        Some(main) if profile.processes.len() == 1 => {
            format!(
                "{} (pid {})",
                name::program(&main.process.command),
                main.process.pid
            )
        }
        Some(main) => format!(
            "{} and {} more",
            name::program(&main.process.command),
            profile.processes.len() - 1
        ),
        None => "nothing".to_owned(),
    };
    format!(
        "{whose}: {} {}",
        answer.unit.headline(answer.bytes),
        answer.words
    )
}

fn subtitle(profile: &Profile, answer: &Answer) -> String {
    let mut text = String::new();
    if let Some(at) = answer.at {
        text = format!("{}, ", time::offset(profile.since_start(at)));
        if let Some(clock) = time::rfc3339_seconds(profile.unix_ns(at)) {
            text = format!("{} ({clock}), ", time::offset(profile.since_start(at)));
        }
    }
    let count = |is_heap: bool| {
        let holders = answer.holders.iter();
        let of = holders.filter(|holder| (holder.kind == Kind::Heap) == is_heap);
        of.fold(0_u64, |sum, holder| sum.saturating_add(holder.blocks))
    };
    let (blocks, ranges) = (size::thousands(count(true)), count(false));
    match ranges {
        0 => format!("{text}{blocks} blocks"),
        _ => format!("{text}{blocks} blocks, {} ranges", size::thousands(ranges)),
    }
}

/// A holder's boxes, root first.
pub(super) fn path(profile: &Profile, holder: &Holder) -> Vec<String> {
    let mut path = Vec::new();
    if profile.processes.len() > 1
        && let Some(process) = profile.process(holder.process)
    {
        let process = &process.process;
        path.push(escape_frame(&format!(
            "{} (pid {})",
            name::program(&process.command),
            process.pid
        )));
    }
    if profile.is_truncated(holder.stack) {
        path.push(TRUNCATED.to_owned());
    }
    match profile.frames(holder.stack) {
        Some(frames) if !frames.is_empty() => {
            for (from_leaf, frame) in frames.iter().enumerate().rev() {
                let label = if from_leaf == 0 {
                    frame.label_and_place()
                } else {
                    frame.label()
                };
                path.push(escape_frame(&label));
            }
        }
        _ => path.push(UNKNOWN_STACK.to_owned()),
    }
    path
}

/// A name that survives inferno's folded format, where `;` separates frames, a line ends in ` ` and a count, and a line
/// that begins with `# ` is a comment:
///
/// - `;` becomes `:`;
/// - white space of any kind and control characters become single spaces, none at either end;
/// - a last word that reads as a count is tied to the word before it: `arr 12` becomes `arr_12`;
/// - a lone `#` at the start is tied to what follows: `# x` becomes `#_x`;
/// - an annotation that inferno would hide is not one any more: `f_[k]` becomes `f_(k)`;
/// - what hides or reorders text, or is forbidden in XML, becomes `U+FFFD`;
/// - an empty name becomes `(unnamed)`, a very long one is cut.
pub fn escape_frame(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len().min(LONGEST_NAME));
    for word in name
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !escaped.is_empty() {
            escaped.push(if escaped == "#" { '_' } else { ' ' });
        }
        escaped.extend(
            name::printable(word)
                .chars()
                .map(|c| if c == ';' { ':' } else { c }),
        );
        if escaped.len() > LONGEST_NAME {
            break;
        }
    }
    if let Some((end, _)) = escaped.char_indices().nth(LONGEST_NAME) {
        escaped.truncate(end);
        escaped.truncate(escaped.trim_end().len());
        escaped.push('…');
    }
    match escaped.as_str() {
        "" => return "(unnamed)".to_owned(),
        "#" => return "#_".to_owned(),
        _ => {}
    }
    for (annotation, plain) in [
        ("_[k]", "_(k)"),
        ("_[w]", "_(w)"),
        ("_[i]", "_(i)"),
        ("_[j]", "_(j)"),
    ] {
        if let Some(front) = escaped.strip_suffix(annotation) {
            return format!("{front}{plain}");
        }
    }
    if let Some((front, last)) = escaped.rsplit_once(' ')
        && last
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return format!("{front}_{last}");
    }
    escaped
}

/// The holders' paths merged: a hundred thousand of them have millions of frames, so a node is small.
struct Tree {
    nodes: Vec<Node>,
    /// By parent and name.
    children: HashMap<(u32, u32), u32>,
    names: Vec<String>,
    name_numbers: HashMap<String, u32>,
}

struct Node {
    parent: u32,
    name: u32,
    /// Held by the stacks that end here, bytes.
    own: u64,
    /// Held by the stacks that end here or above, bytes.
    total: u64,
}

const ROOT: u32 = 0;

impl Tree {
    fn new() -> Self {
        let root = Node {
            parent: ROOT,
            name: 0,
            own: 0,
            total: 0,
        };
        Self {
            nodes: vec![root],
            children: HashMap::new(),
            names: vec![String::new()],
            name_numbers: HashMap::new(),
        }
    }

    fn total(&self) -> u64 {
        self.nodes[ROOT as usize].total
    }

    fn add(&mut self, path: &[String], bytes: u64) {
        // inferno adds all counts up; only a forged recording comes near the end of 64 bits.
        let bytes = bytes.min(u64::MAX - self.total());
        // More nodes than 32 bits can number do not fit in memory either.
        if bytes == 0 || self.nodes.len() + path.len() > u32::MAX as usize {
            return;
        }
        let mut at = ROOT;
        self.nodes[at as usize].total += bytes;
        for name in path {
            at = self.child(at, name);
            self.nodes[at as usize].total += bytes;
        }
        self.nodes[at as usize].own += bytes;
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
            });
            self.nodes.len() as u32 - 1
        })
    }

    /// How narrow a box may be, bytes, so that at most `most` are drawn, not counting the `(other)` boxes that stand
    /// for the rest: 0.05 % of the whole, or twice that, and so on. Few boxes are all drawn.
    fn narrowest(&self, most: usize) -> u64 {
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
    fn folded(&self, most: usize) -> Vec<String> {
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
                lines.push(format!("{line} {}", node.own));
            }
            let children = drawn.get(&at).map_or(&[][..], Vec::as_slice);
            let above: u64 = children
                .iter()
                .map(|child| self.nodes[*child as usize].total)
                .sum();
            let other = node.total - node.own - above;
            if other > 0 {
                let separator = if line.is_empty() { "" } else { ";" };
                lines.push(format!("{line}{separator}{OTHER} {other}"));
            }
            pending.extend(children.iter().map(|child| (*child, line.len())));
        }
        lines
    }

    fn name(&self, node: u32) -> &str {
        &self.names[self.nodes[node as usize].name as usize]
    }
}

#[cfg(test)]
mod tests;
