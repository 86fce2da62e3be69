//! How it adds up: what was traced beside what the kernel says, at attach, at the peak and at the end.

use std::io;

use super::super::makeup::Explained;
use super::super::memory::Memory;
use super::super::model::Profile;
use super::page::{Page, Style};
use crate::live::Kind;
use crate::record::Origin;
use crate::units::{
    size::{self, ColumnUnit},
    time,
};
use crate::words::printable;

/// A peak sample further than this from the peak is said to be so, nanoseconds.
pub(super) const FAR: u64 = 1_000_000_000;

const LABEL: usize = 20;

pub(super) fn write(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let moments = [
        &profile.memory.attach,
        &profile.memory.peak,
        &profile.memory.end,
    ];
    if moments.iter().all(|memory| memory.rss.is_none()) {
        if !profile.processes.is_empty() {
            page.blank()?;
            let text = "How this adds up with RSS is not known: the recording holds no word of the kernel on it.";
            page.prose(Style::Plain, (0, 0), text)?;
        }
        return Ok(());
    }
    let table = Table::new(moments);
    page.heading("How it adds up")?;
    let launched = profile
        .processes
        .first()
        .is_some_and(|first| first.process.origin == Origin::Launched);
    let start = if launched {
        "at the start"
    } else {
        "at attach"
    };
    table.line(
        page,
        Style::Dim,
        "",
        &[start, "at the peak", "at the end"].map(str::to_owned),
    )?;
    table.line(
        page,
        Style::Plain,
        "traced",
        &table.row(|memory| Some(memory.live.into())),
    )?;
    if moments.iter().any(|memory| memory.inherited > 0) {
        table.line(
            page,
            Style::Plain,
            "inherited",
            &table.row(|memory| Some(memory.inherited.into())),
        )?;
    }
    if moments.iter().any(|memory| memory.before_attach != Some(0)) {
        table.line(
            page,
            Style::Plain,
            "held before attach",
            &table.row(|memory| memory.before_attach.map(i128::from)),
        )?;
    }
    table.line(
        page,
        Style::Plain,
        "unexplained",
        &table.row(|memory| memory.unexplained.map(i128::from)),
    )?;
    explained(page, profile, &table)?;
    let swapped = moments
        .iter()
        .any(|memory| memory.swap.is_some_and(|swap| swap > 0));
    let sum = if swapped { "= RSS + swap" } else { "= RSS" };
    table.line(
        page,
        Style::Bold,
        sum,
        &table.row(|memory| memory.held().map(i128::from)),
    )?;
    if swapped {
        table.line(
            page,
            Style::Plain,
            "  of it in swap",
            &table.row(|memory| memory.swap.map(i128::from)),
        )?;
    }
    if moments.iter().any(|memory| memory.page_tables.is_some()) {
        table.line(
            page,
            Style::Plain,
            "page tables, apart",
            &table.row(|memory| memory.page_tables.map(i128::from)),
        )?;
    }
    if moments.iter().any(|memory| memory.cgroup_current.is_some()) {
        table.line(
            page,
            Style::Plain,
            "cgroup charge",
            &table.row(|memory| memory.cgroup_current.map(i128::from)),
        )?;
    }
    if moments.iter().any(|memory| memory.cgroup_limit.is_some()) {
        table.line(
            page,
            Style::Plain,
            "cgroup limit",
            &table.row(|memory| memory.cgroup_limit.map(i128::from)),
        )?;
    }
    notes(page, profile)
}

/// One of the parts, bytes.
type Part = fn(&Explained) -> Option<i64>;

/// What the unexplained is made of: files and shared memory as the kernel has them in RSS, the others where that was looked at.
fn explained(page: &mut Page<'_>, profile: &Profile, table: &Table<'_>) -> io::Result<()> {
    let parts: [(&str, Part); 4] = [
        ("  kept by malloc", |parts| parts.kept),
        ("  thread stacks", |parts| parts.thread_stacks),
        ("  mapped files", |parts| parts.file),
        ("  shared memory", |parts| parts.shmem),
    ];
    let is_some = |part: Part| {
        let mut moments = table.moments.iter();
        moments.any(|memory| part(&profile.memory.explained(memory)).is_some_and(|part| part != 0))
    };
    let parts = parts.into_iter().filter(|(_, part)| is_some(*part));
    let mut parts: Vec<(&str, Part)> = parts.collect();
    if !parts.is_empty() {
        parts.push(("  the rest", |parts| parts.rest));
    }
    for (label, part) in parts {
        let cells = table.row(|memory| {
            let explained = profile.memory.explained(memory);
            part(&explained).map(i128::from)
        });
        table.line(page, Style::Dim, label, &cells)?;
    }
    Ok(())
}

fn notes(page: &mut Page<'_>, profile: &Profile) -> io::Result<()> {
    let peak = &profile.memory.peak;
    if let (Some(charge), Some(limit)) = (peak.cgroup_current, peak.cgroup_limit) {
        let cgroup = peak.cgroup.as_deref().map(printable).unwrap_or_default();
        let text = format!(
            "At the peak the cgroup {cgroup} stood at {} of its limit.",
            size::percent(charge, limit)
        );
        page.prose(Style::Plain, (2, 2), &text)?;
    }
    if let Some(unexplained) = peak.unexplained.filter(|rest| *rest != 0) {
        let is_made_up = peak.malloc.is_some() && profile.memory.explained(peak).kept.is_some();
        let text = match unexplained {
            0.. if is_made_up => {
                "Kept by malloc: freed, and not given back to the kernel. The rest: malloc's own headers and rounding, and what nobody asked for in a way that is traced."
            }
            0.. => {
                "Unexplained: the allocator's own overhead, thread stacks, code and mapped files."
            }
            _ if profile.peak.of(Kind::Mapping).bytes > 0 => {
                "Unexplained is below zero where blocks or mappings were asked for but their pages not touched yet, or given back since."
            }
            _ => {
                "Unexplained is below zero where blocks were allocated but their pages not touched yet."
            }
        };
        page.prose(Style::Dim, (2, 2), text)?;
    }
    if profile.memory.is_inherited {
        let text = "What the unexplained is made of is not told: what processes have from a parent that held it before attach is of \
                    all kinds.";
        page.prose(Style::Dim, (2, 2), text)?;
    }
    if profile.processes.len() > 1 {
        let text = "Sums over all processes: memory that they share is in each one's RSS.";
        page.prose(Style::Dim, (2, 2), text)?;
        let moments = [peak, &profile.memory.end];
        if moments.iter().any(|memory| memory.inherited > 0) {
            let text = "Inherited: what forked processes have from their parents and still hold together. Counted once, it is among what was traced.";
            page.prose(Style::Dim, (2, 2), text)?;
        }
    }
    match peak.at.map(|at| at.0.abs_diff(profile.peak.at.0)) {
        Some(distance) if distance > FAR => {
            let text = format!(
                "The kernel was asked {} away from the peak, so that column may not match.",
                time::duration(distance)
            );
            page.prose(Style::Warning, (2, 2), &text)
        }
        _ => Ok(()),
    }
}

struct Table<'a> {
    moments: [&'a Memory; 3],
    unit: ColumnUnit,
    column: usize,
}

impl<'a> Table<'a> {
    fn new(moments: [&'a Memory; 3]) -> Self {
        let sizes = moments.iter().flat_map(|memory| {
            [
                memory.held(),
                Some(memory.live),
                Some(memory.inherited),
                memory.before_attach,
                memory.cgroup_current,
                memory.cgroup_limit,
            ]
        });
        let largest = sizes.flatten().max().unwrap_or(0);
        let unit = ColumnUnit::for_largest(largest);
        let column = unit
            .format(i128::from(largest))
            .chars()
            .count()
            .max("at the start".len())
            + 3;
        Self {
            moments,
            unit,
            column,
        }
    }

    fn row(&self, value: impl Fn(&Memory) -> Option<i128>) -> [String; 3] {
        self.moments.map(|memory| {
            value(memory).map_or_else(|| "not known".to_owned(), |bytes| self.unit.format(bytes))
        })
    }

    fn line(
        &self,
        page: &mut Page<'_>,
        style: Style,
        label: &str,
        cells: &[String; 3],
    ) -> io::Result<()> {
        let column = self.column;
        let [attach, peak, end] = cells;
        let text = format!("  {label:<LABEL$}{attach:>column$}{peak:>column$}{end:>column$}");
        page.line(&[(style, &text)])
    }
}
