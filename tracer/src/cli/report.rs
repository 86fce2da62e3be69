//! `highwater report`: who held the memory at the peak, and does it add up.

use std::{
    io::{self, BufWriter, IsTerminal as _, Write as _},
    path::Path,
};

use clap::Args;

use super::question::{self, Asked};
use super::recording::Recording;
use crate::report::{
    Threads,
    answer::Answer,
    export::csv,
    json,
    question::{Question, When},
    text,
};

/// Show who held the memory at the peak, and whether that adds up
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    recording: Recording,
    /// Print JSON (schema 1)
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, one row for each holder at the peak and at the end, or of what is asked for
    #[arg(long)]
    csv: bool,
    /// Show this many holders (default: as many as the first screen has room for; else all)
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Show all there is to tell as text, not the first screen alone
    #[arg(long, short, conflicts_with_all = ["json", "csv"])]
    verbose: bool,
    #[command(flatten)]
    asked: Asked,
}

pub(super) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let question = arguments.asked.question()?;
    let profile = question::read(&arguments.recording.path()?, &question, Threads::Together)?;
    let answer = arguments
        .asked
        .is_particular()
        .then(|| Answer::of(&profile, &question));
    let mut out = BufWriter::new(io::stdout().lock());
    if arguments.json {
        json::write(&profile, answer.as_ref(), arguments.top, &mut out)?;
    } else if arguments.csv {
        let answers = match answer {
            Some(answer) => vec![answer],
            None => [When::Peak, When::End]
                .map(|when| {
                    let question = Question {
                        when,
                        ..question.clone()
                    };
                    Answer::of(&profile, &question)
                })
                .into(),
        };
        let answers: Vec<_> = answers.iter().collect();
        csv::write(&profile, &answers, arguments.top, &mut out)?;
    } else {
        let mut options = text_options(io::stdout().is_terminal());
        options.top = arguments.top;
        options.verbose = arguments.verbose;
        match &answer {
            None => text::write(&profile, &options, &mut out)?,
            Some(answer) => text::write_answer(&profile, answer, &options, &mut out)?,
        }
    }
    out.flush()?;
    Ok(())
}

/// What `record` says while it records, if it is asked: the first screen so far.
pub(super) fn so_far(path: &Path) -> String {
    let told = || -> anyhow::Result<String> {
        let mut profile = question::read(path, &Question::default(), Threads::Together)?;
        profile.go_on();
        let mut text = Vec::new();
        text::write(
            &profile,
            &text_options(io::stderr().is_terminal()),
            &mut text,
        )?;
        Ok(String::from_utf8(text)?)
    };
    match told() {
        Ok(text) => text,
        Err(error) => format!(
            "highwater: cannot tell what was recorded so far in {}: {error:#}\n",
            path.display()
        ),
    }
}

/// What `record` says at its end, on stderr: the first screen, the recording, the next command to type.
pub(super) fn print_answer(path: &Path) -> anyhow::Result<()> {
    let profile = question::read(path, &Question::default(), Threads::Together)?;
    let mut err = BufWriter::new(io::stderr().lock());
    text::write(
        &profile,
        &text_options(io::stderr().is_terminal()),
        &mut err,
    )?;
    let shown = path.display();
    writeln!(err, "\nrecording   {shown}")?;
    writeln!(
        err,
        "next        highwater flamegraph {shown} -o {}",
        path.with_extension("html").display()
    )?;
    err.flush()?;
    Ok(())
}

pub(super) fn text_options(terminal: bool) -> text::TextOptions {
    let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    text::TextOptions {
        colour,
        width: terminal.then(terminal_width).flatten().unwrap_or(100),
        ..text::TextOptions::default()
    }
}

fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let size = size.or_else(|_| rustix::termios::tcgetwinsize(io::stderr()));
    let columns = usize::from(size.ok()?.ws_col);
    (columns >= 40).then_some(columns)
}
