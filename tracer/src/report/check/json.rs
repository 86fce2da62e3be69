//! The verdict for programs: one JSON object, schema 1. It grows and never breaks, as the [report](crate::report::json) does.
//!
//! `verdict` is `ok`, `over` or `unknown`, of all and of each of `budgets`. Peak, end and growth are bytes, allocations are
//! blocks. `figure` is what was seen, `figure_least` and `figure_most` the range that its true value lies in; what is not
//! known is `null`. `holders` are there where a budget does not hold; of `growth`, their bytes are what they grew by.

use std::io::{self, Write};

use serde::Serialize;

use super::{Budget, Finding, Held, Report, Verdict};
use crate::report::difference::Became;
use crate::words;

#[derive(Serialize)]
struct JsonReport<'a> {
    schema: u32,
    verdict: &'static str,
    program: &'a str,
    duration_ns: u64,
    command_failed: Option<u8>,
    recording: Option<&'a str>,
    warning: Option<&'a str>,
    unknown: Option<&'a str>,
    budgets: Vec<JsonFinding<'a>>,
}

#[derive(Serialize)]
struct JsonFinding<'a> {
    budget: &'static str,
    verdict: &'static str,
    figure: u64,
    figure_least: u64,
    figure_most: Option<u64>,
    limit: u64,
    at_ns: Option<u64>,
    sentence: String,
    holders: Vec<JsonHeld<'a>>,
    other_holders: usize,
}

#[derive(Serialize)]
struct JsonHeld<'a> {
    function: &'a str,
    file: Option<&'a str>,
    line: Option<u32>,
    callers: Option<&'a str>,
    bytes: u64,
    blocks: u64,
    became: Option<Became>,
}

fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Holds => "ok",
        Verdict::Over => "over",
        Verdict::Unknown => "unknown",
    }
}

impl<'a> JsonFinding<'a> {
    fn of(finding: &'a Finding) -> Self {
        let held = |held: &'a Held| JsonHeld {
            function: &held.function,
            file: held.file.as_deref(),
            line: held.line,
            callers: held.callers.as_deref(),
            bytes: held.bytes,
            blocks: held.blocks,
            became: held.became,
        };
        Self {
            budget: match finding.budget {
                Budget::Peak => "peak",
                Budget::End => "live_at_end",
                Budget::Allocations => "allocations",
                Budget::Growth => "growth",
            },
            verdict: word(finding.verdict),
            figure: finding.is.is,
            figure_least: finding.is.least,
            figure_most: finding.is.most,
            limit: finding.limit.is,
            at_ns: finding.at.map(|at| at.0),
            sentence: finding.sentence(),
            holders: finding.holders.iter().map(held).collect(),
            other_holders: finding.others,
        }
    }
}

/// Writes the verdict.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let json = JsonReport {
        schema: 1,
        verdict: word(report.verdict()),
        program: &report.program,
        duration_ns: report.duration_ns,
        command_failed: report.command_failed,
        recording: report.recording.as_deref(),
        warning: report.warning.as_deref(),
        unknown: report.unknown.as_deref(),
        budgets: report.findings.iter().map(JsonFinding::of).collect(),
    };
    words::json(&json, out)
}
