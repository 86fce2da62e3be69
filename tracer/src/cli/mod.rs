//! The command line: one verb a file. Arguments become a plan, and nothing below this module sees clap.

mod check;
mod completions;
mod diff;
mod doctor;
mod examples;
mod export;
mod flamegraph;
mod floor;
mod kind;
mod man;
mod mark;
mod meant;
mod output;
mod question;
mod record;
mod recording;
mod report;
mod scope;
mod stats;
mod table;
mod tree;

use std::{
    ffi::OsString,
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::words::say;
use crate::{
    probe::{ProbeError, calibrate, capability::NotPermitted, selftest},
    session::{self, SessionError},
    target::TargetError,
    words::printable,
};

/// Who held the memory at the high-water mark?
///
/// highwater attaches to a running process, follows every malloc and free through uprobes, and shows which stacks held
/// the memory at its peak. The target is not restarted, stopped, or injected into.
#[derive(Debug, Parser)]
#[command(name = "highwater", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Record(record::Arguments),
    Report(report::Arguments),
    Flamegraph(flamegraph::Arguments),
    Mark(mark::Arguments),
    Table(table::Arguments),
    Tree(tree::Arguments),
    Stats(stats::Arguments),
    Diff(diff::Arguments),
    Check(check::Arguments),
    Export(export::Arguments),
    #[command(name = "__floor", hide = true)]
    Floor(floor::Arguments),
    Doctor(doctor::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Exit status where all was done.
const DONE: u8 = 0;
/// Exit status where something failed.
const FAILED: u8 = 1;
/// The command line makes no sense.
const USAGE: u8 = 2;
/// A budget does not hold.
const OVER_BUDGET: u8 = 3;
/// Rights are missing.
const NOT_PERMITTED: u8 = 4;

/// Runs the command line; the process's exit code.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match arguments.get(1).and_then(|verb| verb.to_str()) {
        Some(selftest::VERB) => {
            let words: Vec<String> = arguments[2..]
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            selftest::child(&words)
        }
        Some(calibrate::VERB) => {
            calibrate::child();
            return ExitCode::from(DONE);
        }
        Some(session::LAUNCH_VERB) => {
            return ExitCode::from(session::become_command(&arguments[2..]));
        }
        _ => {}
    }
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,aya=error,aya_obj=error"),
    )
    .format(|out, record| {
        let words = record.args().to_string();
        writeln!(out, "[{:<5}] {}", record.level(), printable(&words))
    })
    .init();
    if arguments.len() < 2 {
        // Nobody may be listening.
        let _ = io::stderr().write_all(meant::NOTHING_ASKED.as_bytes());
        return ExitCode::from(USAGE);
    }
    let verb = match parse(&arguments) {
        Ok(Arguments { verb }) => verb,
        Err(error) => {
            if let Some(meant) = meant::with_dashes(&error, &arguments) {
                say!("a command to launch comes after `--`: {meant}");
                return ExitCode::from(USAGE);
            }
            // Help and version are no errors; a closed pipe while printing them is none either.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { DONE });
        }
    };
    let launches = matches!(&verb, Verb::Record(arguments) if arguments.launches());
    let result = match verb {
        Verb::Record(arguments) => record::run(arguments),
        Verb::Report(arguments) => report::run(&arguments).map(|()| DONE),
        Verb::Flamegraph(arguments) => flamegraph::run(&arguments).map(|()| DONE),
        Verb::Mark(arguments) => mark::run(&arguments).map(|()| DONE),
        Verb::Table(arguments) => table::run(&arguments).map(|()| DONE),
        Verb::Tree(arguments) => tree::run(&arguments).map(|()| DONE),
        Verb::Stats(arguments) => stats::run(&arguments).map(|()| DONE),
        Verb::Diff(arguments) => diff::run(&arguments).map(|()| DONE),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Export(arguments) => export::run(&arguments).map(|()| DONE),
        Verb::Floor(arguments) => floor::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Completions(arguments) => completions::run(&arguments).map(|()| DONE),
        Verb::Man(arguments) => man::run(&arguments).map(|()| DONE),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            say_error(&told_once(&error));
            if session::descriptors::are_used_up(error.as_ref()) {
                say!("{}", session::descriptors::advice());
            }
            ExitCode::from(code_of(&error, launches))
        }
    }
}

/// Says an error on standard error. Lines after its first are indented, so that no word of others in them begins a line of ours.
fn say_error(text: &str) {
    let mut lines = text.lines();
    say!("{}", lines.next().unwrap_or_default());
    for line in lines {
        // Nobody may be listening.
        let _ = writeln!(io::stderr(), "  {}", printable(line.trim_start()));
    }
}

/// The complete command line definition, with examples below each verb's help.
pub fn command() -> clap::Command {
    let with_examples = |command: clap::Command, verb: Option<&str>| {
        let notes = command.get_after_help().map(ToString::to_string);
        let below: Vec<String> = notes.into_iter().chain(examples::shown(verb)).collect();
        match below.is_empty() {
            true => command,
            false => command.after_help(below.join("\n\n")),
        }
    };
    let command = definition();
    let verbs: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    let command = verbs.into_iter().fold(command, |command, verb| {
        command.mut_subcommand(&verb, |of| with_examples(of, Some(&verb)))
    });
    with_examples(command, None)
}

/// The same without examples, for manual pages, which have them in a section of their own.
fn definition() -> clap::Command {
    Arguments::command()
}

fn parse(arguments: &[OsString]) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(arguments)?;
    Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// The error and its causes, each said once: many of ours name their cause themselves.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Whoever read our output has read enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// The exit code of an error. Where a command is launched, its own status is passed on, so that ours stand apart.
fn code_of(error: &anyhow::Error, launches: bool) -> u8 {
    let mut code = FAILED;
    for cause in error.chain() {
        if let Some(SessionError::Launch(error)) = cause.downcast_ref() {
            return error.exit_code();
        }
        let forbidden = cause.is::<NotPermitted>()
            || matches!(cause.downcast_ref(), Some(ProbeError::NotPermitted(_)))
            || cause.downcast_ref().is_some_and(TargetError::is_permission)
            || matches!(cause.downcast_ref(), Some(SessionError::Target(error)) if error.is_permission());
        if forbidden {
            code = NOT_PERMITTED;
        }
        if cause.is::<output::Usage>() {
            code = USAGE;
        }
    }
    if launches && code == FAILED {
        125
    } else {
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn a_cause_that_the_error_names_itself_is_not_told_again() {
        let named = anyhow::anyhow!("no such file").context("cannot open it: no such file");
        assert_eq!(told_once(&named), "cannot open it: no such file");
        let bare = anyhow::anyhow!("no such file").context("cannot open it");
        assert_eq!(told_once(&bare), "cannot open it: no such file");
    }

    #[test]
    fn a_target_is_required_and_only_one_kind_of_it() {
        let takes = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse(&words).is_ok()
        };
        assert!(!takes(&["highwater", "record"]));
        assert!(!takes(&["highwater", "record", "-p", "1", "--", "true"]));
        assert!(takes(&["highwater", "record", "--", "ls", "-l"]));
    }
}
