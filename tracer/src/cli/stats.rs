//! `highwater stats`: what all allocations were like.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::recording::Recording;
use super::report::text_options;
use crate::record::{ahead::Ahead, reader};
use crate::report::{
    Profile,
    answer::Answer,
    export::csv::Table,
    question::{Question, When},
    rows::{By, Row, rows},
    statistics::{Count, OfFunction, OfLifetime, OfSize, OfThread, Statistics},
    text,
};
use crate::words;

/// Show sizes, lifetimes, rate, temporaries, functions, modules and threads of all allocations
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// List this many functions, modules and threads (default: 10 as text, all else)
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV: one row for each part of a histogram or list
    #[arg(long)]
    csv: bool,
}

#[derive(Serialize)]
struct Json<'a> {
    allocations: u64,
    allocated_bytes: u64,
    temporary: u64,
    duration_ns: u64,
    allocations_per_s: Option<f64>,
    allocated_bytes_per_s: Option<f64>,
    sizes: Vec<OfSize>,
    lifetimes: Vec<OfLifetime>,
    functions_called: Vec<OfFunction<'a>>,
    over_time: Vec<Moment>,
    functions: &'a [Row],
    modules: &'a [Row],
    threads: Vec<OfThread>,
}

#[derive(Serialize)]
struct Moment {
    until_ns: u64,
    allocations: u64,
    allocated_bytes: u64,
    highest_live_bytes: u64,
    live_bytes: u64,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = Question {
        when: When::Allocated,
        ..Question::default()
    };
    let profile = read(&arguments.recording.path()?, &question)?;
    let statistics = profile.statistics.as_ref();
    let statistics = statistics.context("the recording was not counted")?;
    let answer = Answer::of(&profile, &question);
    let shown = |by| {
        let mut rows = rows(&profile, &answer, by);
        rows.truncate(arguments.top.unwrap_or(usize::MAX));
        rows
    };
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        let (functions, modules) = (shown(By::Function), shown(By::Module));
        let json = json(&profile, statistics, &functions, &modules);
        words::json(&json, &mut out)?;
    } else if arguments.csv {
        let (functions, modules) = (shown(By::Function), shown(By::Module));
        write_csv(&profile, statistics, (&functions, &modules), &mut out)?;
    } else {
        let mut options = text_options(io::stdout().is_terminal());
        options.top = arguments.top;
        text::write_statistics(&profile, &answer, statistics, &options, &mut out)?;
    }
    out.flush()?;
    Ok(())
}

fn read(path: &Path, question: &Question) -> anyhow::Result<Profile> {
    let reader = reader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let reader = Ahead::of(reader).context("cannot start a thread")?;
    let profile = Profile::replay_with_statistics(reader, question);
    profile.with_context(|| format!("cannot report {}", path.display()))
}

fn json<'a>(
    profile: &Profile,
    statistics: &'a Statistics,
    functions: &'a [Row],
    modules: &'a [Row],
) -> Json<'a> {
    let Count { blocks, bytes } = statistics.all();
    let duration_ns = profile.duration_ns();
    let a_second = |count: u64| (duration_ns > 0).then(|| count as f64 * 1e9 / duration_ns as f64);
    let timeline = &profile.timeline;
    let over_time = timeline
        .eras
        .iter()
        .enumerate()
        .map(|(number, era)| Moment {
            until_ns: profile.since_start(timeline.end_of(number)).0,
            allocations: era.allocations,
            allocated_bytes: era.allocated_bytes,
            highest_live_bytes: era.highest,
            live_bytes: era.end,
        });
    Json {
        allocations: blocks,
        allocated_bytes: bytes,
        temporary: statistics.temporary(),
        duration_ns,
        allocations_per_s: a_second(blocks),
        allocated_bytes_per_s: a_second(bytes),
        sizes: statistics.sizes(),
        lifetimes: statistics.lifetimes(),
        functions_called: statistics.functions(),
        over_time: over_time.collect(),
        functions,
        modules,
        threads: statistics.threads(),
    }
}

/// One row for each part of each histogram and list: `histogram,part,blocks,bytes`; bytes are empty where only blocks are
/// counted.
fn write_csv(
    profile: &Profile,
    statistics: &Statistics,
    (functions, modules): (&[Row], &[Row]),
    out: &mut dyn io::Write,
) -> anyhow::Result<()> {
    let mut table = Table::new(out);
    table.record(["histogram", "part", "blocks", "bytes"])?;
    let mut row = |histogram: &str, part: &str, blocks: u64, bytes: Option<u64>| {
        let bytes = bytes.map_or_else(String::new, |bytes| bytes.to_string());
        table.record([histogram, part, &blocks.to_string(), &bytes])
    };
    let all = statistics.all();
    row("all", "", all.blocks, Some(all.bytes))?;
    let duration_ns = profile.duration_ns();
    if duration_ns > 0 {
        let a_second = |count| (count as f64 * 1e9 / duration_ns as f64).round() as u64;
        row(
            "a second",
            "",
            a_second(all.blocks),
            Some(a_second(all.bytes)),
        )?;
    }
    row("temporary", "", statistics.temporary(), None)?;
    for of in statistics.sizes() {
        let sizes = format!("{}-{}", of.from, of.to);
        row("size", &sizes, of.count.blocks, Some(of.count.bytes))?;
    }
    for of in statistics.lifetimes() {
        row("lifetime", of.lived, of.count.blocks, Some(of.count.bytes))?;
    }
    for (name, calls) in statistics.functions() {
        let count = calls.count;
        row("function called", name, count.blocks, Some(count.bytes))?;
    }
    for (histogram, rows) in [("function", functions), ("module", modules)] {
        for of in rows.iter().filter(|of| of.blocks > 0) {
            row(histogram, &of.name, of.blocks, Some(of.bytes))?;
        }
    }
    for of in statistics.threads() {
        let tid = of.tid.0.to_string();
        row("thread", &tid, of.count.blocks, Some(of.count.bytes))?;
        row("thread freed", &tid, of.freed, None)?;
        row("thread temporary", &tid, of.temporary, None)?;
    }
    let timeline = &profile.timeline;
    for (number, era) in timeline.eras.iter().enumerate() {
        let until = profile.since_start(timeline.end_of(number)).0.to_string();
        row(
            "until ns",
            &until,
            era.allocations,
            Some(era.allocated_bytes),
        )?;
    }
    Ok(table.finish()?)
}
