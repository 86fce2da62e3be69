//! `highwater check`: does a budget hold? One line of somebody's CI.

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use clap::Args;

use super::diff::write_changes;
use super::output::Usage;
use super::question::read;
use super::report::text_options;
use super::{DONE, FAILED, OVER_BUDGET};
use crate::report::{
    Profile, Threads,
    answer::{Answer, Unit},
    difference::difference,
    question::{Question, When, Window},
    rows::{By, rows},
    size, text,
};

/// Check that memory stays within a budget; exit code 3, with the stacks that hold most, if it does not
///
/// Of a recording, or of a command that is recorded now. If the command itself fails, its own status is passed on.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("budget").multiple(true).required(true))]
pub(super) struct Arguments {
    /// The recording; `-` is standard input
    #[arg(value_name = "FILE", required_unless_present = "command")]
    file: Option<PathBuf>,
    /// The command to record and check
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "file")]
    command: Vec<OsString>,
    /// Where to keep the recording of the command (default: it is not kept)
    #[arg(short, long, value_name = "FILE", requires = "command")]
    output: Option<PathBuf>,
    /// No more than this is ever live at once
    #[arg(long, value_name = "SIZE", group = "budget", value_parser = parse_size)]
    max_peak: Option<u64>,
    /// No more than this is live at the end; with --mark: of what was allocated in the span, at the end of the span
    #[arg(long, value_name = "SIZE", group = "budget", value_parser = parse_size)]
    max_live_at_end: Option<u64>,
    /// No more than this many blocks are asked for
    #[arg(long, value_name = "N", group = "budget")]
    max_allocations: Option<u64>,
    /// Look only at the span of this name (see `highwater mark`)
    #[arg(long, value_name = "NAME", requires = "max_live_at_end",
          conflicts_with_all = ["max_peak", "max_allocations", "baseline"])]
    mark: Option<String>,
    /// Compare the peak with that of this recording
    #[arg(long, value_name = "OLD", requires = "max_growth")]
    baseline: Option<PathBuf>,
    /// The peak is no more than this above that of the baseline, as 5% or 10MiB
    #[arg(long, value_name = "PERCENT|SIZE", group = "budget", requires = "baseline", value_parser = parse_growth)]
    max_growth: Option<Growth>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Growth {
    Percent(f64),
    Bytes(u64),
}

impl Growth {
    /// The most that is allowed above `baseline`.
    fn above(self, baseline: u64) -> u64 {
        baseline.saturating_add(match self {
            Self::Percent(percent) => (baseline as f64 * percent / 100.0) as u64,
            Self::Bytes(bytes) => bytes,
        })
    }
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let Some(file) = &arguments.file else {
        return run_command(arguments);
    };
    check(arguments, file)
}

fn run_command(arguments: &Arguments) -> anyhow::Result<u8> {
    let scratch;
    let file = match &arguments.output {
        Some(file) => file.clone(),
        None => {
            scratch = Scratch::new()?;
            scratch.0.join("check.hwm")
        }
    };
    let this = std::env::current_exe().context("cannot find highwater's own program")?;
    let status = Command::new(this)
        .args(["record", "-o"])
        .arg(&file)
        .arg("--")
        .args(&arguments.command)
        .status()
        .context("cannot run `highwater record`")?;
    if !status.success() {
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        return Ok(code
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(FAILED));
    }
    check(arguments, &file)
}

/// A directory that goes when it is no longer needed.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        let path = std::env::temp_dir().join(format!("highwater-check-{}", std::process::id()));
        // Ours alone, and new: nobody can have put anything there.
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("cannot make {} (set TMPDIR, or use -o)", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

fn check(arguments: &Arguments, file: &Path) -> anyhow::Result<u8> {
    let question = |when| Question {
        when,
        ..Question::default()
    };
    let end = question(match &arguments.mark {
        Some(name) => When::Between(Window::Span(name.clone())),
        None => When::End,
    });
    // Every other question is answered by the same replay.
    let profile = read(file, &end, Threads::Together)?;
    if let Some(reason) = profile.completion.cut_reason() {
        anyhow::bail!(
            "cannot check {}: it is not whole ({reason}), so that what it holds may be less than there was",
            file.display()
        );
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if !profile.is_complete() {
        writeln!(
            out,
            "warning: not all was seen, so the figures may be off; `highwater report` says by how much"
        )?;
    }
    let mut holds = true;
    if let Some(most) = arguments.max_peak {
        let answer = Answer::of(&profile, &question(When::Peak));
        holds &= limit("peak", profile.peak.bytes, most, size_of, &mut out)
            .and_then(|held| offenders(held, &profile, &answer, &mut out))?;
    }
    if let Some(most) = arguments.max_live_at_end {
        let answer = Answer::of(&profile, &end);
        let (what, bytes) = match &arguments.mark {
            Some(_) => ("live at the end of the span", answer.bytes),
            None => ("live at the end", profile.end.bytes),
        };
        holds &= limit(what, bytes, most, size_of, &mut out)
            .and_then(|held| offenders(held, &profile, &answer, &mut out))?;
    }
    if let Some(most) = arguments.max_allocations {
        let answer = Answer::of(&profile, &question(When::Allocated));
        holds &= limit(
            "allocations",
            profile.totals.allocations,
            most,
            size::thousands,
            &mut out,
        )
        .and_then(|held| offenders(held, &profile, &answer, &mut out))?;
    }
    if let (Some(old), Some(growth)) = (&arguments.baseline, arguments.max_growth) {
        let peak = question(When::Peak);
        let baseline = read(old, &peak, Threads::Together)?;
        let most = growth.above(baseline.peak.bytes);
        let held = limit(
            "peak against the baseline",
            profile.peak.bytes,
            most,
            size_of,
            &mut out,
        )?;
        if !held {
            let (before, after) = (Answer::of(&baseline, &peak), Answer::of(&profile, &peak));
            let mut changes = difference((&baseline, &before), (&profile, &after));
            changes.retain(|change| change.bytes() > 0);
            write_changes(Unit::Bytes, &changes, OFFENDERS, &mut out)?;
        }
        holds &= held;
    }
    out.flush()?;
    Ok(if holds { DONE } else { OVER_BUDGET })
}

/// Stacks shown of a budget that does not hold.
const OFFENDERS: usize = 5;

fn size_of(bytes: u64) -> String {
    format!("{} ({} bytes)", size::short(bytes), size::thousands(bytes))
}

/// Says whether a limit holds.
fn limit(
    what: &str,
    is: u64,
    most: u64,
    show: fn(u64) -> String,
    out: &mut dyn io::Write,
) -> io::Result<bool> {
    let holds = is <= most;
    let word = if holds { "ok  " } else { "OVER" };
    writeln!(out, "{word}  {what}: {}, at most {}", show(is), show(most))?;
    Ok(holds)
}

fn offenders(
    holds: bool,
    profile: &Profile,
    answer: &Answer,
    out: &mut dyn io::Write,
) -> io::Result<bool> {
    if !holds {
        let mut rows = rows(profile, answer, By::Stack);
        if answer.at.is_none() {
            // Of no moment: all that was allocated, of which the number is over.
            rows.sort_by_key(|row| std::cmp::Reverse(row.blocks));
        }
        let mut options = text_options(false);
        options.top = OFFENDERS;
        text::write_table(profile, answer, (By::Stack, &rows), &options, out)?;
    }
    Ok(holds)
}

fn parse_size(text: &str) -> Result<u64, String> {
    size::parse(text).map_err(|error| error.to_string())
}

fn parse_growth(text: &str) -> Result<Growth, Usage> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        let size = parse_size(text).map(Growth::Bytes);
        return size.map_err(|error| Usage(format!("{error}; or say 5%")));
    };
    match percent.trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Growth::Percent(percent)),
        _ => Err(Usage(format!("`{text}` is no share; say 5% or 10MiB"))),
    }
}
