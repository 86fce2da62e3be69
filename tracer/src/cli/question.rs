//! The words of a question: the same on every view.

use std::path::Path;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use regex::Regex;

use super::kind::OfKind;
use super::output::Usage;
use crate::record::{ahead::Ahead, reader};
use crate::report::question::{Point, Question, When, Window};
use crate::report::view::View;
use crate::report::{Profile, Threads};
use crate::units::size::Size;

/// What is asked of a recording.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to show")]
pub(super) struct Asked {
    /// Which moment: peak, end, a time (+12.5s or 2026-01-02T03:04:05Z), or the name of a mark
    #[arg(long, value_name = "WHEN", group = "when")]
    at: Option<String>,
    /// What was allocated in a window and is live at its end: T1..T2, either may be left out, or the name of a span
    #[arg(long, value_name = "T1..T2", group = "when")]
    between: Option<String>,
    /// Who holds more and more: live bytes that rise, a second
    #[arg(long, group = "when")]
    growing: bool,
    /// Blocks freed before their thread had made N allocations more
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = "1", group = "when",
          value_parser = clap::value_parser!(u64).range(1..))]
    temporary: Option<u64>,
    /// All that was ever allocated, live or not
    #[arg(long, group = "when")]
    allocated: bool,
    /// Only of this thread, by name or id (may be repeated)
    #[arg(long, value_name = "NAME|TID")]
    thread: Vec<String>,
    /// Only of this process, by pid or program (may be repeated)
    #[arg(long, value_name = "PID|NAME")]
    process: Vec<String>,
    /// Only stacks with a function, file or module that matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    focus: Option<Regex>,
    /// No stacks with a function, file or module that matches
    #[arg(long, value_name = "REGEX", value_parser = parse_regex)]
    ignore: Option<Regex>,
    /// Nothing smaller than this (250KiB, 1MB)
    #[arg(long, value_name = "SIZE")]
    min: Option<Size>,
    /// Which frames of Python programs: python functions, native ones, or all; without it, both but for the interpreter's own
    #[arg(long, value_name = "FRAMES")]
    frames: Option<Frames>,
    #[command(flatten)]
    of_kind: OfKind,
}

/// Frames to show.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Frames {
    Python,
    Native,
    All,
}

impl From<Frames> for View {
    fn from(frames: Frames) -> Self {
        match frames {
            Frames::Python => Self::Python,
            Frames::Native => Self::Native,
            Frames::All => Self::All,
        }
    }
}

impl Asked {
    /// As the library takes it.
    ///
    /// # Errors
    ///
    /// A time or window that does not read as one.
    pub(super) fn question(&self) -> Result<Question, Usage> {
        let usage =
            |option: &str, error: &dyn std::fmt::Display| Usage(format!("{option}: {error}"));
        let when = match (&self.at, &self.between) {
            (Some(at), _) => match at.as_str() {
                "peak" => When::Peak,
                "end" => When::End,
                at => When::At(Point::parse(at).map_err(|error| usage("--at", &error))?),
            },
            (None, Some(window)) => {
                When::Between(Window::parse(window).map_err(|error| usage("--between", &error))?)
            }
            (None, None) if self.growing => When::Growing,
            (None, None) if self.allocated => When::Allocated,
            (None, None) => self.temporary.map_or(When::Peak, When::Temporary),
        };
        Ok(Question {
            when,
            kinds: self.of_kind.kinds(),
            threads: self.thread.clone(),
            processes: self.process.clone(),
            focus: self.focus.clone(),
            ignore: self.ignore.clone(),
            least: self.min.unwrap_or_default().0,
            view: self.frames.map_or(View::Telling, View::from),
        })
    }

    /// Whether anything but the kind was asked for.
    pub(super) fn is_particular(&self) -> bool {
        let Self {
            at,
            between,
            growing,
            temporary,
            allocated,
            thread,
            process,
            focus,
            ignore,
            min,
            frames: _,
            of_kind: _,
        } = self;
        let windows = at.is_some() || between.is_some() || *growing || *allocated;
        let filters = focus.is_some() || ignore.is_some() || min.is_some();
        windows || filters || temporary.is_some() || !thread.is_empty() || !process.is_empty()
    }
}

/// Reads a recording for a question; what is wrong with it beyond some point is told in the report itself.
pub(super) fn read(path: &Path, question: &Question, threads: Threads) -> anyhow::Result<Profile> {
    let reader = reader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = Ahead::of(reader).context("cannot start a thread")?;
    let profile = Profile::replay_for(entries, question, threads);
    let mut profile = profile.with_context(|| format!("cannot report {}", path.display()))?;
    profile.keep(question.kinds);
    Ok(profile)
}

/// Reads a recording for what a question comes to, and nothing beside it.
pub(super) fn read_for_answer(
    path: &Path,
    question: &Question,
    threads: Threads,
) -> anyhow::Result<Profile> {
    let reader = reader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = Ahead::of(reader).context("cannot start a thread")?;
    let profile = Profile::replay_for_answer(entries, question, threads);
    profile.with_context(|| format!("cannot report {}", path.display()))
}

/// Reads a recording for a page, which shows more than was asked for.
pub(super) fn read_for_page(path: &Path, question: &Question) -> anyhow::Result<Profile> {
    let reader = reader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = Ahead::of(reader).context("cannot start a thread")?;
    let profile = Profile::replay_for_page(entries, question);
    profile.with_context(|| format!("cannot report {}", path.display()))
}

/// Reads what a recording defines; how many events it has.
pub(super) fn read_definitions(path: &Path, question: &Question) -> anyhow::Result<(Profile, u64)> {
    let reader = reader::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let entries = Ahead::of(reader).context("cannot start a thread")?;
    let profile = Profile::replay_definitions(entries, question);
    profile.with_context(|| format!("cannot report {}", path.display()))
}

fn parse_regex(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| error.to_string())
}
