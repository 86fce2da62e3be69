//! The verdict for a person: first of all, and about ten lines with what it rests on. Nobody is listed who holds less than a
//! hundredth.

use std::io::{self, Write};

use super::super::fit::fitted;
use super::{Budget, Held, Report, Verdict};
use crate::words::printable;

/// Lines of those who make budgets go over, of all budgets together.
const LISTED: usize = 5;
/// Characters of a function's name.
const NAME: usize = 48;

/// Writes the verdict.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    if let Some(failed) = report.of_command() {
        writeln!(out, "FAILED  {failed}")?;
    }
    for finding in &report.findings {
        let word = match finding.verdict {
            Verdict::Holds => "ok  ",
            Verdict::Over => "OVER",
            Verdict::Unknown => "?   ",
        };
        writeln!(out, "{word}  {}", finding.sentence())?;
    }
    if let Some(warning) = &report.warning {
        writeln!(out, "warning: {warning}")?;
    }
    let over = report.over().count();
    for finding in report.over() {
        writeln!(out, "{}:", finding.heading())?;
        let most = (LISTED / over.max(1)).max(2);
        let small = finding.is.is / 100;
        let is_small = |held: &Held| match finding.budget {
            Budget::Allocations => held.blocks < small,
            Budget::Peak | Budget::End | Budget::Growth => held.bytes < small,
        };
        let large = finding.holders.iter().take_while(|held| !is_small(held));
        let shown: Vec<&Held> = large.take(most).collect();
        for held in &shown {
            writeln!(out, "  {}", line(held, finding.budget))?;
        }
        let rest = finding.holders.len() - shown.len() + finding.others;
        if rest > 0 {
            writeln!(out, "  and {rest} more")?;
        }
    }
    if let Some(recording) = &report.recording {
        let recording = printable(recording);
        writeln!(out, "recording   {recording}")?;
        writeln!(out, "next        highwater report {recording}")?;
    }
    Ok(())
}

fn line(held: &Held, budget: Budget) -> String {
    let short = Held {
        function: fitted(&held.function, NAME),
        ..held.clone()
    };
    format!("{:>9}  {}", held.amount(budget), short.who())
}
