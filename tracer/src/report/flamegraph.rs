//! The flame graph: one box a frame, as wide as the bytes held beneath it.
//!
//! Boxes are functions; the topmost one, which asked for the memory, also says in which line. With several processes the
//! lowest row of boxes is the processes. Holders whose stack is not known stand under `(unknown stack)`, and stacks
//! whose root end is missing under `(truncated)`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use inferno::flamegraph::color::BasicPalette;
use inferno::flamegraph::{Options, Palette, from_lines};
use thiserror::Error;

use super::model::Profile;
use super::name::{self, UNKNOWN_STACK};
use super::{size, time};
use crate::live::{Holder, Moment, Snapshot};

/// Where stacks whose root end is missing begin.
const TRUNCATED: &str = "(truncated)";
/// Boxes too narrow to be drawn, summed up for each parent.
const OTHER: &str = "(other)";
/// A name longer than this is cut: no box is that wide.
const LONGEST_NAME: usize = 1000;
/// Boxes that a browser draws at ease, about 7 MB of SVG. With more, the narrowest are summed up.
const MOST_BOXES: usize = 20_000;
/// Boxes narrower than this part of the whole (0.05 %) go first: they would be half a pixel wide.
const FIRST_CUT: u64 = 2000;

/// Why there is no flame graph.
#[derive(Debug, Error)]
pub enum FlamegraphError {
    /// There is nothing to draw.
    #[error(
        "nothing was held {0}, so there is nothing to draw; `highwater report` shows what was recorded"
    )]
    NothingHeld(&'static str),
    /// It could not be drawn or written.
    #[error("the flame graph could not be written")]
    Io(#[from] io::Error),
}

/// Writes the flame graph of what was held at that moment, as SVG with its own search and zoom. The same recording gives
/// the same bytes.
///
/// # Errors
///
/// If nothing was held then, or `out` cannot be written.
pub fn write_svg(
    profile: &Profile,
    moment: Moment,
    out: &mut dyn Write,
) -> Result<(), FlamegraphError> {
    let (snapshot, words) = match moment {
        Moment::Peak => (&profile.peak, "at the peak"),
        Moment::End => (&profile.end, "at the end"),
    };
    let mut tree = Tree::new();
    for holder in &snapshot.holders {
        tree.add(&path(profile, holder), holder.bytes);
    }
    if tree.nodes[ROOT].total == 0 {
        return Err(FlamegraphError::NothingHeld(words));
    }
    tree.prune(MOST_BOXES);
    let mut options = options();
    options.title = title(profile, snapshot, words);
    options.subtitle = Some(subtitle(profile, snapshot));
    render(&tree, &mut options, out)?;
    Ok(())
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
    let mut lines = tree.folded();
    lines.reverse();
    from_lines(options, lines.iter().map(String::as_str), out)
}

fn title(profile: &Profile, snapshot: &Snapshot, words: &str) -> String {
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
    format!("{whose}: {} {words}", size::headline(snapshot.bytes))
}

fn subtitle(profile: &Profile, snapshot: &Snapshot) -> String {
    let mut text = time::offset(profile.since_start(snapshot.at));
    if let Some(clock) = time::rfc3339_seconds(profile.unix_ns(snapshot.at)) {
        text = format!("{text} ({clock})");
    }
    format!("{text}, {} blocks", size::thousands(snapshot.blocks))
}

/// A holder's boxes, root first.
fn path(profile: &Profile, holder: &Holder) -> Vec<String> {
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

/// The holders' paths merged.
struct Tree {
    nodes: Vec<Node>,
}

struct Node {
    children: BTreeMap<String, usize>,
    /// Held by the stacks that end here, bytes.
    own: u64,
    /// Held by the stacks that end here or above, bytes.
    total: u64,
}

const ROOT: usize = 0;

impl Tree {
    fn new() -> Self {
        let mut tree = Self { nodes: Vec::new() };
        tree.node();
        tree
    }

    fn node(&mut self) -> usize {
        self.nodes.push(Node {
            children: BTreeMap::new(),
            own: 0,
            total: 0,
        });
        self.nodes.len() - 1
    }

    fn add(&mut self, path: &[String], bytes: u64) {
        // inferno adds all counts up; only a forged recording comes near the end of 64 bits.
        let bytes = bytes.min(u64::MAX - self.nodes[ROOT].total);
        if bytes == 0 {
            return;
        }
        let mut at = ROOT;
        self.nodes[at].total += bytes;
        for name in path {
            at = match self.nodes[at].children.get(name) {
                Some(&child) => child,
                None => {
                    let child = self.node();
                    self.nodes[at].children.insert(name.clone(), child);
                    child
                }
            };
            self.nodes[at].total += bytes;
        }
        self.nodes[at].own += bytes;
    }

    /// Sums the narrowest boxes up into one `(other)` for each parent, until there are at most `most`: below 0.05 % of
    /// the whole first, then below twice that, and so on. No byte is lost.
    fn prune(&mut self, most: usize) {
        let mut parts = FIRST_CUT;
        let mut boxes = self.nodes.len();
        while boxes > most && parts > 0 {
            let narrow = (self.nodes[ROOT].total / parts).max(1);
            boxes = 0;
            let mut pending = vec![ROOT];
            while let Some(at) = pending.pop() {
                boxes += 1;
                let children = std::mem::take(&mut self.nodes[at].children);
                let mut kept = BTreeMap::new();
                let mut other = 0;
                for (name, child) in children {
                    if name == OTHER || self.nodes[child].total < narrow {
                        other += self.nodes[child].total;
                    } else {
                        pending.push(child);
                        kept.insert(name, child);
                    }
                }
                if other > 0 {
                    boxes += 1;
                    let node = self.node();
                    self.nodes[node].own = other;
                    self.nodes[node].total = other;
                    kept.insert(OTHER.to_owned(), node);
                }
                self.nodes[at].children = kept;
            }
            parts /= 2;
        }
    }

    /// One line for each stack, `root;…;leaf bytes`, stacks with a common beginning next to each other.
    fn folded(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = String::new();
        // What is left to visit: a node, and how much of `line` leads to its parent. An own stack of frames, because
        // a recording may hold one deeper than ours.
        let mut pending = vec![(ROOT, "", 0)];
        while let Some((at, name, prefix)) = pending.pop() {
            line.truncate(prefix);
            if at != ROOT {
                if prefix > 0 {
                    line.push(';');
                }
                line.push_str(name);
            }
            let node = &self.nodes[at];
            if node.own > 0 && at != ROOT {
                lines.push(format!("{line} {}", node.own));
            }
            let prefix = line.len();
            pending.extend(
                node.children
                    .iter()
                    .rev()
                    .map(|(name, &child)| (child, name.as_str(), prefix)),
            );
        }
        lines
    }
}

#[cfg(test)]
mod tests;
