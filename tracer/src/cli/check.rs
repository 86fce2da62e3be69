//! `highwater check`: does a budget hold? One line of somebody's CI.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Context as _;
use clap::Args;

use super::output::{self, Former, Usage};
use super::question::read;
use super::{DONE, FAILED, OVER_BUDGET};
use crate::report::{
    ReplayError, Threads,
    budget::Verdict,
    check::{self, Budget, Checked, Report, github, json, junit, text},
    name,
    question::{Question, When, Window},
};
use crate::units::size::Size;
use crate::words::say;

/// Check that memory stays within a budget; exit code 3, with the stacks that hold most, if it does not
///
/// Of a recording, or of a command that is recorded now; its recording is kept where the check fails. If the command itself
/// fails, its own status is passed on. Of a recording that stops early, or that lost events, only what is certain is told: where
/// that is not enough, it fails (1).
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
    /// Where to keep the recording of the command (default: here, and only if the check fails)
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
    /// Print JSON (schema 1); what the command prints goes to standard error then
    #[arg(long)]
    json: bool,
    /// Write the verdict as test results, JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Print annotations for GitHub Actions, too (default: where GITHUB_ACTIONS is set)
    #[arg(long)]
    github: bool,
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
    if arguments
        .junit
        .as_ref()
        .is_some_and(|file| file.as_os_str() == "-")
    {
        let said = "--junit -: standard output has the verdict; name a file";
        return Err(Usage(said.to_owned()).into());
    }
    match &arguments.file {
        Some(file) => check(arguments, file, None),
        None => run_command(arguments),
    }
}

/// The recording of a command.
struct Recorded {
    /// With which status the command failed.
    failed: Option<u8>,
    /// Where it lies, if nobody said where to keep it: it goes with this.
    scratch: Option<tempfile::TempDir>,
}

fn run_command(arguments: &Arguments) -> anyhow::Result<u8> {
    let (scratch, file) = match &arguments.output {
        Some(file) => (None, file.clone()),
        None => {
            // Ours alone, and new: nobody can have put anything there.
            let scratch = tempfile::Builder::new()
                .prefix("highwater-check-")
                .tempdir()
                .context("cannot make a directory for the recording (set TMPDIR, or use -o)")?;
            let program = arguments.command[0].to_string_lossy();
            let name = output::recording_name(&program, std::process::id(), jiff::Timestamp::now());
            let file = scratch.path().join(name);
            (Some(scratch), file)
        }
    };
    let this = std::env::current_exe().context("cannot find highwater's own program")?;
    let mut record = Command::new(this);
    record
        .args(["record", "--no-answer", "-o"])
        .arg(&file)
        .arg("--")
        .args(&arguments.command);
    if arguments.json {
        // Standard output is for the JSON alone.
        record.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    let status = record.status().context("cannot run `highwater record`")?;
    let failed = (!status.success()).then(|| {
        let code = status.code().or(status.signal().map(|signal| 128 + signal));
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(FAILED)
    });
    match failed {
        // What failed was to record it; why has been said.
        Some(code) if !file.exists() => Ok(code),
        _ => check(arguments, &file, Some(Recorded { failed, scratch })),
    }
}

fn check(arguments: &Arguments, file: &Path, recorded: Option<Recorded>) -> anyhow::Result<u8> {
    let question = Question {
        // Every other question is answered by the same replay.
        when: match &arguments.mark {
            Some(name) => When::Between(Window::Span(name.clone())),
            None => When::End,
        },
        ..Question::default()
    };
    let profile = match read(file, &question, Threads::Together) {
        Ok(profile) => profile,
        Err(error) => {
            // A command that failed may not have come as far as its span.
            let Some(failed) = recorded.as_ref().and_then(|recorded| recorded.failed) else {
                return Err(error);
            };
            say!(
                "the command failed with status {failed}, and its budget was not checked: {error:#}"
            );
            return Ok(failed);
        }
    };
    if arguments.mark.is_some() && profile.spans.is_none() {
        let what = "what came within a span";
        return Err(ReplayError::Folded { what }.into());
    }
    let checked = Checked::new(&profile, &question);
    let limits = [
        (Budget::Peak, arguments.max_peak.map(|size| size.0)),
        (Budget::End, arguments.max_live_at_end.map(|size| size.0)),
        (Budget::Allocations, arguments.max_allocations),
    ];
    let mut report = Report {
        findings: limits
            .into_iter()
            .filter_map(|(budget, most)| Some(checked.limit(budget, most?)))
            .collect(),
        warning: checked.warning(),
        program: profile
            .main_process()
            .map_or_else(String::new, |main| name::program(&main.process.command)),
        duration_ns: profile.duration_ns(),
        started_unix_ns: profile.opening.started_unix_ns,
        command_failed: recorded.as_ref().and_then(|recorded| recorded.failed),
        ..Report::default()
    };
    let shown = file.display().to_string();
    let mut looked_at = vec![(&*shown, checked)];
    let (baseline, old);
    if let (Some(path), Some(growth)) = (&arguments.baseline, arguments.max_growth) {
        baseline = read(path, &question, Threads::Together)?;
        old = path.display().to_string();
        let before = Checked::new(&baseline, &question);
        report
            .findings
            .push(checked.growth(&before, |peak| growth.above(peak)));
        looked_at.push((&*old, before));
    }
    report.sort();
    let verdict = report.verdict();
    let failed = verdict != Verdict::Holds || report.command_failed.is_some();
    // Where it is from here on.
    let kept = match recorded {
        Some(Recorded {
            scratch: Some(scratch),
            ..
        }) if failed => Some(keep(scratch, file)?),
        Some(Recorded { scratch: None, .. }) => Some(file.to_owned()),
        _ => None,
    };
    report.recording = kept.map(|kept| kept.display().to_string());
    if verdict == Verdict::Unknown {
        let shown = report.recording.as_deref().unwrap_or(&shown);
        looked_at[0].0 = shown;
        report.unknown = Some(check::why_unknown(shown, &looked_at));
    }
    write(arguments, &report)?;
    match (report.command_failed, verdict) {
        (Some(status), _) => Ok(status),
        (None, Verdict::Over) => Ok(OVER_BUDGET),
        (None, Verdict::Holds) => Ok(DONE),
        (None, Verdict::Unknown) => anyhow::bail!("{}", report.unknown.unwrap_or_default()),
    }
}

/// Writes the verdict to wherever it is wanted.
fn write(arguments: &Arguments, report: &Report) -> anyhow::Result<()> {
    let on_github = arguments.github
        || std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| !value.is_empty());
    let mut text = Vec::new();
    match arguments.json {
        true => json::write(report, &mut text)?,
        false => text::write(report, &mut text)?,
    }
    if on_github && !arguments.json {
        text = github::harmless(&String::from_utf8(text)?).into_bytes();
    }
    let mut annotations = Vec::new();
    if on_github {
        let repository = match std::env::var_os("GITHUB_WORKSPACE") {
            Some(workspace) => workspace.into(),
            None => std::env::current_dir()?,
        };
        github::write(report, &repository, &mut annotations)?;
    }
    let mut out = io::stdout().lock();
    let told = out.write_all(&text).and_then(|()| match arguments.json {
        // Runners read both.
        true => io::stderr().write_all(&annotations),
        false => out.write_all(&annotations),
    });
    match told.and_then(|()| out.flush()) {
        // Whoever read it has read enough; the verdict is in the exit code, too.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        told => told?,
    }
    match &arguments.junit {
        Some(file) => output::write(file, Former::Replaced, |out| Ok(junit::write(report, out)?)),
        None => Ok(()),
    }
}

/// Keeps the recording of a check that failed: in the current directory as `record` would, or where that cannot be, where it is.
/// Its path.
fn keep(scratch: tempfile::TempDir, file: &Path) -> anyhow::Result<PathBuf> {
    let name = PathBuf::from(file.file_name().unwrap_or_default());
    let copied = || -> anyhow::Result<()> {
        let mut copy = output::create(&name)?;
        let copied = File::open(file).and_then(|mut file| io::copy(&mut file, &mut copy));
        if let Err(error) = copied {
            // A part of it is no use to anyone.
            let _ = fs::remove_file(&name);
            return Err(error.into());
        }
        Ok(())
    };
    if fs::hard_link(file, &name).is_ok() || copied().is_ok() {
        return Ok(name);
    }
    let directory = scratch.keep();
    output::give_to_user(&File::open(&directory)?, &directory)?;
    Ok(file.to_owned())
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
