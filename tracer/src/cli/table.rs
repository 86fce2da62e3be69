//! `highwater table`: who held the memory, one row each.

use std::io::{self, BufWriter, IsTerminal as _, Write as _};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::question::{self, Asked};
use super::recording::Recording;
use super::report::text_options;
use crate::report::{
    Threads,
    answer::{Answer, Unit},
    export::csv,
    owner::Owner,
    rows::{By, Row, rows},
    text,
};
use crate::words;

/// List who held the memory, one row for each stack, function, module, thread, process or what processes belong to
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// One row for each of these
    #[arg(long, value_enum, default_value_t = Choice::Stack, value_name = "WHAT")]
    by: Choice,
    /// Show this many rows (default: 30 as text, all else)
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    asked: Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    Stack,
    Function,
    /// A Python package, a Rust crate, a C++ namespace, or else a file
    Module,
    Thread,
    Process,
    /// All processes that run the same program
    Command,
    Cgroup,
    /// By the first digits of its id
    Container,
    /// A systemd service or scope
    Unit,
}

#[derive(Serialize)]
struct Table<'a> {
    asked: &'a str,
    unit: &'static str,
    bytes: u64,
    blocks: u64,
    of_bytes: u64,
    rows: &'a [Row],
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let (by, threads) = match arguments.by {
        Choice::Stack => (By::Stack, Threads::Together),
        Choice::Function => (By::Function, Threads::Together),
        Choice::Module => (By::Module, Threads::Together),
        Choice::Thread => (By::Thread, Threads::Apart),
        Choice::Process => (By::Process, Threads::Together),
        Choice::Command => (By::Owner(Owner::Command), Threads::Together),
        Choice::Cgroup => (By::Owner(Owner::Cgroup), Threads::Together),
        Choice::Container => (By::Owner(Owner::Container), Threads::Together),
        Choice::Unit => (By::Owner(Owner::Unit), Threads::Together),
    };
    let profile = question::read(&arguments.recording.path()?, &question, threads)?;
    let answer = Answer::of(&profile, &question);
    let rows = rows(&profile, &answer, by);
    let shown = &rows[..arguments.top.unwrap_or(usize::MAX).min(rows.len())];
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let table = Table {
            asked: &answer.words,
            unit: match answer.unit {
                Unit::Bytes => "bytes",
                Unit::BytesPerSecond => "bytes/s",
            },
            bytes: answer.bytes,
            blocks: answer.blocks,
            of_bytes: answer.of_bytes,
            rows: shown,
        };
        words::json(&table, &mut out)?;
    } else if arguments.csv {
        let mut lines = csv::Table::new(&mut out);
        for row in shown {
            lines.row(row)?;
        }
        lines.finish()?;
    } else {
        let mut options = text_options(io::stdout().is_terminal());
        options.top = Some(arguments.top.unwrap_or(30));
        text::write_table(&profile, &answer, (by, &rows), &options, &mut out)?;
    }
    out.flush()?;
    Ok(())
}
