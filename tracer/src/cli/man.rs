//! `highwater man`: the manual pages, made from the command line's own definition.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use crate::words::say;
use anyhow::Context as _;
use clap::{Args, Command};
use clap_mangen::Man;

use super::examples;

/// Write the manual: one page to standard output, or all of them into a directory
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The directory that gets highwater.1 and a page for each verb; it must be there
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut command = super::definition().disable_help_subcommand(true);
    command.build();
    let Some(directory) = &arguments.output else {
        return Ok(io::stdout().lock().write_all(&page(&command, None)?)?);
    };
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs = verbs.map(|verb| (verb, Some(verb.get_name())));
    for (command, verb) in verbs.chain([(&command, None)]) {
        let file = directory.join(Man::new(command.clone()).get_filename());
        fs::write(file, page(command, verb)?)
            .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    }
    say!(
        "wrote highwater.1 and a page for each verb into {}",
        directory.display()
    );
    Ok(())
}

/// One page, in roff.
fn page(command: &Command, verb: Option<&str>) -> io::Result<Vec<u8>> {
    let man = Man::new(command.clone());
    let mut page = Vec::new();
    let out = &mut page;
    man.render_title(out)?;
    man.render_name_section(out)?;
    man.render_synopsis_section(out)?;
    man.render_description_section(out)?;
    man.render_options_section(out)?;
    if verb.is_none() {
        man.render_subcommands_section(out)?;
    }
    if let Some(notes) = command.get_after_help() {
        section(out, "NOTES")?;
        for line in notes
            .to_string()
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            writeln!(out, ".PP\n{}", roff(line))?;
        }
    }
    if !examples::of(verb).is_empty() {
        section(out, "EXAMPLES")?;
        for (command, what) in examples::of(verb) {
            writeln!(out, ".TP\n.B {}\n{}", roff(command), roff(what))?;
        }
    }
    terms(out, "EXIT STATUS", EXIT_STATUS)?;
    let of_launched = matches!(verb, None | Some("record" | "check"));
    if of_launched {
        writeln!(out, ".PP\n{}", roff(EXIT_STATUS_OF_COMMANDS))?;
    }
    terms(out, "FILES", FILES)?;
    terms(out, "ENVIRONMENT", ENVIRONMENT)?;
    section(out, "SEE ALSO")?;
    let others = match verb {
        Some(_) => "highwater(1)".to_owned(),
        None => {
            let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
            let pages: Vec<_> = verbs
                .map(|verb| format!("highwater-{}(1)", verb.get_name()))
                .collect();
            pages.join(", ")
        }
    };
    writeln!(out, "{}", roff(&others))?;
    if verb.is_none() {
        man.render_version_section(out)?;
    }
    Ok(page)
}

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    (
        "1",
        "It failed. Of check: not enough is known to tell whether the budget holds.",
    ),
    ("2", "The command line makes no sense."),
    ("3", "A budget does not hold (check)."),
    (
        "4",
        "Rights are missing; what is missing, and how to get it, is said.",
    ),
];

const EXIT_STATUS_OF_COMMANDS: &str = "Where a command was launched, its own status is passed on, 128 + N if signal N killed it. \
     highwater's own failures are then 125, 126 (the command cannot be executed) and 127 (it was not found), and 2 and 4 as above.";

const FILES: &[(&str, &str)] = &[
    (
        "COMMAND-PID-TIME.hwm",
        "A recording, in the directory where record was called. Mode 0600; under sudo it belongs to who called it.",
    ),
    (
        "/usr/lib/debug/.build-id/",
        "Debug information apart from the files that it is of.",
    ),
    (
        "/tmp/perf-PID.map",
        "Names of code that a process makes as it runs, where it writes them.",
    ),
    (
        "/run/highwater/, $XDG_RUNTIME_DIR/highwater/",
        "Where recorders listen for mark.",
    ),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "NO_COLOR",
        "If it is set and not empty, nothing is coloured.",
    ),
    (
        "DEBUGINFOD_URLS",
        "Servers that are asked for debug information that is not here. None, if it is not set.",
    ),
    (
        "RUST_LOG",
        "What is logged to standard error: warn (the default), info, debug.",
    ),
    (
        "TMPDIR",
        "Where check keeps the recording of its command until it has an answer.",
    ),
    (
        "XDG_RUNTIME_DIR",
        "Where a recorder without root's rights listens for mark.",
    ),
    (
        "SUDO_UID, SUDO_GID, SUDO_USER",
        "Who called sudo. Launched commands run as that user, whom recordings belong to.",
    ),
];

fn section(out: &mut Vec<u8>, title: &str) -> io::Result<()> {
    writeln!(out, ".SH \"{title}\"")
}

fn terms(out: &mut Vec<u8>, title: &str, terms: &[(&str, &str)]) -> io::Result<()> {
    section(out, title)?;
    for (term, text) in terms {
        writeln!(out, ".TP\n.B {}\n{}", roff(term), roff(text))?;
    }
    Ok(())
}

/// Text that roff takes for text.
fn roff(text: &str) -> String {
    let text = text.trim().replace('\\', "\\e").replace('-', "\\-");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}
