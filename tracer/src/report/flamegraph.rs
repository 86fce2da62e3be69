//! The flame graph: one box a frame, as wide as the bytes held beneath it.
//!
//! Boxes are functions; the topmost one, which asked for the memory, also says in which line. With several processes the
//! lowest row of boxes is the processes. Holders whose stack is not known stand under `(unknown stack)`, and stacks
//! whose root end is missing under `(truncated)`.

mod boxes;

use std::io::{self, Write};

use inferno::flamegraph::color::{BasicPalette, Color, PaletteMap};
use inferno::flamegraph::{Options, Palette, from_lines};
use thiserror::Error;

use self::boxes::Tree;
use super::answer::{Answer, Unit};
use super::difference::comparable;
use super::model::Profile;
use super::name::{self, UNKNOWN_STACK};
use crate::live::{Holder, Kind};
use crate::units::{size, time};
use crate::words;

/// Where stacks whose root end is missing begin.
pub(super) const TRUNCATED: &str = "(truncated)";
/// A name longer than this is cut: no box is that wide.
const LONGEST_NAME: usize = 1000;
/// Boxes that a browser draws at ease, about 4 MB of SVG. With more, the narrowest are summed up.
const MOST_BOXES: usize = 10_000;

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
    let mut colours = colours_of_python(profile, answer);
    let mut options = options();
    options.palette_map = Some(&mut colours);
    if answer.unit == Unit::BytesPerSecond {
        "bytes a second".clone_into(&mut options.count_name);
    }
    options.title = title(profile, answer);
    options.subtitle = Some(subtitle(profile, answer));
    render(&tree, &mut options, out)?;
    Ok(())
}

/// Writes what two answers differ by, as SVG: boxes are as wide as what is held after, red where that is more than before
/// and blue where it is less. Stacks are found again by the names of their functions.
///
/// # Errors
///
/// If nobody is among the later holders, or `out` cannot be written.
pub fn write_difference_svg(
    before: (&Profile, &Answer),
    after: (&Profile, &Answer),
    order: Order,
    out: &mut dyn Write,
) -> Result<(), FlamegraphError> {
    let mut tree = Tree::new();
    tree.is_difference = true;
    let path = |profile: &Profile, holder: &Holder| {
        let frames = profile.frames(holder.stack).unwrap_or_default();
        let mut path: Vec<String> = frames.iter().map(comparable).collect();
        if path.is_empty() {
            path.push(UNKNOWN_STACK.to_owned());
        }
        if order == Order::RootFirst {
            path.reverse();
        }
        path.iter()
            .map(|name| escape_frame(name))
            .collect::<Vec<_>>()
    };
    for holder in &after.1.holders {
        tree.add(&path(after.0, holder), holder.bytes);
    }
    for holder in &before.1.holders {
        tree.add_before(&path(before.0, holder), holder.bytes);
    }
    if tree.total() == 0 {
        return Err(FlamegraphError::NothingHeld(after.1.words.clone()));
    }
    let mut options = options();
    if after.1.unit == Unit::BytesPerSecond {
        "bytes a second".clone_into(&mut options.count_name);
    }
    options.title = title(after.0, after.1);
    options.subtitle = Some(format!(
        "before: {} {}. Red holds more now, blue less; what is gone has no width.",
        before.1.unit.headline(before.1.bytes),
        before.1.words
    ));
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

impl Order {
    /// Leaf first where it is to be inverted.
    pub fn new(is_inverted: bool) -> Self {
        match is_inverted {
            false => Self::RootFirst,
            true => Self::LeafFirst,
        }
    }
}

/// Python functions are blue, whatever is machine code green.
fn colours_of_python(profile: &Profile, answer: &Answer) -> PaletteMap {
    let mut colours = PaletteMap::default();
    for holder in &answer.holders {
        let frames = profile.frames(holder.stack).unwrap_or_default();
        for frame in frames.iter().filter(|frame| frame.kind.is_managed()) {
            for label in [frame.label(), frame.label_and_place()] {
                // Neighbours are told apart by shades.
                let shade = label
                    .bytes()
                    .fold(0_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte))
                    % 50;
                let colour = Color {
                    r: 70 + shade,
                    g: 140 + shade,
                    b: 200 + shade,
                };
                colours.insert(escape_frame(&label), colour);
            }
        }
    }
    colours
}

fn options<'o>() -> Options<'o> {
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
        text = format!("{}, ", time::offset(profile.since_start(at).0));
        if let Some(clock) = time::rfc3339_seconds(profile.unix_ns(at)) {
            text = format!("{} ({clock}), ", time::offset(profile.since_start(at).0));
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
/// - what hides or reorders text, or is forbidden in XML, is shown by its number: `\u{202e}`;
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
            words::printable(word)
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

#[cfg(test)]
mod tests;
