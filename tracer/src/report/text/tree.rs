//! The tree of calls, drawn with lines.

use std::io::{self, Write};

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::tree::{Node, Tree};
use super::page::{Page, Style, cut};
use super::{NARROWEST, TextOptions};
use crate::units::size;

/// Writes the tree without what is smaller than `least`. A call without an alternative stands below its caller, not
/// beside it, so that only branches move to the right.
///
/// # Errors
///
/// What `out` says.
pub fn write_tree(
    profile: &Profile,
    answer: &Answer,
    tree: &Tree,
    least: u64,
    options: &TextOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page::new(out, options.width.max(NARROWEST), options.colour);
    super::head_of_answer(&mut page, profile, answer)?;
    if answer.bytes == 0 {
        return Ok(());
    }
    page.blank()?;
    // A stack of our own, because the recorded ones may be deeper than ours.
    let mut pending = vec![Line::of(tree, tree.root(), "", least)];
    while let Some(lines) = pending.last_mut() {
        let Some(line) = lines.pop() else {
            pending.pop();
            continue;
        };
        line.write(&mut page, tree, answer)?;
        if let Some(node) = line.node {
            pending.push(Line::of(tree, node, &line.below, least));
        }
    }
    Ok(())
}

/// One line, and what lines below it begin with.
struct Line<'t> {
    /// `None`: what is too small, summed up.
    node: Option<&'t Node>,
    smaller: (usize, u64),
    branch: String,
    below: String,
}

impl<'t> Line<'t> {
    /// The lines of the children of a node, last first.
    fn of(tree: &'t Tree, node: &'t Node, indent: &str, least: u64) -> Vec<Self> {
        let (large, small): (Vec<&Node>, Vec<&Node>) = tree
            .children(node)
            .partition(|child| child.bytes >= least.max(1));
        let alone = large.len() + usize::from(!small.is_empty()) == 1;
        let mut lines = Vec::new();
        let many = large.len();
        for (index, child) in large.into_iter().enumerate() {
            let last = index + 1 == many && small.is_empty();
            let (branch, below) = match (alone, last) {
                (true, _) => ("", ""),
                (false, true) => ("└ ", "  "),
                (false, false) => ("├ ", "│ "),
            };
            lines.push(Self {
                node: Some(child),
                smaller: (0, 0),
                branch: format!("{indent}{branch}"),
                below: format!("{indent}{below}"),
            });
        }
        let bytes = small.iter().map(|child| child.bytes);
        let bytes = bytes.fold(0, u64::saturating_add);
        if bytes > 0 {
            lines.push(Self {
                node: None,
                smaller: (small.len(), bytes),
                branch: format!("{indent}{}", if alone { "" } else { "└ " }),
                below: String::new(),
            });
        }
        lines.reverse();
        lines
    }

    fn write(&self, page: &mut Page<'_>, tree: &Tree, answer: &Answer) -> io::Result<()> {
        let (count, smaller) = self.smaller;
        let bytes = self.node.map_or(smaller, |node| node.bytes);
        let share = size::percent(bytes, answer.bytes);
        let amount = answer.unit.short(bytes);
        let front = format!("  {amount:>11}  {share:>7}  ");
        let room = page.width.saturating_sub(front.chars().count() + 16);
        // Branches far to the right would leave no room for names.
        let deep = self.branch.chars().count().saturating_sub(room);
        let branch: String = self.branch.chars().skip(deep).collect();
        let room = (room + 16).saturating_sub(branch.chars().count());
        let (style, text) = match self.node {
            None => (Style::Dim, format!("({count} smaller)")),
            Some(node) => match tree.place(node) {
                Some(place) => {
                    let room = room.saturating_sub(place.chars().count() + 3).max(12);
                    (
                        Style::Bold,
                        format!("{} ({place})", cut(tree.name(node), room)),
                    )
                }
                None => (Style::Bold, tree.name(node).to_owned()),
            },
        };
        page.line(&[
            (Style::Plain, &front),
            (Style::Dim, &branch),
            (style, &text),
        ])
    }
}
