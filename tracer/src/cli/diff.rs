//! `highwater diff`: who holds more, and who less, than in another recording.

use std::{
    io::{self, BufWriter, Write as _},
    path::PathBuf,
};

use clap::Args;
use serde::Serialize;

use super::flamegraph::Drawing;
use super::question::{self, Asked};
use crate::report::{
    Profile, Threads,
    answer::{Answer, Unit},
    difference::{Change, difference},
    export::csv::Table,
    flamegraph::{self, Order},
    html,
};
use crate::units::size;
use crate::words;

/// Compare two recordings: which stacks hold more, less, are new or gone
///
/// Stacks are found again by the names of their functions, so that the program may have been built anew.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The earlier recording
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The later one
    #[arg(value_name = "AFTER")]
    after: PathBuf,
    /// Show this many stacks (default: 20 as text, all else)
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    /// Draw it instead: a page, or a picture if FILE ends in .svg
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["json", "csv", "top"])]
    output: Option<PathBuf>,
    /// In what is drawn, begin with who asked for the memory
    #[arg(long, requires = "output")]
    inverted: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Serialize)]
struct Difference<'a> {
    asked_before: &'a str,
    asked_after: &'a str,
    unit: &'static str,
    bytes_before: u64,
    bytes_after: u64,
    duration_before_ns: u64,
    duration_after_ns: u64,
    complete: bool,
    changes: &'a [Change],
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let read = |path| question::read(path, &question, Threads::Together);
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let (old, new) = (
        Answer::of(&before, &question),
        Answer::of(&after, &question),
    );
    if let Some(path) = &arguments.output {
        let (before, after) = ((&before, &old), (&after, &new));
        return Drawing::at(path)?.write(path, |drawing, out| {
            let order = Order::new(arguments.inverted);
            match drawing {
                Drawing::Page => html::write_difference(before, after, order, out)?,
                Drawing::Picture => {
                    flamegraph::write_difference_svg(before, after, order, out)?;
                }
            }
            Ok(())
        });
    }
    let changes = difference((&before, &old), (&after, &new));
    let top = arguments.top.unwrap_or(usize::MAX).min(changes.len());
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let difference = Difference {
            asked_before: &old.words,
            asked_after: &new.words,
            unit: match new.unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes/s",
            },
            bytes_before: old.bytes,
            bytes_after: new.bytes,
            duration_before_ns: before.duration_ns(),
            duration_after_ns: after.duration_ns(),
            complete: before.is_complete() && after.is_complete(),
            changes: &changes[..top],
        };
        words::json(&difference, &mut out)?;
    } else if arguments.csv {
        let mut table = Table::new(&mut out);
        for change in &changes[..top] {
            table.row(change)?;
        }
        table.finish()?;
    } else {
        for (profile, answer) in [(&before, &old), (&after, &new)] {
            writeln!(out, "{}", words::printable(&head(profile, answer)))?;
        }
        let by = i128::from(new.bytes) - i128::from(old.bytes);
        writeln!(out, "{} in all", signed(new.unit, by))?;
        write_changes(new.unit, &changes, arguments.top.unwrap_or(20), &mut out)?;
        for (file, profile) in [(&arguments.before, &before), (&arguments.after, &after)] {
            if !profile.is_complete() {
                writeln!(
                    out,
                    "{}: not all was seen; `highwater report` says what is missing",
                    file.display()
                )?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

fn head(profile: &Profile, answer: &Answer) -> String {
    format!(
        "{} {} ({:.1} s recorded)",
        answer.unit.headline(answer.bytes),
        answer.words,
        profile.duration_ns() as f64 / 1e9
    )
}

fn signed(unit: Unit, amount: i128) -> String {
    let size = u64::try_from(amount.unsigned_abs()).unwrap_or(u64::MAX);
    let sign = if amount < 0 { '-' } else { '+' };
    format!("{sign}{}", unit.short(size))
}

/// One line a stack.
fn write_changes(
    unit: Unit,
    changes: &[Change],
    top: usize,
    out: &mut dyn io::Write,
) -> io::Result<()> {
    for change in changes.iter().take(top) {
        let became = format!("{:?}", change.became).to_lowercase();
        write!(
            out,
            "  {:>12}  {became:<6}  {}",
            signed(unit, change.bytes()),
            change.name
        )?;
        if let Some(place) = &change.place {
            write!(out, " ({place})")?;
        }
        if let Some(callers) = &change.callers {
            write!(out, " ← {callers}")?;
        }
        writeln!(out)?;
    }
    if changes.len() > top {
        let rest = size::thousands((changes.len() - top) as u64);
        writeln!(out, "  and {rest} more (--top)")?;
    }
    Ok(())
}
