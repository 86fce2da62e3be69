//! A table: one row for each stack, function, module, thread or process.

use std::io::{self, Write};

use super::super::answer::Answer;
use super::super::model::Profile;
use super::super::owner::Owner;
use super::super::rows::{By, Row};
use super::page::{Page, Style, cut};
use super::{NARROWEST, TextOptions};
use crate::units::size;

/// Writes the table.
///
/// # Errors
///
/// What `out` says.
pub fn write_table(
    profile: &Profile,
    answer: &Answer,
    (by, rows): (By, &[Row]),
    options: &TextOptions,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut page = Page::new(out, options.width.max(NARROWEST), options.colour);
    super::head_of_answer(&mut page, profile, answer)?;
    if rows.is_empty() {
        return Ok(());
    }
    page.blank()?;
    let shown = &rows[..options.most().min(rows.len())];
    // Only functions and modules call each other.
    let with_total = matches!(by, By::Function | By::Module);
    let mut columns = vec![
        column("own", shown, |row| answer.unit.short(row.bytes)),
        column("share", shown, |row| size::percent(row.bytes, answer.bytes)),
        column("blocks", shown, |row| size::thousands(row.blocks)),
    ];
    if with_total {
        columns.push(column("total", shown, |row| {
            answer.unit.short(row.total_bytes)
        }));
    } else {
        columns[0][0] = match answer.unit {
            super::super::answer::Unit::Bytes => "bytes".to_owned(),
            super::super::answer::Unit::BytesPerSecond => "growth".to_owned(),
        };
    }
    for line in 0..=shown.len() {
        let mut front = String::from(" ");
        for column in &columns {
            let width = widest(column);
            front.push_str(&format!(" {:>width$} ", column[line]));
        }
        front.push(' ');
        let Some(row) = line.checked_sub(1).map(|row| &shown[row]) else {
            page.line(&[(Style::Dim, &front), (Style::Dim, name_of(by))])?;
            continue;
        };
        let room = page.width.saturating_sub(front.chars().count());
        let name = match &row.place {
            Some(place) => {
                let room = room.saturating_sub(place.chars().count() + 3).max(16);
                format!("{} ({place})", cut(&row.name, room))
            }
            None => row.name.clone(),
        };
        let callers = row.callers.as_ref();
        let callers = callers.map_or_else(String::new, |callers| format!(" ← {callers}"));
        page.line(&[
            (Style::Plain, &front),
            (Style::Bold, &name),
            (Style::Dim, &callers),
        ])?;
    }
    let rest = &rows[shown.len()..];
    if rest.is_empty() {
        return Ok(());
    }
    let bytes = rest.iter().map(|row| row.bytes);
    let bytes = bytes.fold(0, u64::saturating_add);
    let text = format!(
        "  and {} more with {} ({}) together",
        size::thousands(rest.len() as u64),
        answer.unit.short(bytes),
        size::percent(bytes, answer.bytes)
    );
    page.line(&[(Style::Dim, &text)])
}

fn column(head: &str, rows: &[Row], text: impl Fn(&Row) -> String) -> Vec<String> {
    let head = std::iter::once(head.to_owned());
    head.chain(rows.iter().map(text)).collect()
}

fn widest(texts: &[String]) -> usize {
    let widths = texts.iter().map(|text| text.chars().count());
    widths.max().unwrap_or(0)
}

fn name_of(by: By) -> &'static str {
    match by {
        By::Stack => "stack, by the frame that tells most",
        By::Function => "function",
        By::Module => "module",
        By::Thread => "thread",
        By::Process => "process",
        By::Owner(Owner::Command) => "command",
        By::Owner(Owner::Cgroup) => "cgroup",
        By::Owner(Owner::Container) => "container",
        By::Owner(Owner::Unit) => "unit",
    }
}
