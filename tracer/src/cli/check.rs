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
use crate::model::Loss;
use crate::report::{
    Profile, ReplayError, Threads,
    answer::{Answer, Unit, Within},
    budget::{Figures, Known, Verdict},
    difference::difference,
    question::{Question, When, Window},
    rows::{By, rows},
    text,
};
use crate::units::{
    size::{self, Size},
    time,
};
use crate::words::printable;

/// Check that memory stays within a budget; exit code 3, with the stacks that hold most, if it does not
///
/// Of a recording, or of a command that is recorded now. If the command itself fails, its own status is passed on. Of a
/// recording that stops early, or that lost events, only what is certain is told: where that is not enough, it fails (1).
#[derive(Debug, Args)]
#[command(
    override_usage = "highwater check BUDGET... [OPTIONS] [FILE]\n       highwater check BUDGET... [OPTIONS] -- COMMAND [ARGS]...",
    group = clap::ArgGroup::new("budget").multiple(true).required(true)
)]
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
    #[arg(long, value_name = "SIZE", group = "budget")]
    max_peak: Option<Size>,
    /// No more than this is live at the end
    #[arg(long, value_name = "SIZE", group = "budget")]
    max_live_at_end: Option<Size>,
    /// No more than this many blocks are asked for
    #[arg(long, value_name = "N", group = "budget")]
    max_allocations: Option<u64>,
    /// Look only at what is allocated in a span of this name, up to its end (see `highwater mark`); every such span has to
    /// keep the budget
    #[arg(long, value_name = "NAME")]
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
            // Ours alone, and new: nobody can have put anything there.
            scratch = tempfile::Builder::new()
                .prefix("highwater-check-")
                .tempdir()
                .context("cannot make a directory for the recording (set TMPDIR, or use -o)")?;
            scratch.path().join("check.hwm")
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

fn check(arguments: &Arguments, file: &Path) -> anyhow::Result<u8> {
    let question = Question {
        // Every other question is answered by the same replay.
        when: match &arguments.mark {
            Some(name) => When::Between(Window::Span(name.clone())),
            None => When::End,
        },
        ..Question::default()
    };
    let profile = read(file, &question, Threads::Together)?;
    let mut out = BufWriter::new(io::stdout().lock());
    warn(&profile, &mut out)?;
    if arguments.mark.is_some() && profile.spans.is_none() {
        let what = "what came within a span";
        return Err(ReplayError::Folded { what }.into());
    }
    let checked = Checked {
        profile: &profile,
        question: &question,
        figures: Figures::of(&profile),
    };
    let limits = [
        ("peak", Within::Peak, arguments.max_peak.map(|size| size.0)),
        (
            "live at the end",
            Within::End,
            arguments.max_live_at_end.map(|size| size.0),
        ),
        ("allocations", Within::Allocated, arguments.max_allocations),
    ];
    let mut verdicts = Vec::new();
    for (what, which, most) in limits {
        let Some(most) = most else { continue };
        let verdict = checked.limit(what, which, Known::exactly(most), &mut out)?;
        if verdict == Verdict::Over {
            checked.offenders(which, &mut out)?;
        }
        verdicts.push(verdict);
    }
    let mut unsure = vec![(file, &profile, checked.figures)];
    let baseline;
    if let (Some(old), Some(growth)) = (&arguments.baseline, arguments.max_growth) {
        baseline = read(old, &question, Threads::Together)?;
        let before = Checked {
            profile: &baseline,
            question: &question,
            figures: Figures::of(&baseline),
        };
        let most = before.figures.peak.map(|peak| growth.above(peak));
        let verdict = checked.limit("peak against the baseline", Within::Peak, most, &mut out)?;
        if verdict == Verdict::Over {
            let (before, after) = (before.answer(Within::Peak), checked.answer(Within::Peak));
            let mut changes = difference((&baseline, &before), (&profile, &after));
            changes.retain(|change| change.bytes() > 0);
            write_changes(Unit::Bytes, &changes, OFFENDERS, &mut out)?;
        }
        verdicts.push(verdict);
        unsure.push((old, &baseline, before.figures));
    }
    out.flush()?;
    if verdicts.contains(&Verdict::Over) {
        return Ok(OVER_BUDGET);
    }
    if verdicts.contains(&Verdict::Unknown) {
        anyhow::bail!("{}", why_unknown(file, &unsure));
    }
    Ok(DONE)
}

/// Says what may make the figures wrong beyond what they say of themselves.
fn warn(profile: &Profile, out: &mut dyn io::Write) -> io::Result<()> {
    if profile.completion.cut_reason().is_some() {
        return writeln!(
            out,
            "warning: the recording stops early, at {}; whether events were lost is not known of it",
            time::offset(profile.since_start(profile.ended).0)
        );
    }
    if !profile.is_complete() {
        writeln!(
            out,
            "warning: not all was seen, so the figures may be off; `highwater report` says by how much"
        )?;
    }
    Ok(())
}

/// Why the answer is neither yes nor no, and what to do.
fn why_unknown(file: &Path, unsure: &[(&Path, &Profile, Figures)]) -> String {
    let mut why = format!("cannot tell whether {} keeps its budget", file.display());
    let cut = unsure.iter().find(|(_, _, figures)| figures.stops_early);
    let tell = match cut {
        Some((path, profile, _)) => format!(
            ": {} stops early, at {} ({}); a part of a recording can go over a budget, but it cannot keep one: record to the end",
            path.display(),
            time::offset(profile.since_start(profile.ended).0),
            profile.completion.cut_reason().unwrap_or_default()
        ),
        None if unsure.iter().any(|(_, _, figures)| figures.overlooks) => {
            ": not all spans of that name could be looked at: too many were under way at once, or marks were left out".to_owned()
        }
        None => {
            let graves = unsure.iter().flat_map(|(_, profile, _)| &profile.losses);
            let graves: Vec<&Loss> = graves.filter(|loss| loss.is_grave()).collect();
            let mut tell = String::from(", for not all was seen:");
            for loss in graves.iter().take(LOSSES_TOLD) {
                tell.push_str(&format!(" {}", printable(&loss.to_string())));
            }
            if graves.len() > LOSSES_TOLD {
                tell.push_str(&format!(" And {} more.", graves.len() - LOSSES_TOLD));
            }
            if graves
                .iter()
                .any(|loss| matches!(loss, Loss::Events { .. }))
            {
                tell.push_str(" Record again, with a larger --ring or --sample.");
            }
            tell
        }
    };
    why.push_str(&tell);
    why
}

/// Losses named where they leave the answer open.
const LOSSES_TOLD: usize = 5;

/// Stacks shown of a budget that does not hold.
const OFFENDERS: usize = 5;

fn size_of(bytes: u64) -> String {
    format!("{} ({} bytes)", size::short(bytes), size::thousands(bytes))
}

/// What is checked: a recording, or a span of it.
struct Checked<'a> {
    profile: &'a Profile,
    question: &'a Question,
    figures: Figures,
}

impl Checked<'_> {
    /// Says whether a limit holds.
    fn limit(
        &self,
        what: &str,
        which: Within,
        most: Known,
        out: &mut dyn io::Write,
    ) -> io::Result<Verdict> {
        let (figure, show): (_, fn(u64) -> String) = match which {
            Within::Peak => (self.figures.peak, size_of),
            Within::End => (self.figures.end, size_of),
            Within::Allocated => (self.figures.allocations, size::thousands),
        };
        let verdict = figure.against(most);
        let word = match verdict {
            Verdict::Holds => "ok  ",
            Verdict::Over => "OVER",
            Verdict::Unknown => "?   ",
        };
        let of = match &self.profile.spans {
            None => String::new(),
            Some(spans) if spans.count == 1 => " of the span".to_owned(),
            Some(spans) => format!(
                " of the worst of {} spans, that of {}",
                size::thousands(spans.count),
                time::offset(self.profile.since_start(which.worst(spans).began).0)
            ),
        };
        let is = show(figure.is);
        let is = match figure.most {
            None => format!("{is} so far"),
            Some(is_most) if (figure.least, is_most) == (figure.is, figure.is) => is,
            Some(is_most) => format!(
                "{is}, with what was lost from {} to {}",
                show(figure.least),
                show(is_most)
            ),
        };
        writeln!(out, "{word}  {what}{of}: {is}; at most {}", show(most.is))?;
        Ok(verdict)
    }

    fn answer(&self, which: Within) -> Answer {
        Answer::within(self.profile, self.question, which).unwrap_or_else(|| {
            let when = match which {
                Within::Peak => When::Peak,
                Within::End => When::End,
                Within::Allocated => When::Allocated,
            };
            let question = Question {
                when,
                ..self.question.clone()
            };
            Answer::of(self.profile, &question)
        })
    }

    /// Lists who makes a budget go over.
    fn offenders(&self, which: Within, out: &mut dyn io::Write) -> io::Result<()> {
        let answer = self.answer(which);
        let mut rows = rows(self.profile, &answer, By::Stack);
        if which == Within::Allocated {
            // It is their number that is over.
            rows.sort_by_key(|row| std::cmp::Reverse(row.blocks));
        }
        let mut options = text_options(false);
        options.top = Some(OFFENDERS);
        text::write_table(self.profile, &answer, (By::Stack, &rows), &options, out)
    }
}

fn parse_growth(text: &str) -> Result<Growth, Usage> {
    let Some(percent) = text.trim().strip_suffix('%') else {
        let size = text.parse().map(|Size(bytes)| Growth::Bytes(bytes));
        return size.map_err(|error| Usage(format!("{error}; or say 5%")));
    };
    match percent.trim().parse::<f64>() {
        Ok(percent) if percent.is_finite() && percent >= 0.0 => Ok(Growth::Percent(percent)),
        _ => Err(Usage(format!("`{text}` is no share; say 5% or 10MiB"))),
    }
}
