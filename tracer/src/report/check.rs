//! What `check` finds: of each budget whether it holds, and who makes it go over. The sinks only write it down:
//!
//! - [`text`]: the verdict first, in about ten lines, for a person;
//! - [`json`]: for programs;
//! - [`junit`]: for the test results that most CI shows;
//! - [`github`]: annotations at the lines of source.

pub mod github;
pub mod json;
pub mod junit;
pub mod text;

use std::cmp::Reverse;

use super::answer::{Answer, Unit, Within};
use super::budget::{Figures, Known, Verdict};
use super::difference::{Became, Change, difference};
use super::joined::together;
use super::model::Profile;
use super::name::{NamedFrame, UNKNOWN_STACK};
use super::question::{Question, When};
use super::rows::callers;
use super::telling::most_telling;
use crate::event::Nanos;
use crate::model::losses::{Loss, join_late};
use crate::units::{size, time};
use crate::words::printable;

/// What a budget is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// The most that is live at once.
    Peak,
    /// What is live at the end.
    End,
    /// The number of blocks asked for.
    Allocations,
    /// The peak, held against that of another recording.
    Growth,
}

impl Budget {
    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Self::Peak => "peak",
            Self::End => "live at the end",
            Self::Allocations => "allocations",
            Self::Growth => "peak against the baseline",
        }
    }

    fn within(self) -> Within {
        match self {
            Self::Peak | Self::Growth => Within::Peak,
            Self::End => Within::End,
            Self::Allocations => Within::Allocated,
        }
    }

    fn show(self, amount: u64) -> String {
        match self {
            Self::Allocations => size::thousands(amount),
            Self::Peak | Self::End | Self::Growth => {
                format!(
                    "{} ({} bytes)",
                    size::short(amount),
                    size::thousands(amount)
                )
            }
        }
    }
}

/// Of one budget, whether it holds.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is of.
    pub budget: Budget,
    /// Whether it holds.
    pub verdict: Verdict,
    /// The figure: bytes, or blocks.
    pub is: Known,
    /// No more than this is allowed: bytes, or blocks.
    pub limit: Known,
    /// Of what was recorded it is: nothing for the whole, else ` of the span`.
    pub of: String,
    /// When that was, from the start of the recording.
    pub at: Option<Nanos>,
    /// Who holds most, or grew most, if the budget does not hold.
    pub holders: Vec<Held>,
    /// How many more there are.
    pub others: usize,
}

impl Finding {
    /// `peak of the span: 381.5 MiB (400,000,004 bytes); at most 194.5 MiB (204,000,000 bytes)`
    pub fn sentence(&self) -> String {
        let Self { budget, is, of, .. } = self;
        let figure = budget.show(is.is);
        let figure = match is.most {
            None => format!("{figure} so far"),
            Some(most) if (is.least, most) == (is.is, is.is) => figure,
            Some(most) => format!(
                "{figure}, with what was lost from {} to {}",
                budget.show(is.least),
                budget.show(most)
            ),
        };
        let limit = budget.show(self.limit.is);
        format!("{}{of}: {figure}; at most {limit}", budget.name())
    }

    /// What stands over the list of who held it.
    pub fn heading(&self) -> String {
        let at = self
            .at
            .map_or_else(String::new, |at| format!(", at {}", time::offset(at.0)));
        match self.budget {
            Budget::Peak => format!("Who held it{at}"),
            Budget::End => format!("Who held it at the end{at}"),
            Budget::Allocations => "Who asked most often".to_owned(),
            Budget::Growth => "Who holds more than in the baseline".to_owned(),
        }
    }
}

/// Somebody who makes a budget go over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The function that tells most of its stack, or what stands for it.
    pub function: String,
    /// Where that is, as a person reads it: `src/table.c:40`.
    pub place: Option<String>,
    /// Its source file, as debug information names it.
    pub file: Option<String>,
    /// The line in it.
    pub line: Option<u32>,
    /// Who called it, ` ← ` between them.
    pub callers: Option<String>,
    /// What it held, or by how much it grew.
    pub bytes: u64,
    /// In so many blocks; of what grew, so many more.
    pub blocks: u64,
    /// What became of it since the baseline.
    pub became: Option<Became>,
}

impl Held {
    /// `19.1 MiB, grown`, `1,234 blocks (12.0 KiB)`
    fn amount(&self, budget: Budget) -> String {
        let bytes = size::short(self.bytes);
        match (budget, self.became) {
            (Budget::Allocations, _) => {
                format!("{} blocks ({bytes})", size::thousands(self.blocks))
            }
            (_, Some(Became::New)) => format!("+{bytes} new"),
            (_, Some(_)) => format!("+{bytes} grown"),
            (_, None) => bytes,
        }
    }

    /// `add_scalar (python/story.py:37) ← process_data`
    fn who(&self) -> String {
        let mut who = self.function.clone();
        if let Some(place) = &self.place {
            who.push_str(&format!(" ({place})"));
        }
        if let Some(callers) = &self.callers {
            who.push_str(&format!(" ← {callers}"));
        }
        who
    }

    /// `19.1 MiB  add_scalar (python/story.py:37) ← process_data`
    fn line(&self, budget: Budget) -> String {
        format!("{}  {}", self.amount(budget), self.who())
    }

    fn of(profile: &Profile, stack: crate::event::StackIndex) -> Self {
        let frames = profile.frames(stack).unwrap_or_default();
        let telling = most_telling(&frames, 1 + CALLERS);
        let first = telling.first().copied();
        let source = first.filter(|frame| frame.function.is_some());
        Self {
            function: first.map_or_else(|| UNKNOWN_STACK.to_owned(), NamedFrame::label),
            place: first.and_then(NamedFrame::place),
            file: source.and_then(|frame| frame.file).map(str::to_owned),
            line: source.and_then(|frame| frame.line),
            callers: callers(telling.get(1..).unwrap_or_default()),
            bytes: 0,
            blocks: 0,
            became: None,
        }
    }

    fn changed(change: &Change) -> Self {
        Self {
            function: change.name.clone(),
            place: change.place.clone(),
            file: change.file.clone(),
            line: change.line,
            callers: change.callers.clone(),
            bytes: u64::try_from(change.bytes()).unwrap_or(0),
            blocks: change.blocks_after.saturating_sub(change.blocks_before),
            became: Some(change.became),
        }
    }
}

/// How many callers of a holder are named.
const CALLERS: usize = 2;
/// Of those who make a budget go over, so many are kept.
const MOST_HELD: usize = 20;

/// What is checked: a recording, or the spans of it that were asked for.
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    profile: &'a Profile,
    question: &'a Question,
    /// What is known of it.
    pub figures: Figures,
}

impl<'a> Checked<'a> {
    /// Of a recording that was replayed for this question.
    pub fn new(profile: &'a Profile, question: &'a Question) -> Self {
        Self {
            profile,
            question,
            figures: Figures::of(profile),
        }
    }

    /// Whether a limit holds.
    pub fn limit(&self, budget: Budget, most: u64) -> Finding {
        let mut finding = self.finding(budget, Known::exactly(most));
        if finding.verdict != Verdict::Over {
            return finding;
        }
        let answer = self.answer(budget.within());
        let mut holders = together(self.profile, &answer.holders);
        if budget == Budget::Allocations {
            // It is their number that is over.
            holders.sort_by_key(|one| Reverse(one.holder.blocks));
        }
        finding.others = holders.len().saturating_sub(MOST_HELD);
        let holders = holders.iter().take(MOST_HELD);
        finding.holders = holders
            .map(|one| Held {
                bytes: one.holder.bytes,
                blocks: one.holder.blocks,
                ..Held::of(self.profile, one.holder.stack)
            })
            .collect();
        finding
    }

    /// Whether the peak is at most what `allowed` makes of that of an earlier recording.
    pub fn growth(&self, before: &Checked<'_>, allowed: impl Fn(u64) -> u64) -> Finding {
        let mut finding = self.finding(Budget::Growth, before.figures.peak.map(allowed));
        if finding.verdict == Verdict::Over {
            let (old, new) = (before.answer(Within::Peak), self.answer(Within::Peak));
            let mut changes = difference((before.profile, &old), (self.profile, &new));
            changes.retain(|change| change.bytes() > 0);
            finding.others = changes.len().saturating_sub(MOST_HELD);
            finding.holders = changes.iter().take(MOST_HELD).map(Held::changed).collect();
        }
        finding
    }

    fn finding(&self, budget: Budget, limit: Known) -> Finding {
        let is = match budget.within() {
            Within::Peak => self.figures.peak,
            Within::End => self.figures.end,
            Within::Allocated => self.figures.allocations,
        };
        let since_start = |at| self.profile.since_start(at);
        let (of, at) = match &self.profile.spans {
            None => {
                let at = match budget.within() {
                    Within::Peak => Some(since_start(self.profile.peak.at)),
                    Within::End => Some(since_start(self.profile.end.at)),
                    Within::Allocated => None,
                };
                (String::new(), at)
            }
            Some(spans) => {
                let worst = budget.within().worst(spans);
                let of = match spans.count {
                    1 => " of the span".to_owned(),
                    count => format!(
                        " of the worst of {} spans, that of {}",
                        size::thousands(count),
                        time::offset(since_start(worst.began).0)
                    ),
                };
                let at = match budget.within() {
                    Within::Peak => Some(since_start(worst.peak.at)),
                    Within::End => Some(since_start(worst.end.at)),
                    Within::Allocated => None,
                };
                (of, at)
            }
        };
        Finding {
            budget,
            verdict: is.against(limit),
            is,
            limit,
            of,
            at,
            holders: Vec::new(),
            others: 0,
        }
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
            let answer = Answer::of(self.profile, &question);
            debug_assert_eq!(answer.unit, Unit::Bytes);
            answer
        })
    }

    /// What may make the figures wrong beyond what they say of themselves.
    pub fn warning(&self) -> Option<String> {
        if self.profile.completion.cut_reason().is_some() {
            return Some(format!(
                "the recording stops early, at {}; whether events were lost is not known of it",
                time::offset(self.profile.duration_ns())
            ));
        }
        let words =
            "not all was seen, so the figures may be off; `highwater report` says by how much";
        (!self.profile.is_complete()).then(|| words.to_owned())
    }
}

/// Why it cannot be told whether a recording keeps its budget, and what to do. `looked_at` are all recordings that
/// were, by the names of their files.
pub fn why_unknown(file: &str, looked_at: &[(&str, Checked<'_>)]) -> String {
    let mut why = format!("cannot tell whether {file} keeps its budget");
    if let Some((path, checked)) = looked_at.iter().find(|(_, one)| one.figures.stops_early) {
        why.push_str(&format!(
            ": {path} stops early, at {} ({}); a part of a recording can go over a budget, but it cannot keep one: record to the end",
            time::offset(checked.profile.duration_ns()),
            checked.profile.completion.cut_reason().unwrap_or_default()
        ));
        return why;
    }
    if looked_at.iter().any(|(_, one)| one.figures.overlooks) {
        why.push_str(
            ": not all spans of that name could be looked at: too many were under way at once, or marks were left out",
        );
        return why;
    }
    let losses = looked_at.iter().flat_map(|(_, one)| &one.profile.losses);
    let mut graves: Vec<Loss> = losses.filter(|loss| loss.is_grave()).cloned().collect();
    join_late(&mut graves);
    why.push_str(", for not all was seen:");
    for loss in graves.iter().take(LOSSES_TOLD) {
        why.push_str(&format!(" {}", printable(&loss.to_string())));
    }
    if graves.len() > LOSSES_TOLD {
        why.push_str(&format!(" And {} more.", graves.len() - LOSSES_TOLD));
    }
    if graves
        .iter()
        .any(|loss| matches!(loss, Loss::Events { .. }))
    {
        why.push_str(" Record again, with a larger --ring or --sample.");
    }
    why
}

/// Losses named where they leave the answer open.
const LOSSES_TOLD: usize = 5;

/// What a check comes to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Of each budget, those first that do not hold, then those of which that is not known.
    pub findings: Vec<Finding>,
    /// What may make the figures wrong beyond what they say of themselves.
    pub warning: Option<String>,
    /// Why it is not known whether a budget holds, if it is not.
    pub unknown: Option<String>,
    /// The program that was recorded.
    pub program: String,
    /// How long was recorded, nanoseconds.
    pub duration_ns: u64,
    /// When that began, nanoseconds since 1970-01-01 UTC.
    pub started_unix_ns: u64,
    /// With which status the command failed that was recorded for it.
    pub command_failed: Option<u8>,
    /// Where the recording is, if it was kept.
    pub recording: Option<String>,
}

impl Report {
    /// Puts what is wrong first.
    pub fn sort(&mut self) {
        self.findings.sort_by_key(|finding| match finding.verdict {
            Verdict::Over => 0,
            Verdict::Unknown => 1,
            Verdict::Holds => 2,
        });
    }

    /// The worst of all budgets.
    pub fn verdict(&self) -> Verdict {
        let has = |verdict| {
            self.findings
                .iter()
                .any(|finding| finding.verdict == verdict)
        };
        match () {
            () if has(Verdict::Over) => Verdict::Over,
            () if has(Verdict::Unknown) => Verdict::Unknown,
            () => Verdict::Holds,
        }
    }

    /// What is said of a command that failed.
    fn of_command(&self) -> Option<String> {
        let status = self.command_failed?;
        Some(format!(
            "{} failed with status {status}, which is passed on",
            self.program
        ))
    }

    /// Those who make a budget go over, where there are any.
    fn over(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| !finding.holders.is_empty())
    }
}

#[cfg(test)]
mod tests;
