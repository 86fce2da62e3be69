//! In which processes the peak was held, where there are several: a tree in which workers of one command are one row.

use std::io;

use super::super::family::{self, Group};
use super::super::model::Profile;
use super::page::{self, Page, Style};
use crate::live::Snapshot;
use crate::units::size;

/// Most rows.
const ROWS: usize = 4;
/// The heading, and the empty line above it.
const HEAD: usize = 2;
/// A name has at least so many characters beside the highest of its processes.
const LEAST_NAME: usize = 16;

/// Which groups are shown, and what the others held.
pub(super) struct Shown {
    rows: Vec<Group>,
    others: usize,
    others_held: u64,
    whole: u64,
}

impl Shown {
    /// The groups that held the most, in the order of the tree; nothing where one held all.
    pub(super) fn of(profile: &Profile, moment: &Snapshot) -> Option<Self> {
        let whole = moment.listed_bytes();
        let is_large = |group: &Group| group.held > 0 && group.held.saturating_mul(100) >= whole;
        let groups = family::groups(profile, moment);
        let large = groups.iter().filter(|group| is_large(group));
        let mut sizes: Vec<u64> = large.map(|group| group.held).collect();
        if sizes.len() < 2 {
            return None;
        }
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let least = sizes[sizes.len().min(ROWS) - 1];
        let (rows, others): (Vec<Group>, Vec<Group>) = groups
            .into_iter()
            .partition(|group| is_large(group) && group.held >= least);
        Some(Self {
            others: others.iter().map(|group| group.pids.len()).sum(),
            others_held: others
                .iter()
                .map(|group| group.held)
                .fold(0, u64::saturating_add),
            rows,
            whole,
        })
    }

    /// How many lines this takes.
    pub(super) fn lines(&self) -> usize {
        HEAD + self.rows.len() + usize::from(self.has_others())
    }

    /// The same in one line, the largest first, as many as it has room for.
    pub(super) fn write_brief(&self, page: &mut Page<'_>) -> io::Result<()> {
        let mut rows: Vec<&Group> = self.rows.iter().collect();
        rows.sort_by_key(|group| std::cmp::Reverse(group.held));
        let mut text = "  By process: ".to_owned();
        for (at, group) in rows.into_iter().enumerate() {
            let more = format!("{} {}", size::short(group.held), named(group));
            let comma = if at > 0 { ", " } else { "" };
            if at > 0 && text.chars().count() + comma.len() + more.chars().count() > page.width {
                break;
            }
            text += comma;
            text += &more;
        }
        page.line(&[(Style::Plain, &page::cut(&text, page.width))])
    }

    fn has_others(&self) -> bool {
        self.others_held.saturating_mul(100) >= self.whole && self.others_held > 0
    }

    pub(super) fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        page.heading("In which processes")?;
        let least_depth = self.rows.iter().map(|group| group.depth).min().unwrap_or(0);
        for group in &self.rows {
            let front = self.front(group.held);
            let indent = "  ".repeat((group.depth - least_depth).min(ROWS));
            let (who, highest) = match group.pids.len() {
                1 => (named(group), "at most"),
                _ => (named(group), "each at most"),
            };
            let highest = format!(", {highest} {}", size::short(group.highest));
            let room = page
                .width
                .saturating_sub(front.chars().count() + indent.len());
            let is_room = room >= LEAST_NAME + highest.chars().count();
            let highest = if is_room { highest.as_str() } else { "" };
            let who = page::cut(&who, room.saturating_sub(highest.chars().count()));
            page.line(&[
                (Style::Plain, &front),
                (Style::Plain, &indent),
                (Style::Plain, &who),
                (Style::Dim, highest),
            ])?;
        }
        if self.has_others() {
            let front = self.front(self.others_held);
            let text = format!("{front}{} more", size::thousands(self.others as u64));
            page.line(&[(Style::Dim, &text)])?;
        }
        Ok(())
    }

    fn front(&self, held: u64) -> String {
        format!(
            "  {:>9}  {:>7}  ",
            size::short(held),
            size::percent(held, self.whole)
        )
    }
}

/// `gunicorn (4242)`, `gunicorn ×8`.
fn named(group: &Group) -> String {
    match group.pids.as_slice() {
        [pid] => format!("{} ({pid})", group.command),
        pids => format!("{} ×{}", group.command, pids.len()),
    }
}
